"""Decides how much of a prompt file a session reads: all of it, or only what lies behind a beginning that is settled.

That is possible if the file still begins with the bytes in which a session left each row settled, unchanged and in its place.
So a new row behind a million finished ones costs hashing the file, and no reading of the million.
"""

from collections.abc import Iterable
from itertools import islice

from msgspec import structs

from runner.inputs import scan
from runner.inputs.content import hash_of, with_reading
from runner.inputs.duplicates import RepeatedHashes
from runner.inputs.keys import base_key
from runner.inputs.scan import Before, PromptFile, Scan
from runner.model import Row
from runner.session.identity import Given
from runner.session.options import SessionOptions
from runner.settled import Head
from runner.store import runs
from runner.store.lookup import StoredRows, stored_rows
from runner.store.runs import KnownRun

MOST_KEPT = 10_000
"""Keys of new rows that earlier rows have too and that are kept in memory; with more of them the whole file is read."""
_BATCH = 1_000


def scan_input(given: Given, run: KnownRun | None, options: SessionOptions, *, whole: bool = False) -> tuple[PromptFile, Scan]:
    """Return what is to be read of the file, and its scan, whose duplicates are still to be refused.

    run: the run that is continued. whole: any row may ask the same as a new one, so the beginning is read too. Raises UsageError
    if the file cannot be read.
    """
    if run is not None and options.limit is None and not options.retry_failed and not whole:
        behind = _behind_head(given, run)
        if behind is not None:
            return behind
    rows = runs.rows_of(given.store, given.path, given.digest) if run is not None else None
    if rows is not None:
        # an earlier session has scanned the same bytes
        return given.prompts, Scan(rows=rows, repeated=RepeatedHashes())
    return given.prompts, scan.scan(given.prompts)


def head_of(given: Given, scanned: Scan, last_line: int) -> Head | None:
    """Return the whole lines of an input in which all is settled now; None if there is nothing that could be left out later.

    last_line: the line of the last row that was read; 0 if there was none.
    """
    if given.prompts.read_behind is None:
        # lines of several files are no lines of one content
        return None
    content, rows, identical = given.content, scanned.rows, scanned.identical
    # the last row may be in a line without an end, which may still become longer; lines may be counted in another way too
    beyond = last_line - content.lines
    if not content.lines or beyond > 1 or (beyond == 1 and identical):
        return None
    return Head(
        bytes=content.whole,
        digest=with_reading(content.whole_digest, given.prompts.reading),
        lines=content.lines,
        rows=rows - (beyond == 1),
        identical=identical,
    )


def _behind_head(given: Given, run: KnownRun) -> tuple[PromptFile, Scan] | None:
    """Return the part behind the settled beginning of a run, and its scan; None if the whole file must be read."""
    head, prompts, read_behind = run.head, given.prompts, given.prompts.read_behind
    if head is None or read_behind is None or not given.content.begins_with(head.bytes, head.digest):
        return None
    # rows that are read in another way now may be other rows
    if head.digest != with_reading(hash_of(head.digest), prompts.reading):
        return None
    # where more is new than old, reading all is quicker than looking each key up
    if given.content.size > 2 * head.bytes:
        return None
    first = read_behind(head.bytes, head.lines)
    if first is None:
        return None
    first.close()
    tail = PromptFile(prompts.path, prompts.size, lambda: read_behind(head.bytes, head.lines) or prompts.read())
    scanned = scan.scan(tail)
    with stored_rows(given.store, run.id) as stored:
        rows, broken = stored.counted(head.lines)
        # else rows have left the file, or somebody has edited the store
        if rows != head.rows:
            return None
        identical, duplicates = _look_up(stored, tail.read(), head)
    if identical is None:
        return None
    return tail, structs.replace(
        scanned,
        rows=head.rows + scanned.rows,
        identical=head.identical + scanned.identical + len(identical),
        duplicate_ids=len(scanned.duplicates.keys() | duplicates) if duplicates else scanned.duplicate_ids,
        duplicates={**scanned.duplicates, **duplicates},
        before=Before(lines=head.lines, rows=head.rows, broken=broken, identical=identical),
    )


def _look_up(stored: StoredRows, rows: Iterable[Row], head: Head) -> tuple[dict[str, int] | None, dict[str, list[int]]]:
    """Look the new rows up among the settled ones of the beginning.

    Return the number of earlier identical rows for each generated key (None: too many keys), and the lines of ids that occur in
    both parts.
    """
    identical: dict[str, int] = {}
    duplicates: dict[str, list[int]] = {}
    keyed = ((*base_key(row), row.line) for row in rows)
    while batch := list(islice(keyed, _BATCH)):
        positions = stored.positions([key for key, _, _ in batch])
        for key, is_own, line in batch:
            position = positions.get(key)
            if position is None or position > head.lines:
                continue
            if is_own:
                duplicates.setdefault(key, [position]).append(line)
            elif key not in identical:
                identical[key] = stored.identical(key, head.lines)
        if len(identical) + len(duplicates) > MOST_KEPT:
            return None, {}
    return identical, duplicates
