"""``runner delete``: runs with all their results."""

import sys

import click

from runner.cli.completing import complete_run_alone
from runner.cli.options import db_option, json_option, quiet_option
from runner.cli.typed import number_or_name
from runner.errors import UsageError


@click.command()
@click.argument("run_ids", metavar="RUN...", type=number_or_name, nargs=-1, required=True, shell_complete=complete_run_alone)
@click.option("--yes", "-y", is_flag=True, help="Do not ask.")
@click.option("--vacuum", is_flag=True, help="Give the space back to the disk; rewrites the whole store.")
@db_option
@quiet_option
@json_option
def delete(run_ids: tuple[int | str, ...], yes: bool, vacuum: bool, db: str, quiet: bool, as_json: bool) -> None:
    """Delete runs with all their results. RUN is the number or the name of a run.

    Prompt files are left alone. A run that a process is working on is refused; with --vacuum, any such run of the store is in
    the way.
    """
    from runner import api
    from runner.cli import output
    from runner.cli.trusting import confirmed

    found = api.deletable(run_ids, db=db)
    numbers = [run.id for run in found]
    notes = api.dependent(numbers, db=db)
    for sentence in [] if (quiet and yes) or as_json else notes:
        click.echo(sentence, err=True)
    if not yes:
        if not sys.stdin.isatty():
            raise UsageError("nobody can be asked here, so nothing was deleted; add --yes")
        click.echo(output.listing(found, as_json=False), err=True)
        if not confirmed(f"Delete {'this run' if len(found) == 1 else 'these runs'} with all results?"):
            click.echo("nothing was deleted", err=True)
            if as_json:
                click.echo(output.to_json({"deleted": [], "notes": notes, "vacuumed": None}))
            sys.exit(1)
    given_back = api.erase(numbers, db=db, vacuum=vacuum)
    if as_json:
        click.echo(output.to_json({"deleted": numbers, "notes": notes, "vacuumed": given_back}))
    elif not quiet:
        click.echo(f"deleted: {', '.join(f'run {number}' for number in numbers)}")
        if given_back is not None:
            click.echo(output.vacuumed(given_back))
