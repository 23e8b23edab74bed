"""Decoding as the client does, without a network: what the tests of providers and of streams share."""

from collections.abc import Iterable

from runner.interfaces import Decoder
from runner.providers.sse import SSEDecoder


def fed(decoder: Decoder, chunks: Iterable[bytes]) -> Decoder:
    """Feed a decoder these bytes, to the end: an unfinished last event counts if it can be read."""
    sse = SSEDecoder()
    for chunk in chunks:
        decoder.feed_all(sse.feed(chunk))
    last = sse.flush()
    if last is not None:
        decoder.feed(last)
    return decoder
