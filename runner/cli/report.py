"""``runner report``: one page about a run, or about several side by side."""

import click

from runner.cli.options import db_option, quiet_option
from runner.cli.typed import run_name


@click.command(short_help="Write a report of a run: one HTML page with charts.")
@click.argument("words", metavar="[RUN]...", nargs=-1, type=run_name)
@click.option(
    *("--output", "-o", "output"),
    metavar="FILE",
    default="report.html",
    show_default=True,
    help="File to write; - is standard output.",
)
@db_option
@quiet_option
def report(words: tuple[int | str, ...], output: str, db: str, quiet: bool) -> None:
    """Write a report of a run: one HTML page with charts and tables, which loads nothing.

    RUN is its number or its prompt file; the default is the newest run. Up to four runs are shown side by side.
    """
    from runner import api
    from runner.cli import chosen
    from runner.exports.file import is_standard_output
    from runner.text import clean, plural

    numbers = [number for word in words if (number := chosen.run_number(word, db)) is not None]
    made = api.report(output, run_ids=numbers, db=db)
    if not quiet and not is_standard_output(output):
        runs = plural(len(made), "run")
        click.echo(f"the report of {f'run {made[0]}' if len(made) == 1 else runs} is in {clean(output)}")
