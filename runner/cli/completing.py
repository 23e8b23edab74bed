"""What a shell is offered for a word that is being typed: values of options, runs of the store, files of rows.

It is asked at each press of the Tab key. So it imports little, reads the store by ``store.glimpse``, and prints nothing whatever
happens.
"""

import os
from collections.abc import Callable, Iterable, Sequence
from functools import wraps
from pathlib import Path
from typing import TypeAlias

from click import Context, Parameter
from click.shell_completion import CompletionItem

Completer: TypeAlias = Callable[[Context, Parameter, str], list[CompletionItem]]

ENDINGS = (
    ".jsonl", ".ndjson", ".json", ".csv", ".tsv", ".txt", ".text", ".parquet", ".pq", ".xlsx", ".xlsm", ".xls", ".ods",
)  # fmt: skip
"""Endings of files of rows."""
PACKED = (".gz", ".bz2", ".xz", ".zst", ".zstd")
"""Endings of packed files, behind these."""
NAMES_OF_ROWS = (
    "failed", "done", "whole", "length", "own_limit", "content_filter", "empty",
    "timeout", "network", "server", "rate_limit", "policy", "shape",
)  # fmt: skip
"""What ``--only`` may name beside error codes."""
_UNSAFE = frozenset(" \t\n,;&|<>()$`\\\"'*?[]#~!{}")
"""What a script would have to quote, which those of click do not."""


def _quiet(complete: Callable[[Context, str], Iterable[CompletionItem]]) -> Completer:
    """Return what click calls. Nothing is offered where something fails: an error would be printed into what is being typed."""

    @wraps(complete)
    def completed(context: Context, _: Parameter, begun: str) -> list[CompletionItem]:
        try:
            return list(complete(context, begun))
        except Exception:  # noqa: BLE001 - whatever it is, the person goes on typing
            return []

    return completed


def choices(*words: str) -> Completer:
    """Return what offers the words of a setting that has choices."""
    return _quiet(lambda _, begun: _begun(begun, words))


@_quiet
def complete_run(context: Context, begun: str) -> Iterable[CompletionItem]:
    """Offer the names and the numbers of the runs, the newest first, and prompt files where none of these is begun."""
    found = [*_names(context, begun), *_numbers(context, begun)]
    return found or [CompletionItem(begun, type="file")]


@_quiet
def complete_run_alone(context: Context, begun: str) -> Iterable[CompletionItem]:
    """Offer the names and the numbers of the runs, and no files."""
    return [*_names(context, begun), *_numbers(context, begun)]


@_quiet
def complete_name(context: Context, begun: str) -> Iterable[CompletionItem]:
    """Offer the names of runs."""
    return _names(context, begun)


@_quiet
def complete_tags(context: Context, begun: str) -> Iterable[CompletionItem]:
    """Offer the tags of the runs, and their words alone."""
    from runner.store import glimpse

    tags = dict.fromkeys(glimpse.tags(_store(context)))
    words = dict.fromkeys(tag.partition("=")[0] for tag in tags)
    return _begun(begun, {**words, **tags})


@_quiet
def complete_model(context: Context, begun: str) -> Iterable[CompletionItem]:
    """Offer the models that runs of the store had."""
    from runner.store import glimpse

    return _begun(begun, glimpse.models(_store(context)))


@_quiet
def complete_only(context: Context, begun: str) -> Iterable[CompletionItem]:
    """Offer what names rows, and the error codes of the store. Behind a comma, another one."""
    from runner.store import glimpse

    before, comma, last = begun.rpartition(",")
    words = dict.fromkeys((*NAMES_OF_ROWS, *glimpse.codes(_store(context))))
    return [CompletionItem(f"{before}{comma}{word}") for word in words if word.startswith(last)]


def complete_plugins(kind: str, *without: str) -> Completer:
    """Return what offers the names of plug-ins of a kind, also those of installed packages. without: those that do not fit."""

    def complete(_: Context, begun: str) -> Iterable[CompletionItem]:
        # imported here: other values need it not
        from runner.config.plugins import known

        names = [name.replace("_", "-") if kind == "exports" else name for name in known(kind)]
        return _begun(begun, [name for name in names if name not in without])

    return _quiet(complete)


@_quiet
def complete_variable(_: Context, begun: str) -> Iterable[CompletionItem]:
    """Offer the variables of the environment that look like keys by their names, never their values."""
    return _begun(begun, sorted(name for name in os.environ if name.endswith(("_KEY", "_TOKEN"))))


@_quiet
def complete_rows(context: Context, begun: str) -> Iterable[CompletionItem]:
    """Offer the files of rows and the job files in a folder, and ``run:`` with the runs of the store."""
    if begun.startswith("run:"):
        items = [*_names(context, begun[4:]), *_numbers(context, begun[4:])]
        return [CompletionItem(f"run:{item.value}", help=item.help) for item in items]
    return _files(begun, (*ENDINGS, ".toml"))


@_quiet
def complete_file(_: Context, begun: str) -> Iterable[CompletionItem]:
    """Leave it to the shell to offer files."""
    return [CompletionItem(begun, type="file")]


def complete_files(*endings: str) -> Completer:
    """Return what offers the files with certain endings."""
    return _quiet(lambda _, begun: _files(begun, endings))


def _begun(begun: str, words: Iterable[str]) -> list[CompletionItem]:
    return [CompletionItem(word) for word in words if word.startswith(begun) and _UNSAFE.isdisjoint(word)]


def _files(begun: str, endings: Sequence[str]) -> list[CompletionItem]:
    """Return the files and folders whose names begin so. Of a folder that is the only one, what it holds.

    Where a name would have to be quoted, or nothing is found, it is left to the shell.
    """
    folder, _, start = begun.rpartition("/")
    place = Path(f"{folder}/") if begun.startswith("/") or folder else Path()
    found = []
    for entry in sorted(os.scandir(place.expanduser()), key=lambda one: one.name):
        name = entry.name
        if not name.startswith(start) or (name.startswith(".") and not start):
            continue
        if entry.is_dir():
            found.append(f"{begun[: len(begun) - len(start)]}{name}/")
        elif _unpacked(name.lower()).endswith(tuple(endings)):
            found.append(f"{begun[: len(begun) - len(start)]}{name}")
    if len(found) == 1 and found[0].endswith("/"):
        # a shell would put a space behind a folder alone
        return _files(found[0], endings) if _UNSAFE.isdisjoint(found[0]) else [CompletionItem(begun, type="file")]
    if not found or not all(_UNSAFE.isdisjoint(name) for name in found):
        return [CompletionItem(begun, type="file")]
    return [CompletionItem(name) for name in found]


def _unpacked(name: str) -> str:
    return next((name.removesuffix(ending) for ending in PACKED if name.endswith(ending)), name)


def _names(context: Context, begun: str) -> list[CompletionItem]:
    from runner.store import glimpse

    named = glimpse.names(_store(context))
    return [CompletionItem(name, help=f"run {number}") for name, number in named if name.startswith(begun)]


def _numbers(context: Context, begun: str) -> list[CompletionItem]:
    from runner.store import glimpse

    runs = glimpse.inputs(_store(context))
    return [CompletionItem(str(number), help=_shown(name)) for number, name in runs if str(number).startswith(begun)]


def _store(context: Context) -> Path:
    """Return the store that is named so far."""
    return Path(context.params.get("db") or os.environ.get("RUNNER_DB") or "runner.db")


def _shown(name: str) -> str:
    """Return the last part of the name of an input, as a script may print it."""
    last = name.rpartition("/")[2][:40]
    return "".join(letter if letter.isprintable() and letter not in ",\\" else " " for letter in last)
