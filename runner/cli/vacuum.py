"""``runner vacuum``: the space of deleted runs goes back to the disk."""

import click

from runner.cli.options import db_option, json_option, quiet_option


@click.command()
@db_option
@quiet_option
@json_option
def vacuum(db: str, quiet: bool, as_json: bool) -> None:
    """Give the space of deleted runs back to the disk.

    The whole store is written anew, which needs room for two more copies of what is left in it. It is refused while a process
    works on a run. If it is interrupted, the store is as it was.
    """
    from runner import api
    from runner.cli import output

    done = api.vacuum(db)
    if as_json:
        click.echo(output.to_json(done))
    elif not quiet:
        click.echo(output.vacuumed(done))
