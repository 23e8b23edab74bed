"""What a running session and those who watch or steer it say to each other, over ``runner.frames``.

Who connects is told ``Hello``. It sends ``Ask`` frames, and gets one ``Reply`` for each, by its number. After ``Watch`` it also
gets ``Feed`` frames, until it goes away. All frames are msgpack.
"""

from collections.abc import Mapping
from typing import Any, Literal, TypeAlias

import msgspec
from msgspec import Struct

from runner.errors import UsageError

VERSION = 1
"""Of these messages. A session answers no other version, but says its own in ``Hello``, whose beginning never changes."""
NONE: Literal["none"] = "none"
"""In place of a number: no limit."""
ANSWER_S = 5.0
"""Seconds until a session has answered, at most: later it is taken for stopped."""


class Hello(Struct, frozen=True, kw_only=True, tag="hello"):
    """The first frame of a session."""

    version: int = VERSION
    run: int
    # number of the session in its run, counted from 1
    session: int
    pid: int
    # the newest frame that ``Watch`` could begin behind; 0: there was none yet
    newest: int = 0


class Pause(Struct, frozen=True, kw_only=True, tag="pause"):
    """Send no further request. Those that are open go on."""


class Continue(Struct, frozen=True, kw_only=True, tag="continue"):
    """Send requests again."""


class Stop(Struct, frozen=True, kw_only=True, tag="stop"):
    """End the session as Ctrl-C does; said twice, as a second Ctrl-C does."""


class Cancel(Struct, frozen=True, kw_only=True, tag="cancel"):
    """Give up rows: their open requests end at once and are booked as cancelled, and the rows have failed.

    ids: of rows, as results have them. Empty: nothing is done.
    """

    ids: tuple[str, ...]


class Requeue(Struct, frozen=True, kw_only=True, tag="requeue"):
    """Send rows again that have failed, in this session. ids: as in ``Cancel``."""

    ids: tuple[str, ...]


class Set(Struct, frozen=True, kw_only=True, tag="set"):
    """Change limits until the session ends. None: as it is. max_cost: dollars, of the run over all its sessions.

    rpm, tpm: ``NONE``: no limit but that of the server.
    """

    concurrency: int | None = None
    rpm: float | Literal["none"] | None = None
    tpm: float | Literal["none"] | None = None
    max_cost: float | None = None


class Watch(Struct, frozen=True, kw_only=True, tag="watch"):
    """Get what happens from now on.

    after: number of the last frame that was seen, to go on behind it; None: begin with the present state. texts: also the text
    of answers as they come.
    """

    after: int | None = None
    texts: bool = True


Request: TypeAlias = Pause | Continue | Stop | Cancel | Requeue | Set | Watch
"""All that can be asked."""


class Ask(Struct, frozen=True, kw_only=True, tag="ask"):
    """A request with its number, which the reply has too. by: who asks, as the history of the run tells it."""

    number: int
    request: Request
    by: Literal["terminal", "page", "api", "agent"] = "terminal"


class Reply(Struct, frozen=True, kw_only=True, tag="reply"):
    """What came of a request.

    done: one sentence for a person, about what has changed. error: one sentence about why nothing has; then ``done`` is empty.
    rows: by id, what became of each row that was named: "cancelled", "requeued", or why not.
    """

    number: int
    done: str = ""
    error: str | None = None
    rows: Mapping[str, str] = {}


class Feed(Struct, frozen=True, kw_only=True, tag="feed"):
    """One thing that has happened.

    number: rises with each frame of a session, from 1; the state has that of the last frame before it. Nobody can go on behind
    one that has 0 (``skipped``). data: JSON, an object, as browsers and programs get it; the session makes it once, and nobody
    makes it anew.
    """

    number: int
    kind: str
    data: bytes


Message: TypeAlias = Hello | Ask | Reply | Feed
"""All frames."""

_encoder, _decoder = msgspec.msgpack.Encoder(), msgspec.msgpack.Decoder[Any](Message)


def encode(message: Message) -> bytes:
    """Return a message as a frame. Raises UsageError for a number or a text that no frame can hold."""
    try:
        return _encoder.encode(message)
    except OverflowError:
        raise UsageError("a number is too large, and means nothing here; give a smaller one") from None
    except UnicodeEncodeError:
        raise UsageError("a text is not UTF-8, so no row has it as its id; look at the ids with `runner export`") from None


def decode(frame: bytes) -> Message:
    """Return the message of a frame. Raises msgspec.MsgspecError for what is none."""
    decoded: Message = _decoder.decode(frame)
    return decoded
