"""Plain async generators over the events of ``runner.events``: the text of each row so far, its sentences, its JSON.

All follow a text that starts over, because an attempt failed and the row was tried again. What a reader missed
(``on_slow="drop"``) and what earlier sessions have answered comes from the result of the row.
"""

import re
from collections.abc import AsyncIterable, AsyncIterator
from typing import Any, TypeAlias

from runner.event_types import RowFinished, StreamEvent
from runner.row_events import PartialValue, Token

RowId: TypeAlias = str | int | float | tuple[str | int | float, int]
"""The id of a row; of its second answer and of further ones, the id and the number of the answer (``answers``)."""


async def texts(events: AsyncIterable[StreamEvent]) -> AsyncIterator[tuple[RowId, str]]:
    """Yield the id of a row and its text so far, each time that it has changed, and for the last time when the row is done.

    With several answers of a row, the second comes under ``(id, 2)`` in place of the id, and so on: no id of a row is a tuple.
    """
    so_far: dict[RowId, str] = {}
    async for event in events:
        if isinstance(event, Token) and event.kind == "text":
            which = _which(event.id, event.answer_number)
            text = so_far.get(which, "")
            # without the pieces in between, what follows means nothing
            if event.at <= len(text):
                so_far[which] = text[: event.at] + event.text
                yield which, so_far[which]
        elif isinstance(event, RowFinished):
            which = _which(event.result.id, event.result.answer_number)
            text, whole = so_far.pop(which, ""), event.result.text or ""
            if whole and whole != text:
                yield which, whole


async def values(events: AsyncIterable[StreamEvent]) -> AsyncIterator[tuple[RowId, Any]]:
    """Yield the id of a row and the JSON object or list of its answer as far as it has come, each time that it has changed.

    The last text in it may be longer later, and the last number another one; words and a code fence before the JSON are passed
    over. The last value of a row that is done is its answer. Several answers of a row come as in ``texts``. Raises UsageError if
    jiter is not installed (the extra ``schema``).
    """
    # imported here: few programs want it
    from runner.schema.partial import Partial, follower

    followed, told, made = dict[RowId, Partial](), set[RowId](), follower()
    async for event in events:
        if isinstance(event, PartialValue):
            row = _which(event.id, event.answer_number)
            # from now on the session itself reads the JSON of this row
            told.add(row)
            value = event.value if followed.setdefault(row, made()).is_new(event.value) else None
        elif isinstance(event, Token) and event.kind == "text":
            row = _which(event.id, event.answer_number)
            value = None if row in told else followed.setdefault(row, made()).take(event.text, event.at)
        elif isinstance(event, RowFinished):
            row = _which(event.result.id, event.result.answer_number)
            told.discard(row)
            one = followed.pop(row, None) or made()
            value = one.last(event.result.text or "") if event.result.status == "done" else None
        else:
            continue
        if value is not None:
            yield row, value


async def sentences(events: AsyncIterable[StreamEvent]) -> AsyncIterator[tuple[RowId, str]]:
    """Yield the id of a row and a sentence of its answer, as soon as the sentence is complete.

    A full stop, a question or an exclamation mark of any script ends it, an empty line, and the next item of a list. In scripts
    with spaces, a space must follow, and no small letter. A block of code between fences is one sentence. Titles (``Dr.``),
    initials and the numbers of a list end none; other abbreviations do if a capital letter follows. If a text starts over, its
    sentences come again. Several answers of a row come as in ``texts``.
    """
    # by row: its text so far, and where the sentence begins that is not complete
    rows: dict[RowId, tuple[str, int]] = {}
    async for event in events:
        if isinstance(event, Token) and event.kind == "text":
            row = _which(event.id, event.answer_number)
            text, at = rows.get(row, ("", 0))
            if event.at > len(text):
                # pieces are missing: the rest comes with the result
                continue
            text, at = text[: event.at] + event.text, 0 if event.at < at else at
            last = False
        elif isinstance(event, RowFinished):
            row = _which(event.result.id, event.result.answer_number)
            before, at = rows.pop(row, ("", 0))
            text = event.result.text or ""
            at, last = at if text.startswith(before[:at]) else 0, True
        else:
            continue
        while (end := sentence_end(text, at, last=last)) is not None:
            sentence, at = text[at:end].strip(), end
            if sentence:
                yield row, sentence
        if not last:
            rows[row] = text, at


def _which(row: str | float, number: int) -> RowId:
    return row if number == 1 else (row, number)


_CLOSING = "\"'”’»)\\]}」』》】）*_"
_MARK = re.compile(
    rf"""
    (?P<fence>^[ \t]*```)
  | (?P<code>`)
  | (?P<empty>\n[ \t]*\n)
  | (?P<item>\n(?=[ \t]*(?:[-*+•]|\d{{1,3}}[.)])[ \t]))
  | (?P<wide>[。！？｡]+[{_CLOSING}]*)
  | (?P<stop>[.!?…‽؟۔।॥։።។]+[{_CLOSING}]*)
    """,
    re.VERBOSE | re.MULTILINE,
)
"""What may end a sentence, and code, in which nothing does. The full stops of Chinese and Japanese need no space behind them."""
_CLOSING_FENCE = re.compile(r"^[ \t]*```[ \t]*(?:\n|\Z)", re.MULTILINE)
_WORD = re.compile(r"(\w+)\.\Z")
_TITLES = frozenset(("Mr", "Mrs", "Ms", "Dr", "Prof", "St", "Nr", "vs"))
_OPENING = " \t\n\"'“‘«([{*_¿¡"


def sentence_end(text: str, start: int, *, last: bool) -> int | None:
    """Return where the sentence ends that begins at ``start``; None if it is not complete. last: no more text will come. Pure."""
    at = start
    while (mark := _MARK.search(text, at)) is not None:
        kind, at = mark.lastgroup, mark.end()
        before = text[start : mark.start()].strip()
        if kind == "fence":
            if before:
                return mark.start()
            closing = _CLOSING_FENCE.search(text, at)
            if closing is not None and (last or closing.group().endswith("\n")):
                return closing.end()
            break
        if kind == "code":
            closed = text.find("`", at)
            line_end = text.find("\n", at)
            if closed >= 0 and not 0 <= line_end < closed:
                at = closed + 1
            elif line_end < 0 and not last:
                break
        elif kind in ("empty", "item"):
            if before:
                return at
        elif at == len(text) and not last:
            # a quotation mark or a space may follow
            break
        elif kind == "wide":
            return at
        else:
            ends = _stops(text, start, at, last=last)
            if ends is None:
                break
            if ends:
                return at
    return len(text) if last and start < len(text) else None


def _stops(text: str, start: int, at: int, *, last: bool) -> bool | None:
    """Return True if a mark that ends before ``at`` ends the sentence; None if what follows has to be seen."""
    if at < len(text) and not text[at].isspace():
        return False
    word = _WORD.search(text, start, at)
    if word is not None:
        name = word[1]
        if name in _TITLES or (len(name) == 1 and name.isupper()) or (name.isdigit() and not text[start : word.start()].strip()):
            return False
    following = text[at:].lstrip(_OPENING)
    if not following:
        return True if last or "\n\n" in text[at:] else None
    return not following[0].islower()
