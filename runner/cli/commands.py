"""The commands: parse, call the API, print, exit code. Nothing else; what a command needs is imported when it runs."""

import os
import sys
from typing import Any

import click

from runner.cli.options import (
    accept_changes_option,
    continue_options,
    db_option,
    gathered,
    given_settings,
    json_option,
    quiet_option,
    run_argument,
    setting_options,
)
from runner.cli.signals import orderly_end
from runner.errors import UsageError
from runner.version import __version__


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@click.version_option(__version__, prog_name="runner")
def cli() -> None:
    """Get an answer from an LLM to every prompt of a file, and never pay for one twice.

    \b
    runner run jobs/prompts.jsonl     and the same again after Ctrl-C or a crash: it goes on
    runner export -o answers.csv
    """  # noqa: D301 - click reads the backspace


@cli.command()
@click.argument("file", type=click.Path())
@setting_options()
@db_option
@click.option("--limit", type=click.IntRange(min=1), metavar="N", help="Only the first N rows of the file.")
@click.option("--new", is_flag=True, help="Begin a new run, even where one could go on.")
@accept_changes_option
@click.option("--strict", is_flag=True, help="Refuse to start when a row is broken.")
@click.option("--show-config", is_flag=True, help="Print every setting and where it came from, and send nothing.")
@quiet_option
@json_option
@gathered("options", "limit", "new", "accept_changes", "strict")
def run(file: str, db: str, show_config: bool, quiet: bool, as_json: bool, options: dict[str, Any], **settings: Any) -> None:
    """Run FILE, or continue with it if it was interrupted.

    FILE is a prompt file (JSON lines, also .gz), a job file (.toml) that names one, or - for standard input. For a prompt file,
    settings are read from a .toml file of the same name, if there is one. A pipe by name is read like standard input. Options
    win over RUNNER_* variables, and these over the file.
    """
    from runner import api
    from runner.cli import foreground, output
    from runner.config.job import load_job
    from runner.session.options import SessionOptions

    job = load_job(file, given_settings(settings))
    if show_config:
        click.echo(output.configuration(api.describe(job), as_json=as_json))
        return
    with orderly_end(), api.spooled(job, db) as kept:
        sys.exit(foreground.drive(kept, db, SessionOptions(**options), quiet=quiet, as_json=as_json))


@cli.command()
@continue_options
@accept_changes_option
def resume(run_id: int | None, db: str, accept_changes: bool, quiet: bool, as_json: bool, **settings: Any) -> None:
    """Go on with a run by its number, by default the newest unfinished one."""
    from runner import api
    from runner.cli import foreground

    job, options = api.resumed(db, run_id, given_settings(settings), accept_changes=accept_changes)
    sys.exit(foreground.drive(job, db, options, quiet=quiet, as_json=as_json))


@cli.command()
@continue_options
def retry(run_id: int | None, db: str, quiet: bool, as_json: bool, **settings: Any) -> None:
    """Give the failed items of a run another chance, in the same run."""
    from runner import api
    from runner.cli import foreground

    job, options = api.retried(db, run_id, given_settings(settings))
    sys.exit(foreground.drive(job, db, options, quiet=quiet, as_json=as_json))


@cli.command()
@run_argument
@db_option
@json_option
def status(run_id: int | None, db: str, as_json: bool) -> None:
    """Show one run in full, by default the newest."""
    from runner import api
    from runner.cli import output

    click.echo(output.status(*api.status(run_id, db=db), db=db, as_json=as_json))


@cli.command("list")
@db_option
@json_option
def list_(db: str, as_json: bool) -> None:
    """Show all runs."""
    from runner import api
    from runner.cli import output

    click.echo(output.listing(api.runs(db=db), as_json=as_json))


@cli.command()
@run_argument
@click.option("--output", "-o", required=True, metavar="FILE", help="Where to; - is standard output.")
@click.option("--format", metavar="FORMAT", help="csv, jsonl or the name of a plug-in; by default the ending of FILE.")
@click.option("--csv-raw", is_flag=True, help="Leave cells that a spreadsheet takes for formulas as they are.")
@db_option
@quiet_option
def export(run_id: int | None, output: str, format: str | None, csv_raw: bool, db: str, quiet: bool) -> None:  # noqa: A002
    """Write the results of a run, by default the newest, to a CSV or JSONL file."""
    from runner import api

    count = api.export(output, run_id=run_id, db=db, format=format, raw=csv_raw)
    if not quiet and output != "-":
        click.echo(f"{count:,} rows written to {click.format_filename(output)}")


@cli.command()
@run_argument
@db_option
@json_option
def errors(run_id: int | None, db: str, as_json: bool) -> None:
    """Show the failed items of a run by cause: how many, one example, what to do."""
    from runner import api
    from runner.cli import output

    click.echo(output.errors(*api.errors(run_id, db=db), db=db, as_json=as_json))


@cli.command()
@click.argument("file", type=click.Path())
@setting_options()
@json_option
def check(file: str, as_json: bool, **settings: Any) -> None:
    """Read everything, send nothing: rows, broken lines, duplicate ids, the settings in force.

    Exit code 1 when rows are broken, 2 when `runner run` would refuse to start.
    """
    from runner import api
    from runner.cli import output

    found = api.check(file, **given_settings(settings))
    click.echo(output.check(found, as_json=as_json))
    if found.refusal or found.duplicates:
        sys.exit(2)
    sys.exit(1 if found.broken else 0)


@cli.command()
@click.option("--port", type=click.IntRange(0, 65535), default=8399, show_default=True, help="0 takes a free one.")
@click.option("--seed", type=int, default=0, show_default=True, help="Draws answers and faults.")
@click.option("--first-token-s", type=float, default=0.15, show_default=True, help="Mean seconds to the first token.")
@click.option("--chunk-s", type=float, default=0.01, show_default=True, help="Seconds between two tokens.")
@click.option("--tokens", type=int, default=40, show_default=True, help="Mean tokens of an answer.")
@click.option("--rpm", type=int, help="Requests per minute before it answers 429.")
@click.option("--tpm", type=int, help="Tokens per minute before it answers 429.")
@click.option("--max-in-flight", type=int, help="Requests at once before it answers 429.")
@click.option("--key-env", metavar="NAME", help="Demand the key in this environment variable.")
@click.option("--fault", "faults", multiple=True, metavar="NAME=SHARE", help="Such as 429=0.1; may be given several times.")
def simulate(port: int, key_env: str | None, faults: tuple[str, ...], **behaviour: Any) -> None:
    """Serve synthetic answers on loopback in both dialects, until Ctrl-C."""
    from runner.cli.simulate import simulate as serve

    key = os.environ.get(key_env) if key_env else None
    if key_env and not key:
        raise UsageError(f"{key_env} is not set")
    serve(port, faults, click.echo, key=key, **behaviour)
