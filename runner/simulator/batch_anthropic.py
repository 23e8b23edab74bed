"""Anthropic's API of batches: ``/v1/messages/batches``."""

import asyncio
import re
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta, timezone
from mmap import ACCESS_READ, mmap
from typing import Any

import msgspec
from aiohttp import web

from runner.simulator.answering import Shared
from runner.simulator.batch_api import Disturbances, account_of, after, document, page_size
from runner.simulator.batch_files import Files, StoredFile, receive
from runner.simulator.batch_life import Life, queue_full
from runner.simulator.batch_lines import AnthropicLines
from runner.simulator.batch_lots import Lots
from runner.simulator.batch_sending import send
from runner.simulator.batch_work import Work
from runner.simulator.batches import Batch, Batches
from runner.simulator.dialect import Dialect, Refusal, decode

_MOST_REQUESTS = 100_000
_MOST_BYTES = 256 * 1024 * 1024
_CHUNK = 256 * 1024
_SLICE = 1000
_CUSTOM_ID = re.compile(r"[a-zA-Z0-9_-]{1,64}")
_STATUS = {"working": "in_progress", "finalizing": "in_progress", "cancelling": "canceling", "ended": "ended"}


class _Request(msgspec.Struct, gc=False):
    custom_id: str
    params: msgspec.Raw


class _Create(msgspec.Struct):
    requests: list[_Request]


class AnthropicBatches:
    """Batches of one simulator."""

    def __init__(self, shared: Shared, files: Files, lots: Lots, dialect: Dialect, disturbances: Disturbances) -> None:
        behaviour = self._behaviour = shared.behaviour
        self.dialect = dialect
        self._shared = shared
        self._files = files
        self._disturbances = disturbances
        self._refused = 0
        self._most_requests = behaviour.batch_lines or _MOST_REQUESTS
        self._batches = Batches(shared, files, lots, "msgbatch")
        self._life = Life(
            shared,
            self._batches,
            Work(shared, lots, dialect, AnthropicLines(dialect)),
            validates=False,
            most_lines=self._most_requests,
            splits=False,
        )

    async def close(self) -> None:
        """End all batches."""
        await self._batches.close()

    async def answer(self, request: web.Request, headers: Mapping[str, str]) -> web.StreamResponse:
        """Answer a request. headers: of every answer. Raises Refusal."""
        if "anthropic-version" not in request.headers:
            raise Refusal(400, "anthropic-version: header is required")
        parts = request.path.strip("/").split("/")[3:]
        account = account_of(request)
        match request.method, *parts:
            case ["POST"]:
                return await self._create(request, account, headers)
            case ["GET"]:
                return document(self._listed(request, account), headers)
            case ["GET", batch_id]:
                return document(self._batch(request, self._batches.look(batch_id, account)), headers)
            case ["DELETE", batch_id]:
                return document(self._deleted(batch_id, account), headers)
            case ["POST", batch_id, "cancel"]:
                return document(self._batch(request, self._cancelled(batch_id, account)), headers)
            case ["GET", batch_id, "results"]:
                return await self._results(request, self._batches.find(batch_id, account), headers)
        raise Refusal(404)

    async def _create(self, request: web.Request, account: str, headers: Mapping[str, str]) -> web.Response:
        sent = self._files.make(account=account, purpose="", name="", listed=False)
        stored = self._files.make(account=account, purpose="", name="", listed=False)
        try:
            await receive(sent, request.content.iter_chunked(_CHUNK), self._behaviour.batch_bytes or _MOST_BYTES)
            total = await self._spread(sent, stored)
            self._check_room(account, stored)
        except Refusal:
            self._files.delete(stored)
            raise
        finally:
            self._files.delete(sent)
        self._shared.counters.batch_requests += total
        batch = self._batches.add(stored, self._life.start, total=total)
        made = self._batch(request, batch)
        await self._disturbances.after_create(request)
        return document(made, headers)

    def _check_room(self, account: str, stored: StoredFile) -> None:
        """Raise the Refusal of a batch for which the queue has no room, or which the behaviour refuses."""
        most = self._behaviour.batch_queue_tokens
        if most is not None and self._batches.queued_tokens(account) + stored.bytes // 4 > most:
            raise Refusal(429, queue_full(most).message, cause="limit")
        if self._refused < self._behaviour.batch_refuse:
            self._refused += 1
            raise Refusal(400, "requests.0.params: the behaviour of the simulator refuses this batch")

    async def _spread(self, sent: StoredFile, stored: StoredFile) -> int:
        """Write the requests of a body to a file, one a line, and return their number. Raises Refusal (400)."""
        if not sent.bytes:
            raise Refusal(400, "The body of the request could not be parsed as JSON.")
        seen: set[int] = set()
        with sent.path.open("rb") as opened, stored.path.open("wb") as lines:
            # the parsed requests refer to the bytes of the file, so that these are never in memory as a whole
            requests = decode(mmap(opened.fileno(), 0, access=ACCESS_READ), _Create).requests
            if not 1 <= len(requests) <= self._most_requests:
                raise Refusal(400, f"requests: there must be from 1 to {self._most_requests} requests, not {len(requests)}")
            for start in range(0, len(requests), _SLICE):
                several = requests[start : start + _SLICE]
                stored.bytes += lines.write(b"".join(map(_line, several)))
                for index, one in enumerate(several, start):
                    _check_id(one.custom_id, index, seen)
                await asyncio.sleep(0)
        return len(requests)

    def _deleted(self, batch_id: str, account: str) -> dict[str, Any]:
        batch = self._batches.find(batch_id, account)
        if batch.phase != "ended":
            raise Refusal(400, f"Batch {batch_id} cannot be deleted, because it has not ended. Cancel it first.")
        self._batches.delete(batch)
        return {"id": batch_id, "type": "message_batch_deleted"}

    def _cancelled(self, batch_id: str, account: str) -> Batch:
        batch = self._batches.find(batch_id, account)
        if batch.phase == "ended":
            raise Refusal(400, f"Batch {batch_id} cannot be canceled, because it has ended.")
        self._batches.cancel(batch)
        return batch

    async def _results(self, request: web.Request, batch: Batch, headers: Mapping[str, str]) -> web.StreamResponse:
        if batch.phase != "ended" or batch.output is None:
            raise Refusal(404, f"Batch {batch.id} has no results yet.")
        if not batch.output.is_kept:
            raise Refusal(404, f"The results of batch {batch.id} are no longer available.")
        return await send(request, batch.output, self._behaviour, {**headers, "content-type": "application/x-jsonl"})

    def _listed(self, request: web.Request, account: str) -> dict[str, Any]:
        size = page_size(request, 20, 1000)
        found = list(self._batches.of(account))
        before = request.query.get("before_id")
        if before is not None:
            # the page that ends just before it
            newer = list(reversed(found))
            found = list(after(newer, [one.id for one in newer], before, "before_id"))
            shown = list(reversed(found[:size]))
        else:
            found = list(after(found, [one.id for one in found], request.query.get("after_id"), "after_id"))
            shown = found[:size]
        return {
            "data": [self._batch(request, one) for one in shown],
            "first_id": shown[0].id if shown else None,
            "last_id": shown[-1].id if shown else None,
            "has_more": len(found) > size,
        }

    def _batch(self, request: web.Request, batch: Batch) -> dict[str, Any]:
        has_ended = batch.phase == "ended"
        counts = batch.counts
        archived_at = None
        if batch.output is not None and not batch.output.is_kept:
            archived_at = batch.output.kept_until
        results = f"{request.scheme}://{request.host}{self.dialect.path}/batches/{batch.id}/results"
        return {
            "id": batch.id,
            "type": "message_batch",
            "processing_status": _STATUS[batch.phase],
            # as documented, requests leave "processing" together, when all have ended
            "request_counts": {
                "processing": 0 if has_ended else batch.total,
                "succeeded": counts.answered if has_ended else 0,
                "errored": counts.refused if has_ended else 0,
                "canceled": counts.cancelled if has_ended else 0,
                "expired": counts.expired if has_ended else 0,
            },
            "ended_at": self._instant(batch.ended_at),
            "created_at": self._instant(batch.created_at),
            "expires_at": self._instant(batch.expires_at),
            "archived_at": self._instant(archived_at),
            "cancel_initiated_at": self._instant(batch.cancelling_at),
            "results_url": results if has_ended and archived_at is None else None,
        }

    def _instant(self, instant: float | None) -> str | None:
        if instant is None:
            return None
        offset = self._behaviour.batch_utc_offset_min
        zone = UTC if not offset else timezone(timedelta(minutes=offset))
        return datetime.fromtimestamp(instant, zone).isoformat(timespec="microseconds").replace("+00:00", "Z")


def _line(one: _Request) -> bytes:
    # a line break in JSON is white space
    params = bytes(one.params).replace(b"\r", b" ").replace(b"\n", b" ")
    return b'{"custom_id":%s,"params":%s}\n' % (msgspec.json.encode(one.custom_id), params)


def _check_id(custom_id: str, index: int, seen: set[int]) -> None:
    if _CUSTOM_ID.fullmatch(custom_id) is None:
        raise Refusal(400, f"requests.{index}.custom_id: String should match pattern '^[a-zA-Z0-9_-]{{1,64}}$'")
    known = hash(custom_id)
    if known in seen:
        raise Refusal(400, f"requests.{index}.custom_id: custom_id must be unique within a batch, and {custom_id!r} is not")
    seen.add(known)
