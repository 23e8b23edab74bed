"""``runner web``: the page of a store, with all its runs."""

import click

from runner.cli.options import count, db_option, json_option, run_argument
from runner.errors import UsageError

MISSING = "the page needs the extra web: `pip install 'prompt-runner[web]'`"


@click.command()
@run_argument
@db_option
@click.option("--port", type=count(0, 65535), help="Port to listen on; 0 picks a free one.  [default: 8377, or one of the next]")
@click.option("--host", metavar="NAME", default="127.0.0.1", show_default=True, help="Name or address to listen at.")
@json_option
@click.option("--tied", "tied", type=int, nargs=2, hidden=True)
def web(run_id: int | str | None, db: str, port: int | None, host: str, as_json: bool, tied: tuple[int, int] | None) -> None:
    """Serve a page that shows the runs of the store, running or finished, and steers those that are running.

    RUN is the number, the name or the prompt file of the run that it opens with; the default is the list of all runs. The
    printed address holds a secret: whoever has it can read the store and steer its runs. Ctrl-C ends the server, and no run.
    """
    need()
    # no other command needs a server
    from runner.cli import serving

    serving.serve_tied(db, tied) if tied else serving.serve(run_id, db, port, host, as_json=as_json)


def need() -> None:
    """Raise UsageError if the libraries of the page are not there. Imports none of them."""
    from importlib.util import find_spec

    if any(find_spec(name) is None for name in ("starlette", "uvicorn", "sse_starlette")):
        raise UsageError(MISSING)
