"""Starts the server of ``runner mcp``, and ends it: its runs go on."""

import os
import signal
import sys
from collections.abc import Sequence
from contextlib import suppress
from types import FrameType

import anyio
import click

from runner.errors import UsageError
from runner.integrations import mcp_guard, mcp_http
from runner.integrations.mcp_cap import Cap
from runner.integrations.mcp_files import Root
from runner.integrations.mcp_server import server
from runner.integrations.mcp_tools import Tools
from runner.session.naming import store_option, store_path
from runner.session.signals import exit_code
from runner.text import plural


def serve(db: str, *, root: str, max_cost: float | None, trusted: Sequence[str], port: int | None) -> int:
    """Serve until the client leaves or a signal comes; return the exit code. port: of HTTP; None: standard input and output."""
    files, store = Root(root), store_path(db)
    if not files.contains(store):
        raise UsageError(f"the store {store} is outside of --root {files.path}; name one in it with --db")
    human = mcp_guard.Human(capped=max_cost is not None, trusted=mcp_guard.trusted(files, trusted))
    cap = Cap(store, max_cost)
    tools = Tools(files, store, cap, human)
    state = cap.state()
    allowed = (
        "only the simulator, as --max-cost is not given" if state.cap is None else f"${state.left:g} of ${state.cap:g} is left"
    )
    say(f"runner mcp: files in {files.path}, store {store}; {allowed}")
    made = server(tools)
    code = 0
    try:
        if port is not None:
            code = mcp_http.serve(made, port)
        else:
            for kind in (signal.SIGINT, signal.SIGTERM):
                signal.signal(kind, lambda number, frame: _leave(tools, db, number, frame))
            anyio.run(made.run_stdio_async)
    finally:
        _farewell(tools, db)
    return code


def _leave(tools: Tools, db: str, number: int, _: FrameType | None) -> None:
    """End at once: a thread that waits for standard input would be waited for. Runs are processes of their own."""
    _farewell(tools, db)
    os._exit(exit_code(number))


def _farewell(tools: Tools, db: str) -> None:
    if running := tools.launcher.running():
        option = store_option(db)
        say(f"{plural(running, 'run')} goes on: `runner status --watch{option}` shows it, `runner stop{option}` ends it")


def say(line: str) -> None:
    """Print a line on standard error; standard output belongs to the protocol."""
    with suppress(OSError):
        click.echo(line, err=True)
    sys.stderr.flush()
