"""Hashes what a prompt file holds: its bytes, unpacked if they are gzip, and those up to places of interest."""

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


def measure(path: Path, size: int, lengths: Iterable[int] = ()) -> Content:
    """Hash the content of the first ``size`` bytes of a file, in one reading and constant memory.

    lengths: of which beginnings the hash is wanted too. Raises UsageError for damaged gzip data, OSError.
    """
    hashed, lines, at = blake2b(digest_size=16), 0, 0
    whole, whole_digest = 0, hashed.hexdigest()
    heads: dict[int, str] = {}
    wanted = frozenset(lengths)
    with open_compressed(path, size) as (file, _):
        while block := file.read(_BLOCK):
            lines += block.count(b"\n")
            begin, end, line_end = at, at + len(block), at + block.rfind(b"\n") + 1
            rest = memoryview(block)
            for cut in sorted({line_end, end, *(length for length in wanted if begin < length < end)}):
                hashed.update(rest[at - begin : cut - begin])
                at = cut
                if cut in wanted:
                    heads[cut] = hashed.hexdigest()
                if cut == line_end > begin:
                    whole, whole_digest = cut, hashed.hexdigest()
    return Content(size=at, digest=hashed.hexdigest(), whole=whole, lines=lines, whole_digest=whole_digest, heads=heads)
