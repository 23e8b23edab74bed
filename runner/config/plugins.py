"""Finds plug-ins by name: providers, input formats, export formats and engines.

A name is searched for in this order, and the first match is used:

1. our own modules: "openai" is ``runner.providers.dialects.openai``;
2. the entry points of installed packages, in the groups ``runner.providers``, ``runner.inputs``, ``runner.exports`` and
   ``runner.engines``;
3. any importable module. The current folder is searched last, so that no file in it hides an installed module.

The extension of a file is searched for in 1 and 2 only: the name of a data file must not decide which code is run. A module that
only a job file or a store names needs the user's word before 3 (``config.trust``).
"""

import sys
from functools import cache
from importlib import import_module
from pkgutil import iter_modules
from types import ModuleType
from typing import TYPE_CHECKING, NamedTuple

from runner.config import modules
from runner.config.local_server import LOCAL_SERVERS
from runner.errors import UsageError
from runner.text import nearest

if TYPE_CHECKING:
    from importlib.metadata import Distribution, EntryPoint


class Kind(NamedTuple):
    """One kind of plug-in.

    package: holds our own plug-ins. word: the kind's name in messages. required: the names that a plug-in's module must define.
    extra_names: names that users may give although no module has them.
    """

    package: str
    word: str
    required: tuple[str, ...]
    extra_names: tuple[str, ...] = ()


KINDS = {
    "providers": Kind(
        "runner.providers.dialects", "provider", ("make", "DEFAULT_BASE_URL", "KEY_ENV", "BASE_URL_ENV"), tuple(LOCAL_SERVERS)
    ),
    "exports": Kind("runner.exports.formats", "export format", ("write",)),
    "inputs": Kind("runner.inputs.formats", "input format", ("read",)),
    "engines": Kind("runner.workers.engines", "engine", ("make",)),
}


_CALLS: dict[tuple[str, str], tuple[tuple[str, ...], tuple[str, ...]]] = {
    ("providers", "make"): (("base_url", "key"), ("version",)),
    ("exports", "write"): (("columns", "records", "out"), ()),
    ("inputs", "read"): (("path",), ("limit_bytes",)),
    ("engines", "make"): (("options",), ()),
}
"""The arguments of the required functions of each kind, by position and by name. The other required names are strings."""


@cache
def names(kind: str) -> list[str]:
    """Return the names of our own plug-ins of a kind, such as "providers"."""
    package = import_module(KINDS[kind].package)
    return sorted(module.name for module in iter_modules(package.__path__))


def known(kind: str) -> list[str]:
    """Return every name of a kind that a user may give: ours and those of installed packages."""
    return sorted({*names(kind), *KINDS[kind].extra_names, *(entry.name for entry in _entries(kind))})


def load(kind: str, name: str) -> ModuleType:
    """Return the plug-in with this name. Raises UsageError if there is none, or if its module is not a plug-in of this kind."""
    module = registered(kind, name)
    if module is not None:
        return module
    word = KINDS[kind].word
    if modules.of_python(name):
        raise UsageError(f"there is no {word} {name!r}: {modules.name_of_python(name)}; available: {', '.join(known(kind))}")
    if not modules.importable(name):
        # a package whose entry points cannot be read may be the one that is meant
        raise UsageError(_unreadable() or f"there is no {word} {name!r}{_hint(kind, name)}")
    try:
        module = import_module(name)
    except (Exception, SystemExit) as error:
        reason = _reason(error) + _extension_hint(name)
        raise UsageError(f"the {word} module {name!r} cannot be imported: {reason}") from error
    missing = _missing(kind, module)
    if missing:
        # two modules may have the same name, so the message names the file
        file = getattr(module, "__file__", None) or modules.BUILT_IN
        available = ", ".join(known(kind))
        raise UsageError(f"the {word} module {name!r} does not define {missing} ({file}); available: {available}")
    return module


def registered(kind: str, name: str) -> ModuleType | None:
    """Return the plug-in with this name that is ours or of an installed package, or None.

    Raises UsageError if two packages register the name, or if the registered module is not a plug-in of this kind.
    """
    if name in names(kind):
        return import_module(f"{KINDS[kind].package}.{name}")
    entries = [entry for entry in _entries(kind) if entry.name == name]
    if not entries:
        return None
    word = KINDS[kind].word
    owners = sorted({_owner(entry) for entry in entries})
    if len(owners) > 1:
        raise UsageError(f"the {word} {name!r} is provided by {' and by '.join(owners)}; uninstall all but one")
    try:
        module: ModuleType = entries[0].load()
    except (Exception, SystemExit) as error:
        raise UsageError(f"the {word} {name!r} of {owners[0]} cannot be imported: {_reason(error)}") from error
    missing = _missing(kind, module)
    if missing:
        raise UsageError(f"the {word} {name!r} of {owners[0]} does not define {missing} (module {entries[0].value!r})")
    return module


def _entries(kind: str) -> "list[EntryPoint]":
    """Return the entry points of a kind, without those of packages that are damaged."""
    # imported here, because importlib.metadata is not needed for our own plug-ins
    from importlib.metadata import distributions, entry_points

    group = f"runner.{kind}"
    try:
        return list(entry_points(group=group))
    except Exception:  # noqa: BLE001 - whatever a damaged package raises
        readable = (package.entry_points for package in distributions() if _damage(package) is None)
        return [entry for entries in readable for entry in entries.select(group=group)]


def _unreadable() -> str | None:
    """Return the sentence about the first installed package whose entry points cannot be read, or None."""
    from importlib.metadata import distributions

    for package in distributions():
        reason = _damage(package)
        if reason is not None:
            return f"the entry points of the package {package.name!r} cannot be read ({reason})"
    return None


def _damage(package: "Distribution") -> str | None:
    """Return why the entry points of a package cannot be read, or None."""
    try:
        list(package.entry_points)
    except Exception as error:  # noqa: BLE001 - as above
        return _reason(error)
    return None


def _owner(entry: "EntryPoint") -> str:
    assert entry.dist is not None
    return f"the package {entry.dist.name!r}"


def _missing(kind: str, module: ModuleType) -> str:
    """Return what a module lacks to be a plug-in of a kind. Names such as ``write`` are common, so the arguments count too."""
    return ", ".join(
        name if not hasattr(module, name) else lack for name in KINDS[kind].required if (lack := _lack(kind, module, name))
    )


def _lack(kind: str, module: ModuleType, name: str) -> str | None:
    """Return what a module lacks for a required name to be what it must be; None if it is."""
    value = getattr(module, name, None)
    if (kind, name) not in _CALLS:
        return None if isinstance(value, str) else f"{name} as a string"
    # imported here, because it is not needed for our own plug-ins
    from inspect import signature

    arguments, options = _CALLS[kind, name]
    try:
        # as it is called, whatever it wraps; what else ``make`` wants depends on the job
        found = signature(value, follow_wrapped=False)  # type: ignore[arg-type]
        (found.bind_partial if name == "make" else found.bind)(*arguments, **dict.fromkeys(options))
    except TypeError:
        return f"{name}({', '.join((*arguments, *(f'{option}=...' for option in options)))})"
    except ValueError:
        # written in C, and silent about its arguments
        return None
    return None


def _hint(kind: str, name: str) -> str:
    """Return the end of the message about an unknown name: what was probably meant, or which names are available."""
    if name.endswith(".py"):
        return _extension_hint(name)
    close = nearest(name, known(kind))
    if close is not None:
        return f"; did you mean {close!r}?"
    places = "installed" if sys.flags.safe_path else "installed or in the current folder"
    return f", and no module of that name is {places}; available: {', '.join(known(kind))}"


def _extension_hint(name: str) -> str:
    return f"; give the module's name without .py: {name.removesuffix('.py')}" if name.endswith(".py") else ""


def _reason(error: BaseException) -> str:
    text = str(error)
    return text if isinstance(error, ImportError) and text else f"{type(error).__name__}: {text}".removesuffix(": ")
