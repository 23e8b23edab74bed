"""The format of the results of OpenAI's Batch API: in each line an answer as a chat completion, whichever dialect bought it.

A line has two keys more than OpenAI's: ``request``, what was asked, and ``fields``, the row's own fields. By them the file is an
input again. NaN, infinities and lone surrogates are written as in JSON Lines.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from hashlib import blake2b
from typing import IO, Any

import msgspec

from runner.exports.assistant import finish_of, message
from runner.model import Json
from runner.text import encodable_tree, json_text

WHOLE_ROWS = True
"""Wants the columns of ``exports.whole``."""

_URL = "/v1/chat/completions"
# an id as it is written where rows have several answers: the first one of a row has its id alone
_NUMBERED = re.compile(r"#\d+\Z")
_REFUSED = 400
"""The lowest HTTP status of a refusal."""
_encode = msgspec.json.Encoder().encode


def write(columns: Sequence[str], records: Iterable[Sequence[object]], out: IO[str]) -> int:
    """Write all records, with other non-ASCII characters unescaped; return the number of records."""
    count = 0
    for count, record in enumerate(records, 1):  # noqa: B007 - the last count is the result
        out.write(_text(_line(dict(zip(columns, record, strict=True)))))
    return count


def _text(line: dict[str, Any]) -> str:
    try:
        return f"{json_text(_encode(line))}\n"
    except UnicodeEncodeError:
        return f"{json_text(_encode(encodable_tree(line)))}\n"


def _line(row: dict[str, Any]) -> dict[str, Any]:
    own = custom_id(row["id"], row.get("answer_number"))
    name = blake2b(f"{row['run']} {own}".encode(errors="surrogatepass"), digest_size=12).hexdigest()
    error = None if row["status"] == "done" else {"code": row["error_code"], "message": row["error"]}
    request = row["request"]
    number = {"answer_number": row["answer_number"]} if "answer_number" in row else {}
    # told apart from a seed of the user, so that the file asks for what was asked if it is an input again
    made = {"made_seed": row["made_seed"]} if row["made_seed"] is not None and request is not None else {}
    return {
        "id": f"batch_req_{name}",
        "custom_id": own,
        "response": _answered(row, name) if error is None else _refused(row, error),
        "error": error,
        **number,
        **made,
        "request": None if request is None else {"method": "POST", "url": _URL, "body": request},
        "fields": row["fields"],
    }


def custom_id(own: Json, number: int | None) -> str:
    """Return the id of an answer as a text, by which no other one is called. number: which answer of its row it is, if several.

    ``a`` and its second answer are ``a`` and ``a#2``. A row that is called ``a#2`` itself has the answers ``a#2#1``, ``a#2#2``.
    """
    text = own if isinstance(own, str) else msgspec.json.encode(own).decode()
    if number is None or (number == 1 and _NUMBERED.search(text) is None):
        return text
    return f"{text}#{number}"


def _answered(row: Mapping[str, Any], name: str) -> dict[str, Any]:
    choice: dict[str, Any] = {"index": 0, "message": _message(row), "logprobs": _logprobs(row["logprobs"])}
    theirs = str(row["finish_reason"])
    choice["finish_reason"] = finish_of(row)
    if theirs != choice["finish_reason"]:
        choice["native_finish_reason"] = theirs
    asked = (row["request"] or {}).get("model")
    body = {
        "id": row["response_id"] or f"chatcmpl-{name}",
        "object": "chat.completion",
        "created": int(row["ended_at"]),
        "model": row["served_model"] or (asked if isinstance(asked, str) else ""),
        "choices": [choice],
        "usage": _usage(row),
    }
    return {"status_code": 200, "request_id": None, "body": body}


def _message(row: Mapping[str, Any]) -> dict[str, Any]:
    made, citations = message(row), row["citations"]
    if row["reasoning"] is not None:
        made["reasoning"] = row["reasoning"]
    if citations:
        # those of other dialects are not what OpenAI's programs take for an annotation
        ours = all(isinstance(one, dict) and one.get("type") == "url_citation" for one in citations)
        made["annotations" if ours else "citations"] = citations
    return made


def _logprobs(lists: Mapping[str, Json] | None) -> dict[str, Json] | None:
    return None if lists is None else {"content": None, "refusal": None, **lists}


def _usage(row: Mapping[str, Any]) -> dict[str, Any] | None:
    """Return the tokens; None if one of the two counts is not known: a program that adds them up must not take that for 0."""
    read, made = row["input_tokens"], row["output_tokens"]
    if read is None or made is None:
        return None
    usage: dict[str, Any] = {"prompt_tokens": read, "completion_tokens": made, "total_tokens": read + made}
    if row["cached_tokens"] is not None:
        usage["prompt_tokens_details"] = {"cached_tokens": row["cached_tokens"]}
    if row["reasoning_tokens"] is not None:
        usage["completion_tokens_details"] = {"reasoning_tokens": row["reasoning_tokens"]}
    return usage


def _refused(row: Mapping[str, Any], error: Mapping[str, Json]) -> dict[str, Any] | None:
    """Return the refusal of a server as OpenAI writes it; None for a row that failed otherwise, also behind a 200."""
    status = row["http_status"]
    if status is None or status < _REFUSED:
        return None
    body = {"error": {**error, "type": None, "param": None}}
    return {"status_code": status, "request_id": None, "body": body}
