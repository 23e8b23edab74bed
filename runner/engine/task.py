"""An item while it is being processed: what its attempts share, and how one of them failed."""

from msgspec import Struct

from runner.admission import Failure, Standing
from runner.errors import AttemptError, StreamError
from runner.interfaces import Decoder, Lane
from runner.model import Attempt, Completion, HttpCall, Item


class Task(Struct):
    """An item while it is being processed."""

    item: Item
    call: HttpCall
    lane: Lane
    standing: Standing
    # the state of the provider in which ``call`` was encoded
    revision: int
    # the complete answer of the last attempt, whatever it counts as
    answer: Completion | None = None
    # the next attempt must use a new connection, because the last one was stale
    fresh: bool = False
    # the decoder of the current attempt, if someone listens
    heard: Decoder | None = None


def failure_of(attempt: Attempt, error: AttemptError, now: float) -> Failure:
    """Return the record of a failure that counts. now: when it came, by the engine's clock."""
    # such a fault is made by the server, so it looks the same each time if the request causes it
    fixed = (isinstance(error, StreamError) and not error.kept) or error.code == "bad_http"
    looks = (error.code, attempt.bytes_received) if fixed else None
    return Failure(began=now - attempt.duration_s, ended=now, looks=looks)
