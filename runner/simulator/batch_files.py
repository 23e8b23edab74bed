"""Files of the simulator's batches: in a temporary folder, which is deleted when the simulator ends."""

import tempfile
import time
import uuid
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

from runner.simulator.dialect import Refusal


class StoredFile:
    """A file that was uploaded, or that a batch has made."""

    def __init__(self, path: Path, *, account: str, purpose: str, name: str) -> None:
        self.id = f"file-{path.name}"
        self.path = path
        self.account = account
        self.purpose = purpose
        self.name = name
        self.bytes = 0
        self.created_at = time.time()
        # until when it can be fetched; None: as long as the simulator runs
        self.kept_until: float | None = None
        # downloads of it that broke off
        self.broken = 0

    @property
    def is_kept(self) -> bool:
        """False once it was kept as long as it is kept."""
        return self.kept_until is None or time.time() < self.kept_until


class Files:
    """All files of one simulator, in the order of their creation."""

    def __init__(self) -> None:
        self._folder: tempfile.TemporaryDirectory[str] | None = None
        self._files: dict[str, StoredFile] = {}

    def make(self, *, account: str, purpose: str, name: str, listed: bool = True) -> StoredFile:
        """Return a new file, which is still to be written. listed: it can be found."""
        if self._folder is None:
            self._folder = tempfile.TemporaryDirectory(prefix="runner-simulator-")
        path = Path(self._folder.name, uuid.uuid4().hex[:24])
        stored = StoredFile(path, account=account, purpose=purpose, name=name)
        if listed:
            self.show(stored)
        return stored

    def show(self, stored: StoredFile) -> None:
        """Let a file be found from now on."""
        self._files[stored.id] = stored

    def find(self, file_id: str, account: str) -> StoredFile:
        """Return a file of an account. Raises Refusal (404)."""
        stored = self._files.get(file_id)
        if stored is not None and not stored.is_kept:
            self.delete(stored)
            stored = None
        if stored is None or stored.account != account:
            raise Refusal(404, f"No such File object: {file_id}", param="id")
        return stored

    def of(self, account: str) -> Iterator[StoredFile]:
        """Yield the files of an account, newest first."""
        return (stored for stored in reversed(list(self._files.values())) if stored.account == account and stored.is_kept)

    def delete(self, stored: StoredFile) -> None:
        """Delete a file. Who has it open can read it to its end."""
        self._files.pop(stored.id, None)
        stored.path.unlink(missing_ok=True)

    def close(self) -> None:
        """Delete all files."""
        self._files.clear()
        folder, self._folder = self._folder, None
        if folder is not None:
            folder.cleanup()


async def receive(stored: StoredFile, chunks: AsyncIterator[bytes], limit: int) -> None:
    """Write what a client sends to a file. Raises Refusal (413), and keeps nothing, if it is more than the limit in bytes."""
    with stored.path.open("wb") as opened:
        async for chunk in chunks:
            stored.bytes += len(chunk)
            if stored.bytes <= limit:
                opened.write(chunk)
    if stored.bytes > limit:
        stored.path.unlink()
        raise Refusal(413, f"File is too large: {stored.bytes} bytes. The maximum for batches is {limit} bytes.")
