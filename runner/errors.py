"""Everything that can go wrong, and what it means for the run.

RunnerError                     one clear sentence for a person; carries the exit code
|-- UsageError            (2)   what was asked for cannot be done: option, job file, prompt file
|-- StoreError            (4)   the store cannot be opened, read or written
|   `-- RunLockedError    (4)   another process owns the run
|-- RunStoppedError       (3)   the provider's answer makes going on pointless; the run can be resumed
`-- AttemptError                one attempt failed; never leaves the engine
    |-- TransportError          no complete HTTP exchange: refused, reset, cut
    |-- AttemptTimeoutError     one of the four timeouts expired
    |-- StreamError             the answer arrived but is not one: cut off, malformed, over a cap
    `-- ProviderError           the provider said no, by status or by an error inside a stream
"""

from typing import Literal, TypeAlias

Verdict: TypeAlias = Literal["retry", "fail", "stop"]
"""retry: this item, later. fail: this item, recorded, go on. stop: the whole run, resumable."""

BAD_ROW = "bad_row"
"""Error code of a row from which no request can be made."""


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

    code: stable word, stored and shown (``docs/reference/errors.md`` lists them).
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
    """One of the four timeouts of an attempt expired: connect, first_byte, silence, attempt."""

    def __init__(self, message: str, *, timeout: str, sent: bool = True) -> None:
        super().__init__(message, code=f"timeout_{timeout}", sent=sent)
        self.timeout = timeout


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


ADVICE = {
    "address": "Check base_url: it must be a full address such as https://host/v1.",
    "auth": "Check the key in the environment, then run the same command again.",
    "bad_http": "Something between you and the model breaks HTTP; look at the proxy or gateway.",
    "bad_request": "Correct the rows, then `runner retry`; or the settings, then `runner run` again.",
    "bad_row": "Correct the line in the prompt file, then run the same command again.",
    "billing": "Add credit or raise the spending limit at the provider, then run the same command again.",
    "cancelled": "Nothing to do: the run was stopped while this request was out; it will be sent again.",
    "closed": "The server drops connections; lower --concurrency, then run `runner retry`.",
    "connect": "Check that the server runs and that base_url is right, then run the same command again.",
    "content_policy": "The provider refuses the prompt; change it, or leave the row failed.",
    "context_length": "Shorten the prompt, lower max_tokens, or use a model with a larger context.",
    "cut": "The connection breaks in mid-answer; look at the proxy or gateway, then run `runner retry`.",
    "deadline": "What is finished is kept; the same command goes on.",
    "dns": "Check the host name in base_url and the network, then run the same command again.",
    "internal": "This is a bug in runner; please report it with the text of the error.",
    "malformed_stream": "The server sends broken events; run `runner retry`, and report it to whoever runs the server.",
    "not_an_api": "Check base_url: it does not point at an LLM API.",
    "not_found": "Check the model's name and base_url (openai: up to and including /v1; anthropic: without it).",
    "overloaded": "The provider is overloaded; run `runner retry` later.",
    "proxy": "Check the proxy in HTTPS_PROXY / HTTP_PROXY, or add the host to NO_PROXY.",
    "rate_limited": "Set --rpm or lower --concurrency, then run `runner retry`.",
    "redirect": "Set base_url to the address it redirects to, if you trust it.",
    "server_error": "The server fails; run `runner retry` later.",
    "size_cap": "The answer is larger than runner takes; lower max_tokens.",
    "timeout_attempt": "Answers take longer than --attempt-s; raise it or lower max_tokens, then run `runner retry`.",
    "timeout_connect": "The server does not accept connections; check base_url and the network.",
    "timeout_first_byte": "The server is slow to begin; lower --concurrency or raise --first-byte-s, then run `runner retry`.",
    "timeout_silence": "Streams stall; lower --concurrency or raise --silence-s, then run `runner retry`.",
    "tls": "The connection is not secure and was not used; check the host name, its certificate and the clock.",
    "too_large": "Shorten the prompt: the server does not take requests of this size.",
    "truncated": "Answers end without a finish reason; look at the server or the gateway, then run `runner retry`.",
}
"""One sentence of advice for every error code: the one place where a code meets a person."""

_OTHER = "Run `runner retry`; if it stays, look the provider's words up."


def advice(code: str) -> str:
    """Say what to do about an error code."""
    return ADVICE.get(code, _OTHER)
