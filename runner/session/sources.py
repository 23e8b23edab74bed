"""What a program may give to a run: a file, or rows that it has in memory. Rows are written to a file next to the store.

``job_of`` is the way in for synchronous code and ``job_of_async`` for code in an event loop: both are context managers that
yield the job, with the input that is read. They take a path, a pattern or a list of paths as they are. Anything else is rows: a
list or an iterator of texts and dicts, an async iterator, a table (``inputs.tables``). Settings are checked before the first row
is taken, since a generator gives its rows only once. Rows are written as JSON lines, in constant memory, and named by their
content as standard input is: with the same rows the same run continues, and ``runner resume`` needs nothing but the copy, which
goes with its run. An error of the program's generator is raised as it is, and nothing is sent.
"""

import errno
import glob
import os
from collections.abc import AsyncIterable, AsyncIterator, Callable, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, ExitStack, asynccontextmanager, contextmanager
from inspect import isasyncgenfunction, iscoroutine, iscoroutinefunction, isgeneratorfunction
from io import IOBase
from pathlib import Path
from typing import Any, Protocol, TypeAlias

from anyio.from_thread import check_cancelled
from anyio.to_thread import run_sync
from msgspec import structs

from runner.config.job import Job, load_job
from runner.config.trust import allowed
from runner.errors import UsageError
from runner.inputs import spool, tables
from runner.inputs.spool import MEMORY, STDIN, Copy
from runner.session import arguments
from runner.session.blocking import blocking
from runner.session.in_memory import Rows, word_for
from runner.session.naming import store_path
from runner.store.runs import may_need

_LONGEST_NAME = 1_000
_ONE_PROMPT = "a prompt goes into a list: [prompt]"


class ArrowStream(Protocol):
    """A table that gives out an Arrow stream."""

    def __arrow_c_stream__(self, requested_schema: object | None = None) -> object:
        """Return the stream."""
        ...


Source: TypeAlias = str | os.PathLike[str] | Iterable[Any] | AsyncIterable[Any] | ArrowStream
"""What a run takes: a path, a pattern, a list of paths; or rows in memory."""


def names_files(source: object) -> bool:
    """Return True if a source is the path of a file, or a list of paths; False if it is rows."""
    if isinstance(source, list | tuple):
        return bool(source) and all(isinstance(one, os.PathLike) for one in source)
    return isinstance(source, str | os.PathLike)


@contextmanager
def job_of(
    source: Source, settings: Mapping[str, Any], db: str | Path, *, trust: bool = False, limit: int | None = None
) -> Iterator[Job]:
    """Build the job of a source, and keep a copy of rows in memory, of standard input or of a pipe while a run uses it.

    Call this outside the event loop, so that Ctrl-C interrupts the reading. trust: allow what only a job file asks for.
    limit: rows that the run will use; no more are taken from what may have no end. Raises UsageError, StoreError, and what the
    program's own iterator raises.
    """
    job = job_without_rows(source, settings, trust=trust)
    with spooled(job, db) if names_files(source) else _kept(source, job, db, limit) as ready:
        yield ready


@asynccontextmanager
async def job_of_async(
    source: Source, settings: Mapping[str, Any], db: str | Path, *, trust: bool = False, limit: int | None = None
) -> AsyncIterator[Job]:
    """Do what ``job_of`` does, inside an event loop. Rows are taken in the thread of the loop, as the program would take them."""
    job = await run_sync(lambda: job_without_rows(source, settings, trust=trust))
    if names_files(source):
        with ExitStack() as stack:
            yield await run_sync(lambda: stack.enter_context(spooled(job, db, check_cancelled)))
        return
    store = store_path(db)
    with Copy(store, MEMORY, word_for(source)) as copy:
        rows = Rows(source, job, copy, limit)
        await rows.take_async()
        path, new = await run_sync(rows.finish)
    with _in_use(path, store, new=new):
        yield _of_copy(job, path)


@contextmanager
def spooled(job: Job, db: str | Path, waits: Callable[[], None] | None = None) -> Iterator[Job]:
    """Copy standard input or a pipe to a file next to the store, and keep the copy if a run uses it.

    Call this outside the event loop, so that Ctrl-C interrupts the read. waits: called again and again while nothing comes; what
    it raises ends the copy.
    """
    if not spool.is_stream(job.input):
        yield job
        return
    store = store_path(db)
    with spool.stored_copy(job.input, store, lambda path: may_need(store, path), waits) as path:
        yield _of_copy(job, path)


def _of_copy(job: Job, path: Path) -> Job:
    """Return the job that reads a copy. The files that its rows name are relative to the current folder, at resume too."""
    return structs.replace(job, input=path, files_root=job.files_root or str(Path.cwd()))


def job_without_rows(source: Any, settings: Mapping[str, Any], *, trust: bool) -> Job:
    """Return the job as far as it can be known before rows are taken: the settings are right, and the source is one."""
    if names_files(source):
        arguments.check(source=source)
        if isinstance(source, str) and not _may_be_there(source):
            shown = source if len(source) <= 60 else f"{source[:57]}..."
            raise UsageError(f"{_absence(source)} {shown!a}; {_ONE_PROMPT}")
        return allowed(load_job(source, settings), trust)
    _refuse_unfit(source)
    job = allowed(load_job(STDIN.name, settings), trust)
    if job.input_format is not None and job.said("input_format"):
        raise UsageError("input_format means nothing for rows in memory; leave it out")
    return job


def _may_be_there(path: str) -> bool:
    if not path or path == str(STDIN) or path.startswith("run:") or os.path.lexists(path):
        return True
    # a pattern; whoever reads it goes through the folders
    return "**" in path or (glob.has_magic(path) and next(glob.iglob(path), None) is not None)  # noqa: PTH207 - of any text


def _absence(path: str) -> str:
    try:
        os.lstat(path)
    except OSError as error:
        if error.errno == errno.ENAMETOOLONG:
            return "the name of a file is too long:"
    return "there is no file"


def _refuse_unfit(source: Any) -> None:
    """Raise UsageError for what looks like rows and is none."""
    if isinstance(source, Mapping):
        splits = all(hasattr(part, "column_names") for part in source.values()) and bool(source)
        columns = all(isinstance(part, list | tuple) and len(part) > 1 for part in source.values()) and bool(source)
        if all(isinstance(part, Mapping) for part in source.values()) and source:
            raise UsageError("a dict of dicts is no table; pass pandas.DataFrame(...), or a list with a dict for each row")
        if columns:
            raise UsageError("a dict of lists is no table; pass pandas.DataFrame(...), or a list with a dict for each row")
        way = f"choose one of its splits: {', '.join(map(str, source))}" if splits else "a row goes into a list: [row]"
        raise UsageError(f"{'these are several data sets' if splits else 'a dict is one row'}; {way}")
    if isinstance(source, list | tuple) and source and all(map(_is_file, source)):
        raise UsageError("these texts are names of files; for the rows of files pass paths: [pathlib.Path(...), ...]")
    if isinstance(source, set | frozenset):
        raise UsageError("a set has no order, so every run would be a new one; pass sorted(...) or a list")
    if isinstance(source, bytes | bytearray | memoryview):
        raise UsageError(f"bytes are neither a path nor rows; {_ONE_PROMPT}, with text in it")
    if isinstance(source, IOBase):
        raise UsageError("this is an open file; pass its path, or its lines in a list")
    if isgeneratorfunction(source) or isasyncgenfunction(source):
        raise UsageError(f"{source.__name__} is a function; call it: {source.__name__}()")
    if iscoroutine(source) or iscoroutinefunction(source):
        raise UsageError("this is a coroutine; await it first, and pass what it returns")
    if type(source).__name__ == "LazyFrame":
        raise UsageError("a LazyFrame has no rows before it is collected; pass frame.collect()")
    if getattr(source, "ndim", None) == 0:
        raise UsageError("an array of no dimension is one value; a prompt goes into a list: [str(prompt)]")
    if isinstance(source, Iterable | AsyncIterable) or tables.may_be_table(source):
        return
    raise UsageError(
        f"source must be a path, or rows: a list of texts or dicts, an iterator, a table, not {type(source).__name__}"
    )


def _is_file(text: object) -> bool:
    return isinstance(text, str) and len(text) < _LONGEST_NAME and os.path.isfile(text)  # noqa: PTH113 - raises nothing


@contextmanager
def _kept(source: Any, job: Job, db: str | Path, limit: int | None) -> Iterator[Job]:
    store = store_path(db)
    with Copy(store, MEMORY, word_for(source)) as copy:
        rows = Rows(source, job, copy, limit)
        if isinstance(source, AsyncIterable):
            blocking(rows.take_async)
        else:
            rows.take()
        path, new = rows.finish()
    with _in_use(path, store, new=new):
        yield _of_copy(job, path)


def _in_use(path: Path, store: Path, *, new: bool) -> AbstractContextManager[None]:
    return spool.in_use(path, spool.display_name(path), new=new, needed=lambda copy: may_need(store, copy))
