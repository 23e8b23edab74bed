"""The values that pass through the program, from a line of a prompt file to a row of an export.

All are frozen and keyword-only. Durations: float seconds. Instants: UTC seconds since the epoch. ``None``: unknown, never 0.
"""

from collections.abc import Mapping
from enum import IntEnum
from typing import Any, Literal, TypeAlias

from msgspec import Struct

from runner.answer_shape import AnswerShape
from runner.media import MEDIA_FIELDS, MediaField
from runner.money import Price
from runner.pace import Pace

Json: TypeAlias = Any
"""A decoded JSON value: the only type that is left open."""
Message: TypeAlias = Mapping[str, Json]
"""A chat message as the user wrote it: ``role``, ``content`` and whatever else the endpoint understands."""
SYSTEM_ROLES = ("system", "developer")
"""Roles of messages that tell a model how to answer."""

Status: TypeAlias = Literal["done", "failed"]


class Row(Struct, frozen=True, kw_only=True):
    """One raw input record."""

    # counted from 1: its line in the prompt file, or its number (``place``). In several files also which file (``origin``)
    line: int
    # the decoded object; of a broken line, its id alone, or None if that cannot be read
    fields: Mapping[str, Json] | None
    # why the line is broken, one sentence, None if it is not; and its bytes without the line end, kept only if it is
    fault: str | None = None
    raw: bytes = b""
    # bytes of the record in the file, 0 if the reader does not know it; and how many NaN and infinities were read as null
    size: int = 0
    nulls: int = 0
    # True: fields with the name of a setting (model, temperature, ...) are the user's own data (row_settings = false)
    plain: bool = False
    # fields that the template of the job names; None: there is none
    asked: frozenset[str] | None = None
    # fields that name the pictures and the other files of the row, each with what it may name; none where they are plain data
    media: Mapping[str, MediaField] = MEDIA_FIELDS
    # what its line counts; in several files, the name of the file is before it
    place: str = "line"


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
    """What is sent to a model, independent of the wire dialect."""

    model: str
    # of the row; the job's system text is kept apart, in ``system``
    messages: tuple[Message, ...]
    system: str | None = None
    params: Params = Params()
    # the service tier, unless ``extra_body`` has one; and where prefixes end that a cache is to keep: (messages, characters)
    tier: str | None = None
    prefixes: tuple[tuple[int, int], ...] = ()
    # True: parts of the messages are ``Media``, to be replaced before it is encoded; and the schema that is sent with it
    media: bool = False
    # sent where the provider has seeds and the user has set none; set only for sending: it is no part of what is asked
    made_seed: int | None = None
    shape: AnswerShape | None = None


class Item(Struct, frozen=True, kw_only=True):
    """One unit of work."""

    # stable identity within a run: the row's id, else its content hash with an ordinal among identical rows
    key: str
    # line of the row in the input; orders the export
    position: int
    request: Request
    # the row's other fields (and its id if that is not a string), which the export returns
    metadata: Mapping[str, Json]
    # 64-bit hash of the row's content, which shows that a row has changed under the same id
    fingerprint: int
    # attempts of earlier sessions
    attempts_before: int = 0
    # the store holds an answer to the prompt that the row had before it changed
    answered: bool = False


class HttpCall(Struct, frozen=True, kw_only=True):
    """A POST. ``headers`` contain the API key and the query may: it is never printed or stored. made_seed: in it, if made up.

    endpoint: where it goes, by its number among the endpoints of the job; 0 where there is one.
    """

    url: str
    headers: dict[str, str]
    body: bytes
    made_seed: int | None = None
    endpoint: int = 0

    def __repr__(self) -> str:
        return f"HttpCall(url={self.url.partition('?')[0]!r}, {len(self.body)} bytes)"


class ServerSentEvent(Struct, frozen=True, gc=False):
    """One dispatched event. ``data`` holds its joined data lines as bytes, which should be UTF-8 but have not been checked."""

    event: str
    data: bytes


class Stage(IntEnum):
    """How far an answer has come. ``runner.providers.completeness`` draws the way from one stage to the next."""

    OPEN = 0  # text may be missing
    REASON = 1  # there is a finish reason, but only a clean end of the body shows that no text is missing
    WHOLE = 2  # the finish reason came behind the text: if the connection breaks now, only the tail is lost
    COUNTED = 3  # the usage came behind the finish reason: nothing but the end mark is missing
    ENDED = 4  # the end mark has come


class Usage(Struct, frozen=True, kw_only=True, gc=False):  # nothing in such values refers back to them
    """Tokens as the provider reports them; a count that was not reported is None."""

    # all tokens read, cached ones too, and all tokens generated, reasoning too
    input_tokens: int | None = None
    output_tokens: int | None = None
    # of input_tokens: what came from a cache, what was written to one, and of that to one that is kept for an hour
    cached_tokens: int | None = None
    cache_write_tokens: int | None = None
    cache_write_1h_tokens: int | None = None
    # the part of output_tokens spent on reasoning
    reasoning_tokens: int | None = None


class Completion(Struct, frozen=True, kw_only=True, gc=False):
    """A complete answer."""

    text: str
    finish_reason: str  # verbatim from the provider: "stop", "length", "end_turn", ...
    usage: Usage | None = None
    served_model: str | None = None
    # the service tier that the answer names: "default", "flex", "standard", ...; None if it names none
    tier: str | None = None
    response_id: str | None = None
    # kept apart from text: "reasoning", "refusal", "tool_calls", "citations", "logprobs"
    extra: Mapping[str, Json] = {}
    notes: tuple[str, ...] = ()  # what is unusual about the answer: "empty", "tail_lost", "unknown_finish", ...


class Attempt(Struct, frozen=True, kw_only=True, gc=False):
    """One call: sent, or not sent because no connection was made. made_seed: the seed in it, if it was made up."""

    key: str
    # 1 is the first for this item, counted over all sessions
    number: int
    started_at: float
    duration_s: float
    # from sending to the first token of text, reasoning or tool call
    time_to_first_token_s: float | None = None
    # HTTP status, None if no answer came; and False if the call never reached the server, so that it cannot have been billed
    status: int | None = None
    sent: bool = True
    bytes_received: int = 0
    # None: unknown, perhaps billed; the bounds are the most tokens then, also of a cache of an hour, else None
    usage: Usage | None = None
    input_bound: int | None = None
    output_bound: int | None = None
    cache_1h_bound: int | None = None
    # the model that was asked for, at which of several endpoints, and the price: None until the session has looked it up
    model: str = ""
    endpoint: str | None = None
    price: Price | None = None
    # the model and the service tier that the answer names; and if it names no tier, the one that was asked for
    served_model: str | None = None
    tier: str | None = None
    asked_tier: str | None = None
    response_id: str | None = None
    made_seed: int | None = None
    # both None for a success
    error_code: str | None = None
    error: str | None = None


class Outcome(Struct, frozen=True, kw_only=True, gc=False):
    """What became of an item: a completion, or a failure with its cause."""

    key: str
    position: int
    status: Status
    metadata: Mapping[str, Json]
    fingerprint: int
    completion: Completion | None = None
    error_code: str | None = None
    error: str | None = None
    # the attempt that led to this outcome; earlier ones were saved when they ended. None: nothing was sent (a broken row)
    attempt: Attempt | None = None
    # True if that attempt was saved when it ended, and not with this outcome; and all attempts of the item, over all sessions
    booked: bool = False
    attempts: int = 0
    # True for the failure of a changed row that was sent again: the row stays done and keeps its earlier answer
    kept: bool = False
    # key of the row that bought it with the same request, None: nothing else did (--dedupe); and the made-up seed that was sent
    same_as: str | None = None
    made_seed: int | None = None


Entry: TypeAlias = Attempt | Outcome
"""What the writer saves: a failed attempt on its own, or an outcome with its last attempt."""


class Run(Struct, frozen=True, kw_only=True):
    """One execution of a job in a store."""

    id: int
    created_at: float
    # None until every row of the input had an outcome; the job's settings, without secrets
    finished_at: float | None
    settings: Mapping[str, Json]
    # absolute path of the input in the last session, and its rows when it was last read; None before that
    input: str
    rows: int | None
    done: int
    failed: int
    # of the failed: rows from which no request could be made; True if another process is working on the run now
    broken: int
    active: bool
    # why the last session ended early, None if it did not, or was killed; what the current one is doing, None if none is running
    stop_reason: str | None = None
    pace: Pace | None = None
    # failed rows by error code, broken ones too; and the code that stopped the last session, None if none did, and in a list
    causes: Mapping[str, int] = {}
    stop_code: str | None = None
    # of the done: taken over from earlier runs; answers that are wanted of each row; outcomes beyond those, counted only here
    reused: int = 0
    answers: int = 1
    beyond: int = 0
    # what it is called, None: it has no name; and its tags, each a word or word=value
    name: str | None = None
    tags: tuple[str, ...] = ()

    def __repr__(self) -> str:
        return f"Run({self.id}, {self.done} done, {self.failed} failed of {'unknown' if self.rows is None else self.rows} rows)"


class Result(Struct, frozen=True):
    """One finished row as it is exported. The fields have the names and the order of the export's columns."""

    id: str | int | float
    # the row's own fields, but for those that make its request
    metadata: Mapping[str, Json]
    # what was asked: a text, or the messages where there are several; None if the store has not kept the row
    prompt: Json
    text: str | None
    status: Status
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
    # what came with the answer, each as the provider words it; None if there is none
    reasoning: str | None
    refusal: str | None
    tool_calls: list[Json] | None
    citations: list[Json] | None
    logprobs: Mapping[str, list[Json]] | None
    # its line in the prompt file, or its number
    line: int
    # number of the run that bought the answer, if that was taken over; None if this run did
    reused_from: int | None = None
    # dollars that all its attempts cost, failed ones too, and what they may have cost in addition; None: not known
    cost: float | None = None
    cost_perhaps: float | None = None
    # columns of an export only where they tell something: the file of that line, where the input is several; which of the answers
    # of its row it is, counted from 1; the id of the row that bought it with the same request (--dedupe), None: this row did; and
    # the endpoint of that attempt, where a run has several
    file: str | None = None
    answer_number: int = 1
    same_as: str | None = None
    endpoint: str | None = None

    def __repr__(self) -> str:
        words = self.text if self.status == "done" else f"{self.error_code}: {self.error}"
        short = words if words is None or len(words) <= 60 else f"{words[:60]}..."
        return f"Result({self.id!r}, {self.status}, {short!r})"
