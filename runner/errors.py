"""Everything that can go wrong, and what it means for the run.

RunnerError                     one clear sentence for a person; carries the exit code
|-- UsageError            (2)   what was asked for cannot be done: option, job file, prompt file
|-- StoreError            (4)   the store cannot be opened, read or written
|   `-- RunLockedError    (4)   another process owns the run
|-- RunStoppedError       (3)   the provider's answer makes going on pointless; the run can be resumed
`-- AttemptError                one attempt failed; never leaves the engine
    |-- TransportError          no complete HTTP exchange: refused, reset, cut
    |-- AttemptTimeoutError     one of the four clocks ran out
    |-- StreamError             the answer arrived but is not one: cut off, malformed, over a cap
    `-- ProviderError           the provider said no, by status or by an error inside a stream
"""

from typing import Literal, TypeAlias

Verdict: TypeAlias = Literal["retry", "fail", "stop"]
"""retry: this item, later. fail: this item, recorded, go on. stop: the whole run, resumable."""


class RunnerError(Exception):
    """Root of the tree. ``str()`` is one sentence for a person."""

    exit_code = 70


class UsageError(RunnerError):
    """What was asked for cannot be done as it stands."""

    exit_code = 2


class StoreError(RunnerError):
    """The store cannot be opened, read or written.

    kept: what was saved before is still there, and the same command can go on from it. stuck: a thread hangs in it, and nothing
    that waits for that thread will end.
    """

    exit_code = 4

    def __init__(self, message: str, *, kept: bool = True, stuck: bool = False) -> None:
        super().__init__(message)
        self.kept, self.stuck = kept, stuck


class RunLockedError(StoreError):
    """Another process is working on the run."""


class RunStoppedError(RunnerError):
    """The provider's answer makes going on pointless. What is finished is saved; the run can be resumed."""

    exit_code = 3

    def __init__(self, message: str, *, code: str) -> None:
        super().__init__(message)
        self.code = code


class AttemptError(RunnerError):
    """One attempt failed.

    code: stable word, stored and shown (``docs/errors.md`` lists them).
    verdict: what it means by itself; ``judge`` may raise it to a stop in the light of the run so far.
    sent: False when the request never reached the server, so that it cannot have been billed.
    """

    def __init__(self, message: str, *, code: str, verdict: Verdict = "retry", sent: bool = True) -> None:
        super().__init__(message)
        self.code = code
        self.verdict: Verdict = verdict
        self.sent = sent


class TransportError(AttemptError):
    """No complete HTTP exchange took place.

    stale: a kept-alive connection that the server had most likely closed before; a new one may be tried at once.
    """

    def __init__(self, message: str, *, code: str, verdict: Verdict = "retry", sent: bool = True, stale: bool = False) -> None:
        super().__init__(message, code=code, verdict=verdict, sent=sent)
        self.stale = stale


class AttemptTimeoutError(AttemptError):
    """One of the four clocks of an attempt ran out: connect, first_byte, silence, attempt."""

    def __init__(self, message: str, *, clock: str, sent: bool = True) -> None:
        super().__init__(message, code=f"timeout_{clock}", sent=sent)
        self.clock = clock


class StreamError(AttemptError):
    """The answer arrived, but it is cut off, malformed, or larger than the caps allow."""


class ProviderError(AttemptError):
    """The provider refused, by status or by an error event inside a 200 stream.

    status: HTTP status, or the one that an error inside a stream stands for; None when it names none.
    provider_code: the provider's own word for it.
    throttled: a rate limit, which does not use up the item's attempts.
    retry_after_s: the wait the server asked for, in seconds from now.
    """

    def __init__(
        self,
        message: str,
        *,
        code: str,
        verdict: Verdict,
        status: int | None = None,
        provider_code: str | None = None,
        throttled: bool = False,
        retry_after_s: float | None = None,
    ) -> None:
        super().__init__(message, code=code, verdict=verdict)
        self.status = status
        self.provider_code = provider_code
        self.throttled = throttled
        self.retry_after_s = retry_after_s
