"""``runner web``: the page of a store, with all its runs."""

import math

import click

from runner.cli.options import count, db_option, json_option, need_web, run_argument


def dollars(value: str) -> float | None:
    """Read an amount of dollars; None for ``none``."""
    if value == "none":
        return None
    try:
        amount = float(value)
    except ValueError:
        amount = math.nan
    if not (math.isfinite(amount) and amount > 0):
        raise click.BadParameter(f"{value!r} is no amount of dollars, such as 2.50, nor none")
    return amount


@click.command(short_help="Serve a page that shows runs, and steers them.")
@run_argument
@db_option
@click.option("--port", type=count(0, 65535), help="Port to listen on; 0 picks a free one.  [default: 8377, or one of the next]")
@click.option("--host", metavar="NAME", default="127.0.0.1", show_default=True, help="Name or address to listen at.")
@click.option("--job", "job_file", metavar="FILE", help="Ask prompts with the settings of this job file, and not of a run.")
@click.option(
    "--max-cost-ask",
    type=dollars,
    default="5",
    show_default=True,
    metavar="X",
    help="Dollars that all prompts asked in this store may cost, over all starts; none: whatever they cost.",
)
@json_option
def web(
    run_id: int | str | None,
    db: str,
    port: int | None,
    host: str,
    job_file: str | None,
    max_cost_ask: float | None,
    as_json: bool,
) -> None:
    """Serve a page that shows the runs of the store, running or finished, and steers those that are running.

    RUN is the number, the name or the prompt file of the run that it opens with; the default is the list of all runs. The
    printed address holds a secret: whoever has it can read the store and steer its runs. Ctrl-C ends the server, and no run.
    """
    need_web()
    # no other command needs a server
    from runner.cli import serving

    serving.serve(run_id, db, port, host, (job_file, max_cost_ask), as_json=as_json)
