"""The engine ray: each worker is the child of an actor, which Ray places where CPUs are free.

Ray runs in a process of its own (``workers.actors``): there it prints what it likes, sets its signal handlers, and may die with
the raylet of this machine, and none of that reaches the run. Data goes over the socket of the worker, not through Ray.
"""

import importlib.util
from collections.abc import AsyncIterator, Mapping

import anyio
from anyio import to_thread

from runner.errors import UsageError
from runner.placing import Invitation
from runner.workers import engine_options
from runner.workers.actors import Ask
from runner.workers.placer import Placer

OPTIONS = ("address", "connect", "cpus", "runner")
"""Names of the options that this engine takes. address: of the cluster; by default of one that this machine belongs to."""


def make(options: Mapping[str, object]) -> "Ray":
    """Make the engine. Raises UsageError if Ray is not installed."""
    if importlib.util.find_spec("ray") is None:
        raise UsageError("the engine ray needs the package ray; install it with: pip install 'prompt-runner[ray]'")
    return Ray(options)


class Ray:
    """Asks Ray for workers, through the process that speaks to it."""

    def __init__(self, options: Mapping[str, object]) -> None:
        self._cluster = engine_options.text(options, "address", "ray") or "auto"
        self._cpus = engine_options.whole(options, "cpus", "ray", 1)
        self._program = engine_options.program(options, "ray", ())
        self._options = options
        self._placer: Placer | None = None
        self._begun = anyio.Event()

    async def start(self, count: int, invitation: Invitation) -> None:
        """Ask Ray for so many actors. Raises UsageError with what Ray says, in one sentence."""
        address, told = invitation.address, self._options.get("connect") is not None
        if told:
            address = engine_options.reachable(self._options, "ray", address)
        if self._placer is None or not self._placer.alive:
            # a new one after the death of the one before, for which the notice has told
            self._placer = Placer(invitation.variables)
            self._begun.set()
        asked = Ask(
            cluster=self._cluster,
            count=count,
            cpus=self._cpus,
            program=self._program,
            address=address,
            # a cluster may be this one machine; the process that speaks to it sees that
            checks=not told,
            token=invitation.token,
        )
        await self._placer.ask(asked)

    async def watch(self) -> AsyncIterator[str]:
        """Yield what Ray says of the actors, until the last one. It may be wrong: a frozen one counts as alive for a minute."""
        await self._begun.wait()
        if (placer := self._placer) is not None:
            async for notice in placer.notices():
                yield notice

    async def end(self) -> None:
        """End the actors, and the process that speaks to Ray. The cluster is not touched."""
        placer, self._placer = self._placer, None
        self._begun.set()
        if placer is not None:
            with anyio.CancelScope(shield=True):
                await to_thread.run_sync(placer.end)
