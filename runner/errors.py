"""Every error and what it means for the run.

RunnerError                     one clear sentence for a person; carries the exit code
|-- UsageError            (2)   the request cannot be carried out: option, job file, prompt file
|   `-- NotReadyError     (2)   nothing is wrong, but the model or the API key is still missing
|-- StoreError            (4)   the store cannot be opened, read or written
|   `-- RunLockedError    (4)   another process owns the run
|-- NotRunningError       (6)   no session works on the run, or none that can be reached
|-- RunStoppedError       (3)   an error makes further requests pointless; the run can be resumed. (5) its budget is reached
`-- AttemptError                one attempt failed; never leaves the engine
    |-- TransportError          no complete HTTP exchange: refused, reset, cut
    |-- AttemptTimeoutError     one of the four timeouts expired
    |-- StreamError             the answer is unusable: cut off, malformed, over a cap
    |   |-- FinishError         the answer arrived, but its finish reason does not count as success
    |   |-- InvalidAnswerError  the answer arrived, but does not fit the schema
    |   `-- UnwantedTextError   the answer has text for which it is to be ended
    |-- AttachmentError         a file of the row cannot be sent; nothing was
    `-- ProviderError           the provider refused, by status or by an error inside a stream
"""

import re
from collections.abc import Callable
from typing import Any, Literal, NamedTuple, TypeAlias

from runner.remedies import ADVICE, ROW_WITHOUT_MODEL

Verdict: TypeAlias = Literal["retry", "fail", "stop"]
"""retry: send this item again later. fail: record the failure and continue with other items. stop: stop the whole run."""

BAD_ROW = "bad_row"
"""Error code of a row from which no request can be made."""

ATTACHMENT = "attachment"
"""Error code of a row with a file that cannot be sent."""

INVALID_OUTPUT = "invalid_output"
STOPPED_BY_RULE = "stopped_by_rule"
"""Error code of an answer that does not fit the schema."""


class RunnerError(Exception):
    """Root of the tree. ``str()`` is one sentence for a person. Every error can be pickled, with its attributes."""

    exit_code = 70
    # True for an error that is in what a command has printed as JSON
    is_told = False

    def __reduce__(self) -> tuple[Any, ...]:
        # by default, the class would be called with the message alone
        return _rebuilt, (type(self), self.args, self.__dict__)


def _rebuilt(kind: type[RunnerError], words: tuple[Any, ...], attributes: dict[str, Any]) -> RunnerError:
    """Return an error as it was when it was pickled."""
    error = kind.__new__(kind, *words)
    error.__dict__.update(attributes)
    return error


class UsageError(RunnerError):
    """The request cannot be carried out: an option, the job file or the prompt file has to be changed."""

    exit_code = 2


class NotReadyError(UsageError):
    """Nothing that was given is wrong, but the model or the API key is still missing."""


class StoreError(RunnerError):
    """The store cannot be opened, read or written.

    kept: what was saved before is still there, and the same command can continue from it. stuck: a thread hangs in the store, so
    waiting for that thread would never end.
    """

    exit_code = 4

    def __init__(self, message: str, *, kept: bool = True, stuck: bool = False) -> None:
        super().__init__(message)
        self.kept, self.stuck = kept, stuck


class RunLockedError(StoreError):
    """Another process is working on this run."""


class NotRunningError(RunnerError):
    """No session works on a run that was to be watched or steered, or none that can be reached."""

    exit_code = 6


class RunStoppedError(RunnerError):
    """An error makes further requests pointless. Finished rows are saved; the run can be resumed."""

    exit_code = 3

    def __init__(self, message: str, *, code: str) -> None:
        super().__init__(message)
        self.code, self.exit_code = code, 5 if code == "budget" else self.exit_code


class AttemptError(RunnerError):
    """One attempt failed.

    code: stable word, stored and shown (``docs/reference/errors.md`` lists all codes).
    verdict: what this error means on its own; ``judge`` may turn it into a stop, depending on the run so far.
    sent: False if the request never reached the server, so that it cannot have been billed.
    kept: the answer is complete, and only what the user asks for (finish, schema) makes a failure of it; if the row fails, its
    text is kept. early: it was ended before it was complete, so its usage is not known.
    mended: what caused it is out of the way, such as a refused parameter, which is left out from now on: the item is sent again
    at once, and the attempt counts against nothing. booked: called with the key and the number of such an attempt.
    misplaced: base_url leads to nothing. address: the base_url to use, where it is certain and a command may spell it.
    """

    kept = False
    early = False
    mended = False
    booked: Callable[[str, int], None] | None = None
    misplaced = False
    address: str | None = None

    def __init__(self, message: str, *, code: str, verdict: Verdict = "retry", sent: bool = True) -> None:
        super().__init__(message)
        self.code = code
        self.verdict: Verdict = verdict
        self.sent = sent

    def becomes(self, *, code: str, verdict: Verdict) -> None:
        """Take another code and verdict, because more is known than its own words say."""
        self.code, self.verdict = code, verdict

    def reworded(self, message: str) -> None:
        """Take another message."""
        self.args = (message,)


class TransportError(AttemptError):
    """No complete HTTP exchange took place.

    stale: the request used a kept-alive connection that the server had most likely closed; retry at once on a new one.
    """

    def __init__(self, message: str, *, code: str, verdict: Verdict = "retry", sent: bool = True, stale: bool = False) -> None:
        super().__init__(message, code=code, verdict=verdict, sent=sent)
        self.stale = stale


class AttemptTimeoutError(AttemptError):
    """One of the four timeouts of an attempt expired: connect, first_byte, silence, attempt."""

    def __init__(self, message: str, *, timeout: str, sent: bool = True) -> None:
        super().__init__(message, code=f"timeout_{timeout}", sent=sent)
        self.timeout = timeout


class StreamError(AttemptError):
    """The answer arrived, but it is cut off, malformed, or larger than the caps allow.

    orderly: its end has come as it should, and only the finish reason is missing. marked: its end mark or whole JSON says so.
    speaks: the provider whose dialect it is in, if that is another one.
    """

    def __init__(
        self,
        message: str,
        *,
        code: str,
        verdict: Verdict = "retry",
        orderly: bool = False,
        marked: bool = False,
        speaks: str | None = None,
    ) -> None:
        super().__init__(message, code=code, verdict=verdict)
        self.orderly, self.marked, self.speaks = orderly, marked, speaks


class FinishError(StreamError):
    """The answer arrived, but its finish reason does not count as success. kept: because the user says so."""

    def __init__(self, message: str, *, code: str, verdict: Verdict = "retry", kept: bool = False) -> None:
        super().__init__(message, code=code, verdict=verdict)
        self.kept = kept


class InvalidAnswerError(StreamError):
    """The answer is complete, and does not fit the schema of the job. If the row fails, its text is kept.

    text: the answer, to be shown to the model. mendable: it may be asked to answer again. early: it was ended before its end,
    because it could no longer fit.
    """

    kept = True

    def __init__(self, message: str, *, text: str, mendable: bool = True, early: bool = False) -> None:
        super().__init__(message, code=INVALID_OUTPUT, verdict="fail")
        self.text, self.mendable, self.early = text, mendable, early


class UnwantedTextError(StreamError):
    """The answer has text that the setting stop_when finds. The row fails, and keeps its text. early: it was ended then."""

    kept = True

    def __init__(self, message: str, *, text: str, early: bool) -> None:
        super().__init__(message, code=STOPPED_BY_RULE, verdict="fail")
        self.text, self.early = text, early


class AttachmentError(AttemptError):
    """A file that a row names cannot be sent: it is missing, too large, or of a kind that the provider does not take."""

    def __init__(self, message: str) -> None:
        super().__init__(message, code=ATTACHMENT, verdict="fail", sent=False)


class ProviderError(AttemptError):
    """The provider refused, by status or by an error event inside a 200 stream.

    status: HTTP status, or the status that an error inside a stream corresponds to; None if there is none.
    provider_code: the provider's own code for the error. param: the parameter of the request that it names.
    throttled: True for a rate limit or a lack of capacity, which do not use up the item's attempts.
    retry_after_s: the wait the server asked for, in seconds from now.
    words: the words that alone say what it means, from the middle of its message: they may be the row's.
    """

    words = ""

    def __init__(
        self,
        message: str,
        *,
        code: str,
        verdict: Verdict,
        status: int | None = None,
        provider_code: str | None = None,
        param: str | None = None,
        throttled: bool = False,
        retry_after_s: float | None = None,
    ) -> None:
        super().__init__(message, code=code, verdict=verdict)
        self.status = status
        self.provider_code = provider_code
        self.param = param
        self.throttled = throttled
        self.retry_after_s = retry_after_s


_FINISH = "The setting finish counts this as a failure; change that, or what makes the answers so, then run `runner retry`."
_OTHER = "Run `runner retry`; if the error comes again, look up the provider's message."


def advice(code: str, *, failed: bool = False) -> str:
    """Return what a person can do about an error code. failed: of rows that failed, while the run went on."""
    if failed and code == "not_found":
        return ROW_WITHOUT_MODEL
    return ADVICE.get(code, _FINISH if code.startswith("finish_") else _OTHER)


MODEL_STAYS = (
    "The run has answers, so it keeps its model: `runner resume` goes on once the server has that model, and "
    "`runner resume --base-url URL` goes on at another server."
)
"""What a person can do if the model of a run is gone after an answer. Another model would need a new run."""
UNKNOWN = "URL"
"""Stands for the address to use where nobody knows it, or no command may spell it."""
# as the store has it, or with the number of the run and its store
_ADDRESS = re.compile(r"Correct base_url: `runner resume(?: \d+)? --base-url (\S+)(?: --db [^`]*)?`\.$")
_LINE = re.compile(r"on line (\d+), then run `runner resume(?: \d+)?(?: --db [^`]*)?`\.$")


class Remedy(NamedTuple):
    """What a stop reason advises. address: as a shell reads it, or ``UNKNOWN``. line: of the row whose own model is missing."""

    address: str | None = None
    line: int | None = None


def to_address(address: str = UNKNOWN) -> str:
    """Return the advice to use another base_url. address: as a shell reads it."""
    return f"Correct base_url: `runner resume --base-url {address}`."


def to_row(line: int) -> str:
    """Return the advice to correct the model that a row names itself. The message before it names the model."""
    return f"Correct that on line {line}, then run `runner resume`."


def remedy(reason: str | None) -> Remedy:
    """Find the remedy in a stop reason, as it is stored or told.

    Only its end is looked at: that is runner's own, and anything before it may be the words of a server or of a row.
    """
    address, line = _ADDRESS.search(reason or ""), _LINE.search(reason or "")
    return Remedy(address[1] if address else None, int(line[1]) if line else None)
