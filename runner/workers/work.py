"""What all workers of a session share: what they need to know, the routes, and the numbers of requests."""

from collections.abc import Mapping, Sequence

from msgspec import structs

from runner.model import HttpCall
from runner.workers.protocol import Route, Setup
from runner.workers.routes import Routes


class Work:
    """What all workers of a session share. secrets: the values that requests need, by variable."""

    def __init__(self, setup: Setup, secrets: Mapping[str, str]) -> None:
        self._setup, self.secrets = setup, dict(secrets)
        self._routes = Routes(secrets)
        # by the number of the endpoint; where a list changes, more may come
        self.base_urls: Sequence[str] = setup.base_urls
        self._last = 0
        # somebody watches the session, and wants to know what open answers say
        self.texts = False

    def setup_now(self) -> Setup:
        """Return what a worker needs to know that joins now."""
        return structs.replace(self._setup, base_urls=tuple(self.base_urls))

    def route(self, call: HttpCall) -> Route:
        """Return the route of a call."""
        return self._routes.of(call, self.base_urls[call.endpoint])

    def number(self) -> int:
        """Return a number that no request of the session has had."""
        self._last += 1
        return self._last
