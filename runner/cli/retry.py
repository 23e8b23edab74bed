"""``runner retry``: rows of a run once more."""

import sys
from typing import Any

import click

from runner.cli.completing import complete_file, complete_only
from runner.cli.options import continue_options, gathered, given_settings
from runner.errors import UsageError


@click.command(short_help="Send the failed rows of a run again, or those that are named.")
@continue_options
@click.option(
    *("--class", "classes"),
    metavar="NAMES",
    multiple=True,
    help="Which rows: error codes, timeout, network, server, length, ...",
    shell_complete=complete_only,
)
@click.option(
    *("--ids", "ids"),
    metavar="FILE",
    help="Only rows with these ids: one a line, or a column or field id; - is standard input.",
    shell_complete=complete_file,
)
@click.option("--all", "all_rows", is_flag=True, help="Send done rows again too.")
@gathered("shown", "quiet", "as_json", "outputs", "yes", "web", "telemetry")
@gathered("chosen", "classes", "ids", "all_rows", "detach")
def retry(run_id: int | str | None, db: str, trust: bool, shown: Any, chosen: Any, **settings: Any) -> None:
    """Send failed rows of a run again, or those that --class, --ids, --where or --all name, and no other rows.

    RUN is its number, its name or its prompt file; the default is the newest run. --model, --max-tokens and the like hold for the
    rows that are sent now. --base-url and --api-key-env move the run to another server or key. A row keeps its answer until it
    has a new one. After Ctrl-C or a crash, `runner resume` asks the rows that are left.
    """
    from pathlib import Path

    from msgspec import structs

    from runner import api
    from runner.cli import chosen as runs
    from runner.cli import foreground
    from runner.cli.trusting import asked
    from runner.session import only
    from runner.session.options import Asked

    classes = tuple(only.listed(",".join(chosen["classes"]), "--class")) if chosen["classes"] else ()
    if chosen["ids"] == "":
        raise UsageError("--ids names no file; name one, - for standard input, or leave --ids out")
    ids = Path(chosen["ids"]) if chosen["ids"] is not None else None
    which = Asked(classes=classes, ids=ids, all_rows=chosen["all_rows"])
    job, options = api.retried(db, runs.run_number(run_id, db), given_settings(settings), which)
    options = structs.replace(options, detach=chosen["detach"])
    sys.exit(foreground.drive(asked(job, trusted=trust), db, options, **shown))
