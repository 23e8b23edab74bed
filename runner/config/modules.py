"""Where the modules are that a user may name as plug-ins, found as the import will find them, without running any of them."""

import os
import sys
from importlib.machinery import ModuleSpec, NamespaceLoader, PathFinder
from importlib.util import find_spec
from pathlib import Path
from pkgutil import get_importer
from typing import TypeGuard

BUILT_IN = "built into Python"
"""The place of a module without a file."""


def location(name: str) -> str | None:
    """Return the file or folder from which the first code of a module would come; None if there is none. Runs no code.

    A folder without ``__init__.py`` has no code, and may lie in several places, so the modules in it are looked for.
    """
    parts = name.split(".")
    if not all(part.isidentifier() for part in parts):
        return None
    spec, folders = _first(parts[0], dotted=len(parts) > 1)
    for end in range(2, len(parts) + 1):
        if _is_module(spec) or not folders:
            break
        spec, folders = _inside(".".join(parts[:end]), folders)
    if spec is None and not folders:
        # a loaded module without a specification, such as one that a notebook has made
        return f"loaded as {parts[0]}" if parts[0] in sys.modules else None
    place = spec.origin if spec is not None and spec.has_location and spec.origin else next(iter(folders), None)
    return os.path.realpath(place) if place else BUILT_IN


def of_python(name: str) -> bool:
    """Return True if a module is a part of Python itself, which is no plug-in of any kind."""
    if name.partition(".")[0] not in sys.stdlib_module_names:
        return False
    place, library = location(name), os.path.realpath(os.path.dirname(os.__file__))  # noqa: PTH120 - as ``location``
    if place is None or place == BUILT_IN:
        return place is not None
    inside = Path(place).relative_to(library).parts if Path(place).is_relative_to(library) else ()
    return bool(inside) and inside[0] not in ("site-packages", "dist-packages")


def _first(name: str, *, dotted: bool) -> tuple[ModuleSpec | None, list[str]]:
    """Return where a module without a dot is, as ``importable`` and the import will find it, and the folders of a package."""
    if name in sys.modules:
        # of a module that is loaded, the same as before
        module = sys.modules[name]
        return getattr(module, "__spec__", None), list(getattr(module, "__path__", ()))
    spec = find_spec(name)
    if not _is_module(spec) and _is_local(name, dotted=dotted):
        return _inside(name, [*sys.path, os.getcwd()])  # noqa: PTH109 - the search path holds strings
    return spec, list(spec.submodule_search_locations or ()) if spec is not None else []


def _inside(name: str, folders: list[str]) -> tuple[ModuleSpec | None, list[str]]:
    """Return what the import finds for a name in these folders: a module, or the folders of this name without ``__init__.py``."""
    if name in sys.modules:
        return getattr(sys.modules[name], "__spec__", None), list(getattr(sys.modules[name], "__path__", ()))
    mere = []
    for folder in folders:
        finder = get_importer(folder)
        spec = finder.find_spec(name) if finder is not None else None
        if _is_module(spec):
            return spec, list(spec.submodule_search_locations or ())
        mere += list(spec.submodule_search_locations or ()) if spec is not None else []
    return None, mere


def importable(name: str) -> bool:
    """Return True if a module of this name can be imported; for a dotted name, if its first part can.

    If only the current folder has the module, append that folder to the search path.
    """
    parts = name.split(".")
    if not all(part.isidentifier() for part in parts):
        return False
    dotted = len(parts) > 1
    spec = find_spec(parts[0]) if parts[0] not in sys.modules else None
    if parts[0] in sys.modules or _is_module(spec):
        return True
    if _is_local(parts[0], dotted=dotted):
        sys.path.append(os.getcwd())  # noqa: PTH109 - the search path holds strings
        return True
    return dotted and spec is not None


def _is_local(name: str, *, dotted: bool) -> bool:
    """Return True if the current folder has the module, or for a dotted name a folder of this name.

    The folder is left out if Python was started with ``-P`` or ``PYTHONSAFEPATH``.
    """
    if sys.flags.safe_path:
        return False
    local = PathFinder.find_spec(name, [os.getcwd()])  # noqa: PTH109 - as above
    return _is_module(local) or (dotted and local is not None)


def _is_module(spec: ModuleSpec | None) -> TypeGuard[ModuleSpec]:
    """Return True for a module; False for a folder without ``__init__.py``, a package to Python, but never a plug-in."""
    return spec is not None and spec.loader is not None and not isinstance(spec.loader, NamespaceLoader)


def name_of_python(name: str) -> str:
    """Return words about a name that a module of Python itself has."""
    first = name.partition(".")[0]
    local = PathFinder.find_spec(first, [os.getcwd()])  # noqa: PTH109 - as above
    hides = _is_module(local) and not sys.flags.safe_path
    return f"a module of Python itself has the name {first}" + (f"; rename {local.origin}" if hides and local is not None else "")
