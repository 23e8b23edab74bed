"""Reads the format of batch APIs: in each line a request inside of another object, which is sent as it stands.

OpenAI: ``{"custom_id", "method", "url", "body"}``. Anthropic: ``{"custom_id", "params"}``.
"""

from collections.abc import Generator, Mapping
from pathlib import Path

from msgspec import structs

from runner.inputs.encoding import open_content
from runner.inputs.files import explained, size_and_head
from runner.inputs.json_rows import lines_of
from runner.inputs.recognition import BOM
from runner.model import Json, Row

_SENT_OTHERWISE = ("model", "messages", "stream", "stream_options")
"""Fields of a request that the job or the run decides, or that have a field of their own in a row."""


def read(path: Path, *, limit_bytes: int | None = None) -> Generator[Row, None, None]:
    """Read the rows of a file, lazily, as JSON lines are read. Raises UsageError."""
    size, head = size_and_head(path)
    return _rows(path, head, size if limit_bytes is None else min(size, limit_bytes))


def _rows(path: Path, head: bytes, end: int) -> Generator[Row, None, None]:
    with explained(path), open_content(path, end) as (file, compressed):
        if head.startswith(BOM):
            file.read(len(BOM))
        for row in lines_of(file, lambda: not compressed and path.stat().st_size > end):
            yield _request(row) if row.fault is None and row.fields is not None else row


def _request(row: Row) -> Row:
    """Return the row that asks what a line of a batch asks."""
    assert row.fields is not None
    own = row.fields.get("custom_id")
    body = next((row.fields[name] for name in ("body", "params") if isinstance(row.fields.get(name), dict)), None)
    fields: dict[str, Json] = {} if own is None else {"id": own}
    if body is None:
        return structs.replace(row, fields=fields, fault="no request (body) in this line of a batch")
    url = row.fields.get("url")
    if isinstance(url, str) and not url.rstrip("/").endswith(("/chat/completions", "/messages")):
        return structs.replace(row, fields=fields, fault=f"a request to {url[:80]}; runner asks for chat completions only")
    return structs.replace(row, fields={**fields, **_asked(body)})


def _asked(body: Mapping[str, Json]) -> dict[str, Json]:
    asked = {name: body[name] for name in ("model", "messages") if name in body}
    rest = {name: value for name, value in body.items() if name not in _SENT_OTHERWISE}
    return {**asked, "extra_body": rest} if rest else asked
