"""Runs of other machines: they come in at a door, whose frames are passed on to the run that serves on this machine.

    run elsewhere  --TLS-->  door of a run here  --socket-->  the run that serves here, which may be another one

So there is one office for an endpoint, a model and a key, and it may move while the door stays.
"""

import asyncio
import re
import socket
import ssl
from collections.abc import Callable, Mapping
from pathlib import Path

from runner.errors import UsageError
from runner.frames import Link, join
from runner.sharing.folder import NoFolderError
from runner.sharing.messages import MOST_BYTES, Bye, StrangerError, encode, greeting
from runner.sharing.seat import path_of
from runner.workers import tokens
from runner.workers.door import Door, split
from runner.workers.joining import Joining, NotLetInError
from runner.workers.token_file import TokenFile
from runner.workers.tokens import Token

VARIABLE = "RUNNER_LIMITS_TOKEN"
"""Holds the token with which a run joins those of another machine."""
JOIN_S = 10.0
"""Seconds in which a run has to be let in."""
FIRST_JOIN_S = 2.5
"""The same where its rows wait for that."""
_IDENTITY = re.compile(r"[0-9a-f]{64}")


class Host:
    """The door of a session. store: the file beside which the token is written, for this user alone."""

    def __init__(self, address: str, store: Path, environment: Mapping[str, str], tell: Callable[[str], None]) -> None:
        self._door = Door(address, self._enter, "serve_limits")
        self._store, self._environment, self._tell = store, environment, tell
        self._file: TokenFile | None = None
        self._relays: set[Relay] = set()

    async def open(self) -> None:
        """Let runs in. Raises UsageError."""
        where = await self._door.open()
        try:
            self._file = TokenFile(self._store, where, self._door.token.text, "shared limits")
        except UsageError:
            self.close()
            raise
        # the file is not there on the other machine
        todo = f"set {VARIABLE} there to the line in {self._file.path}, and start them with --join {where}"
        self._tell(f"runs of other machines share these limits: {todo}")

    def close(self) -> None:
        """Let nobody in any more."""
        self._door.close()
        if self._file is not None:
            self._file.remove()
            self._file = None
        for relay in list(self._relays):
            relay.end()

    def _enter(self, link: Link) -> None:
        self._relays.add(Relay(link, self._environment, self._relays.discard))


class Relay:
    """Passes frames on between a run elsewhere and the one that serves here. gone: called when it has ended."""

    def __init__(self, link: Link, environment: Mapping[str, str], gone: "Callable[[Relay], None]") -> None:
        self._far, self._environment, self._gone = link, environment, gone
        self._near = Link(link.send, lambda _: self.end(), most=MOST_BYTES)
        # frames that have come before the connection was there; None: it is
        self._early: list[bytes] | None = []
        self._joining: asyncio.Task[None] | None = None
        link.most, link.take, link.lost = MOST_BYTES, self._take, lambda _: self.end()

    def end(self) -> None:
        """End both connections."""
        self._far.end()
        self._near.end()
        self._gone(self)

    def _refuse(self, why: str) -> None:
        self._far.send(encode([Bye(why)]))
        self.end()

    def _take(self, frame: bytes) -> None:
        if self._early is None:
            self._near.send(frame)
            return
        self._early.append(frame)
        if self._joining is None:
            try:
                hello, _ = greeting(frame)
            except StrangerError as error:
                self._refuse(str(error))
                return
            if not _IDENTITY.fullmatch(hello.identity):
                self.end()
                return
            self._joining = asyncio.get_running_loop().create_task(self._join(hello.identity))

    async def _join(self, identity: str) -> None:
        end = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            end.setblocking(False)
            end.connect(str(path_of(identity, self._environment)))
            await join(self._near, end)
        except (OSError, NoFolderError):
            end.close()
            self._refuse("no run at this address has the same endpoint, model and key")
            return
        early, self._early = self._early or [], None
        for frame in early:
            self._near.send(frame)


class Way:
    """How a run comes to those of another machine. address: HOST:PORT. Raises UsageError."""

    def __init__(self, address: str, environment: Mapping[str, str]) -> None:
        self._host, self._port = split(address, "join")
        if not self._port:
            raise UsageError(
                f"join must be HOST:PORT, not {address!r}; the run with --serve-limits says at which port it listens"
            )
        if not environment.get(VARIABLE, "").strip():
            raise UsageError(
                f"join needs a token: set {VARIABLE} to the line in the file that the other run names, or use --no-share"
            )
        self._token: Token = tokens.read(environment[VARIABLE], "the token of shared limits", VARIABLE)

    async def come(self, link: Link, *, waited_for: bool) -> None:
        """Connect, and prove who both are. waited_for: rows wait for that. Raises NotLetInError."""
        try:
            async with asyncio.timeout(FIRST_JOIN_S if waited_for else JOIN_S):
                await Joining(link, self._token).done((self._host, self._port))
                return
        except TimeoutError:
            why = "it does not answer"
        except (OSError, ssl.SSLError) as error:
            why = str(error.strerror or error)
        except NotLetInError as error:
            why = str(error)
        raise NotLetInError(f"no run shares its limits at {self._host}:{self._port}: {why}")
