"""Finds plug-ins by name: providers, input formats and export formats.

A name is looked for in this order, and the first hit counts:

1. our own modules: "openai" is ``runner.providers.dialects.openai``;
2. the entry points of installed packages, in the groups ``runner.providers``, ``runner.inputs`` and ``runner.exports``;
3. any module that can be imported. The current folder comes last here, so that no file in it hides an installed module.

The ending of a file is looked for in 1 and 2 only: the name of a data file must not decide which code is run.
"""

import os
import sys
from importlib import import_module
from importlib.machinery import ModuleSpec, NamespaceLoader, PathFinder
from importlib.util import find_spec
from pkgutil import iter_modules
from types import ModuleType
from typing import TYPE_CHECKING, NamedTuple

from runner.config.local_server import LOCAL_SERVERS
from runner.errors import UsageError
from runner.text import nearest

if TYPE_CHECKING:
    from importlib.metadata import EntryPoint


class Kind(NamedTuple):
    """One kind of plug-in.

    package: where ours are. word: what a person calls one. owes: what its module must have. others: names that are no
    modules, but are known all the same.
    """

    package: str
    word: str
    owes: tuple[str, ...]
    others: tuple[str, ...] = ()


KINDS = {
    "providers": Kind(
        "runner.providers.dialects", "provider", ("make", "DEFAULT_BASE_URL", "KEY_ENV", "BASE_URL_ENV"), tuple(LOCAL_SERVERS)
    ),
    "exports": Kind("runner.exports.formats", "export format", ("write",)),
    "inputs": Kind("runner.inputs.formats", "input format", ("read",)),
}


def names(kind: str) -> list[str]:
    """List our plug-ins of a kind: "providers", "exports" or "inputs"."""
    package = import_module(KINDS[kind].package)
    return sorted(found.name for found in iter_modules(package.__path__))


def known(kind: str) -> list[str]:
    """List every name of a kind that a person may use: ours and those of installed packages."""
    return sorted({*names(kind), *KINDS[kind].others, *(entry.name for entry in _entries(kind))})


def load(kind: str, name: str) -> ModuleType:
    """Return the plug-in of a name. Raises UsageError where there is none, and where the module found is no plug-in."""
    module = registered(kind, name)
    if module is not None:
        return module
    word = KINDS[kind].word
    if not _importable(name):
        raise UsageError(f"there is no {word} {name!r}{_hint(kind, name)}")
    try:
        module = import_module(name)
    except (Exception, SystemExit) as error:
        why = _reason(error) + _without_ending(name)
        raise UsageError(f"the {word} module {name!r} cannot be imported: {why}") from error
    lacking = _lacking(kind, module)
    if lacking:
        # two modules may have the same name, so the file is named
        file = getattr(module, "__file__", None) or "built into Python"
        raise UsageError(f"the module {name!r} is no {word}: it has no {lacking} ({file}); known are {', '.join(known(kind))}")
    return module


def registered(kind: str, name: str) -> ModuleType | None:
    """Return the plug-in of a name that is ours or an installed package's; None where there is none.

    Raises UsageError where two packages have the name, and where the module of a package is of no use.
    """
    if name in names(kind):
        return import_module(f"{KINDS[kind].package}.{name}")
    entries = [entry for entry in _entries(kind) if entry.name == name]
    if not entries:
        return None
    word = KINDS[kind].word
    owners = sorted({_owner(entry) for entry in entries})
    if len(owners) > 1:
        raise UsageError(f"the {word} {name!r} comes from {' and from '.join(owners)}; uninstall all but one")
    try:
        module: ModuleType = entries[0].load()
    except (Exception, SystemExit) as error:
        raise UsageError(f"the {word} {name!r} of {owners[0]} cannot be imported: {_reason(error)}") from error
    lacking = _lacking(kind, module)
    if lacking:
        raise UsageError(f"{entries[0].value!r} of {owners[0]} is no {word}: it has no {lacking}")
    return module


def _entries(kind: str) -> "list[EntryPoint]":
    """Return the entry points of a kind. Raises UsageError where those of one installed package cannot be read."""
    # imported here: a name of ours needs no look at the installed packages
    from importlib.metadata import distributions, entry_points

    try:
        return list(entry_points(group=f"runner.{kind}"))
    except Exception:
        for package in distributions():
            try:
                list(package.entry_points)
            except Exception as damage:
                words = f"the entry points of the package {package.name!r} cannot be read ({_reason(damage)})"
                raise UsageError(words) from damage
        raise


def _owner(entry: "EntryPoint") -> str:
    assert entry.dist is not None
    return f"the package {entry.dist.name!r}"


def _importable(name: str) -> bool:
    """Tell whether a module of this name can be imported; of a dotted name, whether its first part can.

    Where the current folder alone has it, that folder is added at the end of the search path, unless Python was told to leave
    it out (``-P``, ``PYTHONSAFEPATH``).
    """
    parts = name.split(".")
    if not all(part.isidentifier() for part in parts):
        return False
    dotted = len(parts) > 1
    spec = find_spec(parts[0]) if parts[0] not in sys.modules else None
    if parts[0] in sys.modules or _is_module(spec):
        return True
    if not sys.flags.safe_path:
        folder = os.getcwd()  # noqa: PTH109 - the search path holds texts
        local = PathFinder.find_spec(parts[0], [folder])
        if _is_module(local) or (dotted and local is not None):
            sys.path.append(folder)
            return True
    return dotted and spec is not None


def _is_module(spec: ModuleSpec | None) -> bool:
    """Tell a module from a mere folder, which Python takes for a package too, and which can hold modules but no plug-in."""
    return spec is not None and spec.loader is not None and not isinstance(spec.loader, NamespaceLoader)


def _lacking(kind: str, module: ModuleType) -> str:
    return ", ".join(one for one in KINDS[kind].owes if not hasattr(module, one))


def _hint(kind: str, name: str) -> str:
    """Say what was probably meant, or what there is."""
    if name.endswith(".py"):
        return _without_ending(name)
    close = nearest(name, known(kind))
    if close is not None:
        return f"; did you mean {close!r}?"
    where = "installed" if sys.flags.safe_path else "installed or in the current folder"
    return f", and no module of that name is {where}; known are {', '.join(known(kind))}"


def _without_ending(name: str) -> str:
    return f"; a module is named without its ending: {name.removesuffix('.py')}" if name.endswith(".py") else ""


def _reason(error: BaseException) -> str:
    words = str(error)
    return words if isinstance(error, ImportError) and words else f"{type(error).__name__}: {words}".removesuffix(": ")
