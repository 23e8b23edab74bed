"""What a listener hears of a row while its attempts are under way."""

from typing import Literal, TypeAlias

from msgspec import Struct

from runner.model import Json


class RowStarted(Struct, frozen=True, kw_only=True):
    """A request for a row goes out."""

    # as in its result
    id: str | int | float
    # its line in the prompt file, or its number
    line: int
    # 1 is the first for this row, over all sessions; behind a higher one, its text starts over
    attempt: int
    model: str
    # which of several answers of its row, counted from 1; so in the next ones
    answer_number: int = 1


class FirstToken(Struct, frozen=True, kw_only=True):
    """The first piece of text or reasoning of an attempt has come."""

    id: str | int | float
    attempt: int
    # seconds since its request went out
    after_s: float
    answer_number: int = 1


class Token(Struct, frozen=True, kw_only=True):
    """A piece of an answer has come: what one read of the connection brought of its text or of its reasoning.

    The text may still change: it starts over where ``at`` is 0. What counts is the result of the row.
    """

    id: str | int | float
    attempt: int
    kind: Literal["text", "reasoning"]
    text: str
    # characters of this kind that came before; less than the sum of the pieces: the text starts over at this point
    at: int
    answer_number: int = 1


class PartialValue(Struct, frozen=True, kw_only=True):
    """The JSON of an answer with a schema, as far as it has come. It may still change, as the text may."""

    id: str | int | float
    attempt: int
    # an object, a list or another JSON value; the last text in it may grow, and the last number change
    value: Json
    answer_number: int = 1


RowEvent: TypeAlias = RowStarted | FirstToken | Token | PartialValue
"""All of them."""
