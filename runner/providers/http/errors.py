"""Translates the errors of the HTTP libraries to ours; no other module does.

The translation tells "never reached the server" (can be sent again for free) from "perhaps billed". That needs aiohttp's own
errors; httpx's do not say.
"""

import os
import ssl

import aiohttp

from runner.errors import TransportError

_OLD_PROTOCOL = ("UNSUPPORTED_PROTOCOL", "PROTOCOL_VERSION", "WRONG_VERSION_NUMBER", "HTTP_REQUEST")


STALE_S = 1.0
"""A kept connection that breaks within this many seconds was most likely closed before our request
reached the server; after that, the server may have accepted it."""


def transport_error(error: Exception, *, connected: bool, reused: bool, answered: bool, age_s: float) -> TransportError:
    """Translate an error of the HTTP library.

    connected: there was a connection. reused: the connection had carried an exchange before. answered: a status line had
    arrived. age_s: seconds since the exchange began.
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
            return TransportError(f"the proxy refused the connection: {_reason(cause)}", code="proxy", sent=False)
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
    message = "the server closed the connection before it answered"
    return TransportError(message, code="closed", sent=connected, stale=connected and reused and age_s < STALE_S)


def unsendable(error: ValueError) -> TransportError:
    """Translate an error raised while encoding a request's head. All rows share the head, so none of them can be sent."""
    return TransportError(f"the request cannot be sent: {_short(str(error))}", code="address", verdict="stop", sent=False)


def _reason(cause: BaseException) -> str:
    """Return the message of the operating system or of the TLS library that aiohttp's error wraps."""
    inner = getattr(cause, "certificate_error", None) or getattr(cause, "os_error", None) or cause
    if isinstance(inner, ssl.SSLCertVerificationError):
        return _short(inner.verify_message)
    if isinstance(inner, OSError) and inner.errno and not isinstance(inner, ssl.SSLError):
        return os.strerror(inner.errno)
    return _short(str(inner) or type(inner).__name__)


def _short(text: str) -> str:
    return " ".join(text.split())[:200]
