"""The other side of the socket of a session: for commands, the page, and agents."""

import asyncio
import os
import socket
import struct
import sys
from collections import deque
from collections.abc import AsyncGenerator
from pathlib import Path
from typing import Any, Literal, TypeAlias

import msgspec

from runner.control.messages import ANSWER_S, VERSION, Ask, Feed, Hello, Reply, Request, Watch, decode, encode
from runner.control.place import places_of
from runner.errors import NotRunningError, RunnerError
from runner.frames import MOST_BYTES, Link, join
from runner.sharing import forks
from runner.sharing.folder import NoFolderError
from runner.store import lock, owner
from runner.text import clean, shell_word

By: TypeAlias = Literal["terminal", "page", "api", "agent"]
"""Who asks."""

_MOST_FRAMES = 256
"""Frames that wait for a slow reader; while there are so many, nothing further is read."""
_HEAD = struct.Struct("<I")


class Connection(Link):
    """A connection to a running session. hello: what it has said about itself. Made by ``connect``."""

    hello: Hello

    def __init__(self, store: Path, run: int) -> None:
        super().__init__(self._take, lambda _: self._lost(), most=MOST_BYTES)
        self._store, self._run = store, run
        self._number = 0
        self.greeted: asyncio.Future[Hello] = asyncio.get_running_loop().create_future()
        self._replies: dict[int, asyncio.Future[Reply]] = {}
        self._frames: deque[Feed] = deque()
        self._more = asyncio.Event()

    async def ask(self, request: Request, by: By = "terminal") -> Reply:
        """Ask for something, and return what came of it.

        Raises NotRunningError if the session ends meanwhile, or says nothing for ``ANSWER_S`` seconds.
        """
        self._number += 1
        number = self._number
        reply: asyncio.Future[Reply] = asyncio.get_running_loop().create_future()
        self._replies[number] = reply
        try:
            if self.ended:
                raise ended(self._store, self._run)
            self.send(encode(Ask(number=number, request=request, by=by)))
            async with asyncio.timeout(ANSWER_S):
                return await reply
        except TimeoutError:
            raise silent(self._store, self._run) from None
        finally:
            del self._replies[number]

    async def watch(self, after: int | None = None, *, texts: bool = True) -> AsyncGenerator[Feed, None]:
        """Yield what happens, until the session ends. Arguments: as those of ``Watch``.

        Raises NotRunningError, as ``ask``, and if too many watch the session already.
        """
        if (error := (await self.ask(Watch(after=after, texts=texts))).error) is not None:
            raise NotRunningError(error)
        while True:
            while self._frames:
                yield self._frames.popleft()
            if self.ended:
                return
            self.read(on=True)
            self._more.clear()
            await self._more.wait()

    async def aclose(self) -> None:
        """End the connection. The session goes on."""
        self.abort()
        await asyncio.sleep(0)

    def _take(self, frame: bytes) -> None:
        match message := decode(frame):
            case Hello():
                if not self.greeted.done():
                    self.greeted.set_result(message)
            case Reply():
                if (waiting := self._replies.get(message.number)) is not None and not waiting.done():
                    waiting.set_result(message)
            case Feed():
                self._frames.append(message)
                self._more.set()
                if len(self._frames) >= _MOST_FRAMES:
                    self.read(on=False)
            case _:
                pass

    def _lost(self) -> None:
        waits: list[asyncio.Future[Any]] = [*self._replies.values(), self.greeted]
        for waiting in waits:
            if not waiting.done():
                waiting.set_exception(ended(self._store, self._run))
                # nobody may be waiting any more
                waiting.exception()
        self._more.set()


async def connect(store: Path, run: int) -> Connection:
    """Connect to the session that works on a run. Raises NotRunningError: one sentence that says which run, and what to do."""
    end = _connected(store, run)
    forks.keep_from_children(end)
    connection = Connection(store, run)
    try:
        await join(connection, end)
        async with asyncio.timeout(ANSWER_S):
            connection.hello = _fitting(await connection.greeted, store, run)
    except TimeoutError:
        connection.abort()
        raise silent(store, run) from None
    except BaseException:
        connection.abort()
        end.close()
        raise
    return connection


def ask(store: Path, run: int, request: Request, by: By = "terminal") -> Reply:
    """Ask a session for something from synchronous code, and return what came of it. Raises NotRunningError, as ``connect``."""
    with _connected(store, run) as end:
        end.settimeout(ANSWER_S)
        try:
            hello = decode(_frame(end))
            if not isinstance(hello, Hello):
                raise silent(store, run)
            _fitting(hello, store, run)
            frame = encode(Ask(number=1, request=request, by=by))
            end.sendall(_HEAD.pack(len(frame)) + frame)
            while not isinstance(message := decode(_frame(end)), Reply):
                pass
        except TimeoutError:
            raise silent(store, run) from None
        except (OSError, EOFError):
            raise ended(store, run) from None
        except msgspec.MsgspecError:
            raise strange(store, run) from None
    return message


def _frame(end: socket.socket) -> bytes:
    (length,) = _HEAD.unpack(_exactly(end, _HEAD.size))
    return _exactly(end, min(length, MOST_BYTES))


def _exactly(end: socket.socket, length: int) -> bytes:
    found = bytearray()
    while len(found) < length:
        piece = end.recv(min(length - len(found), 1 << 16))
        if not piece:
            raise EOFError
        found += piece
    return bytes(found)


def _connected(store: Path, run: int) -> socket.socket:
    """Return a socket that is connected to the session of a run. Raises NotRunningError."""
    if sys.platform == "win32":
        raise NotRunningError("this system has no sockets in folders, so a session cannot be watched or steered from outside")
    # imported here: not every system has what it needs
    from runner.sharing.seat import is_own

    refused: OSError | None = None
    try:
        for path in places_of(store, run):
            end = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
            try:
                # without waiting: a session takes at once who comes, and the file system is a local one
                end.setblocking(False)
                end.connect(str(path))
                if is_own(end):
                    return end
                end.close()
            except OSError as error:
                end.close()
                # nobody listens: no session, or one that was killed
                if not isinstance(error, FileNotFoundError | ConnectionRefusedError):
                    refused = error
    except NoFolderError:
        # then no session can have a socket there
        pass
    raise _unreachable(store, run, refused)


def _fitting(hello: Hello, store: Path, run: int) -> Hello:
    if hello.version != VERSION:
        raise NotRunningError(
            f"run {run} of {_named(store)} is at work in another version of runner (process {hello.pid}), which speaks otherwise "
            f"at its socket; use that version, or end the session with `kill -INT {hello.pid}`"
        )
    return hello


def _unreachable(store: Path, run: int, refused: OSError | None) -> NotRunningError:
    """Return why no session answers, as far as that can be known, and what to do."""
    if not lock.held(store, run):
        stands = f"{_command('status', store, run)} says how it stands"
        if _is_finished(store, run):
            return NotRunningError(f"run {run} of {_named(store)} is finished, and nothing works on it; {stands}")
        return NotRunningError(
            f"run {run} of {_named(store)} is not running; {_command('resume', store, run)} goes on with what is left of it, "
            f"{stands}"
        )
    if isinstance(refused, PermissionError):
        return NotRunningError(f"run {run} of {_named(store)} belongs to another user, who alone can watch and steer it")
    if isinstance(refused, BlockingIOError):
        # others wait already to be taken in
        return silent(store, run)
    return NotRunningError(
        f"run {run} of {_named(store)} is at work in {owner.owner(store, run)}, but cannot be reached: it may be about to begin "
        f"or to end, be on another machine or in another container, or have found no place for its socket; "
        f"{_command('status', store, run)} says how it stands"
    )


def _is_finished(store: Path, run: int) -> bool:
    """Return True if nothing of a run is left to go on with. A store that cannot be read says nothing of it."""
    # imported here: it takes long, and most commands reach their session
    from runner.store.reader import StoreReader

    try:
        with StoreReader(store.resolve()) as reader:
            return reader.run(run, counted=False).finished_at is not None
    except (RunnerError, OSError):
        return False


def silent(store: Path, run: int) -> NotRunningError:
    """Return the error of a session that does not answer."""
    return NotRunningError(
        f"run {run} of {_named(store)} has not answered for {ANSWER_S:g} s: {owner.owner(store, run)} may be stopped, as by "
        f"Ctrl-Z, or very busy; {_command('status', store, run)} says when it was last heard of"
    )


def strange(store: Path, run: int) -> NotRunningError:
    """Return the error of a session that says what cannot be understood."""
    return NotRunningError(
        f"what works on run {run} of {_named(store)} speaks otherwise at its socket than this version of runner: "
        f"{owner.owner(store, run)}; {_command('status', store, run)} says how it stands"
    )


def ended(store: Path, run: int) -> NotRunningError:
    """Return the error of a session that has ended while somebody waited for it."""
    return NotRunningError(f"the session of run {run} of {_named(store)} has ended; {_command('status', store, run)} says how")


def _command(name: str, store: Path, run: int) -> str:
    """Return a command about a run that works in this folder."""
    usual = not os.environ.get("RUNNER_DB") and os.path.realpath(store) == os.path.realpath("runner.db")
    return f"`runner {name} {run}{'' if usual else f' --db {shell_word(str(store))}'}`"


def _named(store: Path) -> str:
    return clean(store.name)
