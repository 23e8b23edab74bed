"""The bytes of a body between connection and decoder: counted, decompressed if needed, and limited in size."""

import zlib
from collections.abc import Iterable, Iterator

from runner.errors import StreamError

_STEP = 64 << 10
"""Bytes that are decompressed at a time: a decompression bomb is noticed before it takes memory."""
_WINDOW_BITS = {"gzip": 31, "x-gzip": 31, "deflate": 15}


class Body:
    """Turns each chunk into the bytes to decode, by ``pieces``. received: bytes so far, after decompression."""

    __slots__ = ("_decompressor", "_most", "received")

    def __init__(self, encoding: str, most: int) -> None:
        """Raise StreamError for an encoding that was not requested and cannot be decoded. most: the size limit in bytes."""
        self._most = most
        self.received = 0
        encoding = encoding.strip().lower()
        if encoding in ("", "identity"):
            self._decompressor = None
        elif encoding in _WINDOW_BITS:
            self._decompressor = zlib.decompressobj(_WINDOW_BITS[encoding])
        else:
            raise StreamError(
                f"the answer is compressed ({encoding[:40]!r}) although plain text was asked for",
                code="not_an_api",
                verdict="stop",
            )

    def pieces(self, chunk: bytes) -> Iterable[bytes]:
        """Return the bytes of a chunk, in small pieces if it has to be decompressed.

        Raises StreamError beyond the size limit, and for invalid compression.
        """
        if self._decompressor is not None:
            return self._decompressed(chunk)
        self._count(chunk)
        return (chunk,)

    def _decompressed(self, chunk: bytes) -> Iterator[bytes]:
        assert self._decompressor is not None
        while True:
            # one byte beyond the limit is enough to exceed it
            step = min(_STEP, self._most - self.received + 1)
            try:
                piece = self._decompressor.decompress(chunk, step)
            except zlib.error as error:
                raise StreamError("the answer's compression is broken", code="malformed_stream") from error
            self._count(piece)
            yield piece
            chunk = self._decompressor.unconsumed_tail
            if not chunk and len(piece) < step:
                return

    def _count(self, piece: bytes) -> None:
        self.received += len(piece)
        if self.received > self._most:
            raise StreamError(f"the answer is larger than {self._most} bytes", code="size_cap", verdict="fail")
