"""What all workers of a session share: what they need to know, the routes, and the numbers of requests."""

from collections.abc import Mapping

from runner.workers.protocol import Setup
from runner.workers.routes import Routes


class Work:
    """What all workers of a session share. secrets: the values that requests need, by variable."""

    def __init__(self, setup: Setup, secrets: Mapping[str, str]) -> None:
        self.setup, self.secrets = setup, dict(secrets)
        self.routes = Routes(secrets)
        self._last = 0

    def number(self) -> int:
        """Return a number that no request of the session has had."""
        self._last += 1
        return self._last
