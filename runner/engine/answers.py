"""What an answer or an error amounts to, in the light of what the session knows."""

from typing import Protocol, TypeVar

from msgspec import structs

from runner.engine.outcomes import conceal
from runner.errors import AttemptError
from runner.interfaces import Decoder, Exchange, Provider
from runner.media import Attachments
from runner.model import Completion, HttpCall, Request
from runner.text import Redactor

X = TypeVar("X", bound=AttemptError)


class InformedProvider(Provider, Protocol):
    """A provider that knows the user's wishes, and what the session has learned about the endpoint."""

    @property
    def revision(self) -> int:
        """Grows when requests are encoded in another way than before."""
        ...

    @property
    def attachments(self) -> Attachments[Request] | None:
        """The files that rows name; None if no row can name one."""
        ...

    def judged(self, completion: Completion) -> Completion | AttemptError:
        """Return a complete answer as it counts, with notes, or the error that its finish reason amounts to."""
        ...

    def explained(self, error: AttemptError, request: Request, call: HttpCall) -> AttemptError:
        """Return the error of an attempt with what is known about its cause. call: what was sent for the request."""
        ...

    def plain(self, body: bytes) -> Completion | None:
        """Return a whole answer exactly as a decoder would, but sooner; None: it needs a decoder."""
        ...

    def answered_unseeded(self, request: Request) -> None:
        """Learn that a request was refused with its made-up seed, for no reason that names it, and answered without it."""
        ...


def judged(
    provider: InformedProvider, decoder: Decoder, exchange: Exchange, redactor: Redactor
) -> tuple[Completion | AttemptError, Completion]:
    """Return the completion or the error that a complete answer counts as, and the answer itself."""
    answer = conceal(decoder.completion(), redactor)
    if exchange.tail_lost:
        answer = structs.replace(answer, notes=(*answer.notes, "tail_lost"))
    return provider.judged(answer), answer


def without_frames(error: X) -> X:
    """Drop the traceback of an error: its frames keep all bytes read alive, and one frame refers back to the error."""
    error.__cause__ = error.__context__ = None
    return error.with_traceback(None)
