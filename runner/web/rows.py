"""A page of rows, by what a query asks for. Long texts are cut: one row whole is another route."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec

from runner.model import Json, Result
from runner.origin import files_in
from runner.session.opening import asked_in
from runner.store.row_index import RowIndex, State
from runner.store.row_pages import MOST_ROWS, Place, RowPages
from runner.store.row_search import Wanted, search
from runner.store.runs import KnownRun
from runner.web.replies import ApiError

PAGE = 50
"""Rows of a page, where the query does not say."""
CUT = 300
"""Characters of a text in a page, where the query does not say."""
_STATUSES = ("done", "failed")
_ORDERS = ("input", "-input")
_FIELD = "field."
_KNOWN = ("after", "limit", "status", "code", "finish", "q", "order", "chars")


class Query(msgspec.Struct, frozen=True, kw_only=True):
    """What a page of rows is asked for. chars: of a text, at most."""

    after: Place | None = None
    limit: int = PAGE
    chars: int = CUT
    order: str = "input"
    wanted: Wanted = Wanted()

    @property
    def needs_index(self) -> bool:
        """True if the store itself finds such rows only by reading all of them."""
        wanted = self.wanted
        return bool(wanted.codes or wanted.finishes or wanted.fields or wanted.words.strip())


def query_of(given: Sequence[tuple[str, str]]) -> Query:
    """Return what a query string asks for. Raises ApiError."""
    values: dict[str, list[str]] = {}
    for name, value in given:
        if name not in _KNOWN and not name.startswith(_FIELD):
            known = ", ".join(_KNOWN)
            raise ApiError(400, "query", f"{name[:40]!r} is no part of a query for rows; there are {known} and field.NAME")
        if value != "" or name.startswith(_FIELD):
            values.setdefault(name, []).append(value)

    def one(name: str, default: str = "") -> str:
        return values.get(name, [default])[-1]

    statuses, order = tuple(values.get("status", ())), one("order", "input")
    if bad := next((status for status in statuses if status not in _STATUSES), None):
        raise ApiError(400, "query", f"status is done or failed, not {bad[:40]!r}")
    if order not in _ORDERS:
        raise ApiError(400, "query", f"order is input or -input, not {order[:40]!r}")
    return Query(
        after=_place(one("after")),
        limit=_number("limit", one("limit", str(PAGE)), 1, MOST_ROWS),
        chars=_number("chars", one("chars", str(CUT)), 0, 100_000),
        order=order,
        wanted=Wanted(
            statuses=statuses,
            codes=values.get("code", ()),
            finishes=values.get("finish", ()),
            fields=[(name.removeprefix(_FIELD), value) for name, value in given if name.startswith(_FIELD)],
            words=" ".join(values.get("q", ())),
        ),
    )


def _number(name: str, text: str, least: int, most: int) -> int:
    if not (text.isascii() and text.isdecimal() and len(text) < 10 and least <= int(text) <= most):
        raise ApiError(400, "query", f"{name} is a whole number from {least:,} to {most:,}, not {text[:40]!r}")
    return int(text)


def _place(text: str) -> Place | None:
    if not text:
        return None
    parts = text.split(".")
    if len(parts) != 3 or not all(part.isascii() and part.isdecimal() and len(part) < 18 for part in parts):
        raise ApiError(400, "query", "after is what `next` of a page was, not something else")
    return Place(*map(int, parts))


def page_of(store: Path, known: KnownRun, given: Sequence[tuple[str, str]], index: RowIndex) -> dict[str, Any]:
    """Return a page of the rows of a run. index: finds rows by what they hold. Raises ApiError, RunnerError."""
    query, run, settings = query_of(given), known.id, known.settings
    pages, backwards = RowPages(store, run, files_in(settings), asked_in(settings)), query.order == "-input"
    state: State | None = None
    if query.needs_index or (query.wanted.statuses and index.is_complete(run)):
        found = search(index, run, query.wanted, query.after, query.limit, backwards=backwards)
        rows = [one for one in pages.of(found.ids) if _still_is(one[1], query.wanted)]
        last, state = found.next, found.state
    else:
        page = pages.page(query.after, query.limit, statuses=query.wanted.statuses, backwards=backwards)
        rows, last = page.rows, page.rows[-1][0] if page.rows and page.more else None
    return {
        "rows": [told(row, query.chars) for _, row in rows],
        "next": ".".join(map(str, last)) if last is not None else None,
        # how far the index is by which rows were found; null: it was not needed
        "index": state,
    }


def _still_is(row: Result, wanted: Wanted) -> bool:
    """Return False for a row that has changed since the index has seen it."""
    pairs = ((wanted.statuses, row.status), (wanted.codes, row.error_code), (wanted.finishes, row.finish_reason))
    return all(not values or value in values for values, value in pairs)


def told(row: Result, chars: int) -> dict[str, Any]:
    """Return a row as a page tells it: its result, with ``fields`` for its own fields, and long texts cut."""
    found = msgspec.to_builtins(row)
    fields, prompt = found.pop("metadata"), found.pop("prompt")
    shown: dict[str, Any] = {name: _cut(value, chars) for name, value in found.items()}
    shown["fields"] = {name: _cut(value, chars) for name, value in fields.items()}
    shown["prompt"] = _cut(_asked(prompt), chars)
    shown["text_chars"] = len(row.text) if row.text is not None else None
    return shown


def _asked(prompt: Json) -> Json:
    """Return the text of what was asked: of messages, that of the last one."""
    if not isinstance(prompt, list) or not prompt or not isinstance(last := prompt[-1], dict):
        return prompt
    return last.get("content", prompt)


def _cut(value: Any, chars: int) -> Any:
    """Return a value whose texts are cut. A list or an object that is longer is told as a text."""
    if isinstance(value, str):
        return value if len(value) <= chars else f"{value[:chars]}…"
    if isinstance(value, list | dict):
        text = msgspec.json.encode(value).decode()
        return value if len(text) <= chars else f"{text[:chars]}…"
    return value
