"""Adds the headers and the query of a job to every request of a provider. No dialect and no plug-in has to know of them."""

from collections.abc import Mapping
from urllib.parse import parse_qsl, quote, urlencode

from runner.config.endpoint import Additions
from runner.errors import ProviderError
from runner.interfaces import Decoder, Provider
from runner.model import HttpCall, Request


def with_additions(provider: Provider, additions: Additions) -> Provider:
    """Return the provider itself if there is nothing to add."""
    return _Extended(provider, additions) if additions.headers or additions.query else provider


class _Extended:
    """A provider whose requests have further headers and a further query. A header of the job replaces one of the dialect."""

    def __init__(self, provider: Provider, additions: Additions) -> None:
        self._provider = provider
        self._added = {name: value.reveal() for name, value in additions.headers}
        self._query = {name: value.reveal() for name, value in additions.query}
        # the client encodes a head once for each dictionary of headers, so that each is made once
        self._heads: dict[tuple[str, int], tuple[str, dict[str, str], dict[str, str]]] = {}

    def encode(self, request: Request) -> HttpCall:
        """Build the POST for a request."""
        call = self._provider.encode(request)
        head = self._heads.get((call.url, id(call.headers)))
        if head is None or head[1] is not call.headers:
            if len(self._heads) > _MOST:
                self._heads.clear()
            # the dialect's own dictionary is kept, so that no other gets its id
            head = self._heads[(call.url, id(call.headers))] = (self._url(call.url), call.headers, self._headers(call.headers))
        return HttpCall(url=head[0], headers=head[2], body=call.body, made_seed=call.made_seed)

    def decoder(self) -> Decoder:
        """Return a decoder for one attempt."""
        return self._provider.decoder()

    def error(self, status: int, headers: Mapping[str, str], body: bytes) -> ProviderError:
        """Classify an answer other than 200."""
        return self._provider.error(status, headers, body)

    def _headers(self, own: Mapping[str, str]) -> dict[str, str]:
        names = {name.lower() for name in self._added}
        return {**{name: value for name, value in own.items() if name.lower() not in names}, **self._added}

    def _url(self, url: str) -> str:
        head, _, query = url.partition("?")
        kept = [(name, value) for name, value in parse_qsl(query, keep_blank_values=True) if name not in self._query]
        whole = urlencode([*kept, *self._query.items()], quote_via=quote) if self._query else query
        return f"{head}?{whole}" if whole else head


_MOST = 100
"""Heads that are kept; a dialect makes one or two."""
