"""``runner mcp``: runs as tools of an agent, over the Model Context Protocol."""

import sys
from typing import Any

import click

from runner.cli.completing import complete_file
from runner.cli.options import count, db_option


def _dollars(value: Any) -> float:
    """Read a sum of money above 0."""
    # imported here: --help needs none
    from math import inf

    try:
        read = float(value)
    except ValueError:
        read = 0.0
    if not 0 < read < inf:
        raise click.BadParameter(f"{value!r} is no number of dollars above 0")
    return read


@click.command(short_help="Let an agent estimate, start, watch and read runs (Model Context Protocol).")
@click.option(
    "--root",
    default=".",
    show_default=True,
    metavar="DIR",
    help="The folder of the agent's files. No others are read or written.",
    shell_complete=complete_file,
)
@click.option(
    "--max-cost",
    type=_dollars,
    metavar="DOLLARS",
    help="What all that agents start in this store may cost together. Without it: only the simulator, which costs nothing.",
)
@click.option(
    "--trust",
    "trusted",
    metavar="FILE",
    multiple=True,
    help="Job file whose address, keys and prices count as yours, as they are now; may be repeated.",
    shell_complete=complete_file,
)
@click.option("--http", is_flag=True, help="Serve HTTP on this machine, with a token, instead of standard input and output.")
@click.option("--port", type=count(0, 65535), help="Port of --http; 0 picks a free one.  [default: 8397]")
@db_option
@click.pass_context
def mcp(context: click.Context, /, db: str, http: bool, port: int | None, **said: Any) -> None:
    """Serve the Model Context Protocol, so that an agent can estimate, start, watch, retry and read runs.

    Over standard input and output, as most clients start it, or with --http. What it starts goes on when it ends. --max-cost is
    over all runs and retries that agents start in this store, also those of earlier servers, and no call can raise it.
    """
    from importlib.util import find_spec
    from pathlib import Path

    from runner.errors import UsageError

    if find_spec("mcp") is None:
        raise UsageError("runner mcp needs one package more: pip install 'prompt-runner[mcp]'")
    from runner.cli import agents

    if port is not None and not http:
        raise click.UsageError("--port belongs to --http")
    source = context.get_parameter_source("db")
    if source is not None and source.name == "DEFAULT":
        # a client starts it in some folder of its own
        db = str(Path(said["root"]) / db)
    sys.exit(agents.serve(db, port=(8397 if port is None else port) if http else None, **said))
