"""How many prompts one client may ask: in a time, and at once."""

import math
import time
from collections import OrderedDict, deque
from collections.abc import Callable

REQUESTS = 60
"""Prompts that a client may ask in ``WINDOW_S``."""
WINDOW_S = 60.0
OPEN = 8
"""Streams that a client may have open."""
OPEN_IN_ALL = 64
"""Streams that may be open, of all clients."""
_MOST_CLIENTS = 1_000
"""Clients that are remembered: the one that has not asked for longest is forgotten first."""


class Window:
    """A sliding window: of each client, the times at which it asked."""

    def __init__(self, requests: int = REQUESTS, window_s: float = WINDOW_S, clock: Callable[[], float] = time.monotonic) -> None:
        self._requests, self._window_s, self._clock = requests, window_s, clock
        self._asked: OrderedDict[str, deque[float]] = OrderedDict()

    def ask(self, client: str) -> int:
        """Count a prompt of a client. Return 0, or the seconds until it may ask: then nothing was counted."""
        now = self._clock()
        asked = self._asked.setdefault(client, deque())
        self._asked.move_to_end(client)
        while asked and asked[0] <= now - self._window_s:
            asked.popleft()
        if len(asked) >= self._requests:
            return max(1, math.ceil(asked[0] + self._window_s - now))
        asked.append(now)
        while len(self._asked) > _MOST_CLIENTS:
            self._asked.popitem(last=False)
        return 0
