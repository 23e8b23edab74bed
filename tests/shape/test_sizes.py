"""Nothing in runner/ grows beyond what a reader can take in at once: parameters, lines of a function, lines of a file."""

import ast
from collections.abc import Iterator
from pathlib import Path
from typing import TypeAlias

import pytest

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


@pytest.mark.parametrize("path", FILES, ids=NAMES)
def test_no_function_has_too_many_parameters(path: Path) -> None:
    counts = [(function.name, parameters(function)) for function in functions(path.read_text(encoding="utf-8"))]
    assert [(name, count) for name, count in counts if count > MOST_PARAMETERS] == []


@pytest.mark.parametrize("path", FILES, ids=NAMES)
def test_no_function_is_too_long(path: Path) -> None:
    counts = [(function.name, lines(function)) for function in functions(path.read_text(encoding="utf-8"))]
    assert [(name, count) for name, count in counts if count > LONGEST_FUNCTION] == []


@pytest.mark.parametrize("path", FILES, ids=NAMES)
def test_no_file_is_too_long(path: Path) -> None:
    assert len(path.read_text(encoding="utf-8").splitlines()) <= LONGEST_FILE
