"""A run with many watchers in its own process: ``python -m benchmarks.hosted WATCHERS`` and the arguments of ``runner``.

Each gets all frames, and makes of each the bytes that would go to a socket. They take the place of a server with as many guests.
"""

import sys
from typing import Any

from runner.__main__ import main
from runner.control.messages import Feed, encode
from runner.session.feed import SessionFeed


def hosted(number: int) -> None:
    """Have so many watchers in each session of this process, from its first event on."""
    before = SessionFeed.tell

    def put(frame: Feed) -> bool:
        return bool(encode(frame))

    def tell(self: SessionFeed, event: Any) -> None:
        SessionFeed.tell = before  # type: ignore[method-assign]
        for _ in range(number):
            self.subscribe(None, True, put)
        before(self, event)

    SessionFeed.tell = tell  # type: ignore[method-assign]


if __name__ == "__main__":
    hosted(int(sys.argv.pop(1)))
    main()
