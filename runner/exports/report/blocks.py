"""What a report is made of: sections with tables and charts. Every text in it is foreign until the page has escaped it."""

from collections.abc import Mapping, Sequence
from typing import Any, Literal, TypeAlias

from msgspec import Struct

from runner.exports.report.noted import Flight
from runner.model import Json
from runner.time_ledger import TimeLedger

Tone: TypeAlias = Literal["done", "failed", "refused", "left", "one", "two", "three", "four", "plain"]
"""A colour that means something. It is never all that tells two things apart."""


class Instant(Struct, frozen=True):
    """An instant, which the page shows in the time zone of its reader. at: seconds since the epoch.

    step_s: how precise it is: instants that lie so many seconds apart are shown as different ones.
    """

    at: float
    step_s: float = 1.0


class Share(Struct, frozen=True):
    """A part of a whole from 0 to 1, shown as a bar with its words."""

    part: float
    words: str
    tone: Tone = "one"


class Code(Struct, frozen=True):
    """A text that is shown as it was written, with its lines: a name, a message, a setting."""

    text: str


class Prose(Struct, frozen=True):
    """A sentence of our own, in which commands stand between backticks."""

    text: str


Cell: TypeAlias = str | Instant | Share | Code | Prose


class Table(Struct, frozen=True, kw_only=True):
    """A table.

    numeric: the places of the columns that hold numbers. headed: the first cell of each row names the row.

    texts: those of the columns that hold sentences; where there is no room for them, they stand below the others.

    wide: it takes the whole width of the page.
    """

    caption: str
    head: Sequence[str]
    rows: Sequence[Sequence[Cell]]
    numeric: Sequence[int] = ()
    texts: Sequence[int] = ()
    headed: bool = True
    wide: bool = True


class Part(Struct, frozen=True):
    """A part of a bar."""

    name: str
    words: str
    share: float
    tone: Tone


class Whole(Struct, frozen=True, kw_only=True):
    """One bar that is divided into parts, with a table of them. words: what the bar shows, for who cannot see it."""

    words: str
    parts: Sequence[Part]


class Chart(Struct, frozen=True, kw_only=True):
    """A chart, with the table of its figures. data: what the page's script draws."""

    name: str
    title: str
    # what the chart shows, in a sentence
    words: str
    # names and tones of its lines or bars
    series: Sequence[tuple[str, Tone]]
    data: Mapping[str, Any]
    table: Table


class Words(Struct, frozen=True):
    """A paragraph."""

    text: str
    strong: bool = False


class Fold(Struct, frozen=True, kw_only=True):
    """A table that is folded up at first, such as settings."""

    title: str
    table: Table


Block: TypeAlias = Table | Chart | Whole | Words | Fold


class Section(Struct, frozen=True, kw_only=True):
    """A section with the blocks of each run, in their order."""

    name: str
    title: str
    words: str
    blocks: Sequence[Sequence[Block]]


class Tile(Struct, frozen=True):
    """A figure that stands out."""

    name: str
    value: str
    words: str = ""
    tone: Tone = "plain"


class Head(Struct, frozen=True, kw_only=True):
    """What is said of one run at the top. state: a word and its tone. label: what tells the run from the others, in one line.

    differs: what settings have another value in others, as name and value.
    """

    title: str
    number: int
    name: str | None
    tags: Sequence[str]
    label: str
    differs: Sequence[tuple[str, str]]
    model: str
    where: str
    state: tuple[str, Tone]
    begun: Instant
    sentence: str
    # why the run stopped
    stopped: str | None
    tiles: Sequence[Tile]
    whole: Whole


class Report(Struct, frozen=True, kw_only=True):
    """A whole report. made: when; by: the version of runner. comparison: of several runs, their figures side by side."""

    title: str
    made: Instant
    by: str
    heads: Sequence[Head]
    comparison: Table | None
    # of two runs, how far their answers agree
    agreement: Sequence[Block]
    sections: Sequence[Section]


class Facts(Struct, frozen=True, kw_only=True):
    """What is known of a run beside its figures, as plain values."""

    number: int
    name: str | None
    tags: Sequence[str]
    input: str
    model: str
    where: str
    state: tuple[str, Tone]
    # a session goes on
    active: bool
    # why it stopped, with commands between backticks
    stopped: str | None
    begun: float
    answers: int
    rows: int | None
    done: int
    failed: int
    left: int
    reused: int
    shared: int
    attempts: int
    retries: Mapping[str, int]
    input_tokens: int | None
    output_tokens: int | None
    cached_tokens: int | None
    reasoning_tokens: int | None
    cost: float | None
    cost_failed: float | None
    cost_perhaps: float | None
    # what it may have cost beyond that, in a phrase; None: nothing. And what is said of requests that have not ended
    more: str | None
    opened: "Opened | None"
    unpriced: int
    saved_by_cache: float | None
    finish_reasons: Mapping[str, int]
    failures: Sequence["Failure"]
    time: TimeLedger | None
    # why that is not shown, and what would make it faster, each in a sentence
    brief: str | None
    faster: str | None
    # requests in flight, and how many might be, in each slice of the time
    flight: Flight
    settings: Mapping[str, Json]
    versions: Sequence[tuple[str, str]]


class Opened(Struct, frozen=True, kw_only=True):
    """Requests that have not ended, as far as is known. kind: what they are. sentence: the same in a sentence, without its end.

    perhaps: dollars that they may cost; None: no price is known, or there is no limit (``limited``).
    """

    requests: int
    kind: str
    sentence: str
    perhaps: float | None
    limited: bool


class Failure(Struct, frozen=True, kw_only=True):
    """The failed rows of one error code. messages: each kind of message with its number and the row that shows it."""

    code: str
    count: int
    advice: str
    messages: Sequence[tuple[str, int, str]]
