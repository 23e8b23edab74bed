"""``runner attach``: shows the progress of a running session in another terminal."""

import click

from runner.cli.completing import complete_run_alone
from runner.cli.options import db_option, json_option
from runner.cli.typed import run_name


@click.command(short_help="Show the progress of a running session in another terminal.")
@click.argument("run_id", metavar="[RUN]", type=run_name, required=False, shell_complete=complete_run_alone)
@db_option
@json_option
def attach(run_id: int | str | None, db: str, as_json: bool) -> None:
    """Show the progress of a running session, as its own terminal does, until it ends. Ctrl-C leaves, and the run goes on.

    RUN is the number, the name or the prompt file of the run; the default is the one that runs.
    """
    import anyio

    from runner.cli.following import follow
    from runner.cli.running import running

    anyio.run(follow, running(run_id, db), db, as_json)
