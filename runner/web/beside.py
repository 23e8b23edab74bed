"""The page of a run that goes on: a process beside it, which ends with it, however it ends.

Imports nothing heavy, and none of the libraries of the page: the run goes on without them.
"""

import json
import socket
import subprocess
import sys
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from runner.sharing import forks
from runner.web.listening import Listening, listen
from runner.web.token_file import token_of

_END_S = 5.0


class Beside:
    """Serves the page of a store in a process of its own, as long as the context lasts. ``url``: its address.

    The socket listens before the process is there, so whoever comes early waits for a moment. Raises UsageError.
    """

    def __init__(self, store: Path, port: int | None, host: str) -> None:
        self._store = store
        self._listening = listen(host, port, token_of(store))
        self.url = self._listening.url
        self._own: socket.socket | None = None
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        """Start the process."""
        self._own, other = socket.socketpair()
        forks.keep_from_children(self._own)
        end = self._listening.end
        numbers = end.fileno(), other.fileno()
        try:
            self._process = subprocess.Popen(  # noqa: S603 - the interpreter that runs this, and our own program
                (sys.executable, "-P", "-m", "runner", "web", "--db", str(self._store), "--tied", *map(str, numbers)),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                pass_fds=numbers,
                # Ctrl-C in a terminal is for the run, which lets open requests finish
                start_new_session=True,
            )
            self._own.sendall(json.dumps([self._listening.host, self._listening.token]).encode() + b"\n")
        finally:
            other.close()
            end.close()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        """End the process: it sees that this side is closed, as it does when this process is killed."""
        if self._own is not None:
            self._own.close()
        if self._process is not None:
            with suppress(subprocess.TimeoutExpired):
                self._process.wait(_END_S)
                return
            self._process.kill()
            self._process.wait()


def told(tie: socket.socket) -> tuple[str, str]:
    """Return the host and the token that the run has sent through its end of a tie."""
    line = b""
    while not line.endswith(b"\n") and (more := tie.recv(4096)):
        line += more
    host, token = json.loads(line)
    return host, token


def inherited(numbers: tuple[int, int]) -> tuple[Listening, socket.socket]:
    """Return the socket that listens, and the tie to the run, by their file descriptors."""
    end, tie = (socket.socket(fileno=number) for number in numbers)
    host, token = told(tie)
    address: Any = end.getsockname()
    return Listening(end, host, address[1], token), tie
