"""The page of a run that goes on: a process beside it, which ends with it, however it ends.

Imports nothing heavy, and none of the libraries of the page: the run goes on without them.
"""

import json
import os
import socket
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import IO, Any, Self

from runner.sharing import forks
from runner.web.listening import HOST, Listening, listen
from runner.web.token_file import token_of

_END_S = 2.0
"""Seconds for which the end of the process is waited for: those who look on are told the end of the run before."""


class Beside:
    """Serves the page of a store in a process of its own, from ``open`` to the end of the context.

    The socket listens before the process is there, so whoever comes early waits for a moment. port: as for ``listen``. Raises
    UsageError.
    """

    def __init__(self, store: Path, port: int | None) -> None:
        self._store = store
        self._listening = listen(HOST, port, token_of(store))
        self._own: socket.socket | None = None
        self._process: subprocess.Popen[bytes] | None = None
        self._said: IO[bytes] | None = None

    def __enter__(self) -> Self:
        return self

    def open(self) -> Mapping[str, str]:
        """Start the process. Return the ``url`` of the page, or the ``error`` for which there is none."""
        try:
            self._open()
        except OSError as error:
            return {"error": f"its process cannot be started: {error.strerror or error}"}
        return {"url": self._listening.url}

    def _open(self) -> None:
        self._said = tempfile.TemporaryFile()  # noqa: SIM115 - closed at the end of the context
        self._own, other = socket.socketpair()
        forks.keep_from_children(self._own)
        end = self._listening.end
        numbers = end.fileno(), other.fileno()
        with other:
            self._process = subprocess.Popen(  # noqa: S603 - the interpreter that runs this, and our own program
                (sys.executable, "-P", "-m", "runner.web.tied", *map(str, numbers), str(self._store)),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=self._said,
                pass_fds=numbers,
                # Ctrl-C in a terminal is for the run, which lets open requests finish
                start_new_session=True,
            )
        end.close()
        self._own.sendall(json.dumps([self._listening.host, self._listening.token]).encode() + b"\n")

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        """End the process: it sees that this side is closed, as it does when this process is killed."""
        self._listening.end.close()
        if self._own is not None:
            self._own.close()
        if self._process is not None:
            with suppress(subprocess.TimeoutExpired):
                self._process.wait(_END_S)
            if self._process.poll() is None:
                self._process.kill()
                self._process.wait()
        if self._said is not None:
            self._repeat(self._said)
            self._said.close()

    def _repeat(self, said: IO[bytes]) -> None:
        """Say at the end of the run what the process has said, such as an error: meanwhile the screen is the run's."""
        said.seek(0)
        if (text := said.read(1 << 14)) and sys.stderr is not None:
            with suppress(OSError):
                print(text.decode(errors="replace").rstrip(), file=sys.stderr, flush=True)


def inherited(numbers: tuple[int, int]) -> tuple[Listening, socket.socket]:
    """Return the socket that listens, and the tie to the run, by their file descriptors, which no further child gets."""
    for number in numbers:
        os.set_inheritable(number, False)
    end, tie = (socket.socket(fileno=number) for number in numbers)
    host, token = _told(tie)
    address: Any = end.getsockname()
    return Listening(end, host, address[1], token), tie


def _told(tie: socket.socket) -> tuple[str, str]:
    """Return the host and the token that the run has sent through its end of a tie."""
    line = b""
    while not line.endswith(b"\n") and (more := tie.recv(4096)):
        line += more
    host, token = json.loads(line)
    return host, token
