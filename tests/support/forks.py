"""``python -m runner`` as a fork of an interpreter that has loaded its modules and other people's libraries.

An interpreter takes most of a second to load them, and the flow tests start ``runner`` more than a thousand times. Each fork is a
process with its own folder, environment, streams and session, and ends as any interpreter does. Tests of the start, of other
environments of Python and of the installed command start an interpreter of their own, and so does every test where
RUNNER_TEST_FRESH is set.
"""

import atexit
import fcntl
import functools
import gc
import importlib
import io
import json
import os
import pkgutil
import runpy
import select
import signal
import socket
import subprocess
import sys
import termios
import threading
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, NoReturn, TextIO

LIBRARIES = (
    "aiohttp.web",
    "aiolimiter",
    "aiosqlite",
    "alembic.command",
    "alembic.config",
    "anyio._backends._asyncio",
    "click",
    "encodings.idna",
    "filelock",
    "httpx",
    "msgspec",
    "sqlalchemy.dialects.sqlite.aiosqlite",
    "sqlalchemy.ext.asyncio",
    "tqdm",
    "uvloop",
)
RUNNER = (sys.executable, "-m", "runner")
BEFORE = "FORK_BEFORE"
"""Variable of a fork: a module whose ``install`` is called before ``runner`` begins, such as ``tests.kills.points``."""
_AT_START = ("PYTHON", "LD_", "LC_", "LANG", "MALLOC_", "GLIBC_")
"""Beginnings of the variables that a process reads when it starts, before any code of ours runs."""
CHECKOUT = str(Path(__file__).parents[2])
_OURS = {"PYTHONUNBUFFERED": "1", "PYTHONPATH": CHECKOUT}
_ENVIRONMENT = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")} | _OURS
"""Of the interpreter that is forked."""
_FRAME = 4
"""Bytes of a length, a process id or an exit code on the socket."""


class Fork:
    """A process, with what is used here of ``subprocess.Popen``."""

    def __init__(
        self, arguments: Sequence[str], *, cwd: Path, env: Mapping[str, str], streams: tuple[int, int, int], terminal: bool
    ) -> None:
        """Start ``runner`` with these arguments. streams: what becomes its descriptors 0, 1 and 2."""
        self.returncode: int | None = None
        self._channel, theirs = socket.socketpair()
        order = {"arguments": [*arguments], "cwd": str(cwd), "env": dict(env), "terminal": terminal}
        with theirs:
            socket.send_fds(_server(), [b"."], [theirs.fileno(), *streams])
        _send(self._channel, order)
        self.pid = _number(self._channel)

    def poll(self) -> int | None:
        """Return the exit code, or None while the process works; a negative code is the signal that killed it."""
        with suppress(subprocess.TimeoutExpired):
            self.wait(0)
        return self.returncode

    def wait(self, timeout_s: float | None = None) -> int:
        """Wait for the end."""
        if self.returncode is None:
            if not select.select([self._channel], [], [], timeout_s)[0]:
                raise subprocess.TimeoutExpired("runner", timeout_s or 0.0)
            self.returncode = _number(self._channel)
            self._channel.close()
        return self.returncode

    def send_signal(self, kind: int) -> None:
        """Send a signal, unless the process has ended."""
        if self.poll() is None:
            # its end may not have been told yet
            with suppress(ProcessLookupError):
                os.kill(self.pid, kind)

    def kill(self) -> None:
        """Kill the process."""
        self.send_signal(signal.SIGKILL)


def fits(command: Sequence[str], env: Mapping[str, str]) -> bool:
    """Return True if a command is ``runner`` in an environment that is ours in all that a start depends on."""
    if tuple(command[: len(RUNNER)]) != RUNNER or "RUNNER_TEST_FRESH" in os.environ:
        return False
    return _at_start(env) == _at_start(_ENVIRONMENT)


def _at_start(env: Mapping[str, str]) -> dict[str, str]:
    return {name: value for name, value in env.items() if name.startswith(_AT_START)}


@functools.cache
def _server() -> socket.socket:
    """Start the interpreter that is forked, once in a process."""
    ours, theirs = socket.socketpair()
    with theirs:
        process = subprocess.Popen(
            [sys.executable, __file__, str(theirs.fileno())],
            pass_fds=[theirs.fileno()],
            env=_ENVIRONMENT,
            stdin=subprocess.DEVNULL,
            # Ctrl-C is for pytest; the server ends when our end of the socket is closed
            start_new_session=True,
        )

    def end() -> None:
        ours.close()
        process.wait()

    atexit.register(end)
    return ours


def _send(channel: socket.socket, message: Any) -> None:
    data = json.dumps(message).encode()
    channel.sendall(len(data).to_bytes(_FRAME, "big") + data)


def _exactly(channel: socket.socket, size: int) -> bytes:
    data = b""
    while len(data) < size:
        more = channel.recv(size - len(data))
        assert more, "a process that forks for the tests is gone"
        data += more
    return data


def _number(channel: socket.socket) -> int:
    return int.from_bytes(_exactly(channel, _FRAME), "big", signed=True)


# -- in the interpreter that is forked


def serve(requests: socket.socket) -> None:
    """Load the libraries, and fork for every request until the other end is closed."""
    gc.disable()
    for name in LIBRARIES:
        # uvloop is not made for every system
        with suppress(ImportError):
            importlib.import_module(name)
    package = importlib.import_module("runner")
    for module in pkgutil.walk_packages(package.__path__, "runner."):
        # that one runs the command
        if module.name != "runner.__main__":
            importlib.import_module(module.name)
    importlib.import_module("warming").run()
    # what is loaded by now stays: no fork need look through it
    gc.collect()
    gc.freeze()
    gc.enable()
    signal.signal(signal.SIGCHLD, lambda *_: None)
    woken, waking = socket.socketpair()
    waking.setblocking(False)
    signal.set_wakeup_fd(waking.fileno(), warn_on_full_buffer=False)
    running: dict[int, socket.socket] = {}
    while True:
        readable = select.select([requests, woken, *running.values()], [], [])[0]
        if woken in readable:
            woken.recv(1 << 16)
            _tell_ends(running)
        for pid, channel in running.items():
            # whoever has started it is gone
            if channel in readable:
                os.kill(pid, signal.SIGKILL)
        if requests in readable and not _begin(requests, running, (woken, waking)):
            return


def _tell_ends(running: dict[int, socket.socket]) -> None:
    """Tell the exit code of each fork that has ended."""
    while running and (ended := os.waitpid(-1, os.WNOHANG))[0]:
        pid, status = ended
        # whoever has started it may be gone
        with running.pop(pid) as channel, suppress(OSError):
            channel.sendall(os.waitstatus_to_exitcode(status).to_bytes(_FRAME, "big", signed=True))


def _begin(requests: socket.socket, running: dict[int, socket.socket], wakers: Sequence[socket.socket]) -> bool:
    """Fork ``runner``, and tell its process id. Return False if nobody asks any more: the forks that still work are killed."""
    word, descriptors, *_ = socket.recv_fds(requests, 1, 4)
    if not word:
        for pid in running:
            os.kill(pid, signal.SIGKILL)
        return False
    channel, streams = socket.socket(fileno=descriptors[0]), descriptors[1:]
    order = json.loads(_exactly(channel, int.from_bytes(_exactly(channel, _FRAME), "big")))
    pid = os.fork()
    if not pid:
        signal.set_wakeup_fd(-1)
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        # closed with all others that are not its own
        for other in (requests, channel, *wakers, *running.values()):
            other.detach()
        _become_runner(streams, **order)
    for stream in streams:
        os.close(stream)
    running[pid] = channel
    with suppress(OSError):
        channel.sendall(pid.to_bytes(_FRAME, "big"))
    return True


def _become_runner(streams: Sequence[int], *, arguments: list[str], cwd: str, env: dict[str, str], terminal: bool) -> NoReturn:
    os.setsid()
    for number, stream in enumerate(streams):
        os.dup2(stream, number)
    os.closerange(len(streams), os.sysconf("SC_OPEN_MAX"))
    sys.stdin = sys.__stdin__ = _text_stream(sys.stdin, 0, "rb", -1)
    sys.stdout = sys.__stdout__ = _text_stream(sys.stdout, 1, "wb", 0)
    sys.stderr = sys.__stderr__ = _text_stream(sys.stderr, 2, "wb", 0)
    if terminal:
        fcntl.ioctl(0, termios.TIOCSCTTY, 0)
    os.chdir(cwd)
    os.environ.clear()
    os.environ.update(env)
    time.tzset()
    # as ``python -m`` has them
    sys.path[0] = cwd
    sys.argv = ["-m", *arguments]
    if before := os.environ.pop(BEFORE, None):
        importlib.import_module(before).install()
    try:
        runpy.run_module("runner", run_name="__main__", alter_sys=True)
    except SystemExit as ended:
        if ended.code is None or isinstance(ended.code, int):
            _end(ended.code or 0)
        raise
    raise SystemExit


def _end(code: int) -> NoReturn:
    """End as an interpreter does: wait for threads, call what wants to be called, let go of what was made since the fork.

    An interpreter would then take its modules apart, which copies all of the memory that is shared with the server.
    """
    threading._shutdown()  # type: ignore[attr-defined]
    atexit._run_exitfuncs()
    gc.collect()
    for stream in (sys.stdout, sys.stderr):
        # may be closed
        if stream is not None and not stream.closed:
            stream.flush()
    os._exit(code)


def _text_stream(old: TextIO, descriptor: int, mode: str, buffering: int) -> io.TextIOWrapper:
    """Open a standard stream as an interpreter does that starts unbuffered; the old one remembers what its descriptor was."""
    raw: Any = open(descriptor, mode, buffering=buffering, closefd=False)  # noqa: SIM115 - stays open
    writes = "w" in mode
    return io.TextIOWrapper(
        raw,
        encoding=old.encoding,
        errors=old.errors,
        newline="\n" if writes else None,
        line_buffering=writes and (raw.isatty() or descriptor == 2),
        write_through=writes,
    )


if __name__ == "__main__":
    serve(socket.socket(fileno=int(sys.argv[1])))
