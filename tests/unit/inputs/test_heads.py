"""What a template says before its first field."""

from typing import Any

import pytest

from runner.inputs.heads import Head
from runner.inputs.template import Texts


def head(prompt: str | None = None, messages: Any = None, system: str | None = None) -> Head:
    return Texts(prompt=prompt, messages=messages, system=system).head


def said(*texts: Any) -> list[dict[str, Any]]:
    return [{"role": "user", "content": text} for text in texts]


@pytest.mark.parametrize(
    ("given", "found"),
    [
        ({"prompt": "Sum up: {{ text }}!"}, Head(0, 8, 8, "text", 1)),
        ({"prompt": "{{ text }} is what?"}, Head(0, 0, 0, "text", 9)),
        ({"prompt": "no field"}, Head(1, 0, 8)),
        ({"prompt": "ä{{ row['x y'] }}ö"}, Head(0, 1, 2, "row", 2)),
        # the system text comes first
        ({"prompt": "Sum up: {{ text }}", "system": "Be brief."}, Head(0, 8, 17, "text", 0)),
        ({"prompt": "Sum up: {{ text }}", "system": "In {{ lang }}."}, Head(-1, 3, 3, "lang", 9)),
        # whole messages, and the beginning of the next
        ({"messages": said("one", "two {{ a }} three", "four")}, Head(1, 4, 7, "a", 10)),
        ({"messages": said("one", [{"type": "text", "text": "two"}], "three")}, Head(1, 0, 3)),
        # what a condition or a loop makes may vary, and so may all behind it
        ({"prompt": "a{% if x %}b{% endif %}c"}, Head(0, 1, 1, "x", 1)),
        ({"prompt": "a{% for x in row.values() %}{{ x }}{% endfor %}"}, Head(0, 1, 1, "x", 0)),
        ({"prompt": "a{# no word #}{% raw %}{{ b }}{% endraw %}{{ c }}"}, Head(0, 8, 8, "c", 0)),
        ({"prompt": "a {%- set b = 1 %} c {{ d }}"}, Head(0, 1, 1, "b", 3)),
    ],
)
def test_the_head_ends_before_the_first_field(given: dict[str, Any], found: Head) -> None:
    assert head(**given) == found


@pytest.mark.parametrize("prompt", ["Sum up: {{ text }}", " {{ text }}", "\n{% raw %}{{ b }}{% endraw %}\r\n{{ text }}\n"])
def test_what_is_rendered_begins_with_it(prompt: str) -> None:
    texts = Texts(prompt=prompt, messages=None, system=None)
    one, other = (texts.messages({"text": text})[0]["content"] for text in ("one", "other"))
    chars = texts.head.chars
    assert one[:chars] == other[:chars]
    assert one[chars:].startswith("one")
