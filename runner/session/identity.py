"""Finds the run that a prompt file belongs to, among those with the same answer settings.

A run is one set of rows and the settings that make answers. Neither a path nor an address is part of it. The first line that
fits decides, and in each the newest run:

    the same content                             that run, wherever the file is
    it begins with the content that a run read   that run, if the file is where that one was, now or before, or that one is gone:
                                                 it has grown
    the same path, and rows in common            that run: the file was edited. Behind a link that leads elsewhere now, or in a
                                                 copied folder, the rows must ask the same too, since that is another file
    the run's file is gone, or was here before,  that run: the file was renamed or moved, and edited
    and half of the rows of one are in the
    other, unchanged
    nothing of that                              a new run

Runs with the address that is asked for come before those with another one.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from itertools import islice
from pathlib import Path
from typing import NamedTuple

from runner import origin
from runner.errors import UsageError
from runner.inputs.content import Content, hash_of, with_reading
from runner.inputs.keys import base_key, fingerprint
from runner.inputs.scan import PromptFile
from runner.session.naming import file_word, store_option
from runner.store.lookup import StoredRows, stored_rows
from runner.store.places import is_same_place
from runner.store.runs import KnownRun

SAMPLE = 1_000
"""Rows of a run, and of a file, by which they are compared."""


class Given(NamedTuple):
    """A prompt file in front of a store: what it holds, and the address to which its rows are to be sent."""

    store: Path
    prompts: PromptFile
    content: Content
    base_url: str | None

    @property
    def path(self) -> Path:
        """Its path as given."""
        return self.prompts.path

    @property
    def digest(self) -> str:
        """The digest of its content as it is stored."""
        return with_reading(self.content.digest, self.prompts.reading)


def lengths(known: Sequence[KnownRun]) -> set[int]:
    """Return of how many bytes at the beginning of a file the hash is needed to compare it with the runs."""
    read = {run.input_bytes for run in known} | {run.head.bytes for run in known if run.head is not None}
    return {length for length in read if length}


def find(given: Given, known: Sequence[KnownRun]) -> KnownRun | None:
    """Return the run that a file continues; None if it begins a new one.

    known: the runs with its answer settings, newest first.
    """
    near = [run for run in known if is_same_place(run.base_url, given.base_url)]
    far = [run for run in known if not is_same_place(run.base_url, given.base_url)]
    for runs in (near, far):
        run = _by_content(given, runs) or _edited(given, runs)
        if run is not None:
            return run
    return _renamed(given, near) or _renamed(given, far)


def refuse_other_rows(given: Given, run: KnownRun) -> None:
    """Raise UsageError if the input of a run that is to be continued holds none of its rows."""
    if _by_content(given, [run]) is None and _edited(given, [run]) is None:
        new = f"runner run {file_word(given.path)}{store_option(given.store)}"
        raise UsageError(f"{origin.shown(given.path)} holds none of the rows of run {run.id}; `{new}` starts a new run")


def is_at(given: Given, run: KnownRun) -> bool:
    """Return True if the file is where the run's input was, as given or from the folder of the store, or is the same file.

    Several files are where those of a run were if half of the files of one are among those of the other. The answers of a run
    are those of this run alone.
    """
    if str(given.path) == run.input:
        return True
    if origin.run_of(given.path) is not None or origin.run_of(run.input) is not None:
        return False
    if _is_several(given, run):
        return _beside(given, run) == origin.seen_from(given.path, lambda path: str(resolved(path))) or _share_files(given, run)
    if _there(given, run) == given.path.resolve():
        return True
    # in another locale, the name of another input may be one that no file can have
    with suppress(OSError, ValueError):
        return given.path.samefile(run.input)
    return False


def is_gone(given: Given, run: KnownRun) -> bool:
    """Return True if nothing is left where the input of a run was."""
    return not origin.exists(run.input) and not origin.exists(_beside(given, run))


def is_incomplete(given: Given, run: KnownRun) -> bool:
    """Return True if the input of a run cannot be read any more, as a file of it is not where it was."""
    return not origin.is_complete(run.input) and not origin.is_complete(_beside(given, run))


def may_have_moved(given: Given, run: KnownRun) -> bool:
    """Return True if the run may go on with the file though its input is another: that is gone, or the run read this one before.

    A run that read a packed twin or standard input once still belongs to the prompt file that it began with.
    """
    return is_gone(given, run) or str(given.path) in run.former


def is_elsewhere(given: Given, run: KnownRun) -> bool:
    """Return True if the file is not the one that the run read, though it is where that was: by a link, or in a copied folder."""
    if _is_several(given, run) or origin.run_of(given.path) is not None:
        return str(given.path) != run.input and not _share_files(given, run)
    return str(given.path.resolve()) != (run.target or run.input)


def resolved(path: Path) -> Path:
    """Return where a path leads; the path itself if it is one that no file can have, such as one of another locale."""
    try:
        return path.resolve()
    except (OSError, ValueError, RuntimeError):
        return path.absolute()


def files_of(run: KnownRun) -> tuple[str, ...]:
    """Return the files that a run has read in its last session, by their absolute paths."""
    files = origin.files_in(run.settings)
    return files.paths if files is not None else (run.input,)


def _is_several(given: Given, run: KnownRun) -> bool:
    return given.prompts.files is not None or origin.files_in(run.settings) is not None


def _share_files(given: Given, run: KnownRun) -> bool:
    """Return True if half of the files of one input are among those of the other."""
    now = set(given.prompts.files.paths) if given.prompts.files is not None else {str(given.path)}
    then = set(files_of(run))
    return 2 * len(now & then) >= min(len(now), len(then))


def _there(given: Given, run: KnownRun) -> Path:
    return resolved(given.store.parent / run.relative)


def _beside(given: Given, run: KnownRun) -> str:
    """Return the name of a run's input as seen from the folder of the store, which may have been moved with it."""
    return origin.moved(run.input, run.relative, lambda path: str(resolved(given.store.parent / path)))


def _by_content(given: Given, runs: Sequence[KnownRun]) -> KnownRun | None:
    content = given.content
    if not content.size:
        return None
    same = [run for run in runs if run.input_digest is not None and hash_of(run.input_digest) == content.digest]
    grown = [run for run in runs if content.begins_with(run.input_bytes, run.input_digest)]
    here = [run for run in (*same, *grown) if is_at(given, run)]
    return next(iter((*here, *same, *(run for run in grown if may_have_moved(given, run)))), None)


def _edited(given: Given, runs: Sequence[KnownRun]) -> KnownRun | None:
    here = [run for run in runs if is_at(given, run)]
    for run in here:
        with stored_rows(given.store, run.id) as stored:
            sample = stored.sample(SAMPLE)
            if sample and _share_a_row(given, stored, sample, strict=is_elsewhere(given, run)):
                return run
    # a run without a settled row has none that could be mistaken for another
    return next((run for run in here if _is_empty(given, run)), None)


def _is_empty(given: Given, run: KnownRun) -> bool:
    with stored_rows(given.store, run.id) as stored:
        return stored.is_empty()


def _share_a_row(given: Given, stored: StoredRows, sample: Mapping[str, int], *, strict: bool) -> bool:
    """Return True if the file holds a row of the sample, or its first rows one of the run. strict: one that asks the same."""
    rows = _rows(given)
    first = list(islice(rows, SAMPLE))
    known = stored.fingerprints([key for key, _ in first])

    def shared(row: tuple[str, int], there: Mapping[str, int]) -> bool:
        return there.get(row[0]) == row[1] if strict else row[0] in there

    # a file without rows holds none of another run
    return not first or any(shared(row, known) for row in first) or any(shared(row, sample) for row in rows)


def _renamed(given: Given, runs: Sequence[KnownRun]) -> KnownRun | None:
    for run in runs:
        if may_have_moved(given, run) and _mostly_the_same(given, run):
            return run
    return None


def _mostly_the_same(given: Given, run: KnownRun) -> bool:
    """Return True if half of the first rows of the file are in the run, or half of a sample of the run in the file, unchanged."""
    with stored_rows(given.store, run.id) as stored:
        sample = stored.sample(SAMPLE)
        first = list(islice(_rows(given), SAMPLE))
        there = stored.fingerprints([key for key, _ in first])
    if not sample or not first:
        return False
    if 2 * sum(there.get(key) == asked for key, asked in first) >= len(first):
        return True
    return 2 * sum(sample.get(key) == asked for key, asked in _rows(given)) >= len(sample)


def _rows(given: Given) -> Iterator[tuple[str, int]]:
    """Yield key and fingerprint of each row of the file. An identical row without an id has the key of the first."""
    return ((base_key(row)[0], fingerprint(row)) for row in given.prompts.read())
