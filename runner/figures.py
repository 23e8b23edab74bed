"""The figures of a run that a report shows. Plain values: the store counts them, a page shows them.

Times are seconds, instants seconds since the epoch, money dollars.
"""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from msgspec import Struct

QUANTILES = (1, 5, 10, 25, 50, 75, 90, 95, 99)
"""In hundredths."""


class Bar(NamedTuple):
    """How many values lie between two bounds, ``low`` included."""

    low: float
    high: float
    number: int


class Spread(Struct, frozen=True, kw_only=True):
    """How values are spread. They are rounded to three digits, and so exact to half a hundredth of each."""

    count: int
    mean: float
    # by hundredths, ``QUANTILES``, with 0 and 100 for the least and the most
    quantiles: Mapping[int, float]
    bars: Sequence[Bar]
    # bars are of widths in proportion to their values, not of one width
    in_proportion: bool
    # the rounded values in their order, each with how often it occurs
    values: Sequence[tuple[float, int]]


class Period(NamedTuple):
    """A stretch of time in which requests were under way. first: the slice of time with which it begins."""

    begin: float
    end: float
    first: int


class Slice(Struct, kw_only=True):
    """What happened in one slice of the time."""

    begin: float
    # attempts that ended as an answer; that were refused for a limit; that ended otherwise
    answers: int = 0
    refused: int = 0
    failed: int = 0
    input_tokens: int = 0
    output_tokens: int = 0
    cost: float = 0.0
    # requests that were open, in the mean
    in_flight: float = 0.0


class Course(Struct, frozen=True, kw_only=True):
    """What happened over time. Where nothing was sent for long, and between two sessions, time is left out."""

    # seconds of a slice
    width: float
    periods: Sequence[Period]
    slices: Sequence[Slice]
    # seconds for which requests were under way, also without such times for which there is no period of their own
    worked_s: float


class Cause(Struct, frozen=True, kw_only=True):
    """All attempts that ended in the same way. code: None for answers."""

    code: str | None
    attempts: int
    seconds: float
    # None: none of them has reported any
    input_tokens: int | None
    output_tokens: int | None
    # what is known to have been spent, and what may have been besides; None: no price is known
    cost: float | None
    perhaps: float | None
    # attempts whose usage has no limit that is known, and such without a price
    unlimited: int
    unpriced: int


class EndpointFigures(Struct, frozen=True, kw_only=True):
    """What one of several endpoints of a run has done."""

    # as ``attempts.endpoint`` has it
    endpoint: str
    attempts: int
    # attempts that ended as an answer, and such that failed; a cancelled one is neither
    answers: int
    failed_attempts: int
    # of all of its attempts; None: none of them has reported any
    input_tokens: int | None
    output_tokens: int | None
    # dollars that are known to have been spent there; None: no price is known
    cost: float | None
    # median seconds of an answer; None: there is none
    p50_s: float | None


class Example(NamedTuple):
    """One row that stands for others. line: as ``items.position`` has it."""

    key: str
    line: int
    message: str


class Extreme(NamedTuple):
    """A row that took longest, or cost most. code: None for an answer."""

    key: str
    line: int
    code: str | None
    attempts: int
    duration_s: float | None
    time_to_first_token_s: float | None
    output_tokens: int | None
    cost: float | None


class FieldFigures(Struct, frozen=True, kw_only=True):
    """What one field of the answers holds.

    values: the most frequent ones with their numbers, as JSON; empty for free texts, lists and objects. others: answers with
    another value. missing: answers without the field, or with null in it. spread: of numbers, and of the lengths of texts.
    """

    name: str
    kind: str
    values: Sequence[tuple[str, int]]
    others: int
    missing: int
    spread: Spread | None
    is_length: bool = False


class AnswerFigures(Struct, frozen=True, kw_only=True):
    """What the answers of a run are like. characters: of their texts."""

    characters: Spread | None
    notes: Mapping[str, int]
    fields: Sequence[FieldFigures]


class Figures(Struct, frozen=True, kw_only=True):
    """All figures of a run. The spreads are those of answers; None where no answer has such a value."""

    course: Course | None
    causes: Sequence[Cause]
    first_token: Spread | None
    between_tokens: Spread | None
    whole_answer: Spread | None
    input_tokens: Spread | None
    output_tokens: Spread | None
    answers: AnswerFigures
    slowest: Sequence[Extreme]
    dearest: Sequence[Extreme]
    examples: Mapping[str, Sequence[Example]]
    # each of several endpoints; empty where there is one
    endpoints: Sequence[EndpointFigures] = ()
