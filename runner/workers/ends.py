"""Where a worker sends requests: a provider for each endpoint, which decodes what comes from there, and the client to it."""

from collections.abc import Mapping
from inspect import Parameter, signature
from typing import Any, NamedTuple, cast

from runner.config import plugins, way_out
from runner.errors import UsageError
from runner.interfaces import Provider
from runner.providers.http import HttpClient
from runner.version import __version__
from runner.workers.protocol import Setup
from runner.workers.routes import moved


class End(NamedTuple):
    """One endpoint, as a worker sees it."""

    provider: Provider
    client: HttpClient


class Ends:
    """The endpoints of a worker, by the base URLs that the run has. secrets: values by variable. own: another base URL, or None.

    Raises UsageError if the worker cannot reach one of those that there are at the start.
    """

    def __init__(self, setup: Setup, secrets: Mapping[str, str], own: str | None) -> None:
        if own is not None and setup.several:
            raise UsageError("the run has several endpoints, and --base-url names one: leave it out of `runner worker`")
        self._setup, self._own = setup, own
        self._make = plugins.load("providers", setup.provider).make
        self._options: dict[str, Any] = {
            name: value if isinstance(value, bool) else frozenset(value) for name, value in setup.options.items()
        }
        parameters = signature(self._make).parameters.values()
        if any(parameter.name == "secrets" or parameter.kind is Parameter.VAR_KEYWORD for parameter in parameters):
            self._options["secrets"] = frozenset(filter(None, secrets.values()))
        self._ends: dict[str, End] = {}
        self.clients: dict[str | None, HttpClient] = {}
        for base_url in setup.base_urls:
            self.at(base_url)

    def at(self, base_url: str) -> End:
        """Return what is at a base URL of the run. Raises UsageError for a proxy that cannot be used."""
        found = self._ends.get(base_url)
        if found is None:
            setup, there = self._setup, self._own or base_url
            proxy = None if setup.direct else way_out.proxy_of(there)
            client = self.clients.get(proxy)
            if client is None:
                client = self.clients[proxy] = HttpClient(setup.timeouts, proxy=proxy, fallback=setup.fallback)
            provider = cast("Provider", self._make(there, None, version=__version__, **self._options))
            found = self._ends[base_url] = End(provider, client)
        return found

    @property
    def first(self) -> End:
        """The endpoint that there was first."""
        return next(iter(self._ends.values()))

    def address(self, url: str, base_url: str) -> str:
        """Return where a request goes. url: as the run has it."""
        return moved(url, base_url, self._own)

    async def close(self) -> None:
        """Close all connections."""
        for client in self.clients.values():
            await client.__aexit__()
