"""What starts workers elsewhere, and what it is told. ``interfaces`` names both."""

from collections.abc import AsyncIterator
from typing import Protocol

from msgspec import Struct


class Invitation(Struct, frozen=True, kw_only=True):
    """What a worker needs to join a run.

    address: HOST:PORT at which the driver listens. token: one line of printable ASCII without spaces, a secret. variables: names
    of the environment variables that a worker needs: keys, proxies. command: the arguments of a worker on this machine.
    """

    address: str
    token: str
    variables: tuple[str, ...]
    command: tuple[str, ...]

    def __repr__(self) -> str:
        return f"Invitation({self.address!r})"


class Engine(Protocol):
    """Places workers and ends them. Whether a worker is alive is for the driver to decide, not for the engine."""

    async def start(self, count: int, invitation: Invitation) -> None:
        """Place so many workers. Returns when they are asked for, before they are there. Raises UsageError, one sentence."""
        ...

    def watch(self) -> AsyncIterator[str]:
        """Yield notices, one sentence each: a worker has died, a job waits. They are shown and decide nothing.

        It ends when nothing is left of what was placed; if that cannot be known, never. It may be called again then.
        """
        ...

    async def end(self) -> None:
        """End what was started, in bounded time. May be called several times."""
        ...
