"""The body's bytes on their way to the decoder: counted, inflated where needed, under the cap."""

import zlib

from runner.errors import StreamError

_WINDOW_BITS = {"gzip": 31, "x-gzip": 31, "deflate": 15}


class Body:
    """Call it with each chunk; it gives the bytes to decode and keeps ``received``, after inflation."""

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

    def __call__(self, chunk: bytes) -> bytes:
        """Take a chunk. Raises StreamError over the cap and for a broken compression."""
        if self._inflate is not None:
            try:
                # one byte more than allowed shows a bomb without letting it grow
                chunk = self._inflate.decompress(chunk, self._most - self.received + 1)
            except zlib.error as error:
                raise StreamError("the answer's compression is broken", code="malformed_stream") from error
        self.received += len(chunk)
        if self.received > self._most:
            raise StreamError(f"the answer is larger than {self._most} bytes", code="size_cap", verdict="fail")
        return chunk
