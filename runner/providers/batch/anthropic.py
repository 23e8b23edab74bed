"""The batch API of Anthropic: the requests go up with the batch itself, and its results come from one address."""

from collections.abc import AsyncIterator, Iterator, Sequence
from pathlib import Path

from runner.batches import BatchResult, Remote
from runner.errors import ProviderError
from runner.model import HttpCall, Json
from runner.providers.batch.download import download
from runner.providers.batch.errors import Deed, no_json
from runner.providers.batch.lines import anthropic_results, id_maker, line_maker
from runner.providers.batch.remotes import anthropic_remote, instant
from runner.providers.batch.rules import Vendor
from runner.providers.batch.transport import Around, Transport, segment
from runner.providers.lenient_json import table, word

SKEW_S = 5.0
"""Seconds by which a batch may seem older than its request, once the clocks are compared: a Date has whole seconds."""
_PATH = "/v1/messages/batches"
_MOST_PAGES = 1000
_AROUND = Around(before=b'{"requests":[', after=b"]}", kind="application/json", joined=True)
_REFUSED_CANCELS = (400, 409, 422)


class AnthropicBatches:
    """The batches of one account (of a workspace). transport: entered by who made this."""

    def __init__(self, transport: Transport, vendor: Vendor, base_url: str, account: str) -> None:
        self.rules, self.base_url, self.account = vendor.rules, base_url, account
        self._transport, self._vendor = transport, vendor
        self.custom_id = id_maker(vendor.rules.custom_id)
        self._line = line_maker(b'"params":')

    def line(self, custom_id: str, call: HttpCall) -> bytes:
        """Return the line of a file of requests, with its line end."""
        return self._line(custom_id, call.body)

    async def upload(self, path: Path, token: str) -> str | None:  # noqa: ARG002 - the protocol's
        """Return None: the requests go up with the batch."""
        return None

    async def find_upload(self, token: str) -> str | None:  # noqa: ARG002 - the protocol's
        """Return None: there are no uploads."""
        return None

    async def create(self, path: Path, upload_id: str | None, token: str) -> Remote:  # noqa: ARG002 - the protocol's
        """Make a batch of a file of requests, which goes up in constant memory. A token has no place in it."""
        return self._remote(await self._transport.upload("create", _PATH, path, _AROUND), "create")

    async def find(self, token: str, rows: int, since: float) -> Sequence[Remote]:  # noqa: ARG002 - the protocol's
        """Return the batches of so many requests that were made since then: nothing in them says whose they are."""
        return [remote async for remote in self.all(since) if remote.counts.total == rows]

    async def look(self, remote_id: str) -> Remote:
        """Return a batch as it is now."""
        return self._remote(await self._transport.call("batch", "GET", f"{_PATH}/{segment(remote_id)}"), "batch")

    async def cancel(self, remote_id: str) -> Remote:
        """Ask the provider to cancel a batch. One that has ended is returned as it is."""
        try:
            return self._remote(await self._transport.call("batch", "POST", f"{_PATH}/{segment(remote_id)}/cancel"), "batch")
        except ProviderError as error:
            if error.status in _REFUSED_CANCELS and (remote := await self.look(remote_id)).phase in ("ended", "cancelling"):
                return remote
            raise

    async def download(self, source: str, path: Path) -> None:
        """Download the results of a batch. Goes on with what is there already; returns once they are whole.

        source: the id of the batch. Its ``results_url`` is the same address at the provider; a gateway has an address of its own.
        """
        await download(self._transport, self._transport.url(f"{_PATH}/{segment(source)}/results"), path)

    def results(self, path: Path) -> Iterator[BatchResult]:
        """Read a file of results line by line. Never raises for a line."""
        return anthropic_results(path)

    async def forget(self, upload_id: str) -> None:
        """Do nothing: there are no uploads."""

    async def all(self, since: float) -> AsyncIterator[Remote]:
        """Yield the batches of the account since an instant by our clock, newest first."""
        last: str | None = None
        for _ in range(_MOST_PAGES):
            query: dict[str, str | int] = {"limit": self._vendor.page, **({"after_id": last} if last is not None else {})}
            answer = table(await self._transport.call("list", "GET", _PATH, query=query))
            data = answer.get("data")
            entries = data if isinstance(data, list) else []
            for entry in entries:
                created_at = instant(table(entry).get("created_at"))
                # known only once a page has come
                if created_at is not None and created_at < since + min(0.0, self._transport.ahead_s) - SKEW_S:
                    return
                if (remote := anthropic_remote(entry, self.rules)) is not None:
                    yield remote
            end = word(answer.get("last_id")) or (word(table(entries[-1]).get("id")) if entries else None)
            if end is None or end == last or answer.get("has_more") is not True:
                return
            last = end

    def _remote(self, answer: Json, deed: Deed) -> Remote:
        remote = anthropic_remote(answer, self.rules)
        if remote is None:
            raise no_json(deed, b"")
        return remote
