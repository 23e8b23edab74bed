"""``python -m benchmarks.feed_day``: 24 hours of a feed in a minute of CPU, with watchers that come, go and hang.

Its memory is to be flat.

Each turn, which takes a tenth of a second in a session, an answer comes in two pieces, is saved, and something is noted.
"""

import asyncio
import resource
import sys
from collections.abc import Callable

from benchmarks.process import say
from runner.control.messages import Feed, encode
from runner.engine.open_attempts import OpenAttempts
from runner.event_types import Noted, Progress, Saved
from runner.model import Attempt, Completion, Item, Outcome, Request, ServerSentEvent
from runner.pace import Pace
from runner.providers.chat_completions import OpenAIDecoder
from runner.session.feed import TICK_S, SessionFeed
from runner.session.stats import SessionStats
from runner.text import Redactor

DAY_S, RECONNECTS, WATCHERS = 24 * 3600, 50, 3
GROWTH = 0.05
"""By how much the memory may grow from the first tenth of the day to its end."""
_PIECE = ServerSentEvent(
    "", b'{"id": "c-1", "model": "m-1", "choices": [{"index": 0, "delta": {"content": "a piece of an answer "}}]}'
)


def _put(frame: Feed) -> bool:
    return bool(encode(frame))


class Day:
    """A feed that is told all that happens in a session of one slot."""

    def __init__(self) -> None:
        self.feed, self._open = SessionFeed(), OpenAttempts()
        self.feed.follow(self._open, Redactor(["secret-1234567890"]), SessionStats(), lambda: None)

    def pass_(self, number: int) -> None:
        """Let a turn pass."""
        key, decoder = f"row-{number}", OpenAIDecoder()
        item = Item(key=key, position=number, request=Request(model="m", messages=()), metadata={}, fingerprint=0)
        attempt = Attempt(key=key, number=1, started_at=0.0, duration_s=1.0, model="m")
        self._open.begin(item, attempt, decoder)
        decoder.feed_all([_PIECE])
        self.feed.turn()
        decoder.feed_all([_PIECE])
        self._open.end(key, attempt, Completion(text="a piece of an answer " * 2, finish_reason="stop"))
        done = Outcome(key=key, position=number, status="done", metadata={}, fingerprint=0, attempt=attempt, attempts=1)
        self.feed.tell(Saved(outcomes=(done,)))
        self.feed.tell(Noted(note=f"note {number}"))
        pace = Pace(at=0.0, lanes=())
        self.feed.tell(
            Progress(rows=9, restored=0, done=number, failed=0, in_flight=1, output_tokens=5, elapsed_s=number / 10, pace=pace)
        )
        self.feed.turn()


async def _pass_day() -> list[tuple[float, float]]:
    """Return memory in MB at each tenth of the day, with the frames that were made by then."""
    day, turns = Day(), round(DAY_S / TICK_S)
    sizes: list[tuple[float, float]] = []
    leaves: list[Callable[[], None]] = []
    for number in range(turns):
        if number % (turns // RECONNECTS) == 0:
            for leave in leaves:
                leave()
            leaves = [day.feed.subscribe(day.feed.newest or None, True, _put) for _ in range(WATCHERS)]
            leaves.append(day.feed.subscribe(None, True, lambda _: False))
        day.pass_(number)
        if number % (turns // 10) == turns // 10 - 1:
            sizes.append((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024, day.feed.newest))
            say(f"{number * TICK_S / 3600:.1f} h: {sizes[-1][0]:.1f} MB, {sizes[-1][1]:,.0f} frames")
        if number % 100 == 0:
            await asyncio.sleep(0)
    day.feed.close()
    return sizes


def main() -> int:
    """Measure, print, and return 1 if the memory has grown."""
    sizes = asyncio.run(_pass_day())
    grown = sizes[-1][0] / sizes[0][0] - 1
    first, last = sizes[0][0], sizes[-1][0]
    print(f"24 hours, {sizes[-1][1]:,.0f} frames, {RECONNECTS} reconnects: {first:.1f} MB after 2.4 h, {last:.1f} MB at the end")
    return int(grown > GROWTH)


if __name__ == "__main__":
    sys.exit(main())
