"""``runner init``: a job file for an input that it has looked at."""

import shutil
import sys
from typing import TYPE_CHECKING, Any

import click

from runner.cli.completing import complete_rows
from runner.cli.options import given_settings, json_option, setting_options

if TYPE_CHECKING:
    from runner.session.starting import Begun

_SETTINGS = (
    "provider", "model", "input_format", "encoding", "delimiter", "sheet", "id_column", "prompt", "system", "fields", "max_cost",
    "max_tokens",
)  # fmt: skip


@click.command()
@click.argument("files", metavar="[FILE]...", type=click.Path(), nargs=-1, shell_complete=complete_rows)
@setting_options(*_SETTINGS)
@click.option(
    "--output",
    "-o",
    metavar="FILE",
    help="Job file to write, ending in .toml; - prints it. Default: beside FILE, by its name; for several job.toml.",
)
@json_option
def init(files: tuple[str, ...], output: str | None, as_json: bool, **settings: Any) -> None:
    """Write a job file for FILE, to be edited.

    It looks at the columns of FILE and proposes a prompt and an id. Other settings are in it too, turned off. Options are written
    into it. An existing file is never replaced. Without FILE, the only file of rows in this folder is taken. Several files, or a
    pattern such as 'data/*.csv', are one input, whose job file is job.toml in this folder.
    """
    from runner.cli.advice import COLUMNS, Advice
    from runner.cli.advice import lines as advice_lines
    from runner.session import drafting, starting
    from runner.text import clean

    source = starting.source(files)
    if not files and not as_json:
        click.echo(f"{clean(str(source))} is the only file of rows here", err=True)
    begun = starting.begin(source, output, given_settings(settings))
    if as_json:
        _tell(begun, source)
        return
    if begun.job_file is None:
        click.echo(begun.text, nl=False)
        return
    asks = f"; its prompt asks about the column {clean(begun.survey.text, 30)}" if begun.survey.text is not None else ""
    click.echo(f"{clean(str(begun.job_file))} is written for {drafting.rows_told(begun.survey)}{asks}")
    # a terminal may have more room than a line of advice has by default
    wide = max(COLUMNS, shutil.get_terminal_size().columns - 1) if sys.stdout.isatty() else COLUMNS
    click.echo("\n".join(advice_lines([Advice(command, words) for command, words in begun.commands], wide)))


def _tell(begun: "Begun", source: object) -> None:
    """Print what was written, and what may be done next, as JSON."""
    from runner.cli.output import to_json

    told = {
        "input": str(source),
        "file": str(begun.job_file) if begun.job_file is not None else None,
        "text": begun.text,
        "rows": begun.survey.rows,
        "counted": begun.survey.counted,
        "prompt_column": begun.survey.text,
        "next": [{"command": command, "why": words} for command, words in begun.commands],
    }
    click.echo(to_json(told))
