"""The commands: parse, call the API, print, exit code. Nothing else; what a command needs is imported when it runs."""

import errno
import gc
import io
import os
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext, suppress
from pathlib import Path
from typing import Any, NoReturn, TypeVar

import click

from runner.config.settings import DIALS, Dial
from runner.errors import RunnerError, UsageError
from runner.version import __version__

F = TypeVar("F", bound=Callable[..., Any])

_OUTPUT_TROUBLE = (errno.EPIPE, errno.ENOSPC, errno.EIO, errno.EBADF)
_SENDING = {"run", "resume", "retry", "simulate"}
"""The commands that open connections."""
_PACE = tuple(dial.name for dial in DIALS if not dial.answer)
"""The settings that may change within a run."""


def _option(dial: Dial) -> Callable[[F], F]:
    default = f"  [default: {dial.default:g}]" if isinstance(dial.default, int | float) else ""
    default = f"  [default: {dial.default}]" if dial.kind == "slots" or dial.choices else default
    shown = {"int": "N", "float": "X", "json": "JSON", "slots": "auto|N", "span": "SECONDS"}.get(dial.kind, "TEXT")
    shown = "|".join(dial.choices) or shown
    return click.option(
        dial.option,
        dial.name,
        multiple=dial.kind == "texts",
        type={"int": int, "float": float}.get(dial.kind, str),
        metavar=shown,
        help=dial.help + default,
    )


def _settings(*names: str) -> Callable[[F], F]:
    """Add the options of settings; all of them without names."""

    def add(command: F) -> F:
        for dial in reversed(DIALS):
            if not names or dial.name in names:
                command = _option(dial)(command)
        return command

    return add


_db = click.option("--db", default="runner.db", envvar="RUNNER_DB", show_default=True, metavar="FILE", help="The store.")
_json = click.option("--json", "as_json", is_flag=True, help="JSON on standard output instead of text.")
_quiet = click.option("--quiet", "-q", is_flag=True, help="Say nothing but errors.")
_accept = click.option("--accept-changes", is_flag=True, help="Send rows again whose prompt has changed since its answer came.")
_run_id = click.argument("run_id", metavar="[RUN]", type=int, required=False)


def _again(command: F) -> F:
    """Add what going on with a run takes."""
    return _run_id(_settings(*_PACE)(_db(_quiet(_json(command)))))


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@click.version_option(__version__, prog_name="runner")
def cli() -> None:
    """Get an answer from an LLM to every prompt of a file, and never pay for one twice.

    \b
    runner run jobs/prompts.jsonl     and the same again after Ctrl-C or a crash: it goes on
    runner export -o answers.csv
    """  # noqa: D301 - click reads the backspace


@cli.command()
@click.argument("file", type=click.Path())
@_settings()
@_db
@click.option("--limit", type=click.IntRange(min=1), metavar="N", help="Only the first N rows of the file.")
@click.option("--new", is_flag=True, help="Begin a new run, even where one could go on.")
@_accept
@click.option("--strict", is_flag=True, help="Refuse to start when a row is broken.")
@click.option("--show-config", is_flag=True, help="Print every setting and where it came from, and send nothing.")
@_quiet
@_json
def run(
    file: str,
    db: str,
    limit: int | None,
    new: bool,
    accept_changes: bool,
    strict: bool,
    show_config: bool,
    quiet: bool,
    as_json: bool,
    **settings: Any,
) -> None:
    """Run FILE, or go on with it if it was interrupted.

    FILE is a prompt file (JSON lines, also .gz), whose settings stand in the .toml of the same name beside it,
    or a job file (.toml) that names one, or - for standard input; a pipe by name is read as that is. Options
    win over RUNNER_* variables, these over the file.
    """
    from runner import api
    from runner.cli import foreground as drive
    from runner.cli import output as report
    from runner.config import job as config
    from runner.session.prepare import Wish

    job = config.load(file, _given(settings))
    if show_config:
        click.echo(report.configuration(api.describe(job), as_json=as_json))
        return
    wish = Wish(limit=limit, new=new, accept_changes=accept_changes, strict=strict)
    with _in_good_order(), api.spooled(job, db) as kept:
        sys.exit(drive.drive(kept, db, wish, quiet=quiet, as_json=as_json))


@cli.command()
@_again
@_accept
def resume(run_id: int | None, db: str, accept_changes: bool, quiet: bool, as_json: bool, **settings: Any) -> None:
    """Go on with a run by its number, by default the newest unfinished one."""
    from runner import api
    from runner.cli import foreground as drive

    job, wish = api.resumed(db, run_id, _given(settings), accept_changes=accept_changes)
    sys.exit(drive.drive(job, db, wish, quiet=quiet, as_json=as_json))


@cli.command()
@_again
def retry(run_id: int | None, db: str, quiet: bool, as_json: bool, **settings: Any) -> None:
    """Give the failed items of a run another chance, in the same run."""
    from runner import api
    from runner.cli import foreground as drive

    job, wish = api.retried(db, run_id, _given(settings))
    sys.exit(drive.drive(job, db, wish, quiet=quiet, as_json=as_json))


@cli.command()
@_run_id
@_db
@_json
def status(run_id: int | None, db: str, as_json: bool) -> None:
    """Show one run in full, by default the newest."""
    from runner import api
    from runner.cli import output as report

    click.echo(report.status(*api.status(run_id, db=db), db=db, as_json=as_json))


@cli.command("list")
@_db
@_json
def list_(db: str, as_json: bool) -> None:
    """Show all runs."""
    from runner import api
    from runner.cli import output as report

    click.echo(report.listing(api.runs(db=db), as_json=as_json))


@cli.command()
@_run_id
@click.option("--output", "-o", required=True, metavar="FILE", help="Where to; - is standard output.")
@click.option("--format", metavar="FORMAT", help="csv or jsonl; by default the ending of FILE.")
@click.option("--csv-raw", is_flag=True, help="Leave cells that a spreadsheet takes for formulas as they are.")
@_db
@_quiet
def export(run_id: int | None, output: str, format: str | None, csv_raw: bool, db: str, quiet: bool) -> None:  # noqa: A002
    """Write the results of a run, by default the newest, to a CSV or JSONL file."""
    from runner import api

    count = api.export(output, run_id=run_id, db=db, format=format, raw=csv_raw)
    if not quiet and output != "-":
        click.echo(f"{count:,} rows written to {click.format_filename(output)}")


@cli.command()
@_run_id
@_db
@_json
def errors(run_id: int | None, db: str, as_json: bool) -> None:
    """Show the failed items of a run by cause: how many, one example, what to do."""
    from runner import api
    from runner.cli import output as report

    click.echo(report.errors(*api.errors(run_id, db=db), db=db, as_json=as_json))


@cli.command()
@click.argument("file", type=click.Path())
@_settings()
@_json
def check(file: str, as_json: bool, **settings: Any) -> None:
    """Read everything, send nothing: rows, broken lines, duplicate ids, the settings in force.

    Exit code 1 when rows are broken, 2 when `runner run` would refuse to start.
    """
    from runner import api
    from runner.cli import output as report

    found = api.check(file, **_given(settings))
    click.echo(report.check(found, as_json=as_json))
    if found.refusal or found.duplicates:
        sys.exit(2)
    sys.exit(1 if found.broken else 0)


@cli.command()
@click.option("--port", type=click.IntRange(0, 65535), default=8399, show_default=True, help="0 takes a free one.")
@click.option("--seed", type=int, default=0, show_default=True, help="Draws answers and faults.")
@click.option("--first-token-s", type=float, default=0.15, show_default=True, help="Mean seconds to the first token.")
@click.option("--chunk-s", type=float, default=0.01, show_default=True, help="Seconds between two tokens.")
@click.option("--tokens", type=int, default=40, show_default=True, help="Mean tokens of an answer.")
@click.option("--rpm", type=int, help="Requests per minute before it answers 429.")
@click.option("--tpm", type=int, help="Tokens per minute before it answers 429.")
@click.option("--max-in-flight", type=int, help="Requests at once before it answers 429.")
@click.option("--key-env", metavar="NAME", help="Demand the key in this environment variable.")
@click.option("--fault", "faults", multiple=True, metavar="NAME=SHARE", help="Such as 429=0.1; may be given several times.")
def simulate(port: int, key_env: str | None, faults: tuple[str, ...], **behaviour: Any) -> None:
    """Serve synthetic answers on loopback in both dialects, until Ctrl-C."""
    from runner import api

    key = os.environ.get(key_env) if key_env else None
    if key_env and not key:
        raise UsageError(f"{key_env} is not set")
    api.simulate(port, faults, click.echo, key=key, **behaviour)


def _given(settings: dict[str, Any]) -> dict[str, Any]:
    """Keep the options that were given; one that may be repeated is an empty tuple when it was not."""
    return {name: value for name, value in settings.items() if value is not None and value != ()}


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
        with _in_good_order() if reading else nullcontext():
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


@contextmanager
def _in_good_order() -> Iterator[None]:
    """Let SIGTERM and SIGHUP end what is done inside as Ctrl-C does: a copy or an export takes its unfinished file away."""

    def end(*_: object) -> NoReturn:
        sys.exit(143)

    known = (signal.SIGTERM, *([signal.SIGHUP] if hasattr(signal, "SIGHUP") else []))
    # what our parent had us ignore (nohup) stays ignored
    before = {kind: signal.getsignal(kind) for kind in known if signal.getsignal(kind) is not signal.SIG_IGN}
    for kind in before:
        signal.signal(kind, end)
    try:
        yield
    finally:
        for kind, handler in before.items():
            signal.signal(kind, handler)


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
