"""Notices, before the first answer of a session, that no answer of a server can ever count. Pure.

One answer that lacks its finish reason is tried again. When the answers of several rows lack it and are whole
otherwise, each further one would be paid for and thrown away: the run stops.
"""

from runner.errors import StreamError

OTHER_DIALECT = 2
"""Answers in another dialect that show what a server speaks."""
MARKED = 3
"""Rows whose answers ended with an end mark, or were whole JSON, and had no finish reason."""
ENDED = 20
"""Rows whose answers just ended in good order: a gateway that cuts answers off for a while looks the same."""


class Reasonless:
    """What the answers so far have lacked. It is asked no more once an answer has come."""

    def __init__(self) -> None:
        self._dialects = 0
        self._marked: set[bytes] = set()
        self._ended: set[bytes] = set()

    def add(self, error: StreamError, body: bytes) -> None:
        """Record the error of an answer, which becomes one that stops the run. body: of the request, which tells rows apart."""
        if error.speaks is not None:
            self._dialects += 1
            if self._dialects >= OTHER_DIALECT:
                error.becomes(code="wrong_dialect", verdict="stop")
            return
        if error.marked:
            self._marked.add(body)
        elif error.orderly:
            self._ended.add(body)
        if (error.marked and len(self._marked) >= MARKED) or (error.orderly and len(self._ended) >= ENDED):
            error.reworded("this server sends no finish reason, so no answer can be told from a cut one")
            error.becomes(code="no_reason", verdict="stop")
