"""Where the page is: a socket that listens, the address with the token, and what an address means that others reach.

Imports nothing heavy: a run makes these for its page, and starts it beside itself.
"""

import socket
from typing import NamedTuple

from runner.errors import UsageError
from runner.web.access import is_loopback, new_token

HOST = "127.0.0.1"
PORT = 8377
"""Where the page is if nobody says otherwise. Where another program has it, one of the next ones is taken."""
_NEXT = 50
_BACKLOG = 512


class Listening(NamedTuple):
    """A socket that listens at a host and a port, and the token that opens what it leads to."""

    end: socket.socket
    host: str
    port: int
    token: str

    @property
    def url(self) -> str:
        """The address that opens the page."""
        return f"{self.origin}/?token={self.token}"

    @property
    def origin(self) -> str:
        """The address without its secret."""
        name = socket.gethostname() if self.host in ("0.0.0.0", "::", "") else self.host  # noqa: S104 - what was asked for
        return f"http://[{name}]:{self.port}" if ":" in name else f"http://{name}:{self.port}"


def listen(host: str, port: int | None, token: str | None = None) -> Listening:
    """Listen at a host. port: None: the usual one or one of the next; 0: any that is free. Raises UsageError."""
    ports = range(PORT, PORT + _NEXT) if port is None else (port,)
    why = "is taken"
    for number in ports:
        try:
            end = _listening(host, number)
        except OSError as error:
            why = error.strerror or str(error)
        else:
            return Listening(end, host, end.getsockname()[1], token or new_token())
    where = f"{host}:{port}" if port is not None else f"{host}, ports {PORT} to {PORT + _NEXT - 1}"
    raise UsageError(f"the page cannot be served at {where}: {why}; name another port with --port, or 0 for any that is free")


def _listening(host: str, port: int) -> socket.socket:
    try:
        ((family, _, _, _, address), *_) = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    except (socket.gaierror, UnicodeError) as error:
        raise UsageError(f"{host!r} is no name or address of this machine; name one with --host") from error
    end = socket.socket(family, socket.SOCK_STREAM)
    try:
        # a server that has just ended leaves its port in use for a minute
        end.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        end.bind(address)
        end.listen(_BACKLOG)
    except BaseException:
        end.close()
        raise
    return end


def warning(host: str) -> str | None:
    """Return what it means to listen at an address that others reach; None where nobody else does."""
    if is_loopback(host):
        return None
    return (
        f"warning: everybody who reaches this machine at {host} and has the token can read all of the store and steer its runs. "
        "The connection is not encrypted: whoever can listen in learns the token. Safer: leave --host out, and use an SSH tunnel"
    )
