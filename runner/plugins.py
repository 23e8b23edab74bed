"""A name is a module: "openai" is runner.providers.openai; a dotted path is any module that is installed."""

from importlib import import_module
from pkgutil import iter_modules
from types import ModuleType

from runner.errors import UsageError
from runner.text import nearest

_OWES = {
    "providers": ("make", "DEFAULT_BASE_URL", "KEY_ENV", "BASE_URL_ENV"),
    "exports": ("write",),
    "inputs": ("read",),
}
"""What a module must have to be a plug-in."""


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
        close = nearest(name, known)
        hint = f"did you mean {close!r}?" if close is not None else "known are " + ", ".join(known)
        raise UsageError(f"there is no {kind[:-1]} {name!r}; {hint}")
    try:
        module = import_module(name)
    except ImportError as error:
        raise UsageError(f"the {kind[:-1]} module {name!r} cannot be imported: {error}") from error
    lacking = [one for one in _OWES[kind] if not hasattr(module, one)]
    if lacking:
        raise UsageError(f"the module {name!r} is no {kind[:-1]}: it has no {', '.join(lacking)}")
    return module
