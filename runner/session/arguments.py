"""Checks what a program passes to the Python API, by the name of the argument, before anything is read or sent.

A wrong argument is one sentence. It is never taken for something else: a text such as "false" for True, or "12" for runs 1 and 2.
"""

import errno
import os
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, MutableMapping
from functools import partial
from inspect import isasyncgenfunction, iscoroutinefunction, isgeneratorfunction
from operator import index
from pathlib import Path
from types import FunctionType, MethodType
from typing import Any

from msgspec import structs

from runner.config.job import Job
from runner.config.variables import unknown_variables
from runner.errors import UsageError
from runner.event_types import Event
from runner.inputs.keys import whole
from runner.interfaces import Observer
from runner.labels import checked_name, checked_tags, is_name
from runner.prices.sample import LEAST
from runner.session import only
from runner.session.audience import logger
from runner.session.options import Asked, SessionOptions
from runner.session.stopping import StopHandle

_IDLE = (iscoroutinefunction, isasyncgenfunction, isgeneratorfunction)
"""Tell functions that do nothing when they are called."""
_LONGEST_NAME = 60
_FUNCTIONS = (FunctionType, MethodType, partial)


def check(**given: Any) -> None:
    """Raise UsageError for an argument of the wrong kind."""
    for name, value in given.items():
        refusal = _KINDS[name](value)
        if refusal is not None:
            raise UsageError(f"{name} must be {refusal}, not {_shown(value)}")


def check_outputs(places: Any, formats: Any) -> None:
    """Raise UsageError for what is no list of outputs, with a list of a format or None for each of them, or with None."""
    named = [None] * len(places) if formats is None else formats
    if not places or not isinstance(named, list | tuple) or len(named) != len(places):
        raise UsageError(
            "output must be a path or a list of paths, and format is then a list with a name or None for each of them"
        )
    for place, name in zip(places, named, strict=True):
        check(output=place, format=name)


def of_run(
    settings: MutableMapping[str, Any], db: object, limit: Any, *, new: bool, accept_changes: bool, labelled: bool = True
) -> tuple[SessionOptions, bool]:
    """Check the arguments of ``run``, and return the options of its session and ``trust``.

    ``strict``, ``trust``, and where a run may be ``labelled`` also ``name`` and ``tags`` are taken out of the settings. Raises
    UsageError.
    """
    strict, trust = settings.pop("strict", False), settings.pop("trust", False)
    name, tags = (settings.pop("name", None), settings.pop("tags", None)) if labelled else (None, None)
    tags = () if tags is None else tags
    detach = settings.pop("detach", False) if labelled else False
    check(
        detach=detach,
        db=db,
        limit=limit,
        new=new,
        accept_changes=accept_changes,
        strict=strict,
        trust=trust,
        called=name,
        tags=tags,
    )
    options = SessionOptions(
        limit=None if limit is None else index(limit),
        new=new,
        accept_changes=accept_changes,
        strict=strict,
        name=checked_name(name) if name is not None else None,
        tags=checked_tags(tags),
        detach=bool(detach),
    )
    return options, trust


def detached(settings: MutableMapping[str, Any]) -> Callable[[tuple[Job, SessionOptions]], tuple[Job, SessionOptions]]:
    """Take ``detach`` out of the settings, and return what adds it to the options of a session. Raises UsageError."""
    detach = settings.pop("detach", False)
    check(detach=detach)
    return lambda found: (found[0], structs.replace(found[1], detach=bool(detach)))


def of_retry(classes: Any, ids: Any, *, all_rows: bool) -> Asked:
    """Check which rows are to be sent again, and return them. Raises UsageError."""
    check(classes=classes, ids=ids, all_rows=all_rows)
    given = ids if ids is None or isinstance(ids, Path) else tuple(str(whole(one)) for one in ids)
    return Asked(classes=tuple(only.listed(classes, "--class")), ids=given, all_rows=bool(all_rows))


def warn_of_variables() -> None:
    """Log each RUNNER_* variable that means nothing: a program, unlike a terminal, shows no notes by itself."""
    for sentence in unknown_variables(os.environ):
        logger.warning("%s", sentence)


def handle(stop: object, settings: MutableMapping[str, Any]) -> StopHandle | None:
    """Return the handle that was given as ``stop``. What is none goes to the settings: texts that end an answer."""
    if stop is None or isinstance(stop, StopHandle):
        return stop
    if isinstance(stop, bytes | bytearray | Mapping) or not isinstance(stop, Iterable):
        raise UsageError(f"stop must be a runner.StopHandle, or the texts at which an answer ends, not {type(stop).__name__}")
    settings["stop"] = stop if isinstance(stop, str) else list(stop)
    return None


def observer(observe: Observer | None) -> Observer:
    """Return the observer that was given, or one that ignores everything."""
    return _ignore if observe is None else observe


def _ignore(event: Event) -> None:
    """Ignore an event."""


def _input(value: object) -> str | None:
    if not isinstance(value, str | os.PathLike) or not isinstance(path := os.fspath(value), str):
        return "a path, as text or pathlib.Path"
    try:
        os.lstat(path)
    except ValueError:
        return "a path that a file can have (no NUL, no half of a surrogate pair)"
    except OSError:
        # whoever opens it has better words
        return None
    return None


def _inputs(value: Any) -> str | None:
    if not isinstance(value, list | tuple):
        return _input(value)
    good = value and all(isinstance(one, os.PathLike) for one in value)
    return next(filter(None, map(_input, value)), None) if good else "a path, or a list of pathlib.Path with at least one"


def _path(value: Any) -> str | None:
    refusal = _input(value)
    if refusal is not None:
        return refusal
    if not os.fspath(value):
        return "the path of a file"
    try:
        os.lstat(value)
    except OSError as error:
        return "a shorter path" if error.errno == errno.ENAMETOOLONG else None
    return None


def _flag(value: object) -> str | None:
    return None if value is None or isinstance(value, bool) else "True or False"


def _is_whole(value: object) -> bool:
    return hasattr(value, "__index__") and not isinstance(value, bool)


def _names_run(value: object) -> bool:
    return _is_whole(value) or (isinstance(value, str) and is_name(value))


def _number(value: object) -> str | None:
    return None if value is None or _names_run(value) else "the number of a run, a whole number, or its name"


def _numbers(value: Any) -> str | None:
    good = isinstance(value, Collection) and not isinstance(value, (str, bytes, bytearray, memoryview, Mapping))
    good = good and all(_names_run(number) for number in value)
    return None if good else "a list of the numbers of runs, such as [1, 2], or of their names"


def _limit(value: Any) -> str | None:
    good = value is None or (_is_whole(value) and index(value) >= 1)
    return None if good else "a whole number of 1 or more"


def _sample(value: Any) -> str | None:
    good = _is_whole(value) and (index(value) == 0 or index(value) >= LEAST)
    return None if good else f"a whole number of {LEAST} or more, or 0 to send nothing"


def _observe(value: Any) -> str | None:
    if value is None:
        return None
    if not callable(value):
        return "a function that takes an event"
    # what merely looks like a function, such as a mock of one, cannot tell
    codes = [code for code in (value, value.__call__) if type(code) in _FUNCTIONS]
    idle = any(test(code) for test in _IDLE for code in codes)
    return "a plain function (what an async one or a generator returns would never run)" if idle else None


def _name(value: object) -> str | None:
    return None if value is None or isinstance(value, str) else "text"


def _names(value: Any) -> str | None:
    good = value is None or isinstance(value, str)
    good = good or (isinstance(value, list | tuple) and all(isinstance(name, str) for name in value))
    return None if good else "a list of names, or a text with commas between them"


def _ids(value: Any) -> str | None:
    if value is None or isinstance(value, Path):
        return None
    good = isinstance(value, Iterable) and not isinstance(value, str | bytes | bytearray | memoryview | Mapping | Iterator)
    good = good and all(isinstance(one, str) or _is_whole(whole(one)) for one in value)
    return None if good else "a list of ids, each a text or a whole number, or the pathlib.Path of a file of them"


def _tags(value: Any) -> str | None:
    good = isinstance(value, list | tuple) and all(isinstance(tag, str) for tag in value)
    return None if good else 'a list of texts, such as ["pilot", "team=a"]'


def _session_name(value: object) -> str | None:
    good = isinstance(value, str) and value.replace("-", "").replace("_", "").isalnum() and len(value) <= _LONGEST_NAME
    return None if good else "letters, digits, - and _, up to 60 of them"


def _on_slow(value: object) -> str | None:
    return None if value in ("wait", "drop") else '"wait" or "drop"'


def _list(value: object) -> str | None:
    return None if value is None or isinstance(value, list) else "a list, which receives the notes"


_KINDS: dict[str, Callable[[Any], str | None]] = {
    "source": _inputs,
    **dict.fromkeys(("db", "output"), _path),
    **dict.fromkeys(
        ("new", "accept_changes", "strict", "trust", "raw", "csv_escape", "csv_excel", "prompt", "vacuum", "progress"), _flag
    ),
    **dict.fromkeys(("prefix_fields", "manifest"), _flag),
    **dict.fromkeys(("only", "columns", "classes", "on"), _names),
    "ids": _ids,
    **dict.fromkeys(("all_rows", "detach"), _flag),
    "order": _name,
    "run_id": _number,
    "run_ids": _numbers,
    "limit": _limit,
    "sample": _sample,
    "observe": _observe,
    "format": _name,
    "name": _session_name,
    "called": _name,
    "tags": _tags,
    "on_slow": _on_slow,
    "notes": _list,
}
"""What each argument must be: a function that returns the words for it if the value is something else."""


def _shown(value: object) -> str:
    """Return a value as a message shows it."""
    try:
        shown = ascii(value)
    except Exception:  # noqa: BLE001 - a number of 5,000 digits, or an object of the program
        shown = f"a value of type {type(value).__name__}"
    return shown if len(shown) <= 60 else f"{shown[:57]}..."
