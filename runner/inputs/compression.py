"""Opens a file that may be compressed: gzip, bzip2, xz or zstd, recognised by its first bytes, and up to a given size."""

import bz2
import gzip
import io
import lzma
import zlib
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import IO, NamedTuple, cast

from runner.errors import UsageError

_BUFFER = 1 << 20


class _Packing(NamedTuple):
    """A way to compress: its name, the first bytes of its files, the endings of their names, and what unpacks them."""

    name: str
    magic: bytes
    endings: tuple[str, ...]
    unpack: Callable[[IO[bytes]], IO[bytes]]


def _zstd(file: IO[bytes]) -> IO[bytes]:
    try:
        # in Python's own library from 3.14 on
        from compression import zstd  # type: ignore[import-not-found, unused-ignore]
    except ImportError:
        try:
            from backports import zstd
        except ImportError:
            raise UsageError("zstd needs one package more: pip install 'prompt-runner[zstd]'") from None
    return cast("IO[bytes]", zstd.ZstdFile(file))


_PACKINGS = (
    _Packing("gzip", b"\x1f\x8b", (".gz",), lambda file: cast("IO[bytes]", gzip.GzipFile(fileobj=file))),
    _Packing("bzip2", b"BZh", (".bz2",), lambda file: cast("IO[bytes]", bz2.BZ2File(file))),
    _Packing("xz", b"\xfd7zXZ\x00", (".xz",), lambda file: cast("IO[bytes]", lzma.LZMAFile(file))),  # noqa: SIM115 - the caller closes it
    _Packing("zstd", b"\x28\xb5\x2f\xfd", (".zst", ".zstd"), _zstd),
)
_MAGIC_BYTES = 6
_ENDINGS = frozenset(ending for packing in _PACKINGS for ending in packing.endings)


class _Head(io.RawIOBase):
    """The first ``size`` bytes of a file, as if the file ended there."""

    def __init__(self, file: io.FileIO, size: int) -> None:
        self._file, self._left = file, size

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]
        count = self._file.readinto(memoryview(buffer)[: self._left])
        self._left -= count
        return count


@contextmanager
def open_compressed(path: Path, size: int) -> Iterator[tuple[IO[bytes], bool]]:
    """Open the first ``size`` bytes of a file, and decompress them if they are compressed; yield the stream and whether they are.

    Raises UsageError, also during reading, if the compressed data is cut off or damaged, or a package is missing that unpacks it;
    OSError if the file cannot be read.
    """
    with ExitStack() as stack:
        file = stack.enter_context(path.open("rb", buffering=0))
        plain = stack.enter_context(io.BufferedReader(_Head(file, size), _BUFFER))
        packing = packing_of(plain.peek(_MAGIC_BYTES)[:_MAGIC_BYTES])
        if packing is None:
            yield plain, False
            return
        try:
            unpacker = stack.enter_context(packing.unpack(cast("IO[bytes]", plain)))
        except UsageError as error:
            raise UsageError(f"{path} cannot be unpacked: {error}") from None
        try:
            yield stack.enter_context(io.BufferedReader(cast("io.RawIOBase", unpacker), _BUFFER)), True
        except Exception as error:
            if not _is_damage(error):
                raise
            why = str(error).rstrip(".")
            words = f"{path} is cut off or damaged ({packing.name}: {why}); make the file again, or copy it again"
            raise UsageError(words) from error


def packing_of(head: bytes) -> _Packing | None:
    """Return how a file is compressed, by its first bytes; None if it is not."""
    return next((packing for packing in _PACKINGS if head.startswith(packing.magic)), None)


def _is_damage(error: Exception) -> bool:
    """Return True for what the libraries raise for data that they cannot unpack. bz2 raises an OSError without a number."""
    if isinstance(error, OSError):
        return isinstance(error, gzip.BadGzipFile) or error.errno is None
    return isinstance(error, EOFError | zlib.error | lzma.LZMAError) or type(error).__name__ == "ZstdError"


def unpacked(path: Path) -> Path:
    """Return the path without an ending such as ``.gz``, so that its suffix names the format of the content."""
    return path.with_suffix("") if path.suffix.lower() in _ENDINGS else path
