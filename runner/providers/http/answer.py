"""Reads the body of one answer into its decoder: finds out what it is, and judges how it ends.

A decoder says how far its answer has come (``Stage``). A body that breaks off is an answer only from ``Stage.WHOLE`` on, and only
the end mark, or the end of the body behind a finish reason, ends the reading. ``runner.providers.completeness`` has the table.
"""

import math
from collections.abc import Awaitable, Callable, Iterable, Iterator
from contextlib import suppress
from itertools import chain

import aiohttp
import anyio
import anyio.lowlevel
import httpx

from runner.errors import AttemptTimeoutError, StreamError, TransportError
from runner.interfaces import Decoder
from runner.model import ServerSentEvent, Stage
from runner.providers.http.body import Body
from runner.providers.http.exchange import HttpExchange
from runner.providers.http.response import ERROR_BODY_BYTES, Head, Shape, empty, no_api, shape_of
from runner.providers.http.timeouts import TAIL_S, Watch
from runner.providers.http.transport import Chunks
from runner.providers.lenient_json import decode_json
from runner.providers.sse import SSEDecoder

END_S = 0.5
"""Seconds after the end mark in which the body must end, so that the connection can be reused."""

HELD_S = 0.5
"""Seconds after which the timeout of silence begins anew, at the latest, while nothing is read since there is no room."""

_LIMITS_S = {Stage.COUNTED: TAIL_S, Stage.ENDED: END_S}
"""Seconds for what may follow a stage. Behind a finish reason alone, text may follow, so the ordinary timeouts hold."""

_USUAL = (b"data: ", b"event: ")

_ENDS = (httpx.HTTPError, aiohttp.ClientError, OSError, StreamError, TransportError, AttemptTimeoutError)
"""What ends a body early. An error of the provider is not among them: it contradicts an answer."""


class AnswerReader:
    """Reads one answer.

    chunks: the bytes of its body. body: counts and inflates them. most_json: the longest JSON in one piece, in bytes. most_chars:
    the most characters that the decoder may collect.
    """

    __slots__ = (
        "_began",
        "_body",
        "_chunks",
        "_decoder",
        "_exchange",
        "_most_chars",
        "_most_json",
        "_pieces",
        "_room",
        "_until",
        "_watch",
    )

    def __init__(
        self,
        chunks: Chunks,
        body: Body,
        decoder: Decoder,
        exchange: HttpExchange,
        watch: Watch,
        *,
        most_json: int,
        most_chars: int,
    ) -> None:
        self._chunks, self._body, self._decoder = chunks, body, decoder
        self._exchange, self._watch = exchange, watch
        # waits until whoever reads along has room for more; None: nobody holds up the reading
        self._room: Callable[[], Awaitable[None]] | None = getattr(decoder, "room", None)
        self._most_json, self._most_chars = most_json, most_chars
        # what the last read has brought and what is not decoded yet
        self._pieces: Iterator[bytes] = iter(())
        self._began = False
        # when the reading ends at the latest, behind the usage or the end mark
        self._until = math.inf

    async def read(self, head: Head, sse: SSEDecoder) -> None:
        """Read the body. Raises AttemptError, and the errors of the HTTP libraries, unless there is a complete answer."""
        begun = await self._piece() or b""
        shape = Shape.EVENTS if begun.startswith(_USUAL) else shape_of(head.kind, begun)
        while shape is None and (piece := await self._piece()) is not None:
            # white space keeps the connection alive, and may go on for minutes
            begun = begun.rstrip() + piece
            shape = shape_of(head.kind, begun)
        if shape is None and not begun.strip():
            raise empty()
        if shape is Shape.EVENTS:
            await self._events(begun, head, sse)
        elif shape is Shape.JSON:
            await self._json(begun, head, sse)
        else:
            raise no_api(head.kind, await self._gathered(begun))

    async def _piece(self) -> bytes | None:
        """Return the next bytes; None at the end of the body."""
        while (piece := next(self._pieces, None)) is None:
            chunk = await self._chunks.read()
            if not chunk:
                return None
            self._watch.beat()
            if not self._began:
                self._began = True
                self._exchange.began()
            self._pieces = iter(self._body.pieces(chunk))
        return piece

    # -- events

    async def _events(self, begun: bytes, head: Head, sse: SSEDecoder) -> None:
        decoder, watch = self._decoder, self._watch
        read = self._chunks.read if self._room is None else self._read_with_room
        started, stage, chars = False, Stage.OPEN, 0
        pieces: Iterable[bytes] = chain((begun,), self._pieces)
        try:
            while True:
                for piece in pieces:
                    decoder.feed_all(sse.feed(piece))
                    if decoder.text_chars > self._most_chars:
                        self._check_text()
                if not started and decoder.started:
                    started = True
                    watch.began()
                    self._exchange.time_to_first_token_s = watch.age_s
                # a read may bring text behind the reason, and another reason behind the text
                more, chars = chars != decoder.text_chars, decoder.text_chars
                if stage is not decoder.stage or (more and stage is not Stage.OPEN):
                    stage = self._reached(decoder.stage, more=more)
                if decoder.ended and stage is Stage.OPEN:
                    break
                if stage is Stage.OPEN:
                    chunk = await read()
                elif self._chunks.at_end:
                    break
                else:
                    chunk = await self._tail_chunk()
                if not chunk:
                    break
                watch.beat()
                pieces = self._body.pieces(chunk)
            lost = b""
            while (last := sse.flush()) is not None:
                lost = _feed_unfinished(last, decoder)
        except _ENDS:
            if decoder.stage < Stage.WHOLE or decoder.text_chars > self._most_chars:
                raise
            self._exchange.tail_lost = not decoder.ended
            return
        self._judge_end(head, sse.stray or lost)

    async def _read_with_room(self) -> bytes:
        """Read once there is room for more. The server is not silent meanwhile: it waits for us."""
        assert self._room is not None
        ready = False
        while not ready:
            with anyio.move_on_after(HELD_S):
                await self._room()
                ready = True
            self._watch.beat()
        return await self._chunks.read()

    def _reached(self, stage: Stage, *, more: bool) -> Stage:
        """Set the clocks for a stage that has just been reached, and return it. more: text has come since the last one."""
        if more or self._exchange.answered_s is None:
            self._exchange.answered_s = self._watch.age_s
        # usually the end of the body has arrived with the finish reason, and nothing is waited for
        if not self._chunks.at_end:
            if stage is Stage.OPEN:
                self._watch.reopened()
            else:
                self._watch.tail()
            self._until = anyio.current_time() + _LIMITS_S.get(stage, math.inf)
        return stage

    async def _tail_chunk(self) -> bytes:
        """Read on behind a finish reason.

        The answer is paid for: nothing may discard it for ``TAIL_S`` seconds, not even a second Ctrl-C. Raises TransportError if
        the tail does not come in time.
        """
        while True:
            now = anyio.current_time()
            with anyio.CancelScope(shield=True, deadline=min(now + TAIL_S, self._until)):
                return await self._chunks.read()
            if anyio.current_time() >= self._until or anyio.current_effective_deadline() == -math.inf:
                if self._decoder.stage >= Stage.WHOLE:
                    raise TransportError("the tail of the answer did not come", code="cut")
                # cancelled: an answer that may lack text is not worth a wait
                await anyio.lowlevel.checkpoint()

    def _judge_end(self, head: Head, lost: bytes) -> None:
        """Raise StreamError if the end of the body does not complete the answer. lost: what could not be read of its end."""
        stage = self._decoder.stage
        if stage is Stage.OPEN:
            words = f"the stream ended without a finish reason{_told(lost)}"
            raise StreamError(words, code="truncated", marked=self._decoder.ended, orderly=not lost and head.framed)
        if head.framed:
            return
        if stage is Stage.REASON:
            words = "the connection closed behind the last piece of text; without an end mark, that may be a break"
            raise StreamError(words, code="truncated")
        self._exchange.tail_lost = stage < Stage.COUNTED

    # -- JSON and the rest

    async def _json(self, begun: bytes, head: Head, sse: SSEDecoder) -> None:
        """Feed the decoder with JSON in one piece. Once its last bracket has come, it is whole, however the body ends.

        JSON in lines is a stream without its fields.
        """
        data = bytearray(begun)
        self._watch.began()
        try:
            while (piece := await self._piece()) is not None:
                data += piece
                if len(data) > self._most_json:
                    words = f"the answer in one piece is larger than {self._most_json} bytes"
                    raise StreamError(words, code="size_cap", verdict="fail")
        except (httpx.HTTPError, aiohttp.ClientError, OSError, TransportError, AttemptTimeoutError):
            if not self._is_whole(data):
                raise
        else:
            try:
                self._decoder.whole(bytes(data))
            except StreamError:
                if not _is_lines(data):
                    raise
                self._decoder.feed_all(sse.feed(bytes(data) + b"\n\n"))
                self._judge_end(head, b"")
        if not self._decoder.complete:
            raise StreamError("the answer has no finish reason", code="truncated", marked=True, orderly=True)
        self._check_text()

    def _is_whole(self, data: bytearray) -> bool:
        """Return True if the decoder can read a complete answer from a body that broke off. Raises ProviderError."""
        if data.rstrip().endswith(b"}"):
            with suppress(StreamError):
                self._decoder.whole(bytes(data))
        return self._decoder.complete

    async def _gathered(self, begun: bytes) -> bytes:
        """Return the beginning of a body that is not an answer of an API."""
        head = bytearray(begun)
        while len(head) < ERROR_BODY_BYTES and (piece := await self._piece()) is not None:
            head += piece
        return bytes(head)

    def _check_text(self) -> None:
        if self._decoder.text_chars > self._most_chars:
            raise StreamError(f"the text is longer than {self._most_chars} characters", code="size_cap", verdict="fail")


def _feed_unfinished(last: ServerSentEvent, decoder: Decoder) -> bytes:
    """Feed the last event, which some servers end without a blank line. Return its data if it is invalid: it is ignored."""
    try:
        decoder.feed(last)
    except StreamError:
        return last.data
    return b""


def _told(lost: bytes) -> str:
    """Return words about the end of a stream that could not be read. A chunk is not quoted: it holds text of an answer."""
    if not lost.strip():
        return ""
    if lost.lstrip()[:1] in (b"{", b"["):
        return "; its last event is cut off"
    return f"; it ended with {lost[:200].decode('utf-8', 'replace').strip()!r}"


def _is_lines(data: bytearray) -> bool:
    """Return True if the first of several lines is JSON in itself."""
    first, _, more = data.strip().partition(b"\n")
    if not more.strip():
        return False
    with suppress(StreamError):
        return isinstance(decode_json(bytes(first))[0], dict)
    return False
