"""Templates of prompts: what they insert, what makes a broken row, and what no template can do."""

from typing import Any

import pytest

from runner.errors import UsageError
from runner.inputs.broken_lines import RowFaultError
from runner.inputs.sandbox import MOST_CHARS, MOST_STEPS
from runner.inputs.template import Texts


def rendered(prompt: str, **fields: Any) -> Any:
    return Texts(prompt=prompt, messages=None, system=None).messages(fields)[0]["content"]


def fault(prompt: str, **fields: Any) -> str:
    with pytest.raises(RowFaultError) as raised:
        rendered(prompt, **fields)
    return str(raised.value)


def test_a_field_is_inserted_as_it_is() -> None:
    assert rendered("Say: {{ text }}\n", text="{{ evil }} {% raw %} <b> & 'x'") == "Say: {{ evil }} {% raw %} <b> & 'x'\n"
    assert rendered("{{ n }} {{ x.y[1] }} {{ row['a name'] }}", n=1.5, x={"y": [1, 2]}, **{"a name": "ok"}) == "1.5 2 ok"
    assert rendered("{{ row | tojson }}", a="ä<", n=None) == '{"a": "ä<", "n": null}'
    assert rendered("{% raw %}{{ text }}{% endraw %}", text="x") == "{{ text }}"


def test_a_field_that_is_called_row_is_that_field() -> None:
    assert rendered("{{ row }}", row="7") == "7"


def test_messages_and_system_are_templates() -> None:
    texts = Texts(
        prompt=None,
        messages=[
            {"role": "user", "content": "{{ a }}"},
            {"role": "user", "content": [{"type": "text", "text": "{{ b }}"}, {"type": "x", "n": 1}]},
        ],
        system="in {{ lang }}",
    )
    assert texts.names == {"a", "b", "lang"}
    fields = {"a": "1", "b": "2", "lang": "de"}
    assert texts.messages(fields) == (
        {"role": "user", "content": "1"},
        {"role": "user", "content": [{"type": "text", "text": "2"}, {"type": "x", "n": 1}]},
    )
    assert texts.system(fields) == "in de"


@pytest.mark.parametrize(
    ("prompt", "fields", "words"),
    [
        ("{{ text }}", {"a": 1}, "no field 'text', which the template names"),
        ("{{ text }}", {"text": None}, "text is null"),
        ("{{ a.b }}", {"a": {"b": None}}, "a value that is null is to be written out; {{ x or '' }} leaves it out"),
        ("{{ 'a' ~ a.b }}", {"a": {"b": None}}, "a value that is null is to be written out; {{ x or '' }} leaves it out"),
        ("{{ a.c }}", {"a": {"b": 1}}, "no field 'c', which the template names"),
        ("{{ row['x'] }}", {"y": 1}, "no field 'x', which the template names"),
        (
            "{{ row.items }}",
            {"items": "i"},
            'items is a function, which cannot be written out; row["items"] is the field of that name',
        ),
        ("{{ range }}", {}, 'range is a function, which cannot be written out; row["range"] is the field of that name'),
        (
            "{{ x | map('upper') }}",
            {"x": ["a"]},
            "a value of the kind generator cannot be written out; `| join(', ')` makes a text of it",
        ),
        ("{{ 1 / n }}", {"n": 0}, "the template cannot be filled in: ZeroDivisionError: division by zero"),
    ],
)
def test_what_makes_a_row_a_broken_one(prompt: str, fields: dict[str, Any], words: str) -> None:
    assert fault(prompt, **fields) == words


def test_a_field_that_is_null_may_be_allowed_for() -> None:
    assert rendered("{{ text or 'n/a' }}{% if text is none %} none{% endif %}", text=None) == "n/a none"
    assert rendered("{{ text | default('d') }}{% if not text %} not{% endif %}", text=None) == "d not"
    assert rendered("{{ note | default('none') }}") == "none"


DEEP = "{% for i in [1] %}" * 30 + "{% endfor %}" * 30


@pytest.mark.parametrize(
    "prompt",
    ["{{ x", "{% if %}", "{{ x | nothing }}", "{% endfor %}", "{{ (" * 500, DEEP, "{{ " + "9" * 5000 + " }}", "{{ lipsum( }}"],
)
def test_what_is_no_template_is_one_sentence(prompt: str) -> None:
    with pytest.raises(UsageError) as refused:
        Texts(prompt=prompt, messages=None, system=None)
    assert str(refused.value).startswith("prompt is ")
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize(
    "prompt",
    [
        "{{ 'x' * 10**9 }}",
        "{{ 10**9 * 'x' }}",
        "{{ ['a'] * 10**9 }}",
        "{{ 10**10**10 }}",
        "{% set n = namespace(s='xx') %}{% for i in range(60) %}{% set n.s = n.s ~ n.s %}{% endfor %}{{ n.s }}",
        "{% set n = namespace(s='xx') %}{% for i in range(60) %}{% set n.s = n.s + n.s %}{% endfor %}{{ n.s }}",
        "{% for i in range(99999) %}{{ 'y' * 1000 }}{% endfor %}",
        "{{ 'a' | center(10**9) }}",
        "{{ 'a'.ljust(10**9) }}",
        "{{ ('a' * 10000) | replace('a', 'b' * 100000) }}",
        "{{ ('a' * 10000).replace('', 'b' * 100000) }}",
        "{{ ('b' * 100000).join('a' * 100000) }}",
        "{{ ('a' * 100000) | join('b' * 100000) }}",
        "{{ ['a' * 8000000] * 8000000 }}",
        "{% set n = namespace(x=7) %}{% for i in range(60) %}{% set n.x = n.x * n.x %}{% endfor %}",
        "{% macro d(s) %}{{ s }}{{ s }}{% endmacro %}" + "{{ " + "d(" * 50 + "'xx'" + ")" * 50 + " }}",
        "{% set s = 'xx' %}" + "{% set s %}{{ s }}{{ s }}{% endset %}" * 50 + "{{ s }}",
        *(
            "{% set x = [1] %}" + f"{{% set x = {twice} %}}" * 60 + "{{ x }}"
            for twice in (
                "[x, x]",
                "(x, x)",
                "{'a': x, 'b': x}",
                "dict(a=x, b=x)",
                "[x] * 2",
                "[x] + [x]",
                "[x] | batch(2, x) | first",
            )
        ),
        "{% set n = namespace(x=[1]) %}{% macro m() %}{% set n.x = varargs %}{% endmacro %}" + "{{ m(n.x, n.x) }}" * 60,
    ],
)
def test_no_text_grows_without_bound(prompt: str) -> None:
    assert fault(prompt, a=1) == f"the rendered text is longer than {MOST_CHARS >> 20} MiB"


@pytest.mark.parametrize(
    "prompt",
    [
        "{% for i in range(99999) %}{% for j in range(99999) %}{% endfor %}{% endfor %}",
        "{% for i in range(99999) %}{% for j in range(99999) if j < 0 %}{% endfor %}{% endfor %}",
        "{% for i in [1] recursive %}{{ loop(range(99999)) if loop.depth < 4 }}{% endfor %}",
        "{% macro f(n) %}{% if n %}{{ f(n-1) }}{{ f(n-1) }}{% endif %}{% endmacro %}{{ f(60) }}",
        "{% set s %}{% for i in range(99999) %}{{ 'a' * 80000 }}{% endfor %}{% endset %}",
        "{{ [1] | batch(10**9, 'x') | list }}",
        "{{ [1] | slice(1000000000) | list }}",
        "{{ ('a' * 8000000).rfind('b' ~ 'a' * 4000000) }}",
        "{{ ('a' * 8000000) | trim('b' * 4000000 ~ 'a') }}",
        *(
            f"{{% for i in range(99999) %}}{{% set y = {work} %}}{{% endfor %}}"
            for work in (
                "'abc' * 2000000",
                "range(99999) | sum",
                "big | max",
                "big | unique | first",
                "big | select('equalto', 0) | first",
                "5 in big",
                "big == big | list",
                "big[::2]",
                "text.count('b')",
                "text | upper",
            )
        ),
    ],
)
def test_no_template_takes_forever(prompt: str) -> None:
    assert fault(prompt, big=list(range(50_000)), text="a" * 1_000_000) == (
        f"the template takes more than {MOST_STEPS:,} steps; does it loop too often?"
    )


def test_ordinary_work_is_far_below_the_bounds() -> None:
    rows = [{"name": f"n{number}", "lines": ["a", "b"] * 5} for number in range(2_000)]
    prompt = "{% for r in rows if r.name in text %}{{ loop.index }} {{ r.lines | join(', ') | upper }}\n{% endfor %}"
    assert len(rendered(prompt, rows=rows, text="n1 n2 " * 1_000).splitlines()) == 2
    grown = "{% set ns = namespace(x=[]) %}{% for i in range(1000) %}{% set ns.x = ns.x + [i] %}{% endfor %}{{ ns.x | length }}"
    assert rendered(grown) == "1000"
    assert (
        rendered("{{ ' a<b>c</b><!-- x --> d &amp; ' | striptags }}{{ 2.345 | round(1) }}{{ [1, 2.5] | sum }}") == "ac d &2.33.5"
    )
    assert rendered("{% for part in [1, 2, 3] | batch(2, 0) %}{{ part }}{% endfor %}") == "[1, 2][3, 0]"


@pytest.mark.parametrize(
    "prompt",
    [
        "{{ 1 | round(10**9, 'ceil') }}",
        "{{ row | tojson(indent=10**9) }}",
        "{{ '{:1000000000}'.format(1) }}",
        "{{ (1).to_bytes(10**9, 'big') }}",
        "{{ '\t'.expandtabs(10**9) }}",
        "{{ [[1], [2]] | sum(start=[]) }}",
        "{{ x.__class__.__mro__ }}",
        "{{ ''.__class__ }}",
        "{{ x.append(1) }}",
        "{{ row.update(a=1) }}",
        "{{ '%d' % 1 }}",
    ],
)
def test_no_template_reaches_beyond_its_row(prompt: str) -> None:
    assert "\n" not in fault(prompt, x=[1])


@pytest.mark.parametrize("prompt", ["{% include '/etc/passwd' %}", "{% import 'a' as a %}", "{% extends 'a' %}"])
def test_a_template_is_one_file(prompt: str) -> None:
    with pytest.raises(UsageError, match="prompt is no template: it names another file"):
        Texts(prompt=prompt, messages=None, system=None)


@pytest.mark.parametrize("name", ["format", "indent", "wordwrap", "xmlattr", "pprint", "urlize", "random"])
def test_filters_that_make_texts_of_any_length_or_another_each_time_are_not_there(name: str) -> None:
    with pytest.raises(UsageError, match="No filter named"):
        Texts(prompt=f"{{{{ x | {name} }}}}", messages=None, system=None)


def test_no_text_is_made_by_chance() -> None:
    assert fault("{{ lipsum() }}") == "no field 'lipsum', which the template names"


def test_lists_objects_and_truth_values_are_inserted_as_json() -> None:
    fields = {"tags": ["a", None], "of": {"x": True}, "yes": True, "n": 2.0}
    assert rendered("{{ tags }} {{ of }} {{ yes }} {{ n }} {{ n > 3 }}", **fields) == '["a", null] {"x": true} true 2.0 false'
    assert rendered("{{ tags ~ yes }}", **fields) == '["a", null]true'


def test_a_field_with_the_name_of_a_function_is_a_field_that_the_template_names() -> None:
    texts = Texts(prompt="{{ range }}", messages=None, system=None)
    assert texts.names == {"range"}
    assert texts.messages({"range": "300 km"})[0]["content"] == "300 km"
