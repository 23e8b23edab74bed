"""The last frames of a feed, with their numbers, so that a watcher who comes back can go on behind what it has seen."""

from collections import deque

from runner.control.messages import Feed

MOST_FRAMES = 2_000
"""Frames that are kept."""
MOST_BYTES = 8 << 20
"""Bytes of JSON that are kept."""


class Ring:
    """Numbers frames from 1, and keeps the last ones. newest: number of the last one; 0: there was none."""

    def __init__(self, most_frames: int = MOST_FRAMES, most_bytes: int = MOST_BYTES) -> None:
        self._most_frames, self._most_bytes = most_frames, most_bytes
        self._frames: deque[Feed] = deque()
        self._bytes = 0
        self.newest = 0
        # frames with lower numbers cannot be gone on behind: what came after them is not kept
        self._first = 1
        # the same for those who want texts
        self._first_texts = 1

    def __len__(self) -> int:
        return len(self._frames)

    @property
    def size(self) -> int:
        """Bytes of JSON that are kept."""
        return self._bytes

    def add(self, kind: str, data: bytes) -> Feed:
        """Return the next frame, which is kept."""
        self.newest += 1
        frame = Feed(number=self.newest, kind=kind, data=data)
        self._frames.append(frame)
        self._bytes += len(data)
        while len(self._frames) > self._most_frames or self._bytes > self._most_bytes:
            dropped = self._frames.popleft()
            self._bytes -= len(dropped.data)
            self._first = dropped.number
        return frame

    def restart(self) -> None:
        """Forget all frames. Nobody can go on behind one that came before."""
        self._frames.clear()
        self._bytes = 0
        # one number is left out, so that the state from now on differs from that behind the last frame
        self.newest += 1
        self._first = self._first_texts = self.newest

    def without_texts(self) -> None:
        """Record that there were no texts until now: who wants them cannot go on behind an earlier frame."""
        self.newest += 1
        self._first_texts = self.newest

    def since(self, after: int, *, texts: bool) -> list[Feed] | None:
        """Return the frames behind one; None if they are not all there. texts: those with texts too."""
        first = max(self._first, self._first_texts) if texts else self._first
        if not first <= after <= self.newest:
            return None
        if after == self.newest:
            return []
        # numbers may be left out, so the place is looked for, from the end
        found: list[Feed] = []
        for frame in reversed(self._frames):
            if frame.number <= after:
                break
            if texts or frame.kind != "text":
                found.append(frame)
        return found[::-1]
