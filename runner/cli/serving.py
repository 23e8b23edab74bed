"""Serves the page, for ``runner web``."""

import os
from pathlib import Path

import click

from runner.cli import chosen
from runner.engine.stop import Stop
from runner.session.blocking import blocking
from runner.session.signals import STOP_SIGNALS, on_signals
from runner.session.stopping import StopHandle
from runner.store import database
from runner.text import json_text
from runner.web import listening
from runner.web import serve as server
from runner.web.token_file import token_of


def serve(run_id: int | str | None, db: str, port: int | None, host: str, *, as_json: bool) -> None:
    """Serve the page of a store until a signal comes. Raises UsageError, StoreError."""
    store = Path(db).resolve()
    database.prepare(store, create=False)
    number = chosen.run_number(run_id, db)
    found = listening.listen(host, port, token_of(store))
    url = f"{found.url}#/runs/{number}" if number is not None else found.url
    if (words := listening.warning(host)) is not None:
        click.echo(words, err=True)
    if as_json:
        import msgspec

        told = {"event": "web", "url": url, "port": found.port, "pid": os.getpid()}
        click.echo(json_text(msgspec.json.encode(told)))
    else:
        click.echo(f"live view: {url}\nthe address holds a secret; press Ctrl-C to end the server (no run ends with it)")
    server.lower()
    handle = StopHandle()

    async def until(stop: Stop) -> None:
        await server.serve(store, found, stop.wait)

    with on_signals(STOP_SIGNALS, handle.signalled):
        blocking(lambda: handle.run(until))
