"""Finds the rows of a new run that another run has answered already, so that nobody buys them again unawares.

A changed copy beside its original is a new run on purpose. What it costs is said before anything is sent.
"""

import os.path
from collections import Counter
from collections.abc import Sequence
from itertools import islice
from pathlib import Path

from msgspec import Struct

from runner import origin
from runner.inputs import spool
from runner.inputs.content import hash_of
from runner.inputs.keys import base_key, fingerprint
from runner.session.identity import SAMPLE, Given
from runner.store.lookup import stored_rows
from runner.store.runs import KnownRun
from runner.text import plural

MOST_RUNS = 20
"""Runs that are looked at, at most: the look costs the same in a store with thousands of them."""


class Overlap(Struct, frozen=True, kw_only=True):
    """What the first rows of a file have in common with a run.

    answered: rows with an answer there. edited: rows with an answer there to another prompt under the same id.
    seen: rows that were looked at. longer: the file has more. whole: the new run would send no others. taken: some of those that
    were looked at are not sent, as the new run has taken over their answers; they are not among the others.
    """

    run: KnownRun
    answered: int
    edited: int
    seen: int
    longer: bool
    whole: bool
    taken: bool = False


def find(given: Given, runs: Sequence[KnownRun], *, limit: int | None, own: int | None = None) -> Overlap | None:
    """Return the run that has the most answers to the first rows of a file, the newest of those; None if no run has one.

    runs: those with the same answer settings, newest first. limit: rows that are to be sent, at most. own: the run of the file;
    rows to which it has an answer do not count.
    """
    if not runs:
        return None
    most = SAMPLE if limit is None else min(limit, SAMPLE)
    first = _first_rows(given, most + 1)
    longer = len(first) > most
    first = first[:most]
    mine = _answered(given, own, first) if own is not None else {}
    best: Overlap | None = None
    for run in runs[:MOST_RUNS]:
        there = {key: asked for key, asked in _answered(given, run.id, first).items() if key not in mine}
        same = sum(there.get(key) == asked for key, asked in first)
        if same and (best is None or same > best.answered):
            best = Overlap(
                run=run,
                answered=same,
                edited=len(there) - same,
                seen=len(first),
                longer=longer,
                whole=not longer or most == limit,
                taken=bool(mine),
            )
            if same == len(first) - len(mine):
                break
    return best


def _answered(given: Given, run_id: int, first: Sequence[tuple[str, int]]) -> dict[str, int]:
    with stored_rows(given.store, run_id) as stored:
        return stored.answered([key for key, _ in first])


def can_be_asked_again(run: KnownRun) -> bool:
    """Return True if the requests of a run can be made again from the store, as far as its settings tell."""
    settings = run.settings
    return bool(settings.get("keep_rows")) or settings.get("prompt") is not None or settings.get("messages") is not None


def same_rows(store: Path, run: KnownRun, other: KnownRun) -> bool:
    """Return True if two runs have rows in common that ask the same. A run without a settled row is known by its file."""
    if (
        run.input_digest is not None
        and other.input_digest is not None
        and hash_of(run.input_digest) == hash_of(other.input_digest)
    ):
        return True
    with stored_rows(store, run.id) as stored:
        sample = stored.sample(SAMPLE)
    if not sample:
        return run.input == other.input
    with stored_rows(store, other.id) as stored:
        there = stored.fingerprints(list(sample))
    return any(there.get(key) == asked for key, asked in sample.items())


def sentence(name: str, found: Overlap, *, resume: str, export: str) -> str:
    """Return what a person should know of it.

    name: of the file, for messages. resume: the command that continues the other run. export: the one that writes its answers.
    """
    run, seen, answered = found.run, found.seen, found.answered
    every = answered == seen and found.whole
    of = _every(found) if every else f"{answered:,} of the {_first(found)}"
    is_, it, its = ("is", "it", "its answer") if answered == 1 else ("are", "them", "their answers")
    begin = f"{of} of {name} {is_} already answered in run {run.id}, and this new run sends {it} again"
    if every:
        return f"{begin}; `{export}` writes {its}"
    original = Path(run.input)
    # the other run does not have what was taken over, and would send it
    if found.taken or spool.is_copy(original) or origin.is_several(original) or origin.run_of(original) is not None:
        return f"{begin}; to have only the others sent, leave {it} out: `{export}` writes {its}"
    there = os.path.exists(original)  # noqa: PTH110 - raises nothing
    way = f"make the changes in {original}" if there else f"save the file as {original}"
    accept = " --accept-changes" if found.edited else ""
    return f"{begin}; to have only the others sent, {way} and use `{resume}{accept}`"


def _every(found: Overlap) -> str:
    if found.seen == 1:
        return "the first row" if found.longer else "the one row"
    return f"{'the' if found.longer else 'all'} {_first(found)}"


def _first(found: Overlap) -> str:
    return f"{'first ' if found.longer else ''}{plural(found.seen, 'row')}"


def _first_rows(given: Given, most: int) -> list[tuple[str, int]]:
    """Return key and fingerprint of the first rows of a file."""
    seen: Counter[str] = Counter()
    first = []
    for row in islice(given.prompts.read(), most):
        key, is_own = base_key(row)
        if not is_own:
            seen[key] += 1
            if seen[key] > 1:
                key = f"{key}-{seen[key]}"
        first.append((key, fingerprint(row)))
    return first
