"""How one lane shares its limits: it serves others, is served by another run, or goes on by itself.

    LOOKING  ->  ALONE, at the socket        nobody listened there: this run does now; nobody else has come
             ->  SERVES                      others have come (``serving``, ``office``)
             ->  IS SERVED                   another run listens there (``hand``)
             ->  ALONE, without a socket     there is no folder for it; looks again now and then

A run that is served looks again as soon as the one that serves has gone, or says nothing: until then its rows wait.
"""

import asyncio
from typing import TYPE_CHECKING

from runner.engine.clock import Clock
from runner.engine.limits.shared_lane import SharedLane
from runner.frames import Link, join
from runner.sharing import forks
from runner.sharing.folder import NoFolderError
from runner.sharing.hand import Hand
from runner.sharing.messages import MOST_BYTES, Beat, Bye, Known, decode_to_run, encode
from runner.sharing.party import Notes, Party
from runner.sharing.seat import BusyError, Found, FullError, Mark, Seat
from runner.sharing.serving import Serving, take
from runner.sharing.times import BEAT_S, SILENT_S, WELCOME_S, Beats
from runner.text import clean

if TYPE_CHECKING:
    from runner.sharing.elsewhere import Way

AGAIN_S = 5.0
"""Seconds after which a run that is alone against its will looks again."""
_MOST_AGAIN_S = 60.0
"""The same where that was in vain several times."""
_SHORT_S = 2.0
"""A connection that ends without a word within so many seconds was in vain."""
_APART_S = 0.05
"""Seconds between the beginnings of two visits, at the least."""
_LOOK_S = 0.005
"""Seconds to wait for the lock."""


class Visit:
    """The connection to the run that serves. welcome: it has said what is so for all; left: it has said that it serves no longer.

    silent: it has been given up as it says nothing.
    """

    def __init__(self, party: Party) -> None:
        self._party, self._hand, self._clock = party, party.hand, party.clock
        self.link = Link(self._take, self._lost, most=MOST_BYTES)
        self._heard_at = party.clock.monotonic()
        self._over = asyncio.Event()
        self.bye = Bye()
        self.welcome = self.left = self.silent = False

    def begin(self) -> None:
        """Say who this is, and take tickets from now on."""
        self._hand.begin(lambda said: self.link.send(encode(said)))
        # what the lane asks for follows a moment later
        self.link.send(encode([self._hand.hello(self._party.identity, self._party.name)]))

    async def over(self) -> None:
        """Wait until the other run serves no longer, or says nothing any more."""
        self._heard_at = self._clock.monotonic()
        beats = Beats(self._heard_at)
        while not self._over.is_set():
            try:
                async with asyncio.timeout(BEAT_S):
                    await self._over.wait()
            except TimeoutError:
                now = self._clock.monotonic()
                if beats.late(now):
                    # this run itself was stopped: what has come meanwhile is read first
                    self._heard_at = now
                if now - self._heard_at > (SILENT_S if self.welcome else WELCOME_S):
                    self.silent = True
                    self.link.abort()
                    return
                self.link.send(encode([Beat()]))

    def _take(self, frame: bytes) -> None:
        told = decode_to_run(frame)
        bye = take(self._party, told)
        if bye is not None:
            self.bye, self.left = bye, True
            self._over.set()
            return
        known = next((one for one in told if isinstance(one, Known)), None)
        if known is not None and not self.welcome:
            self.welcome = True
            self._party.shares_with(known.serves)
        if self.welcome:
            # other words are no welcome, however many they are
            self._heard_at = self._clock.monotonic()

    def _lost(self, _: str | None) -> None:
        self._over.set()


class Share:
    """Shares the limits of one lane, as long as ``run`` runs. place: where the others are.

    identity: of endpoint, model and key. name: of this run. notes: for its user.
    """

    def __init__(self, lane: SharedLane, identity: str, name: str, place: "Seat | Way", clock: Clock, notes: Notes) -> None:
        self._hand, self._place, self._clock = Hand(lane, clock.monotonic, self._failed), place, clock
        self._party = Party(lane, self._hand, clock, identity, name, notes, self._failed)
        self._running: asyncio.Task[None] | None = None
        self._broken = False
        self._serving: Serving | None = None
        self._visit: Visit | None = None
        # visits in a row that were in vain
        self._vain = 0
        # the first request waits until others have been looked for
        self._hand.begin(None)

    async def run(self) -> None:
        """Share the limits. Whatever goes wrong, the lane goes on by itself."""
        self._running = asyncio.current_task()
        try:
            if isinstance(self._place, Seat):
                await self._find_and_share(self._place)
            else:
                await self._join(self._place)
        except Exception as error:  # noqa: BLE001 - an error here must not end the run, which needs nothing of this
            self._go_alone(error)
        except asyncio.CancelledError:
            if not self._broken:
                raise
        finally:
            self.end()

    def _failed(self, error: Exception) -> None:
        """End with an error in what the event loop has called, of which ``run`` hears nothing by itself."""
        if not self._broken:
            self._broken = True
            self._go_alone(error)
            if self._running is not None:
                self._running.cancel()

    def _go_alone(self, error: Exception) -> None:
        words = clean(str(error), 200)
        self._party.tell(f"limits are no longer shared with other runs: {type(error).__name__}: {words}")
        self._hand.end()

    def changed(self) -> None:
        """Tell the others that the user of this run has set other limits: one that serves at once, any other by coming anew."""
        if self._serving is not None:
            self._serving.changed()
        elif self._visit is not None:
            self._visit.link.end()

    def end(self) -> None:
        """Leave the others."""
        if self._serving is not None:
            self._serving.close()
            self._serving = None
        if self._visit is not None:
            self._visit.link.end()

    async def _join(self, way: "Way") -> None:
        """Share the limits of a run on another machine. As long as it is not there, the lane goes on by itself."""
        # imported here: it knows all of the workers, and few sessions join others
        from runner.workers.joining import NotLetInError

        waited_for = True
        while True:
            visit = self._visit = Visit(self._party)
            try:
                await way.come(visit.link, waited_for=waited_for)
            except NotLetInError as error:
                self._party.tell(f"limits are not shared for now: {error}")
                waited_for = False
                await self._by_itself(AGAIN_S)
            else:
                self._hand.begin(None)
                visit.begin()
                await self.is_over(visit)
                # who has said farewell is replaced in a moment; else the other machine may take long to answer, or never do so
                waited_for = visit.left and not visit.bye.reason
                if not waited_for:
                    self._hand.end()

    async def _find_and_share(self, seat: Seat) -> None:
        instead: Mark | None = None
        while True:
            found = await self._find(seat, instead)
            instead = None
            if found is None:
                await self._by_itself(AGAIN_S)
            elif found.serves:
                self._serving = Serving(self._party, seat, found)
                await self._serving.until_replaced()
                self.end()
                self._vain = 0
                self._hand.begin(None)
            else:
                forks.keep_from_children(found.end)
                visit = self._visit = Visit(self._party)
                await join(visit.link, found.end)
                visit.begin()
                instead = found.mark if await self.is_over(visit) else None

    async def is_over(self, visit: Visit) -> bool:
        """Wait until a visit is over. Return True if the run that serves says nothing and is to be replaced."""
        began = self._clock.monotonic()
        await visit.over()
        visit.link.end()
        lasted = self._clock.monotonic() - began
        if visit.bye.reason:
            self._party.tell(f"limits are not shared: {clean(visit.bye.reason, 300)}")
            await self._by_itself(AGAIN_S)
        elif visit.silent:
            self._party.tell("the run that shares its limits with this one says nothing: its open requests count no more")
        if visit.welcome and (visit.left or lasted > _SHORT_S):
            self._vain = 0
        elif not visit.bye.reason and not (visit.silent and isinstance(self._place, Seat)):
            # one that is silent at a socket here is replaced
            await self._again()
        await asyncio.sleep(max(0.0, _APART_S - lasted))
        self._hand.begin(None)
        return visit.silent

    async def _again(self) -> None:
        """Go on after a visit in vain. It may be chance once; after that the lane goes on by itself for a while."""
        self._vain += 1
        if self._vain > 1:
            self._party.tell("limits are not shared for now: the run that has the same endpoint, model and key lets nobody in")
            await self._by_itself(min(AGAIN_S * 2 ** min(self._vain - 2, 8), _MOST_AGAIN_S))

    async def _by_itself(self, seconds: float) -> None:
        self._hand.end()
        await asyncio.sleep(seconds)

    async def _find(self, seat: Seat, instead: Mark | None) -> Found | None:
        """Return a socket; None if there is none, which is told."""
        until = self._clock.monotonic() + WELCOME_S
        while True:
            try:
                return seat.find(instead)
            except (NoFolderError, OSError) as error:
                self._party.tell(f"limits are not shared with other runs: {error}")
                return None
            except FullError:
                if self._clock.monotonic() > until:
                    instead = seat.mark()
                    until += WELCOME_S
            except BusyError:
                if self._clock.monotonic() > until:
                    self._party.tell("limits are not shared with other runs: a lock of theirs does not become free")
                    return None
            await asyncio.sleep(_LOOK_S)
