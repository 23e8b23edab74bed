"""Scans a prompt file before anything is sent: counts its rows, and finds duplicate ids and identical rows."""

import re
from collections.abc import Callable, Generator, Iterable, Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import NamedTuple

from msgspec import Struct, structs

from runner import origin
from runner.errors import UsageError
from runner.inputs import content
from runner.inputs.content import Content
from runner.inputs.duplicates import HashCollector, RepeatedHashes
from runner.inputs.keys import (
    KEY_PREFIX,
    NEVER_ABSENT,
    OF_A_REQUEST,
    ROW_SETTINGS,
    base_key,
    named_in,
    row_settings,
    short_key,
    unsent,
)
from runner.inputs.places import Places
from runner.inputs.spread import Spread
from runner.media import MEDIA_FIELDS
from runner.model import Row
from runner.origin import Files
from runner.text import clean, plural

_SHOWN_IDS = 5
_SHOWN_LINES = 3
# upper bound for the duplicate ids in a Scan, and for the lines of each
_KEPT = 100
# keys that an identical row without an id can get
_ORDINAL = re.compile(rf"({KEY_PREFIX}[0-9a-f]{{20}})-([2-9]|[1-9][0-9]{{1,9}})")


READING = "3"
"""The way in which rows are read: which are broken, what their keys and fingerprints are. A new number for every change of it."""


class PromptFile(NamedTuple):
    """A prompt file, or several, or the rows of a run, as it was when it was opened.

    size: its bytes at that time; anything appended later is ignored. read: starts reading the rows from the beginning; raises
    UsageError if the file cannot be read. read_behind: the same from a line on, given the bytes of content and the lines before
    it; returns None if a reader cannot begin there. None: the format cannot do that. reading: how the rows are read. places: how
    a person finds its rows. about: what a person should know of how it is read, one sentence each. row_is_line: no row has
    several lines. parts: its files with their sizes, if it is not the file ``path``. files: the same as the store keeps them.
    measured: what hashes its content, if that is no file.
    """

    path: Path
    size: int
    read: Callable[[], Generator[Row, None, None]]
    read_behind: Callable[[int, int], Generator[Row, None, None] | None] | None = None
    reading: str = READING
    places: Places = Places()
    about: tuple[str, ...] = ()
    row_is_line: bool = True
    parts: tuple[tuple[Path, int], ...] = ()
    files: Files | None = None
    measured: Callable[[], Content] | None = None


class Before(Struct, frozen=True, kw_only=True):
    """What lies before the rows that are read, where the beginning of a file is not read again: all of it is settled."""

    lines: int = 0
    rows: int = 0
    # of the rows: broken ones
    broken: int = 0
    # keys of rows without an id that are read, and that identical rows before them have -> number of those rows
    identical: Mapping[str, int] = {}


class Scan(Struct, frozen=True, kw_only=True):
    """The result of a scan of a prompt file."""

    # of the whole file
    rows: int
    # keys before ordinals that several rows share, as ``short_key`` hashes
    repeated: RepeatedHashes
    # rows without an id that are identical to an earlier one
    identical: int = 0
    # number of ids that occur more than once
    duplicate_ids: int = 0
    # the first 100 of these ids -> the first 100 of their lines
    duplicates: dict[str, list[int]] = {}
    # settings that rows have at their top level, in the order of ROW_SETTINGS
    row_settings: tuple[str, ...] = ()
    # fields called like those of a request that are not sent
    unsent: tuple[str, ...] = ()
    # fields in which rows name files
    media: tuple[str, ...] = ()
    # rows in which NaN or an infinity was read as null
    nulls: int = 0
    # fields that the template of the job names and no row has
    absent: tuple[str, ...] = ()
    before: Before = Before()
    # bytes of the records that were read, and rows spread over them, 256 at most; none if an earlier session has scanned them
    size: int = 0
    some: tuple[Row, ...] = ()


def scan(prompts: PromptFile) -> Scan:
    """Scan a prompt file. Takes 8 bytes of memory per row, and up to 16 if many rows are identical.

    The keys are hashed by Python's own hash, 64 bits and salted per process: a collision only costs a second pass.
    """
    hashes, some = HashCollector(), Spread()
    rows = nulls = size = 0
    names, data = set[str](), set[str]()
    media: dict[str, object] = {}
    absent: set[str] | None = None
    for row in prompts.read():
        rows += 1
        size += row.size
        if rows == some.due:
            some.add(row)
        if row.asked is not None and row.fault is None and row.fields is not None:
            absent = set(row.asked - NEVER_ABSENT) if absent is None else absent
            if absent:
                absent.difference_update(row.fields)
        hashes.add(hash(base_key(row)[0]))
        if row.fields is not None and not OF_A_REQUEST.isdisjoint(row.fields):
            names.update(row_settings(row))
            data.update(unsent(row))
        if row.fields is not None and not row.media.keys().isdisjoint(row.fields):
            media.update(named_in(row.fields, row.media))
        if row.nulls:
            nulls += 1
    suspects = hashes.repeats()
    found = _second_pass(prompts, rows, suspects) if suspects else Scan(rows=rows, repeated=suspects)
    return structs.replace(
        found,
        row_settings=tuple(name for name in ROW_SETTINGS if name in names),
        unsent=tuple(sorted(data)),
        media=tuple(media),
        nulls=nulls,
        absent=tuple(sorted(absent or ())),
        size=size,
        some=tuple(some.rows),
    )


def _second_pass(prompts: PromptFile, rows: int, suspects: RepeatedHashes) -> Scan:
    """Separate duplicate ids from identical rows without an id, among the keys that seem to occur more than once."""
    generated = HashCollector()
    # 1 for each suspect that is an id
    is_id = bytearray(len(suspects))
    first: dict[str, str | None] = {}
    # True if an id has the form of a generated key with an ordinal, as the ids in an export do
    may_clash = False
    for row in prompts.read():
        key, is_own = base_key(row)
        may_clash = may_clash or (is_own and _ORDINAL.fullmatch(key) is not None)
        index = suspects.find(hash(key))
        if index is not None and not is_own:
            generated.add(short_key(key))
        elif index is not None and not is_id[index]:
            is_id[index] = 1
            if len(first) < _KEPT:
                first[key] = None
    repeated = generated.repeats()
    duplicate_ids = sum(is_id)
    if may_clash and repeated:
        clashes = _clashes(prompts, repeated)
        duplicate_ids += clashes.number - len(first.keys() & clashes.first.keys())
        first |= clashes.first
    duplicates = _lines(prompts, first) if first else {}
    return Scan(
        rows=rows,
        repeated=repeated,
        identical=sum(repeated.counts) - len(repeated),
        # Ids that turned out to have one line only were hash collisions.
        duplicate_ids=duplicate_ids - len(first) + len(duplicates),
        duplicates=duplicates,
    )


class _Clashes(NamedTuple):
    """Ids that are equal to the generated key of an identical row without an id."""

    number: int
    # the first of these ids -> the generated key without its ordinal
    first: dict[str, str | None]


def _clashes(prompts: PromptFile, repeated: RepeatedHashes) -> _Clashes:
    count = 0
    first: dict[str, str | None] = {}
    for row in prompts.read():
        key, is_own = base_key(row)
        match = _ORDINAL.fullmatch(key) if is_own else None
        index = repeated.find(short_key(match[1])) if match is not None else None
        if match is not None and index is not None and int(match[2]) <= repeated.counts[index]:
            count += 1
            if len(first) < _KEPT:
                first[key] = match[1]
    return _Clashes(count, first)


def _lines(prompts: PromptFile, ids: Mapping[str, str | None]) -> dict[str, list[int]]:
    """Return the lines of each id, and of the rows whose generated key it equals; ids with a single line are left out."""
    lines: dict[str, list[int]] = {key: [] for pair in ids.items() for key in pair if key is not None}
    for row in prompts.read():
        key, _ = base_key(row)
        if key in lines and len(lines[key]) < _KEPT:
            lines[key].append(row.line)
    all_lines = {key: lines[key] + (lines[base] if base is not None else []) for key, base in ids.items()}
    return {key: numbers for key, numbers in all_lines.items() if len(numbers) > 1}


def refuse_empty(rows: int, name: str, where: str | None = None, about: Sequence[str] = ()) -> None:
    """Raise UsageError if an input has no rows: more often than not it is the wrong file, or what made it has failed.

    where: the condition that a row has to meet. about: what a person should know of how the input is read.
    """
    if not rows and where is not None:
        hint = "; the cells of a CSV are texts: score | float makes a number of one" if re.search("[0-9]", where) else ""
        raise UsageError(f"{name} has no row for which --where {clean(repr(where))} holds, so there is nothing to send{hint}")
    if not rows:
        advice = "; ".join(("write the prompts into it, or name another file", *about))
        raise UsageError(f"{name} has no rows, so there is nothing to send; {advice}")


def refuse_duplicates(scanned: Scan, path: Path, places: Places) -> None:
    """Raise UsageError if an id occurs more than once: the answers of its rows could not be told apart."""
    if not scanned.duplicates:
        return
    first = [f"{key!r} {places.all_of(lines, _SHOWN_LINES)}" for key, lines in islice(scanned.duplicates.items(), _SHOWN_IDS)]
    more = scanned.duplicate_ids - len(first)
    tail = f"; and {more:,} more" if more > 0 else ""
    words = "duplicate id" if scanned.duplicate_ids == 1 else f"{scanned.duplicate_ids:,} duplicate ids:"
    advice = "Give every row its own id, or no id; --id-column names another field"
    if origin.run_of(path) is not None:
        # each row of a run has its own key, so only the name of a further answer can be that of a row
        advice = (
            "Answer 2 of a row a is called a#2 here, and a row has that id itself; --where 'answer_number == 1' leaves out all "
            "answers but the first of each row"
        )
    raise UsageError(f"{origin.shown(path)}: {words} {'; '.join(first)}{tail}. {advice}")


def remarks(scanned: Scan) -> list[str]:
    """Return what a person should know of how the rows were read, one sentence each."""
    sentences = []
    if scanned.row_settings:
        names = _listed(scanned.row_settings)
        sentences.append(f"the rows set {names} themselves (row_settings = false makes such fields plain data)")
    if scanned.unsent:
        are, them = ("is", "it") if len(scanned.unsent) == 1 else ("are", "them")
        names = _listed(scanned.unsent)
        sentences.append(f"{names} of the rows {are} kept as data and not sent; in extra_body a row sends {them}")
    if scanned.media:
        names = _listed(scanned.media)
        ours = not MEDIA_FIELDS.keys().isdisjoint(scanned.media)
        hint = " (row_settings = false makes such fields plain data)" if ours else ""
        sentences.append(f"files that the rows name in {names} are sent{hint}")
    if scanned.nulls:
        verb = "holds" if scanned.nulls == 1 else "hold"
        sentences.append(f"{plural(scanned.nulls, 'row')} {verb} NaN or Infinity, which is read as null")
    return sentences


def _listed(names: Sequence[str]) -> str:
    *others, last = names
    return f"{', '.join(others)} and {last}" if others else last


def measure(prompts: PromptFile, lengths: Iterable[int] = ()) -> Content:
    """Hash the content of a prompt file as ``content.measure`` does. Raises UsageError if the file cannot be read."""
    # Starting to read refuses a pipe, which would be read without end.
    prompts.read().close()
    if prompts.measured is not None:
        return prompts.measured()
    try:
        return content.measure(prompts.parts or [(prompts.path, prompts.size)], lengths)
    except OSError as error:
        raise UsageError(f"{error.filename or origin.shown(prompts.path)} cannot be read: {error.strerror or error}") from error
