"""A name is a module: "openai" is runner.providers.dialects.openai; a dotted path is any module that is installed."""

from importlib import import_module
from pkgutil import iter_modules
from types import ModuleType
from typing import NamedTuple

from runner.config.local_server import LOCAL_SERVERS
from runner.errors import UsageError
from runner.text import nearest


class Kind(NamedTuple):
    """One kind of plug-in. package: where ours are; word: what a person calls one; owes: what its module must have."""

    package: str
    word: str
    owes: tuple[str, ...]


KINDS = {
    "providers": Kind("runner.providers.dialects", "provider", ("make", "DEFAULT_BASE_URL", "KEY_ENV", "BASE_URL_ENV")),
    "exports": Kind("runner.exports.formats", "export format", ("write",)),
    "inputs": Kind("runner.inputs.formats", "input format", ("read",)),
}


def names(kind: str) -> list[str]:
    """List our plug-ins of a kind: "providers", "exports" or "inputs"."""
    package = import_module(KINDS[kind].package)
    return sorted(found.name for found in iter_modules(package.__path__))


def load(kind: str, name: str) -> ModuleType:
    """Import a plug-in. Raises UsageError for a name that is none."""
    package, word, owes = KINDS[kind]
    if "." not in name:
        known = names(kind)
        if name in known:
            return import_module(f"{package}.{name}")
        if kind == "providers":
            known += LOCAL_SERVERS
        close = nearest(name, known)
        hint = f"did you mean {close!r}?" if close is not None else "known are " + ", ".join(known)
        raise UsageError(f"there is no {word} {name!r}; {hint}")
    try:
        module = import_module(name)
    except ImportError as error:
        raise UsageError(f"the {word} module {name!r} cannot be imported: {error}") from error
    lacking = [one for one in owes if not hasattr(module, one)]
    if lacking:
        raise UsageError(f"the module {name!r} is no {word}: it has no {', '.join(lacking)}")
    return module
