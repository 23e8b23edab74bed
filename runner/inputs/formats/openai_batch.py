"""Reads the format of batch APIs: in each line a request inside of another object, which is sent as it stands; or its result.

OpenAI: ``{"custom_id", "method", "url", "body"}``. Anthropic: ``{"custom_id", "params"}``. Results: ``inputs.batch_results``.
"""

from collections.abc import Generator, Mapping
from contextlib import closing
from itertools import islice
from pathlib import Path

from msgspec import structs

from runner.errors import UsageError
from runner.inputs.batch_results import SENT_OTHERWISE, asked_in, fields_of, is_ours, is_result, params_in
from runner.inputs.encoding import open_content
from runner.inputs.files import explained, size_and_head
from runner.inputs.json_rows import lines_of
from runner.inputs.options import ReadOptions
from runner.inputs.recognition import BOM, look, of_object
from runner.model import Json, Row

_LOOKED_AT = 100
"""Lines by which it is told what a file holds."""


def read(path: Path, *, limit_bytes: int | None = None, options: ReadOptions | None = None) -> Generator[Row, None, None]:
    """Read the rows of a file, lazily, as JSON lines are read.

    Raises UsageError for a file that cannot be read; and, without a template, for results whose requests are not in the file.
    """
    size, head = size_and_head(path)
    end = size if limit_bytes is None else min(size, limit_bytes)
    options = options or ReadOptions()
    if options.asked is None:
        _refuse_without_requests(path, head, end)
    return _rows(path, head, end, options)


def is_export(path: Path) -> bool:
    """Return True if a file is our own export in this format. Raises UsageError if it cannot be read."""
    size, head = size_and_head(path)
    first = next(_looked_at(path, head, size), None)
    return first is not None and is_ours(first)


def holds(path: Path) -> str | None:
    """Return what a file of a batch API holds that is no export of ours, in words; None if it is none.

    Raises UsageError if it cannot be read.
    """
    size, head = size_and_head(path)
    # the first line may be broken
    if look(head).format not in ("openai-batch", "jsonl"):
        return None
    first = next(_looked_at(path, head, size), None)
    if first is None or of_object(first).format != "openai-batch" or is_ours(first):
        return None
    if _body(first) is not None:
        return "prompts"
    return "the results of a batch" if is_result(first) else None


def _refuse_without_requests(path: Path, head: bytes, end: int) -> None:
    with closing(_looked_at(path, head, end)) as lines:
        asks = [not is_result(line) or _body(line) is not None or asked_in(line) is not None for line in lines]
    if any(asks) or not asks:
        return
    raise UsageError(
        f"{path} holds the results of a batch without their requests, so it says nothing to ask: "
        "--prompt 'Is this right? {{ answer }}' asks about each answer; to ask the same again, name the file with the requests"
    )


def _looked_at(path: Path, head: bytes, end: int) -> Generator[Mapping[str, Json], None, None]:
    """Yield the lines of a file that can be read, of those that are looked at."""
    with closing(_lines(path, head, end)) as lines:
        yield from (row.fields for row in islice(lines, _LOOKED_AT) if row.fault is None and row.fields is not None)


def _rows(path: Path, head: bytes, end: int, options: ReadOptions) -> Generator[Row, None, None]:
    with closing(_lines(path, head, end)) as lines:
        for row in lines:
            if row.fault is not None or row.fields is None:
                yield row
            elif is_result(row.fields) and _body(row.fields) is None:
                yield _result(row, row.fields, options)
            else:
                yield _request(row, row.fields)


def _lines(path: Path, head: bytes, end: int) -> Generator[Row, None, None]:
    with explained(path), open_content(path, end) as (file, compressed):
        if head.startswith(BOM):
            file.read(len(BOM))
        yield from lines_of(file, lambda: not compressed and path.stat().st_size > end)


def _result(row: Row, line: Mapping[str, Json], options: ReadOptions) -> Row:
    """Return the row of a result.

    Fields of its own with the names of settings are plain data, as in the answers of a run. Without a template it asks the same
    again, with the parameters of the request unless they are not wanted, and the model of the job.
    """
    fields = fields_of(line, options.asked)
    if options.asked is None and asked_in(line) is None:
        return structs.replace(row, fields={"id": fields["id"]}, fault="no request in this line of results")
    if options.asked is None and options.row_settings and (params := params_in(line)):
        fields["params"] = params
    return structs.replace(row, fields=fields, plain=True)


def _body(line: Mapping[str, Json]) -> Mapping[str, Json] | None:
    """Return the request in a line; None if there is none."""
    return next((body for name in ("body", "params") if isinstance(body := line.get(name), dict)), None)


def _request(row: Row, line: Mapping[str, Json]) -> Row:
    """Return the row that asks what a line of a batch asks."""
    own, body = line.get("custom_id"), _body(line)
    fields: dict[str, Json] = {} if own is None else {"id": own}
    if body is None:
        return structs.replace(row, fields=fields, fault="no request (body) in this line of a batch")
    url = line.get("url")
    if isinstance(url, str) and not url.rstrip("/").endswith(("/chat/completions", "/messages")):
        return structs.replace(row, fields=fields, fault=f"a request to {url[:80]}; runner asks for chat completions only")
    return structs.replace(row, fields={**fields, **_asked(body)})


def _asked(body: Mapping[str, Json]) -> dict[str, Json]:
    asked = {name: body[name] for name in ("model", "messages") if name in body}
    rest = {name: value for name, value in body.items() if name not in SENT_OTHERWISE}
    return {**asked, "extra_body": rest} if rest else asked
