"""Real processes for the flow tests: runner, its simulator and llmock, each in a clean environment, each ended by its own id."""

import fcntl
import json
import os
import re
import shutil
import signal
import socket
import sqlite3
import subprocess
import sys
import sysconfig
import tempfile
import termios
import time
import urllib.request
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import Any, NamedTuple, Self

import forks
import pytest

HANG_S = 120.0
"""Seconds after which a process counts as hanging; no test asserts a shorter time on a real clock."""

_FOREIGN = (
    "RUNNER_",
    "SSL_CERT_",
    "OPENAI_",
    "ANTHROPIC_",
    "LLMOCK_",
    "COLUMNS",
    "LINES",
    "PYTHON",
    "HTTP",
    "ALL_PROXY",
    "NO_PROXY",
)
_SIGNS = ("Traceback", "Warning:", "never retrieved", "never awaited", "Exception ignored", "internal error", "Fatal Python")
_PROGRESS = re.compile(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d .*  [\d,]+ done, .*\n?")
_OPENER = urllib.request.build_opener(urllib.request.ProxyHandler({}))


class Ended(NamedTuple):
    """How a process ended; a negative code is the signal that killed it."""

    code: int
    out: str
    err: str


class Started:
    """A process, from its start until the ``with`` block is left; its output goes to files, so that it never blocks on a pipe."""

    def __init__(
        self,
        command: Sequence[str],
        *,
        cwd: Path,
        env: Mapping[str, str],
        stdin: int | None = None,
        stdout: int | None = None,
        terminal: int | None = None,
        fresh: bool = False,
    ) -> None:
        """Start it in a session of its own. terminal: the slave end of a pty, which becomes its controlling terminal.

        fresh: with an interpreter of its own, also where the command is ``runner`` and could be a fork.
        """
        self._out, self._err = tempfile.TemporaryFile(), tempfile.TemporaryFile()  # noqa: SIM115
        out = self._out.fileno() if stdout is None else stdout
        with Path(os.devnull).open("rb") as nothing:
            given = nothing.fileno() if stdin is None else stdin
            streams = (given, out, self._err.fileno()) if terminal is None else (terminal,) * 3
            self._process = (_fork if not fresh and forks.fits(command, env) else _spawn)(
                command, cwd, env, streams, terminal is not None
            )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self.alive:
            self._process.kill()
            self._process.wait(HANG_S)
        self._out.close()
        self._err.close()

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def alive(self) -> bool:
        return self._process.poll() is None

    @property
    def out(self) -> str:
        """Standard output so far."""
        return os.pread(self._out.fileno(), 1 << 28, 0).decode()

    @property
    def err(self) -> str:
        """Standard error so far."""
        return os.pread(self._err.fileno(), 1 << 28, 0).decode()

    def signal(self, kind: int) -> None:
        self._process.send_signal(kind)

    def ended(self, timeout_s: float = HANG_S) -> Ended:
        """Wait for the end."""
        try:
            code = self._process.wait(timeout_s)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"still running after {timeout_s:g} s\n{self.out[-2000:]}\n{self.err[-2000:]}") from None
        return Ended(code, self.out, self.err)

    def killed(self) -> None:
        """Kill it with SIGKILL, by its own id; it must still be at work."""
        assert self.alive, f"ended before it could be killed\n{self.ended()}"
        self._process.kill()
        assert self.ended().code == -signal.SIGKILL

    def until(self, condition: Callable[[], Any], what: str) -> None:
        """Wait for a condition while the process works."""
        until(lambda: condition() or not self.alive, what)
        assert self.alive, f"ended while waiting for {what}\n{self.ended()}"


def _fork(command: Sequence[str], cwd: Path, env: Mapping[str, str], streams: tuple[int, int, int], terminal: bool) -> forks.Fork:
    return forks.Fork(command[len(forks.RUNNER) :], cwd=cwd, env=env, streams=streams, terminal=terminal)


def _spawn(
    command: Sequence[str], cwd: Path, env: Mapping[str, str], streams: tuple[int, int, int], terminal: bool
) -> "subprocess.Popen[bytes]":
    stdin, stdout, stderr = streams
    return subprocess.Popen(
        list(command),
        cwd=cwd,
        env=dict(env),
        stdin=stdin,
        stdout=stdout,
        stderr=stderr,
        start_new_session=True,
        preexec_fn=_take_terminal if terminal else None,
    )


def _take_terminal() -> None:
    fcntl.ioctl(0, termios.TIOCSCTTY, 0)


def until(condition: Callable[[], Any], what: str, timeout_s: float = HANG_S, poll_s: float = 0.01) -> None:
    """Wait for a condition."""
    end = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < end, f"waited {timeout_s:g} s in vain for {what}"
        time.sleep(poll_s)


def environment(given: Mapping[str, str] | None = None) -> dict[str, str]:
    """Our environment without anything that a runner, a provider's SDK or llmock would listen to, and what is given.

    Python finds the code of this checkout first.
    """
    kept = {name: value for name, value in os.environ.items() if not name.upper().startswith(_FOREIGN)}
    given = dict(given or {})
    path = os.pathsep.join(filter(None, (forks.CHECKOUT, given.pop("PYTHONPATH", None))))
    return {**kept, "PYTHONUNBUFFERED": "1", "PYTHONPATH": path, **given}


def runner(
    *arguments: str,
    cwd: Path,
    env: Mapping[str, str] | None = None,
    stdin: int | None = None,
    stdout: int | None = None,
    terminal: int | None = None,
    fresh: bool = False,
) -> Started:
    """Start ``runner`` with these arguments."""
    command = [*forks.RUNNER, *arguments]
    return Started(command, cwd=cwd, env=environment(env), stdin=stdin, stdout=stdout, terminal=terminal, fresh=fresh)


def installed(*arguments: str, cwd: Path, env: Mapping[str, str] | None = None) -> Started:
    """Start the installed command ``runner``, as a user does."""
    return Started([str(Path(sysconfig.get_path("scripts")) / "runner"), *arguments], cwd=cwd, env=environment(env))


def run(*arguments: str, cwd: Path, env: Mapping[str, str] | None = None) -> Ended:
    """Run ``runner`` to its end. A traceback or a warning is always an error."""
    with runner(*arguments, cwd=cwd, env=env) as process:
        ended = process.ended()
    assert_clean(ended)
    return ended


def piped(*arguments: str, given: bytes, cwd: Path) -> Ended:
    """Run ``runner`` to its end with the given bytes on its standard input, which is a pipe."""
    reading, writing = os.pipe()
    with os.fdopen(writing, "wb", buffering=0) as pipe:
        try:
            process = runner(*arguments, cwd=cwd, stdin=reading)
        finally:
            os.close(reading)
        with process:
            # a process that refuses its input does not read all of it
            with suppress(BrokenPipeError):
                pipe.write(given)
            pipe.close()
            return process.ended()


def said(err: str) -> str:
    """Return what a run has said beside the lines of its progress, one every five seconds, which a busy machine takes."""
    return "".join(line for line in err.splitlines(keepends=True) if not _PROGRESS.fullmatch(line))


def assert_clean(ended: Ended) -> None:
    """Check that Python itself prints nothing: no traceback, no warning, no message at exit."""
    for sign in _SIGNS:
        assert sign not in ended.err + ended.out, ended.err[-4000:] or ended.out[-4000:]


def get(url: str) -> Any:
    """Get JSON from a server on loopback."""
    with _OPENER.open(url, timeout=HANG_S) as answer:
        return json.load(answer)


def post(url: str, body: Any, headers: Mapping[str, str] | None = None) -> Any:
    """Send JSON to a server on loopback and read JSON."""
    data = json.dumps(body).encode()
    request = urllib.request.Request(url, data, {"content-type": "application/json", **(headers or {})})
    with _OPENER.open(request, timeout=HANG_S) as answer:
        return json.load(answer)


class LLMock(NamedTuple):
    """An ``llmock serve`` that answers."""

    url: str
    process: Started

    def base_url(self, dialect: str) -> str:
        return self.url + {"openai": "/v1", "anthropic": "/anthropic"}[dialect]

    def requests(self) -> list[dict[str, Any]]:
        """Every request that reached it, with its body; it keeps the last 10,000 and none may be missing."""
        found: list[dict[str, Any]] = get(f"{self.url}/_llmock/requests")["requests"]
        assert [one["seq"] for one in found] == list(range(1, len(found) + 1))
        return found

    def verdict(self) -> dict[str, Any]:
        found: dict[str, Any] = get(f"{self.url}/_llmock/verdict")
        return found

    def reset(self) -> None:
        post(f"{self.url}/_llmock/reset", {})


@contextmanager
def llmock(*options: str) -> Iterator[LLMock]:
    """Run llmock, a fault server of other authors, on a free port until the block is left."""
    for _ in range(3):
        with _llmock(*options) as server:
            until(lambda: not server.process.alive or _answers(server.url), "llmock")
            # another process may have taken the port in between
            if server.process.alive:
                yield server
                return
            said = server.process.err
    raise AssertionError(f"llmock does not start: {said}")


@contextmanager
def _llmock(*options: str) -> Iterator[LLMock]:
    port = free_port()
    command = [sys.executable, "-m", "llmock.cli", "serve", "--host", "127.0.0.1", "--port", str(port), "--log-level", "warning"]
    with tempfile.TemporaryDirectory() as folder, Started([*command, *options], cwd=Path(folder), env=environment()) as process:
        yield LLMock(f"http://127.0.0.1:{port}", process)


def _answers(url: str) -> bool:
    try:
        get(f"{url}/health")
    except OSError:
        return False
    return True


def free_port() -> int:
    """Return a port on loopback on which no process listens."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


class Simulated(NamedTuple):
    """A ``runner simulate`` that answers."""

    openai: str
    anthropic: str
    process: Started

    def base_url(self, dialect: str) -> str:
        return self.openai if dialect == "openai" else self.anthropic

    def stats(self) -> dict[str, Any]:
        found: dict[str, Any] = get(f"{self.anthropic}/stats")
        return found

    def invoice(self, *, lines: bool = False) -> dict[str, Any]:
        """What its answers would have cost; lines: request by request."""
        found: dict[str, Any] = get(f"{self.anthropic}/invoice?lines={int(lines)}")
        return found

    def sent(self) -> int:
        """Count the requests that reached it."""
        count: int = self.stats()["requests"]
        return count


QUICK = ("--first-token-s", "0", "--chunk-s", "0", "--tokens", "6")
"""Options of a simulator that answers at once."""


@contextmanager
def simulator(*options: str, env: Mapping[str, str] | None = None) -> Iterator[Simulated]:
    """Run ``runner simulate`` on a free port until the block is left."""
    with (
        tempfile.TemporaryDirectory() as folder,
        runner("simulate", "--port", "0", *options, cwd=Path(folder), env=env) as process,
    ):
        process.until(lambda: "Ctrl-C" in process.out, "the simulator")
        addresses = dict(line.split(maxsplit=1) for line in process.out.splitlines()[:2])
        base = {name: words.split()[-1] for name, words in addresses.items()}
        yield Simulated(base["openai"], base["anthropic"], process)


def at(server: Simulated, *options: str) -> tuple[str, ...]:
    """Return the command that runs the prompt file against a server."""
    return ("run", "prompts.jsonl", "--model", "m", "--base-url", server.openai, *options)


def rows(store: Path, query: str, *values: Any) -> list[tuple[Any, ...]]:
    """Read from a store while another process may write to it. A missing store or table counts as empty."""
    if not store.exists():
        return []
    for _ in range(50):
        with suppress(_ReadOnlyError):
            return _rows(store, query, *values)
        # the writer is just making its log, which a reader may not do in its place
        time.sleep(0.02)
    # a killed one has left a transaction to be rolled back, which is for the next session to do
    with tempfile.TemporaryDirectory() as folder:
        for path in store.parent.glob(f"{store.name}*"):
            shutil.copy(path, folder)
        return _rows(Path(folder) / store.name, query, *values, mode="rw")


class _ReadOnlyError(Exception):
    """SQLite would have to write in order to read."""


def _rows(store: Path, query: str, *values: Any, mode: str = "ro") -> list[tuple[Any, ...]]:
    try:
        with closing(sqlite3.connect(f"{store.resolve().as_uri()}?mode={mode}", uri=True, timeout=30)) as connection:
            return connection.execute(query, values).fetchall()
    except sqlite3.OperationalError as error:
        if "no such table" in str(error) or "unable to open" in str(error):
            return []
        if "readonly" in str(error):
            raise _ReadOnlyError from error
        raise


def count(store: Path, table: str = "items", where: str = "1") -> int:
    """Count rows of a store."""
    found = rows(store, f"SELECT count(*) FROM {table} WHERE {where}")
    return int(found[0][0]) if found else 0


def write_prompts(path: Path, numbers: Sequence[int] | range) -> None:
    """Write a prompt file with one row per number."""
    lines = (json.dumps({"id": f"row-{number}", "prompt": f"Tell me about the number {number}."}) for number in numbers)
    path.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")


def begins_ahead(request: pytest.FixtureRequest) -> bool:
    """Return True if the runs of the fixture ``begun`` may begin before its tests: some are to run, and all of them here."""
    wanted = any("begun" in getattr(item, "fixturenames", ()) for item in request.session.items)
    return wanted and "PYTEST_XDIST_WORKER" not in os.environ
