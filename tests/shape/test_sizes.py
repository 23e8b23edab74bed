"""Nothing in runner/ grows beyond what a reader can take in at once: parameters, lines of a function, lines of a file."""

import ast
from collections.abc import Iterator
from pathlib import Path
from typing import TypeAlias

import runner

PACKAGE = Path(runner.__file__).parent
FILES = sorted(PACKAGE.rglob("*.py"))
NAMES = [str(path.relative_to(PACKAGE)) for path in FILES]
MOST_PARAMETERS = 8
LONGEST_FUNCTION = 40
LONGEST_FILE = 300

Function: TypeAlias = ast.FunctionDef | ast.AsyncFunctionDef


def functions(source: str) -> Iterator[Function]:
    """Yield all functions, nested ones and methods included."""
    return (node for node in ast.walk(ast.parse(source)) if isinstance(node, Function))


def parameters(function: Function) -> int:
    """Count the parameters, ``*args`` and ``**kwargs`` included, but not ``self`` and ``cls``."""
    arguments = function.args
    named = [*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs]
    if named and named[0].arg in ("self", "cls"):
        named = named[1:]
    return len(named) + (arguments.vararg is not None) + (arguments.kwarg is not None)


def lines(function: Function) -> int:
    """Count the lines from ``def`` to the last statement, docstring and comments included."""
    assert function.end_lineno is not None
    return function.end_lineno - function.lineno + 1


SAMPLE = '''
class Lane:
    def __init__(self, a, /, b, *rest, c, d=1, **more):
        """One line."""

        def inner(
            cls,
        ):
            pass

    @staticmethod
    async def make(): ...
'''


def test_parameters_and_lines_are_counted_as_the_docstrings_say() -> None:
    counted = {function.name: (parameters(function), lines(function)) for function in functions(SAMPLE)}
    assert counted == {"__init__": (6, 7), "inner": (0, 4), "make": (0, 1)}


def test_no_file_is_too_long_and_no_function_is_or_has_too_many_parameters() -> None:
    """In one test, as each file is parsed for it: a test for each of some hundred files costs more than what it does."""
    assert len(FILES) > 100
    found = []
    for path, name in zip(FILES, NAMES, strict=True):
        source = path.read_text(encoding="utf-8")
        found += [f"{name}: {count} lines"] if (count := len(source.splitlines())) > LONGEST_FILE else []
        for function in functions(source):
            if parameters(function) > MOST_PARAMETERS:
                found.append(f"{name}: {function.name} has {parameters(function)} parameters")
            if lines(function) > LONGEST_FUNCTION:
                found.append(f"{name}: {function.name} has {lines(function)} lines")
    assert found == []
