"""The rules that no kill may break, held against the server's journal. Each rule gives a sentence for what breaks it."""

import csv
import json
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from kills.endpoint import Entry, text_of
from kills.shown import NOTHING, Shown
from kills.store import Held
from runner.store.schema import VERSION


@dataclass
class Session:
    """One process: what was there before it, what it did by the server's journal, what it has left."""

    aim: str
    command: str
    slots: int
    # rows in the prompt file
    rows: int
    # length of the journal before it
    begin: int
    before: Held
    after: Held = field(default_factory=Held)
    # None: it was killed
    code: int | None = None
    # just before the kill, by the monotonic clock
    struck: float = float("inf")
    entries: Sequence[Entry] = ()
    shown: Shown = NOTHING
    # of an export that was killed: what its name then held
    export: str | None = None
    # the instant that was aimed at did not come
    missed: bool = False

    @property
    def booked(self) -> dict[int, str]:
        """Row keys of the attempts that it has put on the books, of those that reached the server."""
        new = self.after.attempts.keys() - self.before.attempts.keys()
        return {id_: self.after.attempts[id_].key for id_ in new if self.after.attempts[id_].sent}

    @property
    def unsure(self) -> list[str]:
        """Row keys of those that were with a worker which was lost: the server may have seen them, or not."""
        return [key for id_, key in self.booked.items() if self.after.attempts[id_].error_code == "worker_lost"]

    @property
    def lost(self) -> int:
        """Requests that the server has seen and that are not on the books."""
        return len(self.entries) - len(self.booked)

    @property
    def retries(self) -> int:
        """Requests that the server has answered with a fault on purpose, before the kill."""
        return sum(entry.fault_by(self.struck) for entry in self.entries)


def row_of(key: str) -> int:
    """Give the number of the row with this key."""
    return int(key.removeprefix("row-"))


def key_of(number: int) -> str:
    """Give the key of a row."""
    return f"row-{number}"


def after_session(session: Session) -> Iterator[str]:
    """Judge what a session has left."""
    yield from intact(session.after)
    yield from _nothing_lost(session.before, session.after)
    yield from _answers_are_the_servers(session)
    yield from _shown_is_there(session)
    yield from _books(session)
    if session.export not in (None, "absent", "old", "complete"):
        yield f"the export's name holds what is no whole export: {session.export}"
    if session.code not in (None, 0):
        yield f"it ended by itself with exit code {session.code}"


def intact(held: Held) -> Iterator[str]:
    """Judge a store by itself."""
    if held.integrity != ("ok",):
        yield f"the store is damaged: {'; '.join(held.integrity)}"
    whole = {0: not held.columns, 1: bool(held.columns) and "pace" not in held.columns, VERSION: "pace" in held.columns}
    if not whole.get(held.version, False):
        yield f"a migration was left half done: version {held.version}, columns {sorted(held.columns)}"
    if held.runs > 1:
        yield f"there are {held.runs} runs"
    keys = Counter(key for key, _ in held.items)
    yield from (f"{key} has {count} rows" for key, count in keys.items() if count > 1)


def _nothing_lost(before: Held, after: Held) -> Iterator[str]:
    now = after.done
    for key, kept in before.done.items():
        if now.get(key) != kept:
            yield f"{key} was done and is {'another one' if key in now else 'gone'} now"
    for id_, tried in before.attempts.items():
        if after.attempts.get(id_) != tried:
            what = "gone" if id_ not in after.attempts else "another one"
            yield f"attempt {id_} of {tried.key} was on the books and is {what} now"


def _answers_are_the_servers(session: Session) -> Iterator[str]:
    answered = Counter(entry.row for entry in session.entries if entry.complete)
    for key, kept in session.after.items:
        if kept.status != "done":
            yield f"{key} has {kept.status}, and no row meets as many faults as it has attempts"
        elif kept.text != text_of(row_of(key)):
            yield f"{key} is done with a text that the server never gave: {(kept.text or '')[:80]!r}"
        elif key not in session.before.done and not answered[row_of(key)]:
            yield f"{key} is done now, and the server has sent no whole answer to it"
    good, done = Counter(tried.key for tried in session.after.attempts.values() if tried.error_code is None), session.after.done
    for key in good.keys() | done.keys():
        if good[key] != (key in done):
            yield f"{key} is {'done' if key in done else 'open'} with {good[key]} good attempts on the books"


def _shown_is_there(session: Session) -> Iterator[str]:
    missing = session.shown.keys - session.after.done.keys()
    if missing:
        yield f"shown as done, and not in the store: {', '.join(sorted(missing))}"
    if session.shown.settled > len(session.after.items):
        yield f"{session.shown.settled} rows were shown as settled, and the store has {len(session.after.items)}"


def _books(session: Session) -> Iterator[str]:
    seen, booked = Counter(key_of(entry.row) for entry in session.entries), Counter(session.booked.values())
    unsure = Counter(session.unsure)
    for key in booked.keys() | seen.keys():
        if booked[key] - unsure[key] > seen[key]:
            yield f"{key} has {booked[key]} attempts on the books, and the server has seen {seen[key]} requests"
    most = session.slots if session.code is None else 0
    if session.lost > most:
        yield f"the server has seen {session.lost} requests that are on nobody's books; {most} at most may be"


class Figures(NamedTuple):
    """What is kept of a session when it has been judged."""

    aim: str
    landed: str
    killed: bool
    requests: int
    attempts: int
    retries: int
    # of the attempts: those that the server may not have seen
    unsure: int
    # requests that are on nobody's books, and whole answers to rows that are not done
    lost: int
    lost_answers: int
    shown: int


def figures(session: Session) -> Figures:
    """Sum a session up."""
    booked = Counter(session.booked.values())
    answers = Counter(key_of(entry.row) for entry in session.entries if entry.complete)
    return Figures(
        aim=session.aim,
        landed=landed(session),
        killed=session.code is None,
        requests=len(session.entries),
        attempts=booked.total(),
        retries=session.retries,
        unsure=len(session.unsure),
        lost=session.lost,
        lost_answers=sum(count for key, count in answers.items() if key not in session.after.done),
        shown=len(session.shown.keys) + session.shown.counts,
    )


def landed(session: Session) -> str:
    """Say where a kill has landed, by what it has left."""
    after = session.after
    if session.code is not None:
        return "ended by itself"
    if session.missed:
        return "missed"
    if session.export is not None:
        return f"export {session.export}"
    if session.aim == "migration":
        return "old schema" if after.version < VERSION else "new schema"
    if not session.entries and not after.runs:
        return "no tables yet" if not after.version else "no run yet"
    if len(after.items) < session.rows:
        return "at work" if session.entries else "before the first request"
    return "behind the end" if after.finished else "between last commit and end"


class Bill(NamedTuple):
    """Requests against what they may be, over all sessions."""

    items: int
    requests: int
    attempts: int
    retries: int
    # attempts that were with a worker which was lost, and that are made again
    unsure: int
    kills: int
    slots: int
    # whole answers beyond the first one to each row
    duplicates: int

    @property
    def bound(self) -> int:
        """Items + retries + what was with lost workers + kills x slots: one is free again when its attempt is saved."""
        return self.items + self.retries + self.unsure + self.kills * self.slots


def bill(items: int, slots: int, journal: Sequence[Entry], sessions: Sequence[Figures]) -> Bill:
    """Add up what all sessions have sent."""
    answers = [entry.row for entry in journal if entry.complete]
    return Bill(
        items=items,
        requests=len(journal),
        attempts=sum(one.attempts for one in sessions),
        retries=sum(one.retries for one in sessions),
        unsure=sum(one.unsure for one in sessions),
        kills=sum(one.killed for one in sessions),
        slots=slots,
        duplicates=len(answers) - len(set(answers)),
    )


def at_the_end(bill: Bill, held: Held, shown: frozenset[str]) -> Iterator[str]:
    """Judge what all sessions together have left."""
    expected = {key_of(number) for number in range(bill.items)}
    if held.done.keys() != expected or len(held.items) != bill.items:
        odd = sorted(expected ^ held.done.keys())
        yield f"{len(held.items)} rows, {len(held.done)} of them done, of {bill.items}; missing or unknown: {', '.join(odd[:10])}"
    if shown - held.done.keys():
        yield f"shown as done in some session, and not in the store: {', '.join(sorted(shown - held.done.keys()))}"
    if not held.finished:
        yield "the run is not finished"
    if bill.requests > bill.bound:
        yield f"{bill.requests} requests, and {bill.bound} at most may be"
    if not -bill.unsure <= bill.requests - bill.attempts <= bill.kills * bill.slots:
        yield f"{bill.requests} requests, {bill.attempts} attempts on the books, after {bill.kills} kills with {bill.slots} slots"
    if sum(tried.sent for tried in held.attempts.values()) != bill.attempts:
        yield f"{bill.attempts} attempts were put on the books, and now it holds {len(held.attempts)}"


def exported(path: Path, items: int) -> Iterator[str]:
    """Judge an export of the whole run."""
    with path.open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file)) if path.suffix == ".csv" else [json.loads(line) for line in file]
    expected = [(key_of(number), "done", text_of(number)) for number in range(items)]
    found = [(row["id"], row["status"], row["text"]) for row in rows]
    if found != expected:
        odd = [one[0] for one in set(found) ^ set(expected)] or ["their order"]
        yield f"{path.name} has {len(found)} rows of {items}; not as they should be: {', '.join(sorted(odd)[:10])}"
