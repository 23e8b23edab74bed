"""What lies below a library's documented surface is used in the ``*_internals`` modules alone. Checked on the syntax tree."""

import ast
import importlib
import inspect
import pkgutil
import re
from collections.abc import Iterator
from types import ModuleType

import pytest
from internals import RECORD, ROOT, foreign_names, is_foreign, is_self, own_names

import runner

INTERNALS = "_internals"
DOCUMENTED = {
    "aiohttp": {"web"},
    "aiolimiter": set[str](),
    "aiosqlite": set[str](),
    "alembic": {"command", "config"},
    "anyio": {"abc", "from_thread", "lowlevel", "to_thread"},
    "click": {"shell_completion"},
    "filelock": set[str](),
    "httpx": set[str](),
    "msgspec": {"json", "msgpack", "structs"},
    "multidict": set[str](),
    "sqlalchemy": {"dialects", "dialects.sqlite", "engine.interfaces", "event", "exc", "ext.asyncio", "pool"},
    "tqdm": set[str](),
    "uvloop": set[str](),
    "yarl": set[str](),
}
"""The modules of each library that its documentation describes, beside the one that has its name."""
UNDOCUMENTED = {"aiohttp": {"ClientRequest"}}
"""Names that a library exports but whose use it does not describe."""
PRIVATE_BY_NAME_ONLY = {"os._exit"}
"""Documented, whatever the name looks like."""
NAMES = sorted(
    found.name
    for found in pkgutil.walk_packages(runner.__path__, "runner.")
    if not found.name.endswith(".__main__") and "._migrations" not in found.name
)
ABOVE = [name for name in NAMES if not name.endswith(INTERNALS)]


def module_of(name: str) -> ModuleType:
    return importlib.import_module(name)


def tree_of(name: str) -> ast.Module:
    return ast.parse(inspect.getsource(module_of(name)))


def below(tree: ast.Module) -> Iterator[str]:
    """Say what a module uses below a library's documented surface."""
    libraries = {alias.asname or alias.name: alias.name for alias in _imports(tree) if alias.name in DOCUMENTED}
    for node in ast.walk(tree):
        match node:
            case ast.Import(names=names):
                yield from (f"import {alias.name}" for alias in names if not _is_documented(alias.name))
            case ast.ImportFrom(module=str(module), names=names):
                yield from (f"from {module} import {alias.name}" for alias in names if not _may_be_taken(module, alias.name))
            case ast.Attribute(value=ast.Name(id=name), attr=attr) if name in libraries:
                if not _may_be_taken(libraries[name], attr):
                    yield f"{name}.{attr}"
            case ast.Attribute(value=value, attr=attr) if attr.startswith("_") and not attr.startswith("__"):
                if not is_self(value) and (found := f"{ast.unparse(value)}.{attr}") not in PRIVATE_BY_NAME_ONLY:
                    yield found


def _imports(tree: ast.Module) -> Iterator[ast.alias]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from node.names


def _is_documented(module: str) -> bool:
    root, _, rest = module.partition(".")
    return root not in DOCUMENTED or not rest or rest in DOCUMENTED[root]


def _may_be_taken(module: str, name: str) -> bool:
    root, _, rest = module.partition(".")
    if root not in DOCUMENTED:
        return True
    if rest:
        return rest in DOCUMENTED[root]
    if name.startswith("_") or name in UNDOCUMENTED.get(root, ()):
        return False
    return name in DOCUMENTED[root] or not isinstance(getattr(importlib.import_module(root), name), ModuleType)


def test_each_module_uses_libraries_as_they_are_documented() -> None:
    assert len(ABOVE) > 100
    used = {name: found for name in ABOVE if (found := sorted(set(below(tree_of(name)))))}
    assert used == {}, f"what they use belongs into an {INTERNALS} module of their room, with a test ({RECORD})"


def test_a_class_touches_nothing_private_of_what_it_inherits() -> None:
    for name, cls in _classes():
        foreign = foreign_names(cls)
        used = {attr for attr in _on_self(name, cls.__name__) if attr.startswith("_") and not attr.startswith("__")}
        assert not used & foreign, f"{name}.{cls.__name__} uses {sorted(used & foreign)} of a library it inherits from ({RECORD})"


def test_a_class_uses_of_an_internals_class_only_what_that_names() -> None:
    for name, cls in _classes():
        ours = [base for base in cls.__mro__ if base.__module__.startswith("runner.")]
        if not any(base.__module__.endswith(INTERNALS) for base in ours):
            continue
        named = set().union(*map(own_names, ours))
        used = _on_self(name, cls.__name__)
        assert used <= named, f"{name}.{cls.__name__} uses {sorted(used - named)}, which no {INTERNALS} module names ({RECORD})"


@pytest.mark.parametrize("name", sorted(set(NAMES) - set(ABOVE)))
def test_an_internals_module_has_a_test_and_stands_in_the_record(name: str) -> None:
    room, _, short = name.rpartition(".")
    assert f"`{name.replace('.', '/')}.py`" in (ROOT / RECORD).read_text(encoding="utf-8")
    assert module_of(name).CHECKED_WITH
    # the module's own words say which test it is
    (test,) = re.findall(r"``(tests/\S+\.py)``", module_of(name).__doc__ or "")
    assert f"from {room} import {short}\n" in (ROOT / test).read_text(encoding="utf-8")


def _classes() -> Iterator[tuple[str, type]]:
    """Yield the classes that inherit from a library's, each with its module."""
    for name in ABOVE:
        own = (value for value in vars(module_of(name)).values() if isinstance(value, type) and value.__module__ == name)
        yield from ((name, cls) for cls in own if any(map(is_foreign, cls.__mro__)))


def _on_self(module: str, name: str) -> set[str]:
    """Return the names that the methods of a class look up on ``self`` and on ``super()``."""
    (body,) = [node for node in ast.walk(tree_of(module)) if isinstance(node, ast.ClassDef) and node.name == name]
    return {
        node.attr
        for node in ast.walk(body)
        if isinstance(node, ast.Attribute) and not node.attr.startswith("__") and (is_self(node.value) or _is_super(node.value))
    }


def _is_super(node: ast.expr) -> bool:
    return isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "super"


# -- the measure itself


@pytest.mark.parametrize(
    "code",
    [
        "import aiohttp.client_proto",
        "from aiohttp.http import RawResponseMessage",
        "from aiohttp import ClientRequest",
        "from aiohttp import client_proto",
        "import aiohttp\naiohttp.ClientRequest",
        "import aiohttp\naiohttp.client_proto.ResponseHandler",
        "import aiohttp as http\nhttp.streams",
        "from tqdm.utils import disp_len",
        "def f(driver):\n    driver._execute()",
        "def f(self):\n    self.driver._conn",
    ],
)
def test_what_lies_below_is_seen(code: str) -> None:
    assert list(below(ast.parse(code)))


@pytest.mark.parametrize(
    "code",
    ["import aiohttp\naiohttp.StreamReader", "from aiohttp import web", "def f(self):\n    self._own", "import json.decoder"],
)
def test_what_is_documented_is_let_through(code: str) -> None:
    assert not list(below(ast.parse(code)))
