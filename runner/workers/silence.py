"""For how long a worker and its driver have not heard each other, as the driver knows it."""

from runner.frames import Link
from runner.workers.protocol import Beat
from runner.workers.states import LOST_S


class Silence:
    """The silence of one worker. now: here and below, seconds of the monotonic clock.

    A way on which nothing gets to the worker may still bring its beats: it says in them for how long it has heard nothing. What
    it says of the time in which the driver itself stood still does not count. deaf_s: as it has said last.
    """

    def __init__(self, link: Link, now: float) -> None:
        self._link, self._excused_at = link, now
        self.deaf_s = 0.0

    def told(self, beat: Beat, now: float) -> None:
        """Take what a beat says."""
        self.deaf_s = min(beat.deaf_s, now - self._excused_at)

    def excuse(self, now: float) -> None:
        """Begin to count anew."""
        self._link.read_at = self._excused_at = now
        self.deaf_s = 0.0

    def seconds(self, now: float) -> float:
        """Return for how long the two have not heard each other. Also a part of a frame is heard."""
        return max(now - self._link.read_at, self.deaf_s)

    @property
    def words(self) -> str:
        """Why the worker is given up."""
        return f"{'it has heard nothing of the run' if self.deaf_s > LOST_S else 'nothing was heard of it'} for {LOST_S:g} s"
