"""``runner report``: one page about a run, or about several side by side."""

import click

from runner.cli.completing import complete_files, complete_run
from runner.cli.options import db_option, json_option, quiet_option
from runner.cli.typed import run_name


@click.command(short_help="Write a report of a run: one HTML page with charts.")
@click.argument("words", metavar="[RUN]...", nargs=-1, type=run_name, shell_complete=complete_run)
@click.option(
    *("--output", "-o", "output"),
    metavar="FILE",
    default="report.html",
    show_default=True,
    help="File to write; - is standard output.",
    shell_complete=complete_files(".html", ".htm"),
)
@db_option
@quiet_option
@json_option
def report(words: tuple[int | str, ...], output: str, db: str, quiet: bool, as_json: bool) -> None:
    """Write a report of a run: one HTML page with charts and tables, which loads nothing.

    RUN is its number, its name or its prompt file; the default is the newest run. Up to four runs are shown side by side.
    """
    from runner import api
    from runner.cli import chosen
    from runner.cli import output as texts
    from runner.errors import UsageError
    from runner.exports.file import is_standard_output
    from runner.text import clean, plural

    if as_json and is_standard_output(output):
        raise UsageError("--json says on standard output what was written, so the page cannot go there; name a file to write")
    numbers = [number for word in words if (number := chosen.run_number(word, db)) is not None]
    made = api.report(output, run_ids=numbers, db=db)
    if as_json:
        click.echo(texts.to_json({"file": output, "runs": made}))
    elif not quiet and not is_standard_output(output):
        runs = plural(len(made), "run")
        click.echo(f"the report of {f'run {made[0]}' if len(made) == 1 else runs} is in {clean(output)}")
