"""Translates what goes wrong with a batch API to our errors: those of the HTTP library, and the refusals of the provider.

A refusal is classified by the dialect, as in live runs. What only a batch API refuses gets a code of its own here.
"""

import re
import socket
import ssl
from collections.abc import Mapping
from typing import Literal, TypeAlias

import httpx

from runner.errors import AttemptError, AttemptTimeoutError, ProviderError, TransportError
from runner.interfaces import Provider

Deed: TypeAlias = Literal["upload", "create", "batch", "list", "results", "file"]
"""What a request is about. batch: one that exists; list: of batches or files; file: an uploaded one."""


_MISSING = (404, 405, 410, 501)
_QUEUE = re.compile(r"enqueued.{0,20}token|token_limit_exceeded|batch.{0,30}queue|queue.{0,30}batch", re.IGNORECASE)
# with a 400, these may speak of the size of one batch
_MANY = re.compile(r"too many.{0,30}batch|batch.{0,30}limit (?:is )?(?:reached|exceeded)", re.IGNORECASE)
_LARGE = re.compile(
    r"too large|too big|max(?:imum)?[ _](?:file|request)[ _]size|exceeds the (?:maximum|limit)|too many requests in",
    re.IGNORECASE,
)
_OLD_PROTOCOL = ("UNSUPPORTED_PROTOCOL", "PROTOCOL_VERSION", "WRONG_VERSION_NUMBER", "HTTP_REQUEST")


def refusal(provider: Provider, deed: Deed, status: int, headers: Mapping[str, str], body: bytes) -> ProviderError:
    """Return the error for an answer whose status is not 2xx."""
    error = provider.error(status, headers, body)
    text = f"{error} {error.provider_code or ''}"
    if status in _MISSING and deed in ("batch", "results"):
        error.becomes(code="batch_not_found", verdict="retry")
    elif status in _MISSING and deed in ("upload", "list", "create"):
        error.becomes(code="batch_unsupported", verdict="stop")
    elif deed in ("upload", "create"):
        if (status in (400, 403, 429) and _QUEUE.search(text)) or (status == 429 and _MANY.search(text)):
            error.becomes(code="batch_quota", verdict="retry")
            error.throttled = True
        elif status == 413 or (status in (400, 422) and _LARGE.search(text)):
            error.becomes(code="batch_too_large", verdict="stop")
    return error


def broken(error: Exception, *, begun: bool) -> AttemptError:
    """Translate an error of the HTTP library. begun: the head of the answer has come."""
    match error:
        case httpx.ConnectTimeout() | httpx.PoolTimeout():
            return AttemptTimeoutError("no connection in time", timeout="connect", sent=False)
        case httpx.TimeoutException():
            kind = "silence" if begun or isinstance(error, httpx.WriteTimeout) else "first_byte"
            return AttemptTimeoutError("the batch API did not answer in time", timeout=kind)
        case httpx.ProxyError():
            return TransportError(f"the proxy refused the connection: {_short(error)}", code="proxy", sent=False)
        case httpx.ConnectError():
            return _unconnected(error)
        case httpx.UnsupportedProtocol() | httpx.InvalidURL() | httpx.LocalProtocolError() | ValueError():
            return TransportError(
                "the request cannot be sent: address, header or proxy", code="address", verdict="stop", sent=False
            )
    if begun:
        return TransportError("the connection broke in the middle of the answer", code="cut")
    if isinstance(error, httpx.RemoteProtocolError) and "without sending" not in str(error):
        return TransportError(f"the answer is not valid HTTP: {_short(error)}", code="bad_http")
    return TransportError("the server closed the connection before it answered", code="closed")


def no_json(deed: Deed, body: bytes) -> AttemptError:
    """Return the error for an answer with status 2xx that is not what a batch API sends."""
    if deed in ("upload", "list") and body.lstrip()[:1] == b"<":
        words = "the address leads to a page, not to a batch API"
        return ProviderError(words, code="batch_unsupported", verdict="stop", status=200)
    return TransportError("the batch API did not answer with the JSON that was expected", code="bad_http")


def _unconnected(error: httpx.ConnectError) -> AttemptError:
    for cause in _causes(error):
        match cause:
            case ssl.SSLCertVerificationError():
                words = f"the server's certificate is not valid: {cause.verify_message}"
                return TransportError(words, code="tls", verdict="stop", sent=False)
            case ssl.SSLError():
                final = any(word in str(cause).upper() for word in _OLD_PROTOCOL)
                words = f"no TLS connection: {_short(cause)}"
                return TransportError(words, code="tls", verdict="stop" if final else "retry", sent=False)
            case socket.gaierror():
                return TransportError("the host name was not found", code="dns", sent=False)
    return TransportError(f"no connection to the batch API: {_short(error)}", code="connect", sent=False)


def _causes(error: BaseException | None) -> list[BaseException]:
    found: list[BaseException] = []
    while error is not None and error not in found:
        found.append(error)
        error = error.__cause__ or error.__context__
    return found


def _short(error: BaseException) -> str:
    return " ".join(str(error).split())[:200] or type(error).__name__
