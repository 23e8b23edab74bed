"""``runner delete``: runs with all their results."""

import sys

import click

from runner.cli.options import db_option, quiet_option
from runner.cli.typed import number_of_run
from runner.errors import UsageError


@click.command()
@click.argument("run_ids", metavar="RUN...", type=number_of_run, nargs=-1, required=True)
@click.option("--yes", "-y", is_flag=True, help="Do not ask.")
@click.option("--vacuum", is_flag=True, help="Give the space back to the disk; rewrites the whole store.")
@db_option
@quiet_option
def delete(run_ids: tuple[int, ...], yes: bool, vacuum: bool, db: str, quiet: bool) -> None:
    """Delete runs with all their results.

    Prompt files are left alone. A run that a process is working on is refused.
    """
    from runner import api
    from runner.cli import output
    from runner.cli.trusting import confirmed

    found = api.deletable(run_ids, db=db)
    for sentence in [] if quiet and yes else api.dependent(run_ids, db=db):
        click.echo(sentence, err=True)
    if not yes:
        if not sys.stdin.isatty():
            raise UsageError("nobody can be asked here, so nothing was deleted; add --yes")
        click.echo(output.listing(found, as_json=False), err=True)
        if not confirmed(f"Delete {'this run' if len(found) == 1 else 'these runs'} with all results?"):
            click.echo("nothing was deleted", err=True)
            sys.exit(1)
    api.erase(run_ids, db=db, vacuum=vacuum)
    if not quiet:
        click.echo(f"deleted: {', '.join(f'run {run.id}' for run in found)}")
