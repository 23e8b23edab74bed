"""Chats for fine-tuning: in each line the messages of a row and, as the last one, the answer of the model.

Rows without an answer, and those whose messages are not known as they were sent, are left out and counted.
"""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import IO, Any, Literal, TypeAlias

import msgspec

from runner.exports.assistant import finish_of, message
from runner.model import Json
from runner.text import encodable_tree, json_text, plural

WHOLE_ROWS = True
"""Wants the columns of ``exports.whole``."""
WHOLE_REQUESTS = True
"""Wants no request of which a part is missing, such as a picture."""
_OF_REQUEST = ("tools", "parallel_tool_calls", "functions")
"""What belongs to a chat beside its messages."""
_SHORT = ("length", "content_filter")
"""Why an answer may have been cut short."""
_encode = msgspec.json.Encoder().encode

Reason: TypeAlias = Literal["failed", "unknown", "empty"]


def write(columns: Sequence[str], records: Iterable[Sequence[object]], out: IO[str], *, notes: list[str] | None = None) -> int:
    """Write a line for each row that has an answer; return their number. notes: receives what was left out, or is short."""
    left_out, short = Counter[Reason](), Counter[str]()
    count = 0
    for record in records:
        row = dict(zip(columns, record, strict=True))
        reason = _lack(row)
        if reason is not None:
            left_out[reason] += 1
            continue
        count += 1
        short[finish_of(row)] += 1
        out.write(_text(_chat(row)))
    if notes is not None:
        notes += _sentences(left_out, {word: short[word] for word in _SHORT if short[word]})
    return count


def _lack(row: Mapping[str, Any]) -> Reason | None:
    """Return why a row is no chat; None if it is."""
    if row["status"] != "done":
        return "failed"
    if row["request"] is None:
        return "unknown"
    return None if row["text"] or row["tool_calls"] or row["refusal"] else "empty"


def _chat(row: Mapping[str, Any]) -> dict[str, Json]:
    said = {name: value for name, value in message(row).items() if value is not None or name == "content"}
    more = {name: row["request"][name] for name in _OF_REQUEST if name in row["request"]}
    return {"messages": [*row["request"]["messages"], said], **more}


def _text(chat: dict[str, Json]) -> str:
    try:
        return f"{json_text(_encode(chat))}\n"
    except UnicodeEncodeError:
        return f"{json_text(_encode(encodable_tree(chat)))}\n"


def _sentences(left_out: Mapping[Reason, int], short: Mapping[str, int]) -> list[str]:
    words: dict[Reason, str] = {
        "failed": "{} without an answer left out (failed)",
        "unknown": "{} left out: the store does not have all that was asked (files, or keep_rows = false)",
        "empty": "{} left out: the answer is empty",
    }
    said = [sentence.format(plural(left_out[reason], "row")) for reason, sentence in words.items() if left_out[reason]]
    if short:
        why = ", ".join(f"{word} {number:,}" for word, number in short.items())
        are = "1 answer may be" if sum(short.values()) == 1 else f"{sum(short.values()):,} answers may be"
        said.append(f"{are} cut short (finish reason: {why}); --only whole leaves such answers out")
    return said
