"""Who may use the page and its API: the names at which it is reached, the token, and what a browser says of a request."""

import hmac
import ipaddress
import secrets
import socket
from collections.abc import Iterable, Mapping
from hashlib import blake2b

from msgspec import Struct

TOKEN_BYTES = 32
"""Of the random token in the printed address."""
_LOOPBACK_NAMES = ("localhost", "127.0.0.1", "::1")
_BEARER = "bearer "


class Access(Struct, frozen=True):
    """What opens the page. token: the secret in the printed address. names: under which the server is reached, in lower case.

    cookie: name of the cookie that a browser gets for the token. Browsers share cookies between ports, so the port is in it.
    """

    token: str
    names: frozenset[str]
    cookie: str

    @property
    def mark(self) -> str:
        """What the cookie holds: made from the token, which cannot be told from it."""
        return blake2b(b"cookie", key=self.token.encode()[:64], digest_size=24).hexdigest()

    @property
    def proof(self) -> str:
        """What the page sends beside the cookie, which whoever listens at another port may be sent too."""
        return blake2b(b"proof", key=self.token.encode()[:64], digest_size=24).hexdigest()

    def is_token(self, given: str) -> bool:
        """Return True for the token. Takes as long for any other text of its length."""
        return hmac.compare_digest(given.encode(errors="replace"), self.token.encode())

    def is_bearer(self, header: str | None) -> bool:
        """Return True for an ``Authorization`` header with the token."""
        return header is not None and header[: len(_BEARER)].lower() == _BEARER and self.is_token(header[len(_BEARER) :].strip())

    def has_cookie(self, cookies: Mapping[str, str]) -> bool:
        """Return True if one of the cookies of a request was given for the token."""
        return hmac.compare_digest(cookies.get(self.cookie, "").encode(errors="replace"), self.mark.encode())

    def is_proof(self, header: str | None) -> bool:
        """Return True for an ``X-Runner`` header with the proof."""
        return header is not None and hmac.compare_digest(header.encode(errors="replace"), self.proof.encode())

    def is_own_host(self, host: str | None, reached: str | None) -> bool:
        """Return True for a ``Host`` header that names this server. reached: the address at which the connection came in.

        A page of another site whose name has been made to lead here (DNS rebinding) sends its own name. The port does not count:
        a tunnel has another one.
        """
        name = name_of(host)
        return name is not None and (name in self.names or name == reached)


def new_token() -> str:
    """Return a new random token, which fits into an address."""
    return secrets.token_urlsafe(TOKEN_BYTES)


def access(token: str, host: str, port: int, more: Iterable[str] = ()) -> Access:
    """Return what opens a server that listens at a host and a port. more: further names under which it is reached."""
    names = {*_LOOPBACK_NAMES} if is_loopback(host) else {*_LOOPBACK_NAMES, socket.gethostname(), socket.getfqdn()}
    return Access(token, frozenset(name.lower() for name in (*names, host, *more)), f"runner-{port}")


def is_loopback(host: str) -> bool:
    """Return True for a name or an address that only this machine reaches."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host.lower() == "localhost"


def name_of(host: str | None) -> str | None:
    """Return the name or the address in a ``Host`` header, in lower case and without its port; None if it is malformed."""
    if not host or any(mark in host for mark in "/@?# \t,"):
        return None
    if host.startswith("["):
        name, closed, port = host[1:].partition("]")
        port = port.removeprefix(":") if closed else "-"
    else:
        name, _, port = host.partition(":")
    return name.lower() if name and (not port or (port.isascii() and port.isdecimal())) else None


def is_own_origin(origin: str, host: str) -> bool:
    """Return True for an ``Origin`` header of the page itself. host: the ``Host`` header."""
    return origin.lower() in (f"http://{host}".lower(), f"https://{host}".lower())
