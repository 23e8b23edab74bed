"""The one place where errors of the HTTP library become ours.

It tells "never reached the server" (free to send again) from "perhaps billed"; aiohttp's own error knows, httpx's does not.
"""

import os
import ssl

import aiohttp

from runner.errors import TransportError

_OLD_PROTOCOL = ("UNSUPPORTED_PROTOCOL", "PROTOCOL_VERSION", "WRONG_VERSION_NUMBER", "HTTP_REQUEST")


STALE_S = 1.0
"""A kept connection that breaks within this had most likely been closed before our request; later, it had taken it."""


def transport_error(error: Exception, *, connected: bool, reused: bool, answered: bool, age_s: float) -> TransportError:
    """Translate what the HTTP library raised.

    connected: there was a connection. reused: it had served an earlier exchange. answered: a status line had arrived.
    age_s: seconds since the exchange began.
    """
    cause = error if isinstance(error, aiohttp.ClientError) else (error.__cause__ or error)
    match cause:
        case aiohttp.ClientConnectorCertificateError():
            return TransportError(
                f"the server's certificate is not valid: {_reason(cause)}", code="tls", verdict="stop", sent=False
            )
        case aiohttp.ClientConnectorSSLError():
            final = any(word in str(cause).upper() for word in _OLD_PROTOCOL)
            return TransportError(
                f"no TLS connection: {_reason(cause)}", code="tls", verdict="stop" if final else "retry", sent=False
            )
        case aiohttp.ClientConnectorDNSError():
            return TransportError(f"the host name {cause.host!r} was not found", code="dns", sent=False)
        case aiohttp.ClientHttpProxyError() | aiohttp.ClientProxyConnectionError():
            return TransportError(f"the proxy does not let us through: {_reason(cause)}", code="proxy", sent=False)
        case aiohttp.ClientResponseError() if not connected:
            return TransportError(f"the proxy's answer is not valid HTTP: {_short(cause.message)}", code="proxy", sent=False)
        case aiohttp.ClientConnectorError():
            return TransportError(f"no connection to {cause.host}:{cause.port}: {_reason(cause)}", code="connect", sent=False)
        case aiohttp.InvalidURL() | aiohttp.NonHttpUrlClientError():
            return TransportError(f"the address cannot be used: {cause}", code="address", verdict="stop", sent=False)
        case aiohttp.ClientResponseError():
            return TransportError(f"the answer is not valid HTTP: {_short(cause.message)}", code="bad_http")
        case aiohttp.ClientPayloadError():
            return TransportError("the connection broke in the middle of the answer", code="cut")
    if answered:
        return TransportError("the connection broke in the middle of the answer", code="cut")
    words = "the server closed the connection before it answered"
    return TransportError(words, code="closed", sent=connected, stale=connected and reused and age_s < STALE_S)


def unsendable(error: ValueError) -> TransportError:
    """Translate what was raised while a request's head was made; all rows share the head, so that no row could be sent."""
    return TransportError(f"the request cannot be sent: {_short(str(error))}", code="address", verdict="stop", sent=False)


def _reason(cause: BaseException) -> str:
    """Find the words of the operating system or of the TLS library under aiohttp's wrapping."""
    inner = getattr(cause, "certificate_error", None) or getattr(cause, "os_error", None) or cause
    if isinstance(inner, ssl.SSLCertVerificationError):
        return _short(inner.verify_message)
    if isinstance(inner, OSError) and inner.errno and not isinstance(inner, ssl.SSLError):
        return os.strerror(inner.errno)
    return _short(str(inner) or type(inner).__name__)


def _short(words: str) -> str:
    return " ".join(words.split())[:200]
