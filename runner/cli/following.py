"""Shows what a running session tells at its socket, with the view of its own terminal."""

from pathlib import Path

import msgspec

from runner.cli import progress
from runner.control.client import connect, ended
from runner.control.messages import Feed
from runner.event_types import Finished, Noted, Progress, Started, Stopping, Summary
from runner.session.naming import command
from runner.store.reader import StoreReader

_FIRST = msgspec.json.Decoder(dict[str, msgspec.Raw])


async def follow(run: int, db: str, as_json: bool) -> None:
    """Show a session until it ends. Raises NotRunningError if it is not running, or ends without a word."""
    store = Path(db)
    connection = await connect(store, run)
    shown = _Following(run, db, progress.choose(db, quiet=False, as_json=as_json))
    try:
        with shown.view:
            async for feed in connection.watch(texts=False):
                shown.take(feed)
    finally:
        await connection.aclose()
    if not shown.finished:
        raise ended(store, run)


class _Following:
    """What a watcher has been told."""

    def __init__(self, run: int, db: str, view: progress.View) -> None:
        self._run, self._db, self.view = run, db, view
        view.drops, view.came_later = f"`{command('stop', run, db)}`", True
        self._begun = self._stopping = self.finished = False

    def take(self, feed: Feed) -> None:
        """Show a frame."""
        match feed.kind:
            case "state":
                self._state(_FIRST.decode(feed.data))
            case "progress":
                self._progress(msgspec.json.decode(feed.data, type=Progress))
            case "note":
                self.view.tell(Noted(note=msgspec.json.decode(feed.data)["note"]))
            case "stopping":
                self._stop(msgspec.json.decode(feed.data, type=Stopping))
            case "finished":
                self.finished = True
                self.view.tell(Finished(summary=msgspec.json.decode(feed.data, type=Summary)))
            case _:
                pass

    def _state(self, state: dict[str, msgspec.Raw]) -> None:
        if not self._begun:
            self._begin(state)
        if (now := msgspec.json.decode(state["progress"], type=Progress | None)) is not None:
            self._progress(now)
        if (stopping := msgspec.json.decode(state["stopping"], type=Stopping | None)) is not None:
            self._stop(stopping)

    def _begin(self, state: dict[str, msgspec.Raw]) -> None:
        """Say what the session has said at its beginning."""
        self._begun = True
        with StoreReader(Path(self._db).resolve()) as reader:
            run = reader.run(self._run, counted=False)
        now = msgspec.json.decode(state["progress"], type=Progress | None)
        begun = Started(
            run=run.id,
            input=run.input,
            rows=now.rows if now is not None else run.rows or 0,
            answers=now.answers if now is not None else None,
            restored=now.restored if now is not None else 0,
            restored_failed=now.restored_failed if now is not None else 0,
            notes=tuple(msgspec.json.decode(state["notes"], type=list[str])),
            each=run.answers,
        )
        self.view.tell(begun)

    def _progress(self, event: Progress) -> None:
        self.view.tell(event)

    def _stop(self, event: Stopping) -> None:
        if not self._stopping:
            self._stopping = True
            self.view.tell(event)
