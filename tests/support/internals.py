"""Shared by the tests of the ``*_internals`` modules: how they fail, and which names a class of a library has."""

import ast
import inspect
import sys
import textwrap
import tomllib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from types import FunctionType, ModuleType

import anyio
import pytest
from packaging.requirements import Requirement

ROOT = Path(__file__).parents[2]
RECORD = "docs/decisions/0010-below-the-public-surface.md"
GUARD_S = 60.0
"""Seconds. A changed library may leave a test waiting; no test here takes a second."""


@dataclass(frozen=True)
class Internals:
    """A module that uses a library below its documented surface."""

    module: ModuleType
    library: str

    @contextmanager
    def uses(self, what: str) -> Iterator[None]:
        """Turn any error inside into a failure whose sentence says what has changed and where to look."""
        try:
            yield
        except (Exception, pytest.fail.Exception) as error:
            raise AssertionError(self._sentence(what, error)) from error

    @contextmanager
    def uses_within(self, what: str) -> Iterator[None]:
        """Do the same in the event loop, with a time limit, since an awaited event may never come."""
        with self.uses(what), anyio.fail_after(GUARD_S):
            yield

    def check_one_minor_version(self) -> None:
        """Fail if another minor version than the one that was checked is installed or allowed."""
        checked, installed = self._checked, metadata.version(self.library)
        major, minor = map(int, checked.split(".")[:2])
        with self.uses("only one minor version of it may be installed, as any other may change what is used"):
            assert installed.split(".")[:2] == [str(major), str(minor)], f"{installed} is installed"
            (allowed,) = (one.specifier for one in _requirements() if one.name == self.library)
            assert allowed.contains(checked), f"pyproject.toml allows {allowed}"
            assert not allowed.contains(f"{major}.{minor + 1}.0"), f"pyproject.toml allows {allowed}"
            assert not allowed.contains(f"{major}.{minor - 1}.99"), f"pyproject.toml allows {allowed}"

    @property
    def _checked(self) -> str:
        checked = self.module.CHECKED_WITH
        assert isinstance(checked, str)
        return checked

    def _sentence(self, what: str, error: BaseException) -> str:
        installed = metadata.version(self.library)
        return (
            f"{self.library} {installed} is not what {self.module.__name__} was last checked with ({self._checked}): {what}. "
            f"{type(error).__name__}: {error}. Look at {self.module.__name__}, at who imports it, and at {RECORD}; "
            "when all is well again, change CHECKED_WITH."
        )


def _requirements() -> list[Requirement]:
    with (ROOT / "pyproject.toml").open("rb") as file:
        return [Requirement(line) for line in tomllib.load(file)["project"]["dependencies"]]


def foreign_names(cls: type) -> set[str]:
    """Return the names, private ones too, that a class and its instances have from libraries."""
    return set().union(*(own_names(base) for base in cls.__mro__ if is_foreign(base)), set())


def is_foreign(cls: type) -> bool:
    """Return True if a class belongs to a library, and not to Python or to this project."""
    root = cls.__module__.partition(".")[0]
    return root != "runner" and root not in sys.stdlib_module_names


def own_names(cls: type) -> set[str]:
    """Return the names that a class adds itself: its attributes, and those that its methods set on ``self``."""
    names = {*vars(cls), *inspect.get_annotations(cls)}
    # method by method, because a class may claim to come from another module than the one that defines it
    for value in vars(cls).values():
        function = value.fget if isinstance(value, property) else getattr(value, "__func__", value)
        # a method of another class may be assigned here under a name of this class
        if inspect.isfunction(function) and function.__qualname__.startswith(f"{cls.__qualname__}."):
            names |= _set_on_self(function)
    return names


def _set_on_self(function: FunctionType) -> set[str]:
    return {
        node.attr
        for node in ast.walk(ast.parse(textwrap.dedent(inspect.getsource(function))))
        if isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store) and is_self(node.value)
    }


def is_self(node: ast.expr) -> bool:
    """Return True if an expression is ``self`` or ``super()``."""
    if isinstance(node, ast.Call):
        return isinstance(node.func, ast.Name) and node.func.id == "super"
    return isinstance(node, ast.Name) and node.id == "self"
