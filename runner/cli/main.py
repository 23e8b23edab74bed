"""Entry point of the command line: prepares streams and signals, and turns every error into one sentence and an exit code."""

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
from runner.cli.completion import VARIABLE
from runner.cli.signals import orderly_end
from runner.cli.typed import hint
from runner.errors import RunnerError

_OUTPUT_TROUBLE = (errno.EPIPE, errno.ENOSPC, errno.EIO, errno.EBADF)

_TOLD = (1, 2, 3, 4, 5, 6, 70)
"""Exit codes of errors, and not of signals and of a reader that has left."""
_SENDING = {"batches", "estimate", "mcp", "run", "resume", "retry", "simulate", "try"}
"""The commands that open connections."""


def main() -> NoReturn:
    """Run the command line. Every error becomes one sentence and an exit code."""
    # Objects created by imports live until exit; scanning them in every garbage collection costs 0.1 s.
    gc.set_threshold(500_000, 20, 20)
    _open_missing_files()
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            # a character that the terminal cannot show is printed as an escape instead of raising an error
            stream.reconfigure(errors="backslashreplace")
    reading = "--help" in sys.argv or not _SENDING.intersection(sys.argv)
    if hasattr(signal, "SIGPIPE") and reading and not {"worker", "web"}.intersection(sys.argv):
        # `runner list | head` ends as quietly as `ls | head`; in a run, a broken connection must not end the process
        signal.signal(signal.SIGPIPE, signal.SIG_DFL)
    code = 0
    try:
        with orderly_end() if reading else nullcontext():
            cli.main(standalone_mode=False, complete_var=VARIABLE)
            sys.stdout.flush()
    except (Exception, KeyboardInterrupt) as error:  # noqa: BLE001 - the user gets a sentence instead of a traceback
        code = _report(error)
    finally:
        _discard_unwritable_output()
    sys.exit(code)


def _report(error: Exception | KeyboardInterrupt) -> int:
    """Print an error as one sentence on standard error, with ``--json`` as a line of JSON too, and return the exit code."""
    if VARIABLE in os.environ:
        # a shell asks for completions, and puts what is printed into what is being typed
        return 1
    code = _said(error)
    if "--json" in sys.argv[1:] and code in _TOLD and not getattr(error, "is_told", False):
        _tell(error, code)
    return code


def _said(error: Exception | KeyboardInterrupt) -> int:
    """Print an error as one sentence on standard error and return the exit code."""
    if isinstance(error, click.ClickException):
        words = hint(error, sys.argv[1:])
        if words is not None and isinstance(error, click.NoSuchOption):
            # what does it is not the option with the nearest name, which click proposes
            error = click.NoSuchOption(error.option_name, ctx=error.ctx)
        _show(error)
        if words is not None:
            _say(words)
        return error.exit_code
    if isinstance(error, click.Abort | KeyboardInterrupt):
        return 130
    if isinstance(error, OSError):
        return _report_os_error(error)
    if isinstance(error, RunnerError):
        _complain(str(error))
        return error.exit_code
    if os.environ.get("RUNNER_TRACEBACK", "").strip().lower() not in ("", "0", "false", "no", "off"):
        raise error
    _complain(f"internal error, {type(error).__name__}: {error}. This is a bug; RUNNER_TRACEBACK=1 shows where")
    return 70


def _report_os_error(error: OSError) -> int:
    """Print an error of a file or of standard output; a closed pipe ends the command without a word, as SIGPIPE does."""
    if isinstance(error, BrokenPipeError):
        return 141
    what = "standard output" if error.errno in _OUTPUT_TROUBLE else "the current folder or a file"
    _complain(f"{error.filename or what} cannot be used: {error.strerror or error}")
    return 4


def _discard_unwritable_output() -> None:
    """Discard the rest of a standard output that cannot be written.

    Python flushes it once more at exit. If that fails, the exit code is 120, and a second error is printed.
    """
    try:
        sys.stdout.flush()
    except OSError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)


def _open_missing_files() -> None:
    """Open standard input, output and error where they are missing. Otherwise the next socket would get their numbers."""
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            # open returns the lowest free number, which is this one
            os.open(os.devnull, os.O_RDWR)
    sys.stdout = sys.stdout or Path(os.devnull).open("w")  # noqa: SIM115 - for the rest of the process
    sys.stderr = sys.stderr or Path(os.devnull).open("w")  # noqa: SIM115


def _show(error: click.ClickException) -> None:
    """Print what click has to say, with what was typed made harmless."""
    words = io.StringIO()
    error.show(words)
    for line in words.getvalue().splitlines():
        _say(line)


def _tell(error: Exception | KeyboardInterrupt, code: int) -> None:
    """Print an error as a line of JSON, for a program that reads standard output alone."""
    # imported here: most commands end without an error
    import msgspec

    from runner.text import encodable_tree, json_text, redact

    words = error.format_message() if isinstance(error, click.ClickException) else str(error)
    told = {"event": "error", "exit_code": code, "code": getattr(error, "code", None), "message": redact(words)}
    with suppress(OSError):
        click.echo(json_text(msgspec.json.encode(encodable_tree(told))))


def _complain(sentence: str) -> None:
    """Print a sentence on standard error."""
    _say(f"runner: {sentence}")


def _say(line: str) -> None:
    """Print one line on standard error, without keys and harmless to a terminal; ignore a standard error that is closed."""
    # imported here: most commands end without an error
    from runner.cli import fitting
    from runner.text import clean, redact

    with suppress(OSError):
        fitting.say(clean(redact(line)), error=True)
