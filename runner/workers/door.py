"""Where workers of other machines join: a listener at one address, which lets in who knows the token.

    worker                         driver
      TLS  <- certificate of the session ->   the worker compares its fingerprint
           <------------ Challenge --------   a number of the driver
           ---- Answer ------------------->   a proof for it, and a number of the worker
           <------------ Accepted ---------   a proof for that; from here on as with any worker

Whoever has said nothing right within ``PATIENCE_S`` is cut off, and of more than ``MOST_STRANGERS`` the one that came first. So a
flood costs no memory, and no more open files than that.
"""

import asyncio
import hmac
import os
import socket
import ssl
from collections.abc import Callable
from contextlib import suppress
from typing import TypeAlias

import msgspec
from msgspec import Struct

from runner.errors import UsageError
from runner.frames import Link
from runner.workers import tokens
from runner.workers.protocol import encode
from runner.workers.tokens import Token

PATIENCE_S = 10.0
MOST_STRANGERS = 64
MOST_WORDS = 1_024
"""Bytes of a frame of somebody who is not known yet."""
_BACKLOG = 128
_FULL_S = 0.2
"""Seconds to wait where no file can be opened any more."""


class Challenge(Struct, frozen=True, array_like=True, tag=10):
    """The first word of a driver to a worker that has come by itself."""

    drawn: bytes


class Answer(Struct, frozen=True, array_like=True, tag=11):
    """What a worker answers."""

    proof: bytes
    drawn: bytes


class Accepted(Struct, frozen=True, array_like=True, tag=12):
    """The worker is let in; and the driver is who it says."""

    proof: bytes


FromDriver: TypeAlias = Challenge | Accepted
decode_answer = msgspec.msgpack.Decoder(Answer).decode
decode_from_driver = msgspec.msgpack.Decoder(FromDriver).decode


def split(address: str, source: str) -> tuple[str, int]:
    """Return host and port of an address; port 0 if it names none. source: of the address, for messages. Raises UsageError."""
    host, port = address.strip(), ""
    if host.startswith("["):
        host, _, rest = host[1:].partition("]")
        port = rest.removeprefix(":")
    elif host.count(":") == 1:
        host, _, port = host.partition(":")
    number = int(port) if port.isascii() and port.isdigit() else 0 if not port else -1
    if not host or not 0 <= number <= 65_535 or any(letter.isspace() or letter in "/@" for letter in host):
        raise UsageError(f"{source} must be HOST or HOST:PORT, such as 127.0.0.1:8410, not {address!r}")
    return host, number


def joined(host: str, port: int) -> str:
    """Return an address as a person types it."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


class Door:
    """A listener. address: HOST or HOST:PORT. enters: takes the link of a worker that is let in. source: of the address."""

    def __init__(self, address: str, enters: Callable[[Link], None], source: str = "listen") -> None:
        self._host, self._port = split(address, source)
        self._source = source
        self._enters = enters
        self._strangers: dict[Stranger, asyncio.Task[None]] = {}
        self._task: asyncio.Task[None] | None = None
        self.token = Token(b"", b"")
        self._context: ssl.SSLContext | None = None
        self._listening: socket.socket | None = None

    async def open(self) -> str:
        """Begin to listen, and return the address with its port. Raises UsageError."""
        self.token, self._context = tokens.for_driver()
        loop = asyncio.get_running_loop()
        try:
            found = await loop.getaddrinfo(self._host, self._port, type=socket.SOCK_STREAM)
            family, kind, protocol, _, place = found[0]
            if place[0] in ("0.0.0.0", "::"):  # noqa: S104 - it is refused
                raise UsageError(
                    f"{self._source} must name one address of this machine; with all of them, anybody could try to join"
                )
            listening = self._listening = socket.socket(family, kind, protocol)
            listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listening.setblocking(False)
            listening.bind(place)
            listening.listen(_BACKLOG)
        except OSError as error:
            self.close()
            where = joined(self._host, self._port) if self._port else self._host
            raise UsageError(
                f"cannot listen at {where}: {error.strerror or error}; name another address of this machine"
            ) from error
        self._task = loop.create_task(self._accept(listening))
        return joined(self._host, listening.getsockname()[1])

    def close(self) -> None:
        """Let nobody in any more."""
        if self._task is not None:
            self._task.cancel()
        if self._listening is not None:
            self._listening.close()
        for stranger, task in list(self._strangers.items()):
            task.cancel()
            stranger.link.abort()

    async def _accept(self, listening: socket.socket) -> None:
        loop = asyncio.get_running_loop()
        while True:
            try:
                end, _ = await loop.sock_accept(listening)
            except OSError:
                # no more files, or the other side has gone already
                await asyncio.sleep(_FULL_S)
                continue
            while len(self._strangers) >= MOST_STRANGERS:
                first = next(iter(self._strangers))
                self._strangers.pop(first).cancel()
                first.link.abort()
                # its file is closed in the next turn of the loop
                await asyncio.sleep(0)
            stranger = Stranger(self.token, self._let_in)
            self._strangers[stranger] = loop.create_task(self._meet(stranger, end))

    async def _meet(self, stranger: "Stranger", end: socket.socket) -> None:
        """Give somebody who has come the time to prove who it is."""
        loop = asyncio.get_running_loop()
        try:
            with suppress(OSError, TimeoutError, ssl.SSLError):
                async with asyncio.timeout(PATIENCE_S):
                    await loop.connect_accepted_socket(
                        lambda: stranger.link, end, ssl=self._context, ssl_handshake_timeout=PATIENCE_S
                    )
                    stranger.challenge()
                    await stranger.proved.wait()
        finally:
            self._strangers.pop(stranger, None)
            if not stranger.proved.is_set():
                stranger.link.abort()
                end.close()

    def _let_in(self, stranger: "Stranger") -> None:
        if self._strangers.pop(stranger, None) is not None:
            self._enters(stranger.link)


class Stranger:
    """Somebody who has come, until it has proved that it knows the token."""

    def __init__(self, token: Token, known: "Callable[[Stranger], None]") -> None:
        self._token, self._known = token, known
        self.link = Link(self._take, lambda _: None, most=MOST_WORDS)
        self._drawn = tokens.drawn()
        self.proved = asyncio.Event()

    def challenge(self) -> None:
        """Say the first word."""
        self.link.send(encode(Challenge(self._drawn)))

    def _take(self, frame: bytes) -> None:
        answer = decode_answer(frame)
        if self.proved.is_set() or not hmac.compare_digest(answer.proof, self._token.proof("worker", self._drawn, answer.drawn)):
            self.link.end("it does not know the token")
            return
        self.proved.set()
        self.link.send(encode(Accepted(self._token.proof("driver", answer.drawn, self._drawn))))
        self._known(self)


def host_name() -> str:
    """Return what this machine is called."""
    return socket.gethostname() or f"process {os.getpid()}"
