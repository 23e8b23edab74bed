"""What the frames of a feed hold: a struct for each kind, which is its JSON. Instants are UTC seconds since the epoch."""

import json
from collections.abc import Mapping
from typing import Literal

import msgspec
from msgspec import Struct

from runner.event_types import Progress, Summary
from runner.text import encodable_tree
from runner.time_ledger import TimeLedger


class ProgressFrame(Progress, frozen=True, kw_only=True):
    """How far the session is. Each half second."""

    # of the run: its rows, or answers where several are wanted of each, that are done, that failed, and that are left
    all_done: int
    all_failed: int
    left: int
    # of this session as far as they were reported; failed attempts included
    input_tokens: int | None
    # True: no further request goes out, since somebody has paused the session
    paused: bool
    # where its time went so far; null: it has not begun to send
    time: TimeLedger | None


class OpenAnswer(Struct, frozen=True, kw_only=True):
    """A request that has gone out and has not ended."""

    # as in its result
    id: str | int | float
    # its line in the prompt file, or its number
    line: int
    # 1 is the first for this row, over all sessions
    attempt: int
    # which of several answers of its row, counted from 1
    answer_number: int
    model: str
    # which of several endpoints; null where there is one
    endpoint: str | None
    # when it went out
    since: float


class AnswerSoFar(OpenAnswer, frozen=True, kw_only=True):
    """The same with what has come of it. What is told lacks the end that may be the beginning of a secret."""

    # null if the watcher wants no texts
    text: str | None
    reasoning: str | None
    # characters that came before those, and are left out because there is too much: 0 nearly always
    text_at: int = 0
    reasoning_at: int = 0


class TextPiece(Struct, frozen=True, kw_only=True):
    """What has come of an answer since the last look."""

    id: str | int | float
    attempt: int
    answer_number: int
    kind: Literal["text", "reasoning"]
    # characters of this kind that came before; less than the sum of the pieces so far: the text starts over at this point
    at: int
    text: str


class ClosedAnswer(Struct, frozen=True, kw_only=True):
    """A request has ended. Its row may be sent again; ``rows`` tells what has become of it."""

    id: str | int | float
    attempt: int
    answer_number: int
    # null for an answer that counts; and as the provider words it, null if none came
    error_code: str | None
    finish_reason: str | None
    # of the answer; null if they were not reported
    tokens: int | None
    duration_s: float


class SettledRow(Struct, frozen=True, kw_only=True):
    """A row is done or has failed, and its result is saved."""

    id: str | int | float
    line: int
    answer_number: int
    status: Literal["done", "failed"]
    # True for the failure of an answered row that was sent again; it stays done and keeps its earlier answer
    kept: bool
    error_code: str | None
    finish_reason: str | None
    # of this row, over all sessions
    attempts: int
    # of the last of them, as the next ones; null if they are not known, or if nothing was sent
    input_tokens: int | None
    output_tokens: int | None
    duration_s: float | None
    # dollars that the last attempt cost
    cost: float | None
    endpoint: str | None


class StateFrame(Struct, frozen=True, kw_only=True):
    """All that a watcher needs to begin."""

    run: int
    # number of the session in its run, counted from 1; frames of another session have other numbers
    session: int
    at: float
    # null: it has not begun to send
    progress: ProgressFrame | None
    # requests that have gone out and have not ended
    answers: list[AnswerSoFar]
    paused: bool
    # not null: the session is ending
    stopping: "StoppingFrame | None"
    # the newest ones that were told, oldest first
    notes: list[str]


class OpenFrame(Struct, frozen=True):
    """Requests have gone out."""

    answers: list[OpenAnswer]


class TextFrame(Struct, frozen=True):
    """Answers have grown."""

    pieces: list[TextPiece]


class ClosedFrame(Struct, frozen=True):
    """Requests have ended."""

    answers: list[ClosedAnswer]


class RowsFrame(Struct, frozen=True):
    """Outcomes have been saved."""

    rows: list[SettledRow]


class NoteFrame(Struct, frozen=True):
    """Something that a person should know was learned; one sentence."""

    note: str


class StoppingFrame(Struct, frozen=True, kw_only=True):
    """The session ends early. Open requests may still finish within ``grace_s``."""

    reason: str
    in_flight: int
    grace_s: float
    # the error code that stops it; null for any other reason, such as Ctrl-C
    code: str | None


class SteeredFrame(Struct, frozen=True, kw_only=True):
    """Somebody has steered the session."""

    at: float
    # terminal, page, api or agent
    by: str
    # one sentence
    what: str


class SkippedFrame(Struct, frozen=True):
    """The watcher was too slow, and frames were left out. The present state follows."""


class FinishedFrame(Summary, frozen=True, kw_only=True):
    """The session has ended: its summary. It is the last frame."""


KINDS: Mapping[str, type[Struct]] = {
    "state": StateFrame,
    "progress": ProgressFrame,
    "open": OpenFrame,
    "text": TextFrame,
    "closed": ClosedFrame,
    "rows": RowsFrame,
    "note": NoteFrame,
    "stopping": StoppingFrame,
    "steered": SteeredFrame,
    "skipped": SkippedFrame,
    "finished": FinishedFrame,
}
"""What the frames of each kind hold."""

_encoder = msgspec.json.Encoder()


def encoded(data: Struct) -> bytes:
    """Return the JSON of a frame."""
    try:
        return _encoder.encode(data)
    except (UnicodeEncodeError, OverflowError, TypeError):
        # an id or a name with half a character, which no UTF-8 holds; a number that is too long
        return json.dumps(encodable_tree(msgspec.to_builtins(data)), default=str).encode()
