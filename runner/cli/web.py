"""``runner web``: the page of a store, with all its runs."""

import click

from runner.cli.options import count, db_option, json_option, need_web, run_argument


@click.command(short_help="Serve a page that shows runs, and steers them.")
@run_argument
@db_option
@click.option("--port", type=count(0, 65535), help="Port to listen on; 0 picks a free one.  [default: 8377, or one of the next]")
@click.option("--host", metavar="NAME", default="127.0.0.1", show_default=True, help="Name or address to listen at.")
@json_option
def web(run_id: int | str | None, db: str, port: int | None, host: str, as_json: bool) -> None:
    """Serve a page that shows the runs of the store, running or finished, and steers those that are running.

    RUN is the number, the name or the prompt file of the run that it opens with; the default is the list of all runs. The
    printed address holds a secret: whoever has it can read the store and steer its runs. Ctrl-C ends the server, and no run.
    """
    need_web()
    # no other command needs a server
    from runner.cli import serving

    serving.serve(run_id, db, port, host, as_json=as_json)
