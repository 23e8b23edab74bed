"""Frames over a stream of bytes: a socket pair, TCP or TLS."""

import asyncio
import math
import socket
from collections.abc import Callable
from time import monotonic
from typing import cast

_HEAD = 4
_SMALL = 1 << 16
"""Bytes of a frame up to which a copy is cheaper than a second write."""
MOST_BYTES = 64 << 20
"""Bytes of a frame, at most, unless less is said."""
_NO_SIGNAL = getattr(socket, "MSG_NOSIGNAL", 0)


class Link(asyncio.Protocol):
    """One end of a stream of frames.

    take: called with each frame; what it raises ends the link. lost: called once when the stream has ended, with why it was ended
    here; None if the other side did. most: bytes of a frame that is taken.
    """

    def __init__(self, take: Callable[[bytes], None], lost: Callable[[str | None], None], *, most: int = MOST_BYTES) -> None:
        self.take, self.lost, self.most = take, lost, most
        self._buffer = bytearray()
        self._transport: asyncio.Transport | None = None
        # set if frames go out at once
        self._socket: socket.socket | None = None
        self._why: str | None = None
        self.ended = False
        # when something came last, also a part of a frame, by the monotonic clock; the longest silence since that was set to 0
        self.read_at, self.gap_s = monotonic(), 0.0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin."""
        self._transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        """Take the frames that are whole now."""
        now = monotonic()
        self.gap_s, self.read_at = max(self.gap_s, now - self.read_at), now
        source: bytes | bytearray = data
        if self._buffer:
            self._buffer += data
            source = self._buffer
        at = self._take_whole(source)
        if source is data:
            # nearly always it is whole frames
            self._buffer += data[at:]
        else:
            del self._buffer[:at]

    def _take_whole(self, source: bytes | bytearray) -> int:
        """Take the frames that are whole. Return how many bytes they are."""
        at = 0
        try:
            while not self.ended and len(source) - at >= _HEAD:
                length = int.from_bytes(source[at : at + _HEAD], "little")
                if length > self.most:
                    self.end(f"it sent a frame of {length:,} bytes")
                    break
                if len(source) - at < _HEAD + length:
                    break
                at += _HEAD
                frame = bytes(source[at : at + length])
                at += length
                self.take(frame)
        except Exception as error:  # noqa: BLE001 - whatever the other side sends must not end this one
            self.end(f"it sent what cannot be read ({type(error).__name__}: {error})")
        return at

    def send(self, frame: bytes) -> None:
        """Send a frame. Nothing happens if the stream has ended."""
        if self._transport is not None and not self.ended:
            head = len(frame).to_bytes(_HEAD, "little")
            if len(frame) > _SMALL:
                self._transport.writelines((head, frame))
            elif self._socket is None or self._transport.get_write_buffer_size():
                # one write, and one record of TLS
                self._transport.write(head + frame)
            else:
                self._write_now(self._transport, head + frame)

    def _write_now(self, transport: asyncio.Transport, data: bytes) -> None:
        """Write what the system takes at once; the transport writes the rest. That the other side has ended is found by reading.

        A transport that finds it by writing would not read what the other side has said before.
        """
        assert self._socket is not None
        taken = 0
        try:
            taken = self._socket.send(data, _NO_SIGNAL)
        except BlockingIOError:
            pass
        except OSError:
            return
        if taken < len(data):
            transport.write(data[taken:])

    def at_once(self, end: socket.socket) -> None:
        """Have frames go out at once: some event loops write at the end of a turn. end: the socket of the stream."""
        self._socket = end

    @property
    def is_at_once(self) -> bool:
        """True if frames go out at once."""
        return self._socket is not None

    def end(self, why: str | None = None) -> None:
        """End the stream. What was sent still goes out, as far as the other side reads it."""
        if not self.ended:
            self.ended, self._why = True, why
            if self._transport is not None:
                self._transport.close()

    @property
    def unsent(self) -> int:
        """Bytes that were sent and that the system has not taken yet."""
        return self._transport.get_write_buffer_size() if self._transport is not None else 0

    def read(self, *, on: bool) -> None:
        """Go on reading, or read nothing for now, so that the other side has to wait."""
        if self._transport is not None and not self.ended and self._transport.is_reading() != on:
            (self._transport.resume_reading if on else self._transport.pause_reading)()

    def certificate(self) -> bytes | None:
        """Return the certificate of the other side, in DER; None if there is none."""
        spoken = self._transport.get_extra_info("ssl_object") if self._transport is not None else None
        found: bytes | None = spoken.getpeercert(binary_form=True) if spoken is not None else None
        return found

    def renew(self) -> None:
        """Be ready for another stream, after one that has ended."""
        self._buffer.clear()
        self._transport, self._socket, self._why, self.ended = None, None, None, False

    def abort(self) -> None:
        """End the stream at once."""
        self.ended = True
        if self._transport is not None:
            self._transport.abort()

    def connection_lost(self, _: Exception | None) -> None:
        """Tell that the stream has ended."""
        self.ended = True
        self._buffer.clear()
        self.lost(self._why)


async def join(link: Link, end: socket.socket, *, at_once: bool = False) -> None:
    """Let a link use a socket that is connected. at_once: see ``Link.at_once``."""
    loop = asyncio.get_running_loop()
    end.setblocking(False)
    if end.family == getattr(socket, "AF_UNIX", None):
        await loop.create_unix_connection(lambda: link, sock=end)
    else:
        await loop.create_connection(lambda: link, sock=end)
    if at_once:
        link.at_once(end)


class Batch:
    """Calls ``flush`` a moment after the first ``due``, so that what comes together goes out together.

    link: where it goes; None: in several ways. If frames go out at once there, ``flush`` is called as soon as ``FULL`` requests
    wait, and not only between two turns: a turn may have a hundred answers, and the other side would have nothing to do.
    """

    DELAY_S = 0.001
    """Seconds."""
    FULL = 16
    """Requests for which it waits longer, if they come within ``FAST_S`` at the pace of the last ones.

    A frame costs each side a turn of its event loop. Where fewer come, nobody waits for them: a request would be later by more.
    """
    FAST_S = 0.006
    """Seconds."""

    def __init__(self, flush: Callable[[], None], link: Link | None = None) -> None:
        self._flush, self._link = flush, link
        self._handle: asyncio.TimerHandle | None = None
        self._waiting = 0
        # seconds in which a request came, between the last two times
        self._each_s = math.inf
        self._at = -math.inf

    def due(self, waiting: int = 0) -> None:
        """Have it called soon. waiting: requests that are to go out."""
        self._waiting = waiting or self._waiting
        if self._handle is None:
            fast_s = self.FULL * self._each_s
            delay_s = fast_s if self.DELAY_S < fast_s <= self.FAST_S else self.DELAY_S
            self._handle = asyncio.get_running_loop().call_later(delay_s, self._now)
        elif waiting >= self.FULL and self._link is not None and self._link.is_at_once:
            self.now()

    def now(self) -> None:
        """Call it now, if it is due."""
        if self._handle is not None:
            self._handle.cancel()
            self._now()

    def _now(self) -> None:
        now = monotonic()
        self._each_s = (now - self._at) / self._waiting if self._waiting else math.inf
        self._handle, self._waiting, self._at = None, 0, now
        self._flush()
