"""One small job in the interpreter that is forked, so that no fork need compile the same SQL and build the same options again.

All that it leaves are caches of libraries and of ``runner``. Its store, its environment and its signals are put back, and tests
of the start use an interpreter of their own.
"""

import gc
import json
import os
import resource
import signal
import sys
import tempfile
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import compiled_once

from runner import databases
from runner.cli.main import main

_SERVER = ("simulate", "--port", "0", "--first-token-s", "0", "--chunk-s", "0", "--tokens", "6")
_AFTER = (["status"], ["status", "--json"], ["show", "1"], ["list"], ["export", "-o", "a.csv"], ["export", "-o", "a.jsonl"])


def run() -> None:
    """Run three rows, and the commands that read a store. Raises AssertionError if one of them fails."""
    compiled_once.install()
    opened = _open_files()
    with _as_before(), tempfile.TemporaryDirectory() as folder:
        os.environ.clear()
        os.environ.update({"PATH": os.defpath, "HOME": folder, "XDG_CONFIG_HOME": folder, "XDG_RUNTIME_DIR": folder})
        os.chdir(folder)
        Path("p.jsonl").write_text("".join(f"{json.dumps({'id': n, 'prompt': n})}\n" for n in "abc"), encoding="utf-8")
        with _simulator() as url, Path("said").open("w", encoding="utf-8") as said:
            sys.stdout = sys.stderr = said
            # libuv has files of the process: a fork closes what it has not opened, and could then start no process
            sys.modules["uvloop"] = None  # type: ignore[assignment]
            for arguments in (["run", "p.jsonl", "--model", "m", "--base-url", url], *_AFTER):
                code = _main(arguments)
                said.flush()
                words = Path("said").read_text(encoding="utf-8")
                # Python prints a warning once in a process: a fork would not
                assert (code, "Warning:" in words) == (0, False), f"{arguments} ended with {code}: {words}"
    assert threading.active_count() == 1, "a fork would not have the other threads, and perhaps a lock of theirs"
    assert _open_files() == opened, "a fork closes what it has not opened"
    # the number of a file that is gone may be that of one of a test
    databases._used.clear()


def _open_files() -> list[str]:
    return sorted(path.name for path in Path("/dev/fd").iterdir())


def _main(arguments: Sequence[str]) -> object:
    sys.argv = ["-m", *arguments]
    try:
        main()
    except SystemExit as ended:
        return ended.code


@contextmanager
def _as_before() -> Iterator[None]:
    """Put back what a command changes in its process."""
    environment, folder, arguments, collected = os.environ.copy(), Path.cwd(), sys.argv, gc.get_threshold()
    loops = sys.modules.get("uvloop")
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    streams, handlers = (sys.stdout, sys.stderr), {kind: signal.getsignal(kind) for kind in signal.valid_signals()}
    try:
        yield
    finally:
        sys.stdout, sys.stderr = streams
        # where it is not installed, whoever asks for it is told so
        sys.modules.pop("uvloop", None)
        if loops is not None:
            sys.modules["uvloop"] = loops
        os.chdir(folder)
        os.environ.clear()
        os.environ.update(environment)
        sys.argv = arguments
        gc.set_threshold(*collected)
        resource.setrlimit(resource.RLIMIT_NOFILE, limits)
        # it is found once in a process
        tempfile.tempdir = None
        for kind, handler in handlers.items():
            if signal.getsignal(kind) is not handler:
                signal.signal(kind, handler)


@contextmanager
def _simulator() -> Iterator[str]:
    """Serve answers from a fork, and yield its address."""
    reading, writing = os.pipe()
    pid = os.fork()
    if not pid:
        sys.stdout = os.fdopen(writing, "w", encoding="utf-8")
        os._exit(1 if _main(_SERVER) else 0)
    os.close(writing)
    try:
        with os.fdopen(reading, encoding="utf-8") as told:
            yield told.readline().split()[-1]
    finally:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
