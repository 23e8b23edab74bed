"""How Jinja compiles a template is what the sandbox needs it to be."""

import pytest
from jinja2 import Environment

from runner.inputs import jinja_internals


@pytest.mark.parametrize(
    ("template", "code"),
    [
        ("{% for x in xs %}{% endfor %}", "context.call(environment.counted, "),
        ("{{ a == b }}", "context.call(environment.compared, "),
        ("{{ a in b }}", "context.call(environment.compared, "),
        ("{{ a ~ b }}", "environment.joined(("),
        ("{{ [a] }}", "environment.seen(["),
        ("{{ {a: b} }}", "environment.seen({"),
        ("{{ (a, b) }}", "environment.seen(("),
        ("{{ a[1:] }}", "environment.seen("),
        ("{% set x %}{{ a }}{% endset %}", "concat = environment.concat"),
    ],
)
def test_the_environment_sees_what_takes_time_or_memory(template: str, code: str) -> None:
    environment = Environment(autoescape=False)
    environment.code_generator_class = jinja_internals.CountingGenerator
    assert code in environment.compile(template, raw=True)


def test_what_is_written_to_and_what_is_constant_are_left_alone() -> None:
    environment = Environment(autoescape=False)
    environment.code_generator_class = jinja_internals.CountingGenerator
    code = environment.compile("{% for a, b in xs %}{% endfor %}{{ x == 'de' }}{{ x['a'] }}", raw=True)
    assert "environment.seen" not in code
    assert "environment.compared" not in code
