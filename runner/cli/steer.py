"""The commands that steer a running session from another terminal: pause, continue, stop, cancel, requeue, set."""

import sys
from typing import TYPE_CHECKING, Any

import click

from runner.cli.completing import complete_run_alone
from runner.cli.options import db_option, json_option
from runner.cli.typed import run_name

if TYPE_CHECKING:
    from runner.control.messages import Request

run_argument = click.argument("run_id", metavar="[RUN]", type=run_name, required=False, shell_complete=complete_run_alone)
run_option = click.option(
    "--run",
    "run_id",
    type=run_name,
    metavar="RUN",
    help="Number, name or prompt file of the run; the default is the one that runs.",
    shell_complete=complete_run_alone,
)
_MOST = 20
"""Rows that are printed one by one."""


@click.command(short_help="Pause a running session: it sends no further request.")
@run_argument
@db_option
@json_option
def pause(run_id: int | str | None, db: str, as_json: bool) -> None:
    """Pause a running session, from any terminal: no further request goes out. Those that are open go on, and are saved.

    RUN is the number, the name or the prompt file of the run; the default is the one that runs. `runner continue` goes on.
    """
    from runner.control.messages import Pause

    _ask(run_id, db, Pause(), as_json=as_json)


@click.command("continue", short_help="Go on with a session that was paused.")
@run_argument
@db_option
@json_option
def continue_(run_id: int | str | None, db: str, as_json: bool) -> None:
    """Go on with a session that was paused with `runner pause`.

    RUN is the number, the name or the prompt file of the run; the default is the one that runs. A session that has ended is
    continued by `runner resume`.
    """
    from runner.control.messages import Continue

    _ask(run_id, db, Continue(), as_json=as_json)


@click.command(short_help="End a running session as Ctrl-C does.")
@run_argument
@db_option
@json_option
def stop(run_id: int | str | None, db: str, as_json: bool) -> None:
    """End a running session as Ctrl-C in its terminal does: it sends nothing further, and open requests may finish.

    The second time, they are dropped.

    RUN is the number, the name or the prompt file of the run; the default is the one that runs.
    """
    from runner.control.messages import Stop

    _ask(run_id, db, Stop(), as_json=as_json)


@click.command(short_help="Give up rows of a running session.")
@click.argument("ids", metavar="ROW...", nargs=-1, required=True)
@run_option
@db_option
@json_option
def cancel(ids: tuple[str, ...], run_id: int | str | None, db: str, as_json: bool) -> None:
    """Give up rows of a running session: open requests end at once and are booked as cancelled, and the rows have failed.

    ROW is the id of a row, or its line. A row that waits, or that was not read yet, fails without a request. `runner retry` asks
    such rows again. The exit code is 1 if some of the rows could not be cancelled, and 2 if none could.
    """
    from runner.control.messages import Cancel

    _ask(run_id, db, Cancel(ids=ids), as_json=as_json)


@click.command(short_help="Send failed rows again in a running session.")
@click.argument("ids", metavar="ROW...", nargs=-1, required=True)
@run_option
@db_option
@json_option
def requeue(ids: tuple[str, ...], run_id: int | str | None, db: str, as_json: bool) -> None:
    """Send rows that have failed again, in the session that runs, at once.

    ROW is the id of a row, or its line. The exit code is 1 if some of the rows are not sent again, and 2 if none is. Rows of a
    session that has ended are sent again by `runner retry`.
    """
    from runner.control.messages import Requeue

    _ask(run_id, db, Requeue(ids=ids), as_json=as_json)


@click.command("set", short_help="Change the limits of a running session.")
@run_argument
@click.option("--concurrency", metavar="N", help="Maximum number of open requests; of a session that adapts it: the highest.")
@click.option("--rpm", metavar="X", help="Maximum requests per minute; none takes the limit away.")
@click.option("--tpm", metavar="X", help="Maximum tokens per minute, input and output together; none takes the limit away.")
@click.option("--max-cost", metavar="X", help="Dollars that the run may cost at most; only where it has a budget already.")
@db_option
@json_option
def set_(run_id: int | str | None, db: str, as_json: bool, **limits: str | None) -> None:
    """Change the limits of a running session, up or down, within a second. They hold until the session ends.

    RUN is the number, the name or the prompt file of the run; the default is the one that runs. With several endpoints, each has
    the limits. Without a limit, those that the server reports still hold.
    """
    from runner.config.settings import BY_NAME
    from runner.config.values import parse
    from runner.control.messages import NONE, Set
    from runner.errors import UsageError

    given: dict[str, Any] = {}
    for name, text in limits.items():
        if text is not None and name in ("rpm", "tpm") and text.strip().casefold() == NONE:
            given[name] = NONE
        elif text is not None:
            given[name] = parse(BY_NAME[name], text, f"option --{name.replace('_', '-')}")
    if not given:
        raise click.UsageError("name a limit: --concurrency, --rpm, --tpm or --max-cost")
    if given.get("concurrency") == "auto":
        raise UsageError("concurrency must be a number here: how many requests may be open (option --concurrency)")
    _ask(run_id, db, Set(**given), as_json=as_json)


def _ask(named: int | str | None, db: str, request: "Request", *, as_json: bool) -> None:
    """Ask a session, print what came of it, and end with an exit code unless all was done."""
    from pathlib import Path

    from runner.cli import output
    from runner.cli.running import running
    from runner.control.client import ask
    from runner.errors import UsageError

    run = running(named, db)
    reply = ask(Path(db), run, request)
    if as_json:
        told = {"run": run, "done": reply.done, "error": reply.error, "rows": dict(reply.rows)}
        click.echo(output.to_json(told))
    if reply.error is not None:
        error = UsageError(reply.error)
        error.is_told = as_json
        raise error
    left = {row: phrase for row, phrase in reply.rows.items() if not _is_done(phrase)}
    if not as_json:
        _say(run, reply.done, {row: phrase for row, phrase in reply.rows.items() if phrase not in _DONE})
    sys.exit(1 if left else 0)


_DONE = ("cancelled", "requeued")


def _is_done(phrase: str) -> bool:
    return phrase.startswith(_DONE)


def _say(run: int, done: str, rows: dict[str, str]) -> None:
    from runner.cli.fitting import say
    from runner.text import clean

    say(f"run {run}: {clean(done)}")
    for row, phrase in list(rows.items())[:_MOST]:
        say(f"  {clean(row, 40)}: {clean(phrase)}")
    if len(rows) > _MOST:
        say(f"  and {len(rows) - _MOST:,} more; --json has them all")
