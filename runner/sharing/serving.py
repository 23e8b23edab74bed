"""The run that serves: it listens at the socket, lets others in, and has an office as long as there are any."""

import asyncio
from collections.abc import Sequence
from contextlib import suppress

from msgspec import structs

from runner.frames import Link, join
from runner.sharing import forks
from runner.sharing.folder import NoFolderError
from runner.sharing.messages import (
    MOST_BYTES,
    Bye,
    FromRun,
    Grant,
    Known,
    StrangerError,
    ToRun,
    decode_from_run,
    encode,
    greeting,
)  # fmt: skip
from runner.sharing.office import Guest, Office
from runner.sharing.party import Party
from runner.sharing.seat import BusyError, Found, FullError, Seat, is_own
from runner.sharing.times import BEAT_S, SILENT_S, WELCOME_S, Beats
from runner.text import clean

_FULL_S = 0.2
"""Seconds to wait where no file can be opened any more."""


class Serving:
    """Serves the runs of one identity. found: the socket."""

    def __init__(self, party: Party, seat: Seat, found: Found) -> None:
        self._party, self._seat, self._hand, self._clock = party, seat, party.hand, party.clock
        self._listening, self._mark = found.end, found.mark
        self._office: Office | None = None
        self._own: Guest | None = None
        self._links: set[Link] = set()
        # those of them that have not said who they are
        self._strangers: dict[Link, asyncio.Task[None]] = {}

    async def until_replaced(self) -> None:
        """Serve until another run does."""
        known = self._hand.known
        # of those that shared their limits, this run and the one that has served before do not come
        expected = max(0, known.runs - 2) if known is not None else 0
        if known is not None and expected:
            self._open(known, expected)
        else:
            self._hand.end()
        self._listen()
        beats = Beats(self._clock.monotonic())
        while True:
            await asyncio.sleep(BEAT_S)
            now = self._clock.monotonic()
            late = beats.late(now)
            if self._replaced():
                return
            if (office := self._office) is not None:
                for guest in office.guests:
                    if late or guest is self._own:
                        guest.heard_at = now
                office.expire(now - SILENT_S)
                office.broadcast()
                self._look_who_is_left()

    def changed(self) -> None:
        """Have the limits hold that the user of this run has set by now."""
        if self._office is not None and self._own is not None:
            self._own.hello = self._hand.hello(self._party.identity, self._party.name)
            self._office.bounds()
            self._office.broadcast()

    def close(self) -> None:
        """Serve no longer. The others look for another run, which gets what is known."""
        self._seat.leave(self._mark)
        if self._office is not None:
            self._office.broadcast()
            self._hand.known = self._office.known()
            self._office.close()
            # what it has just told the own lane comes too late
            self._office = None
        self._deaf()
        for link in list(self._links):
            link.lost = lambda _: None
            link.send(encode([Bye()]))
            link.end()

    def _replaced(self) -> bool:
        """Return True if another run serves. If the socket was deleted, make another one."""
        mark = self._seat.mark()
        if mark is not None:
            return mark != self._mark
        with suppress(OSError, NoFolderError, BusyError, FullError):
            found = self._seat.find()
            if not found.serves:
                found.end.close()
                return True
            self._deaf()
            self._listening, self._mark = found.end, found.mark
            self._listen()
        return False

    # -- who comes and goes

    def _listen(self) -> None:
        if self._listening.fileno() >= 0:
            asyncio.get_running_loop().add_reader(self._listening.fileno(), self._knock)

    def _deaf(self) -> None:
        """Take nobody in any more at this socket."""
        if self._listening.fileno() >= 0:
            asyncio.get_running_loop().remove_reader(self._listening.fileno())
            self._listening.close()

    def _knock(self) -> None:
        """Take in who has come."""
        loop = asyncio.get_running_loop()
        try:
            end, _ = self._listening.accept()
        except BlockingIOError:
            return
        except OSError:
            # no more files, or the other side has gone already
            loop.remove_reader(self._listening.fileno())
            loop.call_later(_FULL_S, self._listen)
            return
        if not is_own(end):
            end.close()
            return
        forks.keep_from_children(end)
        link = Link(lambda _: None, lambda _: None, most=MOST_BYTES)
        link.take = lambda frame: self._let_in(link, frame)
        link.lost = lambda _: self._forget(link)
        self._links.add(link)
        self._strangers[link] = loop.create_task(join(link, end))
        loop.call_later(WELCOME_S, self._has_come, link)

    def _has_come(self, link: Link) -> None:
        """Cut off somebody who has said nothing."""
        if link in self._strangers:
            link.abort()

    def _forget(self, link: Link) -> None:
        self._links.discard(link)
        self._strangers.pop(link, None)

    def _let_in(self, link: Link, frame: bytes) -> None:
        try:
            hello, said = greeting(frame, self._party.identity)
        except StrangerError as error:
            # without a word it would come again at once
            link.send(encode([Bye(str(error))]))
            link.end()
            return
        self._strangers.pop(link, None)
        hello = structs.replace(hello, name=clean(hello.name, 100))
        office = self._office or self._open(None, 0)
        guest = Guest(hello, lambda told: self._send(link, told), link.abort, self._clock.monotonic())
        link.take = lambda frame: office.take(guest, decode_from_run(frame))
        link.lost = lambda _: self._left(link, guest)
        office.enter(guest)
        self._party.shares_with(hello.name)
        office.take(guest, said)

    def _send(self, link: Link, told: Sequence[ToRun]) -> None:
        """Tell a run something. An error, as of what cannot be sent, concerns this run alone: it would wait for ever."""
        try:
            link.send(encode(told))
        except Exception as error:  # noqa: BLE001 - the event loop calls this, and would go on as if nothing had happened
            self._party.tell(f"limits are no longer shared with another run: {type(error).__name__}: {clean(str(error), 200)}")
            link.abort()

    def _left(self, link: Link, guest: Guest) -> None:
        self._forget(link)
        if self._office is not None:
            self._office.leave(guest)
            self._look_who_is_left()

    def _look_who_is_left(self) -> None:
        office = self._office
        if office is not None and office.settled and all(guest is self._own for guest in office.guests):
            # nobody is left but this run, whose lane goes on by itself
            self._hand.known = office.known()
            office.close()
            self._office = self._own = None
            self._hand.end()

    # -- the own lane

    def _open(self, known: Known | None, expected: int) -> Office:
        """Begin to give tickets out, also to the own lane."""
        party, loop = self._party, asyncio.get_running_loop()
        office = self._office = Office(party.lane.own_rates, self._clock, party.name, party.tell, known, expected)
        self._hand.begin(lambda said: self._say(office, said), learns=False)

        def send(told: Sequence[ToRun]) -> None:
            loop.call_soon(self._hear, office, told)

        hello = self._hand.hello(party.identity, party.name)
        own = self._own = Guest(hello, send, self._hand.end, self._clock.monotonic())
        office.enter(own, begins=known is None)
        return office

    def _say(self, office: Office, said: Sequence[FromRun]) -> None:
        if self._own is not None and office is self._office:
            office.take(self._own, said)

    def _hear(self, office: Office, told: Sequence[ToRun]) -> None:
        try:
            if office is self._office:
                take(self._party, told, note=False)
        except Exception as error:  # noqa: BLE001 - the event loop calls this, and would go on as if nothing had happened
            self._party.failed(error)


def take(party: Party, told: Sequence[ToRun], *, note: bool = True) -> Bye | None:
    """Take what the run that serves says. note: its sentences too. Return its last word, if it is among that."""
    for message in told:
        match message:
            case Grant():
                party.hand.granted(message)
            case Known():
                party.hand.told(message)
                party.tell_of_limits()
            case Bye():
                return message
            case _:
                if note:
                    party.tell(clean(message.sentence, 300))
    return None
