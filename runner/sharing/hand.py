"""The tickets of one lane: those that it has asked for, those in its hand, and those of its open requests.

Tickets for all rows that wait are asked for at once, so that none of them waits for a journey to the run that serves and back.
Any ticket does for any row. A ticket that no row wants goes back at once.
"""

from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import count

from runner.admission import Permit, Standing
from runner.engine.limits.headers import Kind
from runner.engine.limits.ledger import FULL
from runner.engine.limits.shared_lane import KINDS, SharedLane
from runner.frames import Batch
from runner.model import Usage
from runner.sharing.messages import (
    PROTOCOL,
    Ask,
    Asked,
    Drop,
    Ended,
    FromRun,
    Grant,
    Headers,
    Hello,
    Known,
    Out,
    Pause,
    Said,
    Taken,
    Throttled,
)  # fmt: skip
from runner.text import clean

MOST_ASKED = 512
"""Tickets that a lane asks for at once, at most."""
HEADERS_S = 0.1
"""Shortest interval, in seconds, at which headers of good answers are passed on."""
_LARGEST = 1 << 53
"""Larger sizes and numbers of tokens cannot be sent to other runs. They are larger than any limit."""
_Said = Callable[[Sequence[FromRun]], None]


class Hand:
    """What leads a lane (``Leader``). clock: monotonic seconds. failed: takes an error in what goes out later, which is lost."""

    def __init__(self, lane: SharedLane, clock: Callable[[], float], failed: Callable[[Exception], None]) -> None:
        self._lane, self._clock, self._failed = lane, clock, failed
        self._numbers = count(1)
        # None: nobody serves at the moment
        self._send: _Said | None = None
        self._batch = Batch(self._flush)
        self._said: list[FromRun] = []
        # by number: tickets that are wanted, in the order of asking; those that are here, for flex rows that fell back apart
        self._asked: dict[int, Asked] = {}
        self._sizes: dict[int, Asked] = {}
        self._here: tuple[deque[int], deque[int]] = (deque(), deque())
        # of requests that are open
        self._open: dict[int, Asked] = {}
        self._headers_at = float("-inf")
        self.known: Known | None = None

    # -- who serves

    def hello(self, identity: str, name: str) -> Hello:
        """Return the first message to whoever serves."""
        lane, known = self._lane, self.known
        pause_s, reason, asked = lane.pausing
        return Hello(
            PROTOCOL,
            identity,
            name,
            {str(kind): limit for kind, limit in lane.configured.items()},
            lane.fixed,
            lane.most,
            list(self._open.values()),
            known.learned if known is not None else lane.learned,
            lane.reports | (known.reported if known is not None else {}),
            Pause(pause_s, clean(reason), asked) if pause_s > 0 else None,
        )

    def begin(self, send: _Said | None, *, learns: bool = True) -> None:
        """Have requests wait for tickets. send: to the run that serves; None: it is still to be found."""
        self._forget()
        self._send = send
        if send is None:
            # whoever serves next says how many runs there are
            self._lane.runs = 0
        for permit in self._lane.open:
            if permit.ticket not in self._open:
                permit.ticket = number = next(self._numbers)
                self._open[number] = _asked(number, permit)
        self._lane.follow(self, learns=learns)
        self.wanted()

    def end(self) -> None:
        """Let the lane go on by itself, with what is known."""
        self._forget()
        self._send = None
        self._open.clear()
        known, self.known = self.known, None
        self._lane.go_alone(known.learned if known is not None else None, known.reported if known is not None else {})

    def _forget(self) -> None:
        self._said, self._asked, self._sizes = [], {}, {}
        for here in self._here:
            here.clear()

    def told(self, known: Known) -> None:
        """Take what is so for all runs."""
        self.known = known
        self._lane.told(known.limit, known.runs, known.pause_s, known.reason, asked=known.asked)
        self._lane.borrowed |= self.borrowed.keys()
        self.wanted()

    @property
    def borrowed(self) -> dict[Kind, tuple[float, str]]:
        """The limits that hold as users of other runs have set them, and the names of those runs."""
        if (known := self.known) is None:
            return {}
        own = self._lane.configured
        found = {kind: known.set_by[kind] for kind in KINDS if kind in known.set_by}
        # one that the server reports may be smaller
        return {k: v for k, v in found.items() if known.per_minute.get(k) == v[0] < own.get(k, float("inf"))}

    def granted(self, grant: Grant) -> None:
        """Take tickets."""
        for number in grant.numbers:
            if (asked := self._asked.pop(number, None)) is not None:
                self._sizes[number] = asked
                self._here[asked.standard].append(number)
        if (known := self.known) is not None:
            self._lane.told(grant.limit, known.runs, 0.0, "", asked=False)
        self._lane.wake()
        # once the rows have taken theirs, it is seen whether some are left
        self.wanted()

    # -- what the lane asks and tells

    @property
    def per_minute(self) -> Mapping[str, float]:
        """The limits per minute that hold for all runs together."""
        return self.known.per_minute if self.known is not None else {}

    @property
    def cause(self) -> str:
        """What requests wait for, as the ledger names it."""
        return self.known.cause if self.known is not None else FULL

    def ready(self, *, standard: bool) -> bool:
        """Return True if there is a ticket that nobody has taken."""
        return bool(self._here[standard])

    def wanted(self) -> None:
        """Look how many tickets the rows want that wait."""
        if self._send is not None:
            self._batch.due()

    def take(self, permit: Permit) -> None:
        """Give a request its ticket."""
        here = self._here[permit.standard]
        if here:
            number = here.popleft()
            asked = _asked(number, permit)
            if self._sizes.pop(number) != asked:
                self._say(Taken(asked))
        else:
            number = next(self._numbers)
            asked = _asked(number, permit)
            self._say(Out(asked))
        permit.ticket = number
        self._open[number] = asked

    def gave_back(self, permit: Permit, *, unused: bool) -> None:
        """Record that a request has ended."""
        if self._open.pop(permit.ticket, None) is not None:
            self._say(Ended(permit.ticket, unused))

    def accepted(self, permit: Permit) -> None:
        """Record that an answer has begun."""
        self._say(Said(permit.ticket, "accepted"))

    def refused(self, permit: Permit) -> None:
        """Record that the server had too many requests."""
        self._say(Said(permit.ticket, "refused"))

    def overloaded(self, permit: Permit) -> None:
        """Record a sign of overload."""
        self._say(Said(permit.ticket, "overloaded"))

    def hear(self, raw: Iterable[tuple[bytes, bytes]], *, always: bool) -> None:
        """Pass on the headers of an answer that are about limits."""
        now = self._clock()
        if not always and now < self._headers_at:
            return
        told = [(name, value) for name, value in raw if b"ratelimit" in name.lower() or name.lower() == b"date"]
        if len(told) > 1:
            self._headers_at = now + HEADERS_S
            self._say(Headers(told, always))

    def used(self, permit: Permit, usage: Usage | None, *, complete: bool) -> None:
        """Record what a request has used of the limits per minute."""
        self._say(Said(permit.ticket, "done" if complete else "used", usage))

    def uncounted(self, permit: Permit, *, requests: bool) -> None:
        """Record that a request has used no tokens."""
        self._say(Said(permit.ticket, "uncounted" if requests else "unused"))

    def throttle(self, permit: Permit, hint_s: float | None, status: int | None, words: str | None) -> None:
        """Record a rate limit."""
        # a lone surrogate could not be sent
        self._say(Throttled(permit.ticket, hint_s, status, clean(words) if words is not None else None))

    def pause(self, seconds: float, reason: str, *, asked: bool) -> None:
        """Have all runs send nothing for so long."""
        self._say(Pause(seconds, clean(reason), asked))

    # -- what goes out

    def _say(self, message: FromRun) -> None:
        if self._send is not None:
            self._said.append(message)
            self._batch.due()

    def _flush(self) -> None:
        if self._send is None:
            return
        try:
            for standard in (False, True):
                self._balance(standard=standard)
            if self._said:
                said, self._said = self._said, []
                self._send(said)
        except Exception as error:  # noqa: BLE001 - rows would wait for ever for what was asked in vain
            self._failed(error)

    def _balance(self, *, standard: bool) -> None:
        """Ask for a ticket for each row that waits, and give back those that no row wants."""
        rows, here = self._lane.wants(standard=standard)[:MOST_ASKED], self._here[standard]
        asked = [number for number, one in self._asked.items() if one.standard == standard]
        more = len(rows) - len(here) - len(asked)
        if more > 0:
            # the first rows are those for which there are tickets, or will be
            tickets = [_asked(next(self._numbers), one) for one in rows[-more:]]
            self._asked |= {one.number: one for one in tickets}
            self._said.append(Ask(tickets))
        elif more < 0:
            numbers = asked[more:] if len(asked) >= -more else asked
            for number in numbers:
                del self._asked[number]
            while here and len(here) > len(rows):
                number = here.pop()
                del self._sizes[number]
                numbers.append(number)
            self._said.append(Drop(numbers))


def _asked(number: int, of: Permit | Standing) -> Asked:
    """Return the ticket of a request, or of a row that waits."""
    return Asked(number, min(of.size, _LARGEST), None if of.most is None else min(of.most, _LARGEST), of.standard)
