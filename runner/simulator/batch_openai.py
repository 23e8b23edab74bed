"""OpenAI's API of files and batches: ``/v1/files`` and ``/v1/batches``."""

from collections.abc import AsyncIterator, Mapping, Sequence
from typing import Any

import aiohttp
import msgspec
from aiohttp import web

from runner.simulator.answering import Shared
from runner.simulator.batch_api import Disturbances, account_of, after, document, page_size
from runner.simulator.batch_files import Files, StoredFile, receive
from runner.simulator.batch_life import Life, queue_full
from runner.simulator.batch_lines import OpenAILines
from runner.simulator.batch_lots import Lots
from runner.simulator.batch_sending import send
from runner.simulator.batch_work import Work
from runner.simulator.batches import Batch, Batches
from runner.simulator.dialect import Dialect, Refusal, decode

_MOST_LINES = 50_000
_MOST_BYTES = 200 * 1024 * 1024
_CHUNK = 256 * 1024
_WINDOW = "24h"
_STATUS = {"validating": "validating", "working": "in_progress", "finalizing": "finalizing", "cancelling": "cancelling"}


class _Create(msgspec.Struct):
    input_file_id: str | None = None
    endpoint: str | None = None
    completion_window: str | None = None
    metadata: dict[str, str] | None = None


class OpenAIBatches:
    """Files and batches of one simulator."""

    def __init__(self, shared: Shared, files: Files, lots: Lots, dialect: Dialect, disturbances: Disturbances) -> None:
        behaviour = self._behaviour = shared.behaviour
        self.dialect = dialect
        self._files = files
        self._disturbances = disturbances
        self._batches = Batches(shared, files, lots, "batch")
        self._life = Life(
            shared,
            self._batches,
            Work(shared, lots, dialect, OpenAILines(dialect)),
            validates=True,
            most_lines=behaviour.batch_lines or _MOST_LINES,
            splits=True,
        )

    async def close(self) -> None:
        """End all batches."""
        await self._batches.close()

    async def answer(self, request: web.Request, headers: Mapping[str, str]) -> web.StreamResponse:
        """Answer a request. headers: of every answer. Raises Refusal."""
        parts = request.path.strip("/").split("/")[1:]
        account = account_of(request)
        match request.method, *parts:
            case "POST", "files":
                return await self._upload(request, account, headers)
            case "GET", "files":
                return document(self._listed_files(request, account), headers)
            case "GET", "files", file_id:
                return document(_file(self._files.find(file_id, account)), headers)
            case "DELETE", "files", file_id:
                self._files.delete(self._files.find(file_id, account))
                return document({"id": file_id, "object": "file", "deleted": True}, headers)
            case "GET", "files", file_id, "content":
                return await send(request, self._files.find(file_id, account), self._behaviour, headers)
            case "POST", "batches":
                return await self._create(request, account, headers)
            case "GET", "batches":
                return document(self._listed(request, account), headers)
            case "GET", "batches", batch_id:
                return document(_batch(self._batches.look(batch_id, account)), headers)
            case "POST", "batches", batch_id, "cancel":
                return document(_batch(self._cancelled(batch_id, account)), headers)
        raise Refusal(404, f"Invalid URL ({request.method} {request.path})")

    async def _upload(self, request: web.Request, account: str, headers: Mapping[str, str]) -> web.Response:
        if not request.content_type.startswith("multipart/"):
            raise Refusal(400, "Expected a request of the type multipart/form-data.", param="file")
        stored: StoredFile | None = None
        purpose = None
        try:
            async for part in await request.multipart():
                if not isinstance(part, aiohttp.BodyPartReader):
                    continue
                if part.name == "purpose":
                    purpose = await part.text()
                elif part.name == "file":
                    stored = self._files.make(account=account, purpose="", name=part.filename or "upload", listed=False)
                    await receive(stored, _chunks(part), self._behaviour.batch_bytes or _MOST_BYTES)
        except ValueError:
            raise Refusal(400, "The body of the request is not valid multipart/form-data.") from None
        if stored is None or purpose is None:
            name = "file" if stored is None else "purpose"
            raise Refusal(400, f"'{name}' is a required property", param=name)
        if purpose != "batch":
            self._files.delete(stored)
            raise Refusal(400, f"Invalid value for 'purpose': {purpose!r}. The simulator takes 'batch'.", param="purpose")
        stored.purpose = purpose
        self._files.show(stored)
        await self._disturbances.after_upload(request)
        return document(_file(stored), headers)

    async def _create(self, request: web.Request, account: str, headers: Mapping[str, str]) -> web.Response:
        asked = decode(await request.read(), _Create)
        for name in ("input_file_id", "endpoint", "completion_window"):
            if getattr(asked, name) is None:
                raise Refusal(400, f"Missing required parameter: '{name}'.", param=name, code="missing_required_parameter")
        if asked.endpoint != self.dialect.path:
            message = f"Invalid value: {asked.endpoint!r}. The simulator's batches take {self.dialect.path!r}."
            raise Refusal(400, message, param="endpoint", code="invalid_value")
        if asked.completion_window != _WINDOW:
            message = f"Invalid value: {asked.completion_window!r}. Supported values are: {_WINDOW!r}."
            raise Refusal(400, message, param="completion_window", code="invalid_value")
        _check_metadata(asked.metadata)
        stored = self._files.find(asked.input_file_id or "", account)
        if stored.purpose != "batch":
            raise Refusal(400, f"The file {stored.id} has the purpose {stored.purpose!r}, not 'batch'.", param="input_file_id")
        most = self._behaviour.batch_queue_tokens
        if (
            most is not None
            and self._behaviour.batch_queue_full == "refuse"
            and self._batches.queued_tokens(account) + stored.bytes // 4 > most
        ):
            fault = queue_full(most)
            raise Refusal(429, fault.message, cause="limit", kind="tokens", code=fault.code)
        batch = self._batches.add(stored, self._life.start, metadata=asked.metadata, endpoint=asked.endpoint, phase="validating")
        # what was made is told, whatever has become of it since
        made = _batch(batch)
        await self._disturbances.after_create(request)
        return document(made, headers)

    def _cancelled(self, batch_id: str, account: str) -> Batch:
        batch = self._batches.find(batch_id, account)
        if batch.phase == "ended":
            raise Refusal(409, f"Cannot cancel a batch with status '{batch.end}'.")
        self._batches.cancel(batch)
        return batch

    def _listed(self, request: web.Request, account: str) -> dict[str, Any]:
        size = page_size(request, 20, 100)
        found = list(self._batches.of(account))
        return _page([_batch(one) for one in _behind(request, found)[: size + 1]], size)

    def _listed_files(self, request: web.Request, account: str) -> dict[str, Any]:
        size = page_size(request, 10_000, 10_000)
        purpose = request.query.get("purpose")
        found = [one for one in self._files.of(account) if purpose in (None, one.purpose)]
        if request.query.get("order") == "asc":
            found.reverse()
        return _page([_file(one) for one in _behind(request, found)[: size + 1]], size)


async def _chunks(part: aiohttp.BodyPartReader) -> AsyncIterator[bytes]:
    while chunk := await part.read_chunk(_CHUNK):
        yield bytes(chunk)


def _behind(request: web.Request, found: Sequence[Any]) -> Sequence[Any]:
    return after(found, [one.id for one in found], request.query.get("after"), "after")


def _page(entries: list[dict[str, Any]], size: int) -> dict[str, Any]:
    """Return a page of a list. entries: one more than the page holds, if there are more."""
    shown = entries[:size]
    return {
        "object": "list",
        "data": shown,
        "first_id": shown[0]["id"] if shown else None,
        "last_id": shown[-1]["id"] if shown else None,
        "has_more": len(entries) > size,
    }


def _check_metadata(metadata: Mapping[str, str] | None) -> None:
    given = metadata or {}
    if len(given) > 16:
        raise Refusal(400, "Invalid 'metadata': too many properties. Expected at most 16.", param="metadata")
    for name, value in given.items():
        if len(name) > 64 or len(value) > 512:
            raise Refusal(400, "Invalid 'metadata': keys have at most 64 characters, values at most 512.", param="metadata")


def _file(stored: StoredFile) -> dict[str, Any]:
    return {
        "object": "file",
        "id": stored.id,
        "purpose": stored.purpose,
        "filename": stored.name,
        "bytes": stored.bytes,
        "created_at": int(stored.created_at),
        "expires_at": None if stored.kept_until is None else int(stored.kept_until),
        "status": "processed",
        "status_details": None,
    }


def _batch(batch: Batch) -> dict[str, Any]:
    ended = {batch.end: _seconds(batch.ended_at)}
    counts = batch.counts
    faults = [msgspec.structs.asdict(fault) for fault in batch.faults]
    return {
        "id": batch.id,
        "object": "batch",
        "endpoint": batch.endpoint,
        "errors": {"object": "list", "data": faults} if faults else None,
        "input_file_id": batch.stored.id,
        "completion_window": _WINDOW,
        "status": batch.end or _STATUS[batch.phase],
        "output_file_id": None if batch.output is None else batch.output.id,
        "error_file_id": None if batch.errors is None else batch.errors.id,
        "created_at": int(batch.created_at),
        "in_progress_at": _seconds(batch.working_at),
        "expires_at": int(batch.expires_at),
        "finalizing_at": _seconds(batch.finalizing_at),
        "completed_at": ended.get("completed"),
        "failed_at": ended.get("failed"),
        "expired_at": ended.get("expired"),
        "cancelling_at": _seconds(batch.cancelling_at),
        "cancelled_at": ended.get("cancelled"),
        "request_counts": {
            "total": 0 if batch.end == "failed" else batch.total,
            "completed": counts.answered,
            "failed": counts.refused + counts.expired,
        },
        "metadata": batch.metadata,
    }


def _seconds(instant: float | None) -> int | None:
    return None if instant is None else int(instant)
