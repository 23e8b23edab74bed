"""The record of one exchange. The client fills it in; the engine writes the attempt from it."""

from collections.abc import Callable, Iterable

from runner.interfaces import Heard
from runner.providers.http.body import Body


class HttpExchange:
    """The state of one exchange, while it runs and after it has ended."""

    __slots__ = (
        "answered_s",
        "connected",
        "fallback",
        "fresh",
        "headers",
        "heard",
        "received",
        "reused",
        "status",
        "tail_lost",
        "time_to_first_token_s",
        "too_late",
    )

    def __init__(self, *, fresh: bool = False, heard: Heard | None = None, fallback: bool = False) -> None:
        # True: use a new connection, not one that is kept
        self.fresh = fresh
        # called when an answer begins
        self.heard = heard
        # True: its row fell back from flex to the standard tier
        self.fallback = fallback
        # asked once, when nothing is left but to send: returns True if that must not be done any more
        self.too_late: Callable[[], bool] | None = None
        self.status: int | None = None
        self.headers: Iterable[tuple[bytes, bytes]] = ()
        self.received: Body | None = None
        self.time_to_first_token_s: float | None = None
        self.answered_s: float | None = None
        # there was a connection, so the request may have reached the server
        self.connected = False
        # the connection had carried an exchange before
        self.reused = False
        # the end of the stream was lost after the finish reason: usage may be missing
        self.tail_lost = False

    def began(self) -> None:
        """Call ``heard``: the answer begins."""
        if self.heard is not None and self.status is not None:
            self.heard(self.status, self.headers)

    @property
    def bytes_received(self) -> int:
        """Bytes of the body, after decompression."""
        return self.received.received if self.received is not None else 0
