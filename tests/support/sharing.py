"""Lanes that share their limits, in one event loop and over real sockets: what several runs would have, without their rows."""

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path

from simulating import until

from runner.admission import Permit
from runner.engine.clock import Clock
from runner.engine.limits import Kind
from runner.engine.limits.learned import Learned
from runner.engine.limits.ledger import Ledger
from runner.engine.limits.places import Places
from runner.engine.limits.shared_lane import SharedLane
from runner.engine.limits.slots import Slots
from runner.model import Usage
from runner.sharing.elsewhere import Way
from runner.sharing.party import Notes
from runner.sharing.seat import Seat
from runner.sharing.share import Share

SAME = "ab" * 32
"""An identity."""


class Run:
    """A lane, and the permits that its rows have. folder: that of the sockets, or the way to another machine."""

    def __init__(
        self,
        place: Path | Way,
        *,
        slots: int = 256,
        tuned: bool = True,
        per_minute: Mapping[Kind, float] | None = None,
        same: str = SAME,
        clock: Clock | None = None,
        name: str = "",
    ) -> None:
        clock = clock or Clock()
        places = Places(1_000, Ledger(clock.monotonic, 1_000, 1))
        self.lane = SharedLane("m", Slots(slots, tuned=tuned, clock=clock.monotonic), places, dict(per_minute or {}), clock)
        self.notes: list[str] = []
        where = Seat(same, {"XDG_RUNTIME_DIR": str(place)}) if isinstance(place, Path) else place
        self.name = name or f"run {id(self):x}"
        self.share = Share(self.lane, same, self.name, where, clock, Notes(self.notes.append))
        self._task = asyncio.get_running_loop().create_task(self.share.run())
        self.permits: list[Permit] = []
        self._rows: list[asyncio.Task[None]] = []

    def learn(self, slots: int) -> None:
        """Have the lane know that the server takes so many requests."""
        self.lane._slots.go_on(Learned(slots, ramping=False))

    def send(self, count: int, most: int = 10) -> None:
        """Let so many rows wait for permits, which they keep. most: output tokens of each."""
        self._rows += [asyncio.get_running_loop().create_task(self._row(most)) for _ in range(count)]

    async def _row(self, most: int) -> None:
        standing = self.lane.enter(0)
        self.permits.append(await self.lane.acquire(standing, 100, most))

    def answer(self) -> None:
        """Answer the oldest request."""
        permit = self.permits.pop(0)
        self.lane.heard(permit, 200, [])
        self.lane.succeeded(permit, Usage(input_tokens=10, output_tokens=10))
        self.lane.release(permit)

    async def out(self, count: int) -> None:
        """Wait until so many requests are open."""
        await until(lambda: len(self.permits) == count)

    async def with_others(self, runs: int) -> None:
        """Wait until the limits are shared by so many runs; 0: until this one is alone and may send."""
        await until(lambda: self.lane.runs == runs and (runs > 0 or self.lane._leader is None))

    async def end(self) -> None:
        """End the run."""
        for row in self._rows:
            row.cancel()
        self._task.cancel()
        await asyncio.wait([self._task, *self._rows])


@asynccontextmanager
async def ended(*runs: Run) -> AsyncIterator[None]:
    """End runs at the end of the block."""
    try:
        yield
    finally:
        for run in runs:
            await run.end()


def token_in(folder: Path) -> tuple[Path, str]:
    """Return the file with the token of a host, and what is in it."""
    file = next(folder.glob("*.token"))
    return file, file.read_text()
