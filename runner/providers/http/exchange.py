"""The record of one exchange: the client and its connection fill it in, an attempt is written from it."""

from collections.abc import Iterable

from runner.interfaces import Heard
from runner.providers.http.body import Body


class HttpExchange:
    """What is known of one exchange while it runs and after it ended."""

    __slots__ = (
        "answered_s",
        "connected",
        "fresh",
        "headers",
        "heard",
        "received",
        "reused",
        "status",
        "tail_lost",
        "time_to_first_token_s",
    )

    def __init__(self, *, fresh: bool = False, heard: Heard | None = None) -> None:
        # a connection that has served before will not do
        self.fresh = fresh
        # is told when an answer begins
        self.heard = heard
        self.status: int | None = None
        self.headers: Iterable[tuple[bytes, bytes]] = ()
        self.received: Body | None = None
        self.time_to_first_token_s: float | None = None
        self.answered_s: float | None = None
        # a connection was there, so bytes may have reached the server
        self.connected = False
        # ... and it had served an earlier exchange
        self.reused = False
        # the connection broke after the finish reason: usage may be missing
        self.tail_lost = False

    def began(self) -> None:
        """Tell that the answer begins."""
        if self.heard is not None and self.status is not None:
            self.heard(self.status, self.headers)

    @property
    def bytes_received(self) -> int:
        """Bytes of the body, after decompression."""
        return self.received.received if self.received is not None else 0
