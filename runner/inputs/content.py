"""Hashes what an input holds: the bytes of its files, unpacked if they are packed, and those up to places of interest."""

from collections.abc import Iterable, Mapping
from hashlib import blake2b
from pathlib import Path

from msgspec import Struct

from runner.inputs.compression import open_compressed

_BLOCK = 1 << 20


class Content(Struct, frozen=True, kw_only=True):
    """The content of a prompt file: its length in bytes and its hash."""

    size: int
    digest: str
    # the part up to the last line end: bytes, lines, hash
    whole: int
    lines: int
    whole_digest: str
    # hashes of the first so many bytes, for the lengths that were asked for
    heads: Mapping[int, str] = {}

    def begins_with(self, size: int | None, digest: str | None) -> bool:
        """Return True if the first ``size`` bytes have this hash. The length must have been asked for."""
        return size is not None and digest is not None and self.heads.get(size) == hash_of(digest)


def with_reading(digest: str, reading: str) -> str:
    """Return a digest as it is stored: with the way in which the rows were read, which decides what they are."""
    return f"{digest}-{reading}"


def hash_of(stored: str) -> str:
    """Return the hash in a stored digest, whatever way the rows were read."""
    return stored.partition("-")[0]


def measure(parts: Iterable[tuple[Path, int]], lengths: Iterable[int] = ()) -> Content:
    """Hash the content of files, one behind the other, each up to a size in bytes; in one reading and constant memory.

    lengths: of which beginnings the hash is wanted too. The digest tells where a file ends, so that an input to which a file
    was added begins with what it was before; a file without content counts for nothing. Raises UsageError for damaged compressed
    data, OSError.
    """
    sums = _Sums(lengths)
    for path, size in parts:
        sums.next_file()
        with open_compressed(path, size) as (file, _):
            while block := file.read(_BLOCK):
                sums.add(block)
    return sums.content()


class _Sums:
    """What is known of the content that has been read. lengths: as for ``measure``."""

    def __init__(self, lengths: Iterable[int]) -> None:
        self._wanted = frozenset(lengths)
        self._hashed = blake2b(digest_size=16)
        self._at = self._lines = self._whole = 0
        self._whole_digest = self._hashed.hexdigest()
        self._heads: dict[int, str] = {}
        self._is_next = False

    def next_file(self) -> None:
        """What is added from now on stands in another file."""
        self._is_next = self._at > 0

    def add(self, block: bytes) -> None:
        """Add bytes."""
        if self._is_next:
            # no content can be taken for this step, since no file is hashed with the mark
            self._hashed = blake2b(self._hashed.digest(), digest_size=16, person=b"next file")
            self._is_next = False
        self._lines += block.count(b"\n")
        begin, at = self._at, self._at
        end, line_end = begin + len(block), begin + block.rfind(b"\n") + 1
        rest = memoryview(block)
        for cut in sorted({end, *(place for place in (line_end, *self._wanted) if begin < place < end)}):
            self._hashed.update(rest[at - begin : cut - begin])
            at = cut
            if cut in self._wanted:
                self._heads[cut] = self._hashed.hexdigest()
            if cut == line_end:
                self._whole, self._whole_digest = cut, self._hashed.hexdigest()
        self._at = at

    def content(self) -> Content:
        """Return what was added."""
        return Content(
            size=self._at,
            digest=self._hashed.hexdigest(),
            whole=self._whole,
            lines=self._lines,
            whole_digest=self._whole_digest,
            heads=self._heads,
        )
