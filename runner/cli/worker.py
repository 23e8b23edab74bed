"""``runner worker``: a process that sends requests for a run elsewhere."""

import click

from runner.errors import UsageError


@click.command()
@click.option("--fd", type=int, hidden=True, help="The open socket of the run that has started this process.")
def worker(fd: int | None) -> None:
    """Send requests for a run that listens (`runner run FILE --listen HOST`).

    Its keys come from its own environment.
    """
    # no other command needs a worker
    from runner.session.blocking import blocking
    from runner.workers.process import serve_pair

    if fd is None:
        raise UsageError("a worker needs a run to work for")
    blocking(lambda: serve_pair(fd))
