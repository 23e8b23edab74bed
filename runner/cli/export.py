"""``runner export``: the results of a run, as a file."""

from pathlib import Path

import click

from runner.cli.options import db_option, gathered, quiet_option
from runner.cli.typed import run_name


@click.command()
@click.argument("words", metavar="[RUN]", nargs=-1, type=run_name)
@click.option("--output", "-o", metavar="FILE", help="File to write; - is standard output.")
@click.option(
    "--format", metavar="FORMAT", help="csv, jsonl, openai-batch or the name of a plug-in; default: the ending of FILE."
)
@click.option("--csv-raw", is_flag=True, help="Do not escape cells that look like formulas.")
@click.option("--csv-escape", is_flag=True, help="Escape them in ids and in your own fields too.")
@click.option("--csv-excel", is_flag=True, help="Begin with the byte order mark by which Excel knows UTF-8.")
@click.option("--prompt/--no-prompt", default=True, help="Write the column of what each row asked.  [default: prompt]")
@db_option
@quiet_option
@gathered("more", "csv_escape", "csv_excel", "prompt")
def export(
    words: tuple[int | str, ...],
    output: str | None,
    format: str | None,  # noqa: A002 - the option's name
    csv_raw: bool,
    db: str,
    quiet: bool,
    more: dict[str, bool],
) -> None:
    """Write the results of a run to a file: CSV, JSONL, or the format of OpenAI's batch results.

    RUN is its number or its prompt file; the default is the newest run.
    """
    from runner import api
    from runner.cli import chosen
    from runner.cli import output as texts
    from runner.exports.file import is_standard_output

    number, target = chosen.export_names(words, output, db)
    # without a store there is no run; what else is wrong with the command is said first
    run, fuller = chosen.exported(number, db) if Path(db).exists() else (None, None)
    notes: list[str] = []
    wanted = run.id if run is not None else number
    written = api.export(target, run_id=wanted, db=db, format=format, raw=csv_raw, notes=notes, **more)
    if run is not None and not quiet:
        for sentence in [*texts.exported(run, fuller, written, target, db), *notes]:
            click.echo(sentence, err=is_standard_output(target))
