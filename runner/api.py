"""The public Python API, which the command line uses too: run, resume, retry, check, export, results."""

import os
import signal
import sys
import tempfile
import threading
from collections.abc import Awaitable, Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any, TypeVar, cast

import anyio
from msgspec import Struct

from runner import config, plugins, session, source, wiring
from runner.config import Job
from runner.errors import StoreError, UsageError
from runner.interfaces import Exporter, Observer
from runner.model import Event, Result, Run, Summary
from runner.reader import Books, ErrorGroup, StoreReader
from runner.simulator import Behaviour, Simulator, parse_faults
from runner.stop import Stop

DEFAULT_STORE = "runner.db"
COLUMNS = tuple(Result.__struct_fields__)
"""Columns of an export; the rows' own fields stand in the place of ``metadata``."""

T = TypeVar("T")


class Check(Struct, frozen=True, kw_only=True):
    """What reading an input without sending anything showed."""

    job: Job
    # where the key will come from; None: no key is sent
    key_source: str | None
    # why it would be refused now; None: it would not
    refusal: str | None
    rows: int
    # (line, why)
    broken: list[tuple[int, str]]
    # id -> its lines
    duplicates: dict[str, list[int]]
    # identical rows without an id, beyond the first
    identical: int


class Description(Struct, frozen=True, kw_only=True):
    """A job's settings with their sources, and where its key comes from."""

    job: Job
    key_source: str | None

    def shown(self) -> list[tuple[str, str, str]]:
        """Give every setting: key, value as JSON, where it came from."""
        return config.shown(self.job)


def run(
    file: str | Path,
    *,
    db: str | Path = DEFAULT_STORE,
    limit: int | None = None,
    new: bool = False,
    strict: bool = False,
    observe: Observer | None = None,
    **settings: Any,
) -> Summary:
    """Run a prompt file or a job file to its end, or go on with it.

    settings: any setting of a job by its last name (``model=...``, ``concurrency=...``). limit: only the first so many rows.
    Raises UsageError, StoreError, RunStoppedError. Safe to call again: nothing finished is sent twice.
    """
    job = config.load(Path(file), settings)
    wish = session.Wish(limit=limit, new=new, strict=strict)
    return blocking(lambda: execute(job, db, wish, Stop(), observe))


def resume(run_id: int | None = None, *, db: str | Path = DEFAULT_STORE, **settings: Any) -> Summary:
    """Go on with a run, by default the newest unfinished one."""
    job, wish = resumed(db, run_id, settings)
    return blocking(lambda: execute(job, db, wish, Stop(), None))


def retry(run_id: int | None = None, *, db: str | Path = DEFAULT_STORE, **settings: Any) -> Summary:
    """Give the failed items of a run, by default the newest, another chance."""
    job, wish = retried(db, run_id, settings)
    return blocking(lambda: execute(job, db, wish, Stop(), None))


async def execute(job: Job, db: str | Path, wish: session.Wish, stop: Stop, observe: Observer | None) -> Summary:
    """Do what ``run``, ``resume`` and ``retry`` do, inside a running event loop."""
    return await session.execute(job, Path(db).resolve(), wish, stop, observe or _ignore)


def resumed(db: str | Path, run_id: int | None, settings: dict[str, Any]) -> tuple[Job, session.Wish]:
    """Prepare to go on with a run from what the store knows."""
    with StoreReader(Path(db).resolve()) as reading:
        if run_id is None:
            unfinished = [one for one in reading.runs() if one.finished_at is None]
            if not unfinished:
                raise UsageError(f"there is no unfinished run in {db}; `runner list` shows all")
            found = unfinished[-1]
        else:
            found = reading.run(run_id)
    return _restored(found, settings), session.Wish(run_id=found.id)


def retried(db: str | Path, run_id: int | None, settings: dict[str, Any]) -> tuple[Job, session.Wish]:
    """Prepare to give the failed items of a run another chance."""
    with StoreReader(Path(db).resolve()) as reading:
        found = reading.run(run_id)
    return _restored(found, settings), session.Wish(run_id=found.id, retry_failed=True)


def describe(job: Job) -> Description:
    """Say what a job would do and where its settings came from, without needing a key."""
    job = wiring.settled_endpoint(job, os.environ)
    return Description(job=job, key_source=wiring.key_source(job, os.environ))


def check(file: str | Path, **settings: Any) -> Check:
    """Read everything, send nothing."""
    job = wiring.settled_endpoint(config.load(Path(file), settings), os.environ)
    refusal = None
    try:
        wiring.endpoint(job, os.environ)
    except UsageError as error:
        refusal = str(error)
    read = session.reader(job.input)
    found = source.scan(read)
    return Check(
        job=job,
        key_source=wiring.key_source(job, os.environ),
        refusal=refusal,
        rows=found.rows,
        broken=session.broken_rows(read, session.template_of(job)),
        duplicates=found.duplicates,
        identical=found.identical,
    )


def runs(*, db: str | Path = DEFAULT_STORE) -> list[Run]:
    """Give all runs of a store, oldest first."""
    with StoreReader(Path(db).resolve()) as reading:
        return reading.runs()


def status(run_id: int | None = None, *, db: str | Path = DEFAULT_STORE) -> tuple[Run, Books]:
    """Give one run, by default the newest, with everything it sent."""
    with StoreReader(Path(db).resolve()) as reading:
        found = reading.run(run_id)
        return found, reading.books(found.id)


def errors(run_id: int | None = None, *, db: str | Path = DEFAULT_STORE) -> tuple[Run, list[ErrorGroup]]:
    """Give the failed items of a run by cause."""
    with StoreReader(Path(db).resolve()) as reading:
        found = reading.run(run_id)
        return found, reading.errors(found.id)


def results(run_id: int | None = None, *, db: str | Path = DEFAULT_STORE) -> Iterator[Result]:
    """Iterate over the settled rows of a run, by default the newest, in input order and in constant memory."""
    with StoreReader(Path(db).resolve()) as reading:
        yield from reading.results(reading.run(run_id).id)


def export(
    output: str | Path,
    *,
    run_id: int | None = None,
    db: str | Path = DEFAULT_STORE,
    format: str | None = None,  # noqa: A002 - the option's name
    raw: bool = False,
) -> int:
    """Write the settled rows of a run to a file and return how many; ``-`` is standard output.

    format: "csv" or "jsonl", by default the file's ending. raw: leave CSV cells alone that a spreadsheet takes for formulas.
    Under its final name the file is complete or absent. Raises UsageError, StoreError.
    """
    kind = format or Path(output).suffix.lstrip(".").lower()
    if not kind and str(output) == "-":
        kind = "csv"
    if kind not in plugins.names("exports"):
        known = " or ".join(plugins.names("exports"))
        raise UsageError(f"cannot tell the format of {output}: end it in .csv or .jsonl, or give --format {known}")
    options = {"raw": True} if raw and kind == "csv" else {}
    write = cast("Exporter", plugins.load("exports", kind).write)
    with StoreReader(Path(db).resolve()) as reading:
        found = reading.run(run_id).id
        own = reading.metadata_names(found)
        at = COLUMNS.index("metadata")
        columns = [*COLUMNS[:at], *(_apart(name, own) for name in own), *COLUMNS[at + 1 :]]
        records = _records(reading.results(found), own, at)
        with _output(output) as out:
            return write(columns, records, out, **options)


def _records(found: Iterable[Result], own: list[str], at: int) -> Iterator[list[object]]:
    fields = COLUMNS[:at] + COLUMNS[at + 1 :]
    for result in found:
        values: list[object] = [getattr(result, name) for name in fields]
        values[at:at] = [result.metadata.get(name) for name in own]
        yield values


def _apart(name: str, own: list[str]) -> str:
    """Name a row's own field; one that bears the name of one of ours gets a prefix."""
    while name in COLUMNS:
        name = f"input_{name}"
        while name in own:
            name = f"input_{name}"
    return name


@contextmanager
def _output(output: str | Path) -> Iterator[IO[str]]:
    """Open an output so that half a file never bears the final name."""
    if str(output) == "-":
        sys.stdout.reconfigure(encoding="utf-8", newline="")  # type: ignore[union-attr]
        yield sys.stdout
        sys.stdout.flush()
        return
    # a link is followed, so that the link stays one
    path = Path(output).resolve()
    if path.is_dir() or not path.parent.is_dir():
        raise UsageError(f"{output} cannot be written: {'it is a folder' if path.is_dir() else 'its folder does not exist'}")
    try:
        if path.exists() and not path.is_file():
            with path.open("w", encoding="utf-8", newline="") as file:
                yield file
            return
        with _replacing(path) as file:
            yield file
    except OSError as error:
        raise StoreError(f"{output} cannot be written: {error.strerror or error}") from error


@contextmanager
def _replacing(path: Path) -> Iterator[IO[str]]:
    # mkstemp makes it 0600
    handle, name = tempfile.mkstemp(prefix=f".{path.name[:80]}.", suffix=".tmp", dir=path.parent)
    try:
        with os.fdopen(handle, "w", encoding="utf-8", newline="") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        Path(name).replace(path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise


def simulate(port: int, faults: Sequence[str], say: Callable[[str], None], **behaviour: Any) -> None:
    """Serve synthetic answers on loopback until interrupted. say: is told the addresses."""

    async def serve() -> None:
        simulated = Behaviour(faults=parse_faults(faults), **behaviour)
        with anyio.open_signal_receiver(signal.SIGINT, signal.SIGTERM) as signals:
            async with Simulator(simulated, port=port) as simulator:
                say(f"openai     base_url {simulator.base_url('openai')}")
                say(f"anthropic  base_url {simulator.base_url('anthropic')}")
                say("answers are synthetic; Ctrl-C ends it")
                async for _ in signals:
                    return

    blocking(serve)


def blocking(call: Callable[[], Awaitable[T]]) -> T:
    """Run an async call to its end, on uvloop where there is one.

    Where a loop runs already (a notebook) it gets a thread of its own.
    """
    try:
        import asyncio

        asyncio.get_running_loop()
    except RuntimeError:
        return _run(call)
    outcome: list[T] = []
    failure: list[BaseException] = []

    def work() -> None:
        try:
            outcome.append(_run(call))
        except BaseException as error:  # noqa: BLE001 - carried over to the caller's thread
            failure.append(error)

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    if failure:
        raise failure[0]
    return outcome[0]


def _run(call: Callable[[], Awaitable[T]]) -> T:
    try:
        import uvloop  # noqa: F401
    except ImportError:
        return anyio.run(call)
    return anyio.run(call, backend_options={"use_uvloop": True})


def _restored(found: Run, settings: dict[str, Any]) -> Job:
    if not Path(found.input).is_file():
        raise UsageError(f"the prompt file of run {found.id}, {found.input}, is gone; put it back, or export what there is")
    return config.restore({**found.settings, "input": found.input}, settings)


def _ignore(event: Event) -> None:
    """Observe nothing."""
