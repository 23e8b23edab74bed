"""Standard input, kept in a file: a run reads its prompts twice, and again when it goes on."""

import os
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from hashlib import blake2b
from pathlib import Path
from typing import IO

from runner.errors import StoreError, UsageError

STDIN = Path("-")
"""How standard input is named as a prompt file."""

MARK = "-stdin-"
"""Stands in the name of a file in which it is kept."""
_BLOCK = 1 << 20


def keep(store: Path) -> Path:
    """Copy standard input to a file beside the store and give its path, in constant memory.

    The file is named by its content: the same prompts again are the same input, so the same command goes on with their run, and
    no other prompts take their place. Raises UsageError for an input that cannot be read and a folder that cannot be written,
    StoreError for a disk that is full.
    """
    try:
        handle, name = tempfile.mkstemp(prefix=f"{store.name}{MARK}", suffix=".tmp", dir=store.parent)
    except OSError as error:
        raise UsageError(f"standard input cannot be kept in {store.parent}: {error.strerror}") from error
    try:
        with os.fdopen(handle, "wb") as file:
            digest = _copy(file)
            file.flush()
            os.fsync(file.fileno())
        kept = store.with_name(f"{store.name}{MARK}{digest}.jsonl")
        Path(name).replace(kept)
    except OSError as error:
        Path(name).unlink(missing_ok=True)
        raise StoreError(f"standard input cannot be kept in {store.parent}: {error.strerror or error}") from error
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise
    return kept


@contextmanager
def for_a_while() -> Iterator[Path]:
    """Keep standard input in a file of its own as long as it is looked at. Raises as ``keep``."""
    with tempfile.TemporaryDirectory(prefix="runner-") as folder:
        yield keep(Path(folder) / "runner.db")


def _copy(out: IO[bytes]) -> str:
    """Copy standard input; give a hash of it."""
    hashed = blake2b(digest_size=8)
    source = getattr(sys.stdin, "buffer", None)
    if source is None:
        raise UsageError("there is no standard input that could be read; name a file")
    while block := _read(source):
        hashed.update(block)
        out.write(block)
    return hashed.hexdigest()


def _read(source: IO[bytes]) -> bytes:
    try:
        return source.read(_BLOCK)
    except OSError as error:
        raise UsageError(f"standard input cannot be read: {error.strerror or error}") from error
