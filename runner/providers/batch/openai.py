"""The batch API of OpenAI, and of those who speak it: a file is uploaded, a batch is made of it, its results are files."""

from collections.abc import AsyncIterator, Iterator, Sequence
from pathlib import Path

import anyio
import msgspec
from msgspec import structs

from runner.batches import BatchResult, Remote
from runner.errors import ProviderError
from runner.model import HttpCall, Json
from runner.providers.batch.download import download
from runner.providers.batch.errors import Deed, no_json
from runner.providers.batch.lines import id_maker, line_maker, openai_results
from runner.providers.batch.remotes import TOKEN, input_of, instant, openai_remote
from runner.providers.batch.rules import Vendor
from runner.providers.batch.transport import Transport, segment
from runner.providers.lenient_json import decode_json, table, word

SKEW_S = 120.0
"""Seconds by which a batch may seem to have been made before its request was sent."""
_MOST_PAGES = 1000
_UNPROCESSED = ("pending", "running", "notrunning", "uploading")
_PROCESSING_S = 60.0
_LOOK_S = 1.0
_REFUSED_CANCELS = (400, 404, 405, 409, 410, 422)


class OpenAIBatches:
    """The batches of one account. transport: entered by who made this."""

    def __init__(self, transport: Transport, vendor: Vendor, base_url: str, account: str) -> None:
        self.rules, self.base_url, self.account = vendor.rules, base_url, account
        self._transport, self._vendor = transport, vendor
        self.custom_id = id_maker(vendor.rules.custom_id)
        address = b'"method":"POST","url":%b,' % msgspec.json.encode(vendor.endpoint) if vendor.addressed else b""
        self._line = line_maker(address + b'"body":')

    def line(self, custom_id: str, call: HttpCall) -> bytes:
        """Return the line of a file of requests, with its line end."""
        return self._line(custom_id, call.body)

    async def upload(self, path: Path, token: str) -> str | None:
        """Upload a file of requests under a name that contains the token."""
        name = f"runner-{token}.jsonl"
        form = {field: value.format(name=name) for field, value in self._vendor.form.items()}
        answer = await self._transport.upload_form(self._vendor.uploads, path, name, {"purpose": self._vendor.purpose, **form})
        return _id_of(answer, "upload")

    async def find_upload(self, token: str) -> str | None:
        """Return the id of the file whose name contains the token; None: there is none."""
        async for entries in self._pages(self._vendor.files, {"purpose": self._vendor.purpose}):
            for file in map(table, entries):
                if token in (word(file.get("filename")) or word(file.get("file_name")) or "") and word(file.get("id")):
                    return word(file.get("id"))
        return None

    async def create(self, path: Path, upload_id: str | None, token: str) -> Remote:
        """Make a batch of an uploaded file."""
        vendor = self._vendor
        if vendor.processed and upload_id is not None:
            await self._processed(upload_id)
        body: dict[str, Json] = {
            vendor.input: [upload_id] if vendor.inputs else upload_id,
            "endpoint": vendor.endpoint,
            vendor.window[0]: vendor.window[1],
        }
        if vendor.rules.metadata:
            body["metadata"] = {TOKEN: token}
        if vendor.model:
            body["model"] = _model_in(path)
        return self._remote(await self._transport.call("create", "POST", vendor.batches, json=body), "create")

    async def find(self, token: str, rows: int, since: float) -> Sequence[Remote]:  # noqa: ARG002 - the protocol's
        """Return the batches of a token, one but for repeated requests: by metadata, else by their file of requests."""
        ours: list[Remote] = []
        others: list[tuple[Remote, str]] = []
        async for entry in self._recent(since):
            remote = openai_remote(entry, self.rules)
            if remote is not None and remote.token == token:
                ours.append(remote)
            file = input_of(entry)
            if remote is not None and remote.token is None and file is not None:
                others.append((remote, file))
        if others and not ours:
            upload_id = await self.find_upload(token)
            # the name of the file contains the token, so that this is as certain
            ours = [structs.replace(remote, token=token) for remote, file in others if file == upload_id]
        return tuple(ours)

    async def look(self, remote_id: str) -> Remote:
        """Return a batch as it is now."""
        return self._remote(await self._transport.call("batch", "GET", f"{self._vendor.batches}/{segment(remote_id)}"), "batch")

    async def cancel(self, remote_id: str) -> Remote:
        """Ask the provider to cancel a batch. One that has ended is returned as it is."""
        try:
            answer = await self._transport.call("batch", "POST", f"{self._vendor.batches}/{segment(remote_id)}/cancel")
        except ProviderError as error:
            if error.status in _REFUSED_CANCELS and (remote := await self.look(remote_id)).phase in ("ended", "cancelling"):
                return remote
            raise
        cancelled = openai_remote(_unwrapped(answer), self.rules)
        return cancelled if cancelled is not None else await self.look(remote_id)

    async def download(self, source: str, path: Path) -> None:
        """Download a file of results. Goes on with what is there already; returns once it is whole."""
        await download(self._transport, self._transport.url(f"{self._vendor.files}/{segment(source)}/content"), path)

    def results(self, path: Path) -> Iterator[BatchResult]:
        """Read a file of results line by line. Never raises for a line."""
        return openai_results(path)

    async def forget(self, upload_id: str) -> None:
        """Delete an uploaded file of requests. One that is gone is no error."""
        await self._transport.delete(f"{self._vendor.files}/{segment(upload_id)}")

    async def all(self, since: float) -> AsyncIterator[Remote]:
        """Yield the batches of the account since an instant, newest first."""
        async for entry in self._recent(since):
            remote = openai_remote(entry, self.rules)
            if remote is not None:
                yield remote

    async def _processed(self, upload_id: str) -> None:
        """Wait until an uploaded file can be used, for a minute at most: then the provider says what it has against it."""
        with anyio.move_on_after(_PROCESSING_S):
            while True:
                file = table(await self._transport.call("file", "GET", f"{self._vendor.files}/{segment(upload_id)}"))
                if (word(file.get("status")) or "").lower() not in _UNPROCESSED:
                    return
                await anyio.sleep(_LOOK_S)

    async def _recent(self, since: float) -> AsyncIterator[Json]:
        """Yield the batches since an instant by our clock. Only the pages, not what is on one, need to be newest first."""
        async for entries in self._pages(self._vendor.batches, {}):
            # the server's clock is known once a page has come
            earliest = since + min(0.0, self._transport.ahead_s) - SKEW_S
            fresh = [one for one in entries if (instant(table(one).get("created_at")) or earliest) >= earliest]
            for entry in fresh:
                yield entry
            if len(fresh) < len(entries):
                return

    async def _pages(self, path: str, query: dict[str, str]) -> AsyncIterator[list[Json]]:
        """Yield a list page by page. A list without pages is one page."""
        by_number = self._vendor.pages == "page"
        last: str | None = None
        for number in range(_MOST_PAGES):
            asked: dict[str, str | int] = {**query, "page_size" if by_number else "limit": self._vendor.page}
            if by_number:
                asked["page"] = number
            elif last is not None:
                asked["after"] = last
            answer = await self._transport.call("list", "GET", path, query=asked)
            data = answer if isinstance(answer, list) else table(answer).get("data")
            entries = data if isinstance(data, list) else []
            yield entries
            end = word(table(entries[-1]).get("id")) if entries else None
            more = len(entries) >= self._vendor.page if by_number else table(answer).get("has_more") is True
            if end is None or end == last or not more:
                return
            last = end

    def _remote(self, answer: Json, deed: Deed) -> Remote:
        remote = openai_remote(_unwrapped(answer), self.rules)
        if remote is None:
            raise no_json(deed, b"")
        return remote


def _unwrapped(answer: Json) -> Json:
    """Return the batch in an answer: Together puts that of a new one into ``job``."""
    inner = table(answer).get("job")
    return inner if isinstance(inner, dict) else answer


def _id_of(answer: Json, deed: Deed) -> str:
    name = word(table(answer).get("id")) or word(table(table(answer).get("data")).get("id"))
    if name is None:
        raise no_json(deed, b"")
    return name


def _model_in(path: Path) -> Json:
    """Return the model of the first request of a file."""
    with path.open("rb") as file:
        line, _ = decode_json(file.readline())
    return table(table(line).get("body")).get("model")
