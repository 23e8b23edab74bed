"""The body's bytes on their way to the decoder: counted, inflated where needed, under the cap."""

import zlib
from collections.abc import Iterable, Iterator

from runner.errors import StreamError

_STEP = 64 << 10
"""Bytes that are inflated at once: a bomb shows before it has grown."""
_WINDOW_BITS = {"gzip": 31, "x-gzip": 31, "deflate": 15}


class Body:
    """Give ``pieces`` each chunk; it gives the bytes to decode and keeps ``received``, after inflation."""

    __slots__ = ("_inflate", "_most", "received")

    def __init__(self, encoding: str, most: int) -> None:
        """Raise StreamError for an encoding that we did not ask for and cannot undo."""
        self._most = most
        self.received = 0
        encoding = encoding.strip().lower()
        if encoding in ("", "identity"):
            self._inflate = None
        elif encoding in _WINDOW_BITS:
            self._inflate = zlib.decompressobj(_WINDOW_BITS[encoding])
        else:
            raise StreamError(
                f"the answer is compressed ({encoding[:40]!r}) although plain text was asked for",
                code="not_an_api",
                verdict="stop",
            )

    def pieces(self, chunk: bytes) -> Iterable[bytes]:
        """Take a chunk; give its bytes in pieces that stay small however they were packed.

        Raises StreamError over the cap and for a broken compression.
        """
        if self._inflate is not None:
            return self._inflated(chunk)
        self._count(chunk)
        return (chunk,)

    def _inflated(self, chunk: bytes) -> Iterator[bytes]:
        assert self._inflate is not None
        while True:
            # one byte more than allowed shows that there is more
            step = min(_STEP, self._most - self.received + 1)
            try:
                piece = self._inflate.decompress(chunk, step)
            except zlib.error as error:
                raise StreamError("the answer's compression is broken", code="malformed_stream") from error
            self._count(piece)
            yield piece
            chunk = self._inflate.unconsumed_tail
            if not chunk and len(piece) < step:
                return

    def _count(self, piece: bytes) -> None:
        self.received += len(piece)
        if self.received > self._most:
            raise StreamError(f"the answer is larger than {self._most} bytes", code="size_cap", verdict="fail")
