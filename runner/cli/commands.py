"""The commands: parse options, call the API, print, set the exit code. Each command imports what it needs when it runs."""

import sys
from typing import Any

import click

from runner.cli.attach import attach
from runner.cli.batches import batches
from runner.cli.compare import compare
from runner.cli.completing import complete_tags
from runner.cli.completion import completion
from runner.cli.delete import delete
from runner.cli.errors import errors
from runner.cli.estimate import estimate
from runner.cli.export import export
from runner.cli.init import init
from runner.cli.labels import name, tag
from runner.cli.mcp import mcp
from runner.cli.options import (
    accept_changes_option,
    continue_options,
    count,
    db_option,
    detach_option,
    dry_run_option,
    gathered,
    given_settings,
    json_option,
    output_option,
    quiet_option,
    rows_argument,
    run_argument,
    setting_options,
    show_config_option,
    telemetry_option,
    trust_option,
    warn_of_variables,
    web_options,
    yes_option,
)
from runner.cli.report import report
from runner.cli.retry import retry
from runner.cli.show import show
from runner.cli.signals import orderly_end
from runner.cli.simulate import simulate
from runner.cli.steer import cancel, continue_, pause, requeue, set_, stop
from runner.cli.trial import try_
from runner.cli.typed import Commands, one_or_several
from runner.cli.vacuum import vacuum
from runner.cli.web import web
from runner.cli.worker import worker
from runner.errors import UsageError
from runner.version import __version__


@click.group(cls=Commands, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@click.version_option(__version__, prog_name="runner")
def cli() -> None:
    """Get an answer from an LLM to every prompt of a file, without paying twice for a finished one.

    \b
    runner run jobs/prompts.jsonl     start, or continue after Ctrl-C or a crash
    runner export -o answers.csv      write the results to a file
    """  # noqa: D301 - \b tells click to keep the lines as they are
    if not {"run", "resume", "retry"}.intersection(sys.argv[1:2]):
        # a session says it in its first lines
        warn_of_variables()


@cli.command()
@rows_argument
@setting_options()
@db_option
@click.option("--limit", type=count(1), metavar="N", help="Use only the first N rows of the file.")
@click.option("--new", is_flag=True, help="Start a new run, even if there is one to continue.")
@accept_changes_option
@click.option("--name", metavar="NAME", help="Name of the run, by which other commands find it.")
@click.option("--tag", "tags", metavar="TAG", multiple=True, help="Tag for the run: a word, or word=value; repeatable.")
@output_option
@click.option("--strict", is_flag=True, help="Refuse to start if a row is broken.")
@dry_run_option
@show_config_option
@trust_option
@yes_option
@detach_option
@web_options
@telemetry_option
@quiet_option
@json_option
@gathered("options", "limit", "new", "accept_changes", "strict", "name", "tags", "detach")
@gathered("shown", "quiet", "as_json", "outputs", "yes", "web", "telemetry")
@gathered("instead", "dry_run", "show_config")
def run(named: tuple[str, ...], db: str, trust: bool, instead: Any, shown: Any, options: dict[str, Any], **settings: Any) -> None:
    """Run FILE, or continue its run if that was interrupted.

    FILE is a file of rows (JSON lines, CSV, text and others), a job file (.toml) that names one, or - for standard input. For a
    file of rows, settings are read from a .toml file of the same name, if there is one. A named pipe is read like standard input.
    Several files, or a pattern such as 'data/*.csv', are one input. run:12 is the rows of run 12 with their answers, and so is
    run:NAME.
    Options override RUNNER_* variables, and these override the .toml file.
    """
    from runner import api
    from runner.cli import foreground, output
    from runner.cli.trusting import asked
    from runner.config.job import load_job
    from runner.labels import checked_name, checked_tags
    from runner.session.options import SessionOptions

    if options["name"] is not None:
        options["name"] = checked_name(options["name"])
    options["tags"] = checked_tags(options["tags"])
    if instead["show_config"] and instead["dry_run"] is not None:
        raise UsageError("--show-config and --dry-run exclude each other; choose one of them")
    job = load_job(one_or_several(named), given_settings(settings))
    if instead["show_config"]:
        warn_of_variables()
        click.echo(output.configuration(api.describe(job, trust=trust), as_json=shown["as_json"]))
        return
    job = asked(job, trusted=trust)
    if (rows := instead["dry_run"]) is not None:
        warn_of_variables()
        unsent = api.dry_run(job, min(rows, options["limit"] or rows), db)
        sys.exit(output.requests(unsent, answers=job.answers or 1, as_json=shown["as_json"]))
    with orderly_end(), api.spooled(job, db) as kept:
        sys.exit(foreground.drive(kept, db, SessionOptions(**options), **shown))


@cli.command()
@continue_options
@accept_changes_option
@gathered("shown", "quiet", "as_json", "outputs", "yes", "web", "telemetry")
@gathered("options", "accept_changes", "detach")
def resume(run_id: int | str | None, db: str, trust: bool, shown: Any, options: Any, **settings: Any) -> None:
    """Continue an unfinished run.

    RUN is its number, its name or its prompt file; the default is the newest unfinished run. --base-url and --api-key-env move
    the run to another server or key. The model and what else makes the answers can be changed only while no row is answered.
    """
    from msgspec import structs

    from runner import api
    from runner.cli import chosen, foreground
    from runner.cli.trusting import asked

    number = chosen.run_number(run_id, db, unfinished=True)
    job, found = api.resumed(db, number, given_settings(settings), accept_changes=options["accept_changes"])
    found = structs.replace(found, detach=options["detach"])
    sys.exit(foreground.drive(asked(job, trusted=trust), db, found, **shown))


@cli.command()
@run_argument
@db_option
@json_option
@click.option("--watch", "-w", is_flag=True, help="Show it again every two seconds until the run ends.")
def status(run_id: int | str | None, db: str, as_json: bool, watch: bool) -> None:
    """Show one run in full.

    RUN is its number, its name or its prompt file; the default is the newest run.
    """
    from runner import api
    from runner.cli import chosen, fitting
    from runner.cli import watch as watching
    from runner.cli.status import status as details

    number = chosen.run_number(run_id, db)
    if watch:
        watching.watch(number, db, as_json=as_json)
    else:
        fitting.say(details(*api.status(number, db=db), db=db, as_json=as_json), as_it_is=as_json)


@cli.command("list")
@click.option(
    "--tag", "tags", metavar="TAG", multiple=True, help="Only runs with this tag; repeatable.", shell_complete=complete_tags
)
@db_option
@json_option
def list_(tags: tuple[str, ...], db: str, as_json: bool) -> None:
    """List all runs of the store, or those that have certain tags.

    --tag team lists the runs that have team as a tag, with any value; --tag team=a those with this value.
    """
    from runner import api
    from runner.cli import output
    from runner.cli.fitting import width_of
    from runner.labels import checked_tags, matches

    wanted = checked_tags(tags)
    found = [run for run in api.runs(db=db) if matches(run.tags, wanted)]
    click.echo(output.listing(found, tags=wanted, as_json=as_json, columns=width_of(sys.stdout)))


@cli.command()
@rows_argument
@setting_options()
@db_option
@trust_option
@json_option
def check(named: tuple[str, ...], db: str, as_json: bool, trust: bool, **settings: Any) -> None:
    """Read the whole prompt file and send nothing. FILE is what `runner run` takes.

    Shows the number of rows, broken lines, duplicate ids and the settings in force.

    The exit code is 1 if rows are broken, and 2 if `runner run` would refuse the file or a setting. A model or an API key that is
    still missing is only a warning.
    """
    from runner import api
    from runner.cli import output
    from runner.config.job import load_job
    from runner.config.trust import allowed

    report = api.check_job(allowed(load_job(one_or_several(named), given_settings(settings)), trust), db)
    click.echo(output.check(report, as_json=as_json))
    if report.refusal or report.duplicates:
        sys.exit(2)
    sys.exit(1 if report.broken else 0)


for _command in (
    attach,
    batches,
    cancel,
    compare,
    completion,
    continue_,
    delete,
    errors,
    estimate,
    export,
    init,
    mcp,
    name,
    pause,
    report,
    requeue,
    retry,
    set_,
    show,
    simulate,
    stop,
    tag,
    try_,
    vacuum,
    web,
    worker,
):
    cli.add_command(_command)
