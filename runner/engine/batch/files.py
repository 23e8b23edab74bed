"""The files of batches: requests that are sent, and results that have come. Only the user can read them.

A file of requests is whole once its batch is ``written`` and it has as many bytes as the store says.
"""

import os
import shutil
from collections.abc import Callable, Collection, Iterator, Sequence
from pathlib import Path
from typing import TypeVar

from anyio import to_thread

from runner.batches import BatchResult, BatchService
from runner.errors import StoreError, TransportError

T = TypeVar("T")


class Folder:
    """The folder with the files of a run's batches. Other runs of the store have theirs in it, too."""

    def __init__(self, path: Path, run_id: int) -> None:
        self._path, self._prefix = path, f"{run_id}-"

    def requests(self, token: str) -> Path:
        """Return the path of the file of requests of a batch."""
        return self._path / f"{self._prefix}{token}.jsonl"

    def results(self, token: str, number: int) -> Path:
        """Return the path of a file of results of a batch. number: among those that it has."""
        return self._path / f"{self._prefix}{token}.results-{number}.jsonl"

    async def make(self) -> None:
        """Make the folder, for the user alone. Raises StoreError."""
        await self.do(lambda: self._path.mkdir(mode=0o700, parents=True, exist_ok=True))

    async def clear(self, token: str, *, results_only: bool = False) -> None:
        """Delete the files of a batch, with parts of downloads. What cannot be deleted stays, and is tried again next time."""
        begin = f"{self._prefix}{token}." + ("results-" if results_only else "")
        await to_thread.run_sync(self._delete, lambda name: name.startswith(begin))

    async def sweep(self, tokens: Collection[str]) -> None:
        """Delete files of the run that belong to none of these batches: a kill came before they were deleted."""
        known = tuple(f"{self._prefix}{token}." for token in tokens)
        await to_thread.run_sync(self._delete, lambda name: name.startswith(self._prefix) and not name.startswith(known))

    def _delete(self, chosen: Callable[[str], bool]) -> None:
        try:
            names = [entry.name for entry in os.scandir(self._path) if chosen(entry.name)]
            for name in names:
                (self._path / name).unlink(missing_ok=True)
            # only if it is empty: files of other runs may be in it
            self._path.rmdir()
        except OSError:
            return

    async def size(self, token: str) -> int:
        """Return the bytes of the file of requests of a batch, 0 if there is none."""
        path = self.requests(token)
        return await to_thread.run_sync(lambda: path.stat().st_size if path.exists() else 0)

    async def do(self, call: Callable[[], T]) -> T:
        """Do something with files, in a thread. Raises StoreError."""
        try:
            return await to_thread.run_sync(call)
        except OSError as error:
            raise self.full(error) from error

    def full(self, error: OSError) -> StoreError:
        """Return the error for a file that cannot be written."""
        free = f", {shutil.disk_usage(self._path).free >> 20} MiB are free" if self._path.exists() else ""
        return StoreError(f"the files of batches in {self._path} cannot be written: {error.strerror or error}{free}")

    async def open(self, token: str) -> "RequestFile":
        """Begin the file of requests of a batch. Raises StoreError."""
        await self.make()
        path = self.requests(token)
        return RequestFile(self, path, await self.do(lambda: os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)))


class RequestFile:
    """A file of requests that is being written."""

    def __init__(self, folder: Folder, path: Path, handle: int) -> None:
        self._folder, self.path, self._handle = folder, path, handle
        self.bytes = 0

    async def write(self, lines: Sequence[bytes]) -> None:
        """Append lines. Raises StoreError."""
        data = b"".join(lines)
        await self._folder.do(lambda: self._write(data))
        self.bytes += len(data)

    def _write(self, data: bytes) -> None:
        view = memoryview(data)
        while view:
            view = view[os.write(self._handle, view) :]

    async def close(self) -> None:
        """End the file; when this returns, it survives a crash of the machine. Raises StoreError."""

        def close() -> None:
            try:
                os.fsync(self._handle)
            finally:
                self.abandon()
            if os.name == "posix":
                folder = os.open(self.path.parent, os.O_RDONLY)
                try:
                    os.fsync(folder)
                finally:
                    os.close(folder)

        await self._folder.do(close)

    def abandon(self) -> None:
        """Close the file as it is."""
        if self._handle >= 0:
            os.close(self._handle)
            self._handle = -1


def read_results(service: BatchService, path: Path) -> Iterator[BatchResult]:
    """Read a file of results. Raises StoreError; TransportError if it was deleted meanwhile, so that it is fetched again."""
    try:
        yield from service.results(path)
    except FileNotFoundError:
        raise TransportError("the results were deleted here before they were read", code="cut") from None
    except OSError as error:
        raise StoreError(f"the results in {path} cannot be read: {error.strerror or error}") from error
