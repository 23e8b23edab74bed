"""One file of an input: its format, what reads it, and its rows. And several of them, one behind the other."""

from collections.abc import Sequence
from inspect import signature
from pathlib import Path
from types import ModuleType
from typing import NamedTuple

from msgspec import structs

from runner import databases
from runner.config import plugins
from runner.errors import UsageError
from runner.inputs import overwriting, patterns, recognition, spool
from runner.inputs.choosing import Rows
from runner.inputs.compression import unpacked
from runner.inputs.files import size_and_head
from runner.inputs.options import ReadOptions
from runner.origin import LINES
from runner.store import database

ENDINGS = {"ndjson": "jsonl", "tsv": "csv", "text": "txt", "pq": "parquet", "xls": "xlsx", "xlsm": "xlsx", "ods": "xlsx"}
"""Endings that are not the name of their format."""
_OF_JSON = ("jsonl", "json")
"""Formats whose files are told apart by their first bytes: they often have the ending of another one of these."""
_OPTIONS = ("encoding", "delimiter", "sheet")
_NAMED = 5
"""Files that are left out and named, at most."""


class Part(NamedTuple):
    """A file as it was when it was opened: its size, its format, and what a person should know of how it is read."""

    path: Path
    size: int
    name: str
    module: ModuleType
    options: ReadOptions
    about: tuple[str, ...]

    @property
    def place(self) -> str:
        """What the lines of its rows count."""
        return getattr(self.module, "PLACE", "line")

    @property
    def is_table(self) -> bool:
        """True if its first line names columns."""
        return getattr(self.module, "IS_TABLE", False)

    def read(self) -> Rows:
        """Start to read its rows. Raises UsageError if the file cannot be read."""
        more = {"options": self.options} if "options" in signature(self.module.read).parameters else {}
        rows: Rows = self.module.read(self.path, limit_bytes=self.size, **more)
        return rows


class Recognised(NamedTuple):
    """How a file is read: the name and the module of its format, all options, and what a person should know, in phrases."""

    name: str
    module: ModuleType
    options: ReadOptions
    about: Sequence[str] = ()


def recognise(path: Path, options: ReadOptions, *, most_bytes: int | None = None) -> Recognised:
    """Find out how a file is read. most_bytes: as for ``opened``.

    Raises UsageError for a file that cannot be read, or in none of the known formats.
    """
    if databases.is_used(path):
        raise UsageError(f"{path} {recognition.DATABASE}")
    name = module_name(options.format) if options.format is not None else _format(path, options)
    module = plugins.load("inputs", name)
    _refuse_options(path, module, name, options)
    if hasattr(module, "settled"):
        part = {} if most_bytes is None else {"most_bytes": most_bytes}
        return Recognised(name, module, *module.settled(path, structs.replace(options, format=name), **part))
    return Recognised(name, module, options)


def opened(path: Path, options: ReadOptions, most_bytes: int | None = None) -> Part:
    """Return a file with its reader. most_bytes: read only so many bytes of it.

    Raises UsageError for one that cannot be read, or is in none of the known formats.
    """
    name, module, options, about = recognise(path, options, most_bytes=most_bytes)
    try:
        # rows that are appended from here on belong to the next session
        size = path.stat().st_size
    except OSError as error:
        raise UsageError(f"{path} cannot be read: {error.strerror}") from error
    size = size if most_bytes is None else min(size, most_bytes)
    return Part(path, size, name, module, options, tuple(f"{spool.display_name(path)} {words}" for words in about))


def opened_all(path: Path, options: ReadOptions) -> tuple[list[Part], list[str]]:
    """Return the files of an input of several, and what a person should know of them.

    What is ours and only a pattern matches, a store, a job file or an export, is left out.
    """
    found, about = patterns.matches(path)
    stores = [match.path for match in found if match.pattern is not None and database.is_store(match.path)]
    parts, ours = [], []
    for match in found:
        if match.pattern is not None and _is_of_store(match.path, stores):
            ours.append(f"{match.path.name} (a store)")
            continue
        if match.pattern is not None and _is_job_file(match.path):
            ours.append(f"{match.path.name} (a job file)")
            continue
        if match.pattern is not None and overwriting.is_beside_inputs(match.path):
            ours.append(f"{match.path.name} (of an export)")
            continue
        part = opened(match.path, options)
        if match.pattern is not None and _is_export(part):
            ours.append(f"{match.path.name} (an export)")
        else:
            parts.append(part)
    if ours:
        more = f", and {len(ours) - _NAMED:,} more" if len(ours) > _NAMED else ""
        about.append(f"left out, as files of runner's own: {', '.join(ours[:_NAMED])}{more}")
    if not parts:
        raise UsageError(f"{path} matches nothing but files of runner's own: {', '.join(ours[:_NAMED])}")
    return parts, [*about, *(sentence for part in parts for sentence in part.about)]


def chained(parts: Sequence[Part], names: Sequence[str]) -> Rows:
    """Read the rows of files one behind the other, each row with its file. Raises UsageError if a file cannot be read."""
    first = parts[0].read()
    return _chained(first, parts, names)


def _chained(first: Rows, parts: Sequence[Part], names: Sequence[str]) -> Rows:
    for index, (part, name) in enumerate(zip(parts, names, strict=True)):
        before, place = index * LINES, f"{name}, {part.place}"
        for row in part.read() if index else first:
            yield structs.replace(row, line=before + row.line, place=place)


def _is_of_store(path: Path, stores: Sequence[Path]) -> bool:
    beside = (store for store in stores if path.parent == store.parent)
    return spool.is_copy(path) or any(path == store or path.name.startswith(f"{store.name}-") for store in beside)


def _is_job_file(path: Path) -> bool:
    """Return True for a file that holds settings and no rows, unless rows of that ending can be read."""
    return path.suffix.lower() == ".toml" and plugins.registered("inputs", "toml") is None


def is_export(path: Path) -> bool:
    """Return True if a file holds results: its first row has all columns of an export. Raises UsageError if it is no input."""
    return _is_export(opened(path, ReadOptions()))


def _is_export(part: Part) -> bool:
    if hasattr(part.module, "is_export"):
        return bool(part.module.is_export(part.path))
    rows = part.read()
    try:
        first = next((row.fields for row in rows if row.fields), None)
    finally:
        rows.close()
    return first is not None and overwriting.is_exported(first)


def module_name(name: str) -> str:
    """Return the name of the module of a format that a user has named."""
    name = name.strip().replace("-", "_")
    return ENDINGS.get(name, name)


def _format(path: Path, options: ReadOptions) -> str:
    """Return the format of a file. Its name runs no code but that of our own formats and of installed packages."""
    ending = unpacked(path).suffix.lower().lstrip(".")
    name = ENDINGS.get(ending, ending)
    looked_at = name in (*_OF_JSON, "txt") or spool.is_copy(path)
    if not looked_at and plugins.registered("inputs", name) is not None:
        return name
    head = size_and_head(path)[1]
    if name == "txt" and not recognition.begins_with_object(head):
        return name
    found = recognition.look(head)
    if found.rows and options.asked is not None:
        return "jsonl"
    if found.format is None:
        raise UsageError(f"{path} {found.instead}")
    if name in _OF_JSON and not spool.is_copy(path) and found.format not in (*_OF_JSON, "openai-batch"):
        raise UsageError(f"{path} is not JSON, but looks like {found.format}; name it so, or use --input-format {found.format}")
    return module_name(found.format)


def _refuse_options(path: Path, module: ModuleType, name: str, options: ReadOptions) -> None:
    """Raise UsageError for an option that means nothing for a format."""
    for option in _OPTIONS:
        if getattr(options, option) is not None and option not in getattr(module, "OPTIONS", ()):
            raise UsageError(f"--{option} means nothing for {spool.display_name(path)}, which is read as {name}; leave it out")
