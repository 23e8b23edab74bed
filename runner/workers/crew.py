"""The workers of a session: who gets the next request, who is silent, and who takes the place of one that is lost."""

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Iterator
from time import monotonic

import anyio

from runner.engine.stop import Stop
from runner.errors import AttemptError, UsageError
from runner.frames import join
from runner.pace import WorkerCounts
from runner.text import plural
from runner.workers.fewest import Fewest
from runner.workers.late import BookLate, LateAnswers
from runner.workers.local import LocalProcess, Place, ended_by, with_last_words
from runner.workers.member import Member
from runner.workers.protocol import BEAT_S, Done
from runner.workers.states import ENDED, State
from runner.workers.trial import Trial
from runner.workers.work import Work

TICK_S = 0.25
"""Seconds between two looks at all workers."""
LATE_S = 1.0
"""A look that comes so many seconds late shows that this process has stood still: what the workers have said is read first."""
END_S = 2.0
"""Seconds that the processes have to end."""


class Crew:
    """The workers of a session. count: local ones. tell: tells the user a sentence. invites: workers may come by themselves.

    stop: ends the session. book: writes down what attempts have used, when that is known late.
    """

    def __init__(
        self, work: Work, count: int, tell: Callable[[str], None], stop: Stop, book: BookLate, *, invites: bool = False
    ) -> None:
        self.work, self._tell, self._invites = work, tell, invites
        self._places = [Place(number) for number in range(1, count + 1)]
        self._members: list[Member] = []
        self._fewest = Fewest(self._members)
        self._processes: dict[Member, tuple[LocalProcess, Place]] = {}
        self._lost, self._numbers = 0, count
        # what waits for room at a worker, or for the end of the last one; None: nothing does
        self._changed: anyio.Event | None = None
        self._timer: asyncio.Handle | None = None
        self._due = self._beat_at = 0.0
        self._starting: set[asyncio.Task[None]] = set()
        self._ending = False
        self._stop, self._late = stop, LateAnswers(book)
        self._beside: set[asyncio.Task[None]] = set()
        self._stopping: asyncio.Task[None] | None = None
        # places another worker for one that had come by itself; why none comes any more
        self.again: Callable[[], Awaitable[None]] | None = None
        self._none_comes = ""

    @property
    def occupied(self) -> bool:
        """True if there is a worker, or one is being placed for another."""
        return bool(self._starting) or any(member.state not in ENDED for member in self._members)

    def expect_none(self, why: str) -> None:
        """No worker comes by itself any more. why: what is known of it; may be empty."""
        self._invites, self._none_comes = False, why
        self.room()

    @property
    def counts(self) -> WorkerCounts:
        """How many workers there are, by state."""
        states = [member.state for member in self._members]
        return WorkerCounts(
            live=states.count(State.LIVE),
            starting=states.count(State.STARTING),
            silent=states.count(State.SUSPECT),
            lost=self._lost,
        )

    # -- who gets the next request

    def free(self) -> Member | None:
        """Return the worker that gets the next request: the one with the fewest; None if none may have another one now."""
        return self._fewest.take()

    @property
    def ready(self) -> bool:
        """True if a worker may have another request; also if none ever will, so that nobody waits for it."""
        return self._fewest.any or not self._hopeful()

    async def wait(self) -> None:
        """Wait until that is so."""
        while not self.ready:
            await self._change()

    async def freed(self) -> Member:
        """Wait for such a worker. Raises AttemptError if the run stops meanwhile, or has to because no worker is left."""
        while (member := self.free()) is None:
            if self._stop.requested:
                unsent = AttemptError("the run was stopped", code="cancelled", sent=False)
                # it counts against nothing, and the row stays open
                unsent.mended = True
                raise unsent
            if not self._hopeful():
                raise AttemptError(f"no worker is left{self._reason}", code="no_workers", verdict="stop", sent=False)
            await self._change()
        return member

    async def _change(self) -> None:
        """Wait until there may be room at a worker, or none is left."""
        if self._changed is None:
            self._changed = anyio.Event()
        await self._changed.wait()

    def _hopeful(self, starting: int = 0) -> bool:
        """Return True if a worker may still come to work. starting: replacements that do not count."""
        coming = len(self._starting) > starting
        return self._invites or coming or any(member.state not in ENDED for member in self._members)

    @property
    def _reason(self) -> str:
        """Return why the last worker has ended, in words that follow others."""
        ended = [member for member in self._members if member.why]
        if self._none_comes:
            return f": {self._none_comes}"
        return f": {ended[-1].name}: {ended[-1].why}" if ended else ""

    # -- begin and end

    async def begin(self) -> None:
        """Start the local workers, and wait until one is ready. Raises UsageError if none comes to work; ``end`` is due then."""
        self._due = monotonic() + TICK_S
        self._timer = asyncio.get_running_loop().call_later(TICK_S, self._tick)
        self._stopping = asyncio.get_running_loop().create_task(self._wake_at_stop())
        for place in self._places:
            await self._start(place)
        await self._ready()

    async def _ready(self) -> None:
        while self._places and (self.occupied or not self._invites) and not self._stop.requested and not self.counts.live:
            if not self._hopeful():
                raise UsageError(f"no worker could start{self._reason}")
            await self._change()

    async def end(self) -> None:
        """End all workers, in bounded time."""
        self._ending = True
        if self._timer is not None:
            self._timer.cancel()
        if self._stopping is not None:
            self._stopping.cancel()
        for member in self._members:
            member.drain()
        for task in list(self._starting):
            task.cancel()
        until = monotonic() + END_S
        for process, _ in self._processes.values():
            await ended_by(process, until)
        for member in self._members:
            member.link.abort()
        if self._late.waiting:
            await self._late.book()
        while self._beside:
            await asyncio.wait(self._beside)
        for process, _ in self._processes.values():
            process.kill()
        self._processes.clear()

    async def _wake_at_stop(self) -> None:
        await self._stop.wait()
        self.room()

    async def _start(self, place: Place) -> None:
        try:
            process = LocalProcess(self.work.secrets)
        except OSError as error:
            raise UsageError(f"a worker cannot be started: {error.strerror or error}; use a smaller --workers") from error
        member = Member(place.number, f"worker {place.number}", self.work, self)
        self._members.append(member)
        self._processes[member] = process, place
        await join(member.link, process.own, at_once=True)
        member.welcome()

    def next_number(self) -> int:
        """Return a number for a worker that comes by itself: the local ones have the first."""
        self._numbers += 1
        return self._numbers

    def add(self, member: Member) -> None:
        """Take a worker that has come by itself."""
        self._members.append(member)
        member.welcome()

    # -- what the workers tell

    def room(self) -> None:
        """A worker may take another request."""
        # told of with each frame that comes, and nearly never waited for
        self._fewest.look_again()
        if self._changed is not None:
            self._changed.set()
            self._changed = None

    def changed(self, member: Member, before: State) -> None:
        """A worker has another state."""
        if member.state is State.LIVE and before is State.STARTING and member in self._processes:
            self._processes[member][1].lived = True
        if member.state is State.LIVE and before is State.STARTING and member not in self._processes:
            self._tell(f"{member.name} has joined")
        if member.state in (State.LOST, State.FAILED) and not self._ending:
            self._lost += 1
            self._ended(member)
        self.room()

    def _ended(self, member: Member) -> None:
        """See to it that a worker which has ended is told of, and replaced."""
        task = asyncio.get_running_loop().create_task(self._replace(member, len(member.trials)))
        self._starting.add(task)
        task.add_done_callback(self._replaced)

    def _run(self, work: Coroutine[None, None, None]) -> None:
        """Do something beside, and wait for it at the end."""
        task = asyncio.get_running_loop().create_task(work)
        self._beside.add(task)
        task.add_done_callback(self._beside.discard)

    async def _replace(self, member: Member, out: int) -> None:
        """Tell of a worker that has ended, and start another one in the place of a local one, unless that happened too often.

        out: requests that were with it.
        """
        process, place = self._processes.get(member, (None, None))
        if process is not None and place is not None:
            member.why = await with_last_words(process, member.why)
        words = f"{member.name} {'was lost' if member.state is State.LOST else 'could not start'}: {member.why}"
        if out:
            words += f"; its {plural(out, 'open request')} {'goes' if out == 1 else 'go'} out again"
        again = place is not None and place.may_start(monotonic()) and not self._ending
        if place is not None and not again:
            left = sum(one.state not in ENDED for one in self._members)
            words += f"; {plural(left, 'worker')} left"
        # what ends the session is told with it
        if again or self._hopeful(1):
            self._tell(words)
        if again and place is not None:
            await self._start(place)
        if place is None and member.state is State.LOST and self.again is not None and not self._ending:
            await self.again()

    def _replaced(self, task: asyncio.Task[None]) -> None:
        self._starting.discard(task)
        error = None if task.cancelled() else task.exception()
        if error is not None:
            self._tell(str(error))
        self.room()

    def late(self, trial: Trial, done: Done) -> None:
        """A worker that was given up tells how a request has ended."""
        self._late.take(trial, done, self._members)

    # -- time

    def _tick(self) -> None:
        # not the time of the loop: it may be of another clock than that by which frames are heard
        loop, now = asyncio.get_running_loop(), monotonic()
        late, self._due = now - self._due > LATE_S, now + TICK_S
        self._timer = loop.call_later(TICK_S, self._tick)
        if late:
            # nothing is sent before all is read: to write to a worker that has ended would lose what it has said before
            for member in self._active():
                member.excuse(now)
            return
        if self._late.waiting:
            self._run(self._late.book())
        for member in list(self._active()):
            member.look(now)
        if now >= self._beat_at:
            self._beat_at = now + BEAT_S
            for member in self._members:
                member.beat()
        for member in [member for member in self._members if member.state in ENDED and member.link.ended]:
            self._forget(member)

    def _active(self) -> Iterator[Member]:
        return (member for member in self._members if member.state not in ENDED)

    def _forget(self, member: Member) -> None:
        """Forget a worker that has ended, and its process; the last one stays, for what it says."""
        entry = self._processes.get(member)
        if entry is not None and entry[0].ended:
            del self._processes[member]
            entry[0].kill()
        if entry is None and member is not self._members[-1]:
            self._members.remove(member)
