"""The values that walk down the line, from a line of a prompt file to a row of an export.

All are frozen and keyword-only. Durations are float seconds; instants are UTC seconds since the epoch. ``None`` means
unknown, never zero.
"""

from collections.abc import Mapping
from typing import Any, Literal, TypeAlias

from msgspec import Struct

Json: TypeAlias = Any
"""A decoded JSON value: the one place where a type may stay open."""

Message: TypeAlias = Mapping[str, Json]
"""A chat message as the user wrote it: ``role``, ``content`` and whatever else the endpoint understands."""

Status: TypeAlias = Literal["done", "failed"]


class Row(Struct, frozen=True, kw_only=True):
    """One raw input record."""

    # 1-based line of the prompt file, or ordinal of the record
    line: int
    # the decoded object; None for a line that is not one
    fields: Mapping[str, Json] | None
    # why the line is broken, in one sentence; None for a good one
    fault: str | None = None
    # the line's bytes without its line end, kept only for a broken line
    raw: bytes = b""
    # bytes it took in the file, as far as the reader knows
    size: int = 0


class Params(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Sampling parameters. ``None`` leaves the endpoint's own default."""

    max_tokens: int | None = None
    temperature: float | None = None
    top_p: float | None = None
    stop: str | list[str] | None = None
    seed: int | None = None
    # merged into the request body as it is; wins over everything above
    extra_body: dict[str, Json] | None = None


class Request(Struct, frozen=True, kw_only=True):
    """What is asked, whatever the wire dialect."""

    model: str
    # as the row has them; the job's system text is not among them
    messages: tuple[Message, ...]
    system: str | None = None
    params: Params = Params()


class Item(Struct, frozen=True, kw_only=True):
    """One unit of work."""

    # stable identity within a run: the row's id, else its content hash with an ordinal among identical rows
    key: str
    # where the row stands in the input; orders the export
    position: int
    request: Request
    # the row's further fields (and its id where that was not a text), given back in the export
    metadata: Mapping[str, Json]
    # 64-bit hash of the row's content; a changed row under the same id shows here
    fingerprint: int
    # attempts already on the books from earlier sessions
    attempts_before: int = 0
    # the store holds an answer to what the row asked before it changed
    answered: bool = False


class HttpCall(Struct, frozen=True, kw_only=True):
    """A POST ready to be sent. ``headers`` hold the key, so a call is never printed or stored."""

    url: str
    headers: dict[str, str]
    body: bytes

    def __repr__(self) -> str:
        return f"HttpCall(url={self.url!r}, {len(self.body)} bytes)"


class ServerSentEvent(Struct, frozen=True, gc=False):
    """One dispatched event. ``data`` is the joined data lines as bytes, meant to be UTF-8 but not yet checked."""

    event: str
    data: bytes


class Usage(Struct, frozen=True, kw_only=True):
    """Tokens as the provider reports them; a part that was not reported is None."""

    # everything read, cached tokens included
    input_tokens: int | None = None
    # everything generated, reasoning included
    output_tokens: int | None = None
    # the part of input_tokens that came from a cache
    cached_tokens: int | None = None
    # the part of output_tokens spent on reasoning
    reasoning_tokens: int | None = None


class Completion(Struct, frozen=True, kw_only=True):
    """A complete answer."""

    text: str
    # verbatim from the provider: "stop", "length", "end_turn", ...
    finish_reason: str
    # None: the provider reported none
    usage: Usage | None = None
    served_model: str | None = None
    response_id: str | None = None
    # kept apart from text: "reasoning", "refusal", "tool_calls"
    extra: Mapping[str, Json] = {}
    # what was odd about it: "empty", "tail_lost", "invalid_utf8", "lone_surrogate"
    notes: tuple[str, ...] = ()


class Attempt(Struct, frozen=True, kw_only=True):
    """One call that was sent, or tried to be."""

    key: str
    # 1 is the first for this item, counted over all sessions
    number: int
    started_at: float
    duration_s: float
    # from sending to the first token of text, reasoning or tool call
    time_to_first_token_s: float | None = None
    # HTTP status; None when no answer came
    status: int | None = None
    # False: it never reached the server, so it cannot have been billed
    sent: bool = True
    bytes_received: int = 0
    # None: unknown, perhaps billed
    usage: Usage | None = None
    served_model: str | None = None
    response_id: str | None = None
    # both None for a success
    error_code: str | None = None
    error: str | None = None


class Outcome(Struct, frozen=True, kw_only=True):
    """What became of an item: a completion, or a failure with its cause."""

    key: str
    position: int
    status: Status
    metadata: Mapping[str, Json]
    fingerprint: int
    completion: Completion | None = None
    error_code: str | None = None
    error: str | None = None
    # the attempt that decided it; earlier ones were recorded when they ended. None: nothing was sent (a broken row)
    attempt: Attempt | None = None
    # all attempts of the item, over all sessions
    attempts: int = 0
    # a failure behind which the row stays done: it keeps the answer to what it asked before it changed
    kept: bool = False


Entry: TypeAlias = Attempt | Outcome
"""What the writer saves: a failed attempt on its own, or an outcome with its last attempt."""


class Settled(Struct, frozen=True):
    """What the store already holds for a key; by place in the order of a look-up's columns."""

    # None: only attempts, no outcome
    status: Status | None
    position: int | None
    fingerprint: int | None
    attempts: int
    # its outcome was that no request could be made from it
    broken: bool = False


class LaneState(Struct, frozen=True, kw_only=True):
    """What a lane is doing."""

    model: str
    # requests that may be in flight now, and the most there will ever be; the same for a fixed number
    slots: int
    ceiling: int
    in_flight: int
    # limits in force, by name (rpm, tpm, input_tpm, output_tpm), given or learned from the server
    limits: Mapping[str, float] = {}
    # why things wait, one phrase; None when they do not
    waiting: str | None = None
    # ... and nothing goes out until that is over
    blocked: bool = False


class Pace(Struct, frozen=True, kw_only=True):
    """How a session goes on at an instant; kept in the store, so that another process can tell."""

    # UTC seconds since the epoch
    at: float
    lanes: tuple[LaneState, ...]
    # items that wait for another attempt, one phrase; None when there are none
    retrying: str | None = None


class Run(Struct, frozen=True, kw_only=True):
    """One execution of a job in a store."""

    id: int
    created_at: float
    # None until every row of the input had an outcome
    finished_at: float | None
    # the job's settings, without secrets
    settings: Mapping[str, Json]
    # absolute path of the input, where it was found last
    input: str
    # rows of the input at the last reading; None before the first
    rows: int | None
    done: int
    failed: int
    # of the failed: rows from which no request could be made
    broken: int
    # another process is working on it now
    active: bool
    # why its last session ended early, one sentence; None when it did not, or was killed
    stop_reason: str | None = None
    # what its session is doing, as noted last; None when nobody works on it
    pace: Pace | None = None


class Result(Struct, frozen=True):
    """One settled row as it is exported. Fields are named as the export's columns, in their order."""

    id: str | int | float
    metadata: Mapping[str, Json]
    status: Status
    text: str | None
    finish_reason: str | None
    error_code: str | None
    error: str | None
    served_model: str | None
    input_tokens: int | None
    output_tokens: int | None
    cached_tokens: int | None
    reasoning_tokens: int | None
    attempts: int
    time_to_first_token_s: float | None
    duration_s: float | None
