"""Checks the file of a batch as OpenAI does: line by line, after it was accepted."""

import asyncio
from typing import Any

import msgspec

from runner.simulator.batch_files import StoredFile

_SLICE = 1000
_MOST_FAULTS = 100


class Fault(msgspec.Struct, frozen=True):
    """What is wrong with a file, with the names of a batch. line: counted from 1."""

    code: str
    message: str
    param: str | None = None
    line: int | None = None


class _Body(msgspec.Struct, gc=False):
    model: str | None = None


class _Line(msgspec.Struct, gc=False):
    custom_id: Any = None
    method: Any = None
    url: Any = None
    body: _Body | None = None


_decode = msgspec.json.Decoder(_Line).decode


class Checked(msgspec.Struct):
    """What a check has found. requests: lines of the file."""

    requests: int = 0
    faults: list[Fault] = msgspec.field(default_factory=list)


async def check(stored: StoredFile, endpoint: str, most_lines: int) -> Checked:
    """Check a file; other tasks run in between."""
    found = Checked()
    seen: set[int] = set()
    model: str | None = None
    with stored.path.open("rb") as opened:
        for number, line in enumerate(opened, 1):
            if number % _SLICE == 0:
                await asyncio.sleep(0)
            if not line.strip():
                continue
            found.requests += 1
            try:
                read = _decode(line)
            except (msgspec.MsgspecError, ValueError, RecursionError):
                _add(found, Fault("invalid_json_line", "This line is not parseable as valid JSON.", None, number))
                continue
            model = model or (read.body.model if read.body is not None else None)
            if (fault := _fault(read, number, endpoint, model, seen)) is not None:
                _add(found, fault)
    if not found.requests:
        _add(found, Fault("empty_file", "The input file is empty. Please ensure that the batch contains at least one request."))
    if found.requests > most_lines:
        message = f"The input file has {found.requests} requests. The maximum for a batch is {most_lines}."
        found.faults.insert(0, Fault("too_many_requests", message))
    return found


def _add(found: Checked, fault: Fault) -> None:
    if len(found.faults) < _MOST_FAULTS:
        found.faults.append(fault)


def _fault(read: _Line, number: int, endpoint: str, model: str | None, seen: set[int]) -> Fault | None:
    for name in ("custom_id", "method", "url", "body"):
        if getattr(read, name) is None:
            return Fault("missing_required_parameter", f"Missing required parameter: '{name}'.", name, number)
    if not isinstance(read.custom_id, str):
        return Fault("invalid_type", "Invalid type for 'custom_id': expected a string.", "custom_id", number)
    if read.method != "POST":
        return Fault("invalid_method", "Invalid value: 'method' must be 'POST'.", "method", number)
    if read.url != endpoint:
        return Fault("mismatched_endpoint", "The URL provided for this request does not match the batch endpoint.", "url", number)
    if read.body is not None and read.body.model != model:
        return Fault("mismatched_model", "The model of this request is not that of the first one.", "body.model", number)
    known = hash(read.custom_id)
    if known in seen:
        message = f"The custom_id '{read.custom_id}' for this request is a duplicate of another request."
        return Fault("duplicate_custom_id", message, "custom_id", number)
    seen.add(known)
    return None
