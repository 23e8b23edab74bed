"""The endpoint that a killed run talks to, and the judge's book of it. It shares no code with ``runner``."""

import functools
import random
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from typing import NamedTuple

from processes import get, until
from raw_server import DONE, HANG, RST, USAGE, RawServer, Received, Reply, Step, delta, finish, in_thread, sse, stream, whole

FAULTS = {"429": 3, "429 for a second": 1, "500": 3, "503": 3, "truncated": 3, "cut": 3, "closed": 3, "malformed": 2, "stall": 1}
"""By how often each comes; those that hold a whole run up are rare."""
LIKELY = (0.3, 0.2)
"""How likely a fault is at a row's first request, and its second; no row meets as many as it has attempts."""
GOOD = "answer"
_PARTIAL = "a partial text, in no answer"
_SETTLED = "/settled"


def prompt_of(number: int) -> str:
    """Give the prompt of a row."""
    return f"Tell me about the number {number}."


@functools.cache
def text_of(number: int) -> str:
    """Give the answer to a row: its own, and now and then so long that it fills pages of the store's log."""
    words = 6000 if number % 5 == 0 else number % 40
    return f"<{number}> Grüezi 🙂 " + " ".join(str(number * one) for one in range(words))


class Entry(NamedTuple):
    """One request in the journal, and what it was to get."""

    row: int
    play: str
    request: Received

    @property
    def complete(self) -> bool:
        """A whole answer was sent."""
        return self.play == GOOD and self.request.played

    def fault_by(self, moment: float) -> bool:
        """Tell whether it got its fault, by this moment."""
        return self.play != GOOD and self.request.over is not None and self.request.over <= moment

    @property
    def waits(self) -> bool:
        """Something is still to come of it."""
        return self.request.over is None and self.play != "stall"


class Endpoint:
    """Answers each row with its text, sometimes after a fault or two, and keeps a journal of all of it.

    pace: how many times slower than usual it answers.
    """

    def __init__(self, seed: str) -> None:
        self._seed = seed
        self._asked: Counter[int] = Counter()
        self._server = RawServer(self._reply)
        self.journal: list[Entry] = []
        self.pace = 1.0

    @property
    def base_url(self) -> str:
        return self._server.base_url

    def settle(self) -> None:
        """Wait until all that a dead client has sent is in the journal, and its connections are gone."""
        # connections are taken in the order in which they came: behind this one there is nothing left of the dead
        get(f"{self._server.origin}{_SETTLED}")
        until(lambda: self._server.open == 0, "the connections of a dead client to close")

    def _reply(self, request: Received) -> Reply:
        if request.path == _SETTLED:
            return whole("200 OK", {})
        number = int(request.json["messages"][0]["content"].split()[-1].rstrip("."))
        self._asked[number] += 1
        draw = random.Random(f"{self._seed} {number} {self._asked[number]}")
        likely = dict(enumerate(LIKELY, 1)).get(self._asked[number], 0.0)
        play = draw.choices([*FAULTS], [*FAULTS.values()])[0] if draw.random() < likely else GOOD
        if play == "closed" and request.turn > 1:
            # on a kept connection it would be replaced without a word, and be on nobody's books
            play = "cut"
        self.journal.append(Entry(number, play, request))
        return self._played(play, number, draw)

    def _played(self, play: str, number: int, draw: random.Random) -> Reply:
        first = self.pace * draw.uniform(0.005, 0.06)
        begun: tuple[Step, ...] = (first, delta(_PARTIAL), self.pace * draw.uniform(0, 0.03))
        match play:
            case "429":
                return _refused("429 Too Many Requests", "rate_limit_error", retry_after_ms=str(draw.randrange(20, 120)))
            case "429 for a second":
                return _refused("429 Too Many Requests", "rate_limit_error", retry_after="1")
            case "500":
                return _refused("500 Internal Server Error", "server_error")
            case "503":
                return _refused("503 Service Unavailable", "server_error")
            case "truncated":
                return stream(*begun)
            case "cut":
                return stream(*begun, end=(RST,))
            case "closed":
                return Reply((first, RST))
            case "malformed":
                return stream(*begun, sse(b'{"choices": [{"del'))
            case "stall":
                return stream(*begun, end=(HANG,))
        return stream(first, *self._events(text_of(number), draw))

    def _events(self, text: str, draw: random.Random) -> Iterator[Step]:
        at = sorted(draw.randrange(len(text) + 1) for _ in range(3))
        for start, end in zip([0, *at], [*at, len(text)], strict=True):
            yield delta(text[start:end])
            yield self.pace * draw.uniform(0, 0.02)
        yield from (finish(), USAGE, DONE)


def _refused(status: str, kind: str, **headers: str) -> Reply:
    return whole(status, {"error": {"type": kind, "message": "not now"}}, **headers)


@contextmanager
def serving(seed: str) -> Iterator[Endpoint]:
    """Serve on loopback, from a thread, until the block is left."""
    endpoint = Endpoint(seed)
    with in_thread(endpoint._server):
        yield endpoint
