"""``runner worker``: a process that sends requests for a run elsewhere."""

import os

import click

from runner.cli.completing import complete_file
from runner.errors import UsageError


@click.command()
@click.option("--connect", metavar="HOST:PORT", help="Where the run listens, as it says when it starts.")
@click.option(
    "--token-file",
    metavar="FILE",
    help="File with the token of the run. Default: the variable RUNNER_WORKER_TOKEN holds it.",
    shell_complete=complete_file,
)
@click.option("--base-url", metavar="URL", help="Send there, and not to the base URL of the run: a server beside this worker.")
def worker(connect: str | None, token_file: str | None, base_url: str | None) -> None:
    """Send requests for a run that was started with --listen.

    Its keys come from its own environment. It ends with the run, and when the run is gone.
    """
    # no other command needs a worker
    from runner.session.blocking import blocking
    from runner.workers import joining

    if connect is None:
        raise UsageError("a worker needs a run to work for: --connect HOST:PORT, as a run with --listen says")
    token = joining.token_of(token_file, os.environ)
    blocking(lambda: joining.serve(connect, token, base_url))
