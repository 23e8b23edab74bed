"""Decodes as the client does, without a network: shared by the tests of providers and of streams."""

from collections.abc import Iterable

from runner.interfaces import Decoder
from runner.providers.sse import SSEDecoder


def fed(decoder: Decoder, chunks: Iterable[bytes]) -> Decoder:
    """Feed all bytes to a decoder. An unfinished last event counts if it can be read."""
    sse = SSEDecoder()
    for chunk in chunks:
        decoder.feed_all(sse.feed(chunk))
    last = sse.flush()
    if last is not None:
        decoder.feed(last)
    return decoder
