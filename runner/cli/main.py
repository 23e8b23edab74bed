"""Where the command begins and ends: streams, signals, and every error as one sentence with its exit code."""

import errno
import gc
import io
import os
import signal
import sys
from contextlib import nullcontext, suppress
from pathlib import Path
from typing import NoReturn

import click

from runner.cli.commands import cli
from runner.cli.signals import orderly_end
from runner.errors import RunnerError

_OUTPUT_TROUBLE = (errno.EPIPE, errno.ENOSPC, errno.EIO, errno.EBADF)


_SENDING = {"run", "resume", "retry", "simulate"}
"""The commands that open connections."""


def main() -> NoReturn:
    """Run the command line: every error becomes one sentence and its exit code."""
    # what a command loads stays to its end: looking through it again and again costs a tenth of a second
    gc.set_threshold(500_000, 20, 20)
    _open_missing_files()
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            # a terminal that cannot show a character gets its number, not a traceback
            stream.reconfigure(errors="backslashreplace")
    reading = "--help" in sys.argv or not _SENDING.intersection(sys.argv)
    if hasattr(signal, "SIGPIPE") and reading:
        # `runner list | head` ends as quietly as `ls | head`; a connection that breaks must not end a run like that
        signal.signal(signal.SIGPIPE, signal.SIG_DFL)
    try:
        with orderly_end() if reading else nullcontext():
            cli.main(standalone_mode=False)
            sys.stdout.flush()
        code = 0
    except click.ClickException as error:
        error.show()
        code = error.exit_code
    except (click.Abort, KeyboardInterrupt):
        code = 130
    except OSError as error:
        if error.filename is None and error.errno in _OUTPUT_TROUBLE:
            # nothing may be written at exit either
            os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        code = 141
        if not isinstance(error, BrokenPipeError):
            what = "standard output" if error.errno in _OUTPUT_TROUBLE else "the current folder or a file"
            _complain(f"{error.filename or what} cannot be used: {error.strerror or error}")
            code = 4
    except RunnerError as error:
        from runner.text import clean, redact

        _complain(clean(redact(str(error))))
        code = error.exit_code
    except Exception as error:
        if os.environ.get("RUNNER_TRACEBACK"):
            raise
        _complain(f"internal error, {type(error).__name__}: {error}. This is a bug; RUNNER_TRACEBACK=1 shows where")
        code = 70
    sys.exit(code)


def _open_missing_files() -> None:
    """Give a process that was started without one a standard input, output and error: the next socket would take their place."""
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            # the lowest free number is taken, which is this one
            os.open(os.devnull, os.O_RDWR)
    sys.stdout = sys.stdout or Path(os.devnull).open("w")  # noqa: SIM115 - for the rest of the process
    sys.stderr = sys.stderr or Path(os.devnull).open("w")  # noqa: SIM115


def _complain(sentence: str) -> None:
    """Write to standard error, if there is still one."""
    with suppress(OSError):
        click.echo(f"runner: {sentence}", err=True)
