"""A server that leaves some of its requests open, in a folder with prompts and a store."""

from pathlib import Path

from bought import Desk
from raw_server import HANG, STREAM, Received, Reply, chunk, delta


class Half(Desk):
    """Each second request hangs while it is to. first: none hangs before so many have been answered, and then all do."""

    def __init__(self, folder: Path, first: int | None = None) -> None:
        super().__init__(folder)
        self.sent, self.hanging, self.hangs, self.first = 0, list[Received](), True, first

    def __call__(self, request: Received) -> Reply:
        self.sent += 1
        if self.hangs and (self.sent % 2 == 0 if self.first is None else self.sent > self.first):
            self.hanging.append(request)
            return Reply((STREAM, chunk(delta("word")), HANG))
        return super().__call__(request)
