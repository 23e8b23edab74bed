"""A name is a module: "openai" is runner.providers.openai; a dotted path is any module that is installed."""

from difflib import get_close_matches
from importlib import import_module
from pkgutil import iter_modules
from types import ModuleType

from runner.errors import UsageError


def names(kind: str) -> list[str]:
    """List the modules of a plug-in package: "providers", "exports" or "inputs"."""
    package = import_module(f"runner.{kind}")
    return sorted(found.name for found in iter_modules(package.__path__))


def load(kind: str, name: str) -> ModuleType:
    """Import a plug-in. Raises UsageError for a name that is none."""
    if "." not in name:
        known = names(kind)
        if name in known:
            return import_module(f"runner.{kind}.{name}")
        if kind == "providers":
            known.append("simulator")
        close = get_close_matches(name, known, n=1)
        hint = f"did you mean {close[0]!r}?" if close else "known are " + ", ".join(known)
        raise UsageError(f"there is no {kind[:-1]} {name!r}; {hint}")
    try:
        return import_module(name)
    except ImportError as error:
        raise UsageError(f"the {kind[:-1]} module {name!r} cannot be imported: {error}") from error
