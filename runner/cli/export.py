"""``runner export``: the results of a run, as files."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click

from runner.cli.completing import complete_file, complete_only, complete_plugins, complete_run
from runner.cli.options import csv_options, db_option, formats_of, gathered, json_option, quiet_option
from runner.cli.typed import run_name
from runner.errors import UsageError

_FORMATS = "csv, jsonl, parquet, xlsx, sqlite, md, openai-batch, messages or the name of a plug-in"


@click.command(short_help="Write the results of a run: CSV, Parquet, Excel, JSON lines, ...")
@click.argument("words", metavar="[RUN]", nargs=-1, type=run_name, shell_complete=complete_run)
@click.option(
    *("--output", "-o", "outputs"),
    metavar="FILE",
    multiple=True,
    help="File to write; - is standard output. Repeatable.",
    shell_complete=complete_file,
)
@click.option(
    *("--format", "--as", "formats"),
    metavar="FORMAT",
    multiple=True,
    help=f"{_FORMATS}; default: the ending of FILE.",
    shell_complete=complete_plugins("exports"),
)
@click.option(
    "--only",
    metavar="NAMES",
    multiple=True,
    help="failed, done, length, whole, ..., or error codes; default: all rows.",
    shell_complete=complete_only,
)
@click.option(
    "--columns", metavar="NAMES", multiple=True, help="Columns to write, in this order, separated by commas; default: all."
)
@click.option("--order", type=click.Choice(["input", "finished"]), default="input", help="Order of the rows.  [default: input]")
@click.option("--prefix-fields", is_flag=True, help="Call each of your own fields input_NAME, each of the answer answer_NAME.")
@click.option("--prompt/--no-prompt", default=True, help="Write the column of what each row asked.  [default: prompt]")
@click.option("--manifest", is_flag=True, help="Write FILE.manifest.json too: settings, versions, hashes, counts, cost.")
@csv_options
@db_option
@quiet_option
@json_option
@gathered("shown", "quiet", "as_json")
@gathered(
    *("flags", "only", "columns", "order", "prefix_fields", "prompt", "manifest", "raw", "csv_escape", "csv_excel"),
)
def export(
    words: tuple[int | str, ...],
    outputs: tuple[str, ...],
    formats: tuple[str, ...],
    db: str,
    shown: Any,
    flags: dict[str, Any],
) -> None:
    """Write the results of a run to a file: CSV, JSONL, Parquet, Excel, SQLite, Markdown, chats, or OpenAI's batch results.

    RUN is its number, its name or its prompt file; the default is the newest run.
    """
    from runner import api
    from runner.cli import chosen
    from runner.cli import output as texts
    from runner.exports.file import is_standard_output

    number, targets = chosen.export_names(words, outputs, db)
    if shown["as_json"] and any(map(is_standard_output, targets)):
        raise UsageError("--json says on standard output what was written, so the rows cannot go there; name a file to write")
    # without a store there is no run; what else is wrong with the command is said first
    run, fuller = chosen.exported(number, db) if Path(db).exists() else (None, None)
    notes: list[str] = []
    wanted = run.id if run is not None else number
    flags = {**flags, **{name: _names(flags[name]) for name in ("only", "columns")}}
    counts = api.export(targets, run_id=wanted, db=db, format=formats_of(formats, targets), notes=notes, **flags)
    if run is not None and shown["as_json"]:
        files = texts.written(counts, targets, formats=formats_of(formats, targets), manifest=bool(flags["manifest"]))
        click.echo(texts.to_json({"run": run.id, "rows": run.rows, "files": files, "notes": notes}))
    elif run is not None and not shown["quiet"]:
        for sentence in [*texts.exported(run, fuller, counts, targets, db), *notes]:
            click.echo(sentence, err=any(map(is_standard_output, targets)))


def _names(given: Sequence[str]) -> str | None:
    """Return names that were given in one or several options, with commas between them; None if there is no option."""
    return ",".join(given) if given else None
