"""What a run and the run that serves say to each other. Pure.

    run                                          run that serves
      Hello  -- its limits, what is open ----->
               <-- what is known of the limits   Known
      Ask    -- tickets for rows that wait --->
               <-- tickets ------------------    Grant
      Drop   -- tickets that are not wanted -->
      Out    -- a request without a ticket --->
      Taken  -- a ticket for a larger one ---->
      Said   -- what the server has said ----->
      Ended  -- a request has ended --------->
      Beat   -- at least every second ------->
               <-- at least every second -----   Known
               <-- a sentence for the user ---   Note
               <-- it serves no longer -------   Bye

A frame holds a list of messages. A ticket is known by a number that the run has chosen, so that it can tell another run of it if
the one that serves ends.
"""

from typing import Literal, TypeAlias

import msgspec
from msgspec import Struct

from runner.engine.limits.learned import Learned
from runner.model import Usage

PROTOCOL = 1
"""Grows when a message changes. Runs that differ in it do not share their limits.

``Bye``, and that the first message is ``Hello`` and begins with this number, must never change: it is how they tell each other.
"""
MOST_BYTES = 8 << 20
"""Bytes of a frame, at most."""
_OTHER = "the run that has the same endpoint, model and key is of another version of runner"


class Asked(Struct, frozen=True, array_like=True, gc=False):
    """A ticket that is wanted. size: bytes of the request. most: its output tokens. standard: it fell back from flex."""

    number: int
    size: int
    most: int | None = None
    standard: bool = False


class Hello(Struct, frozen=True, array_like=True, tag=0):
    """The first message of a run. limits: per minute, that its user has set. fixed: the number of its slots is fixed.

    ceiling: its most open requests. out: requests that are open. learned: what it knows of the slots. reported: limits that the
    server reports. pause: that runs.
    """

    protocol: int
    identity: str
    name: str
    limits: dict[str, float] = {}
    fixed: bool = False
    ceiling: int = 1
    out: list[Asked] = []
    learned: Learned | None = None
    reported: dict[str, float] = {}
    pause: "Pause | None" = None


class Ask(Struct, frozen=True, array_like=True, tag=1):
    """Rows that wait for tickets, in their order."""

    tickets: list[Asked]


class Drop(Struct, frozen=True, array_like=True, tag=2):
    """Tickets that are not wanted any more, whether they were given or not."""

    numbers: list[int]


class Out(Struct, frozen=True, array_like=True, tag=3):
    """A request has gone out without a ticket, because it had begun before the limits were shared."""

    ticket: Asked


class Taken(Struct, frozen=True, array_like=True, tag=4):
    """A ticket is used by a request of another size than it was asked for."""

    ticket: Asked


class Said(Struct, frozen=True, array_like=True, tag=5):
    """What the server has said to a request.

    what: accepted (the answer has begun), refused (it has too many), overloaded, used or done (usage; done: the answer is
    complete), unused, uncounted (it used no tokens).
    """

    number: int
    what: Literal["accepted", "refused", "overloaded", "used", "done", "unused", "uncounted"]
    usage: Usage | None = None


class Throttled(Struct, frozen=True, array_like=True, tag=6):
    """A rate limit has refused a request. words: of the server."""

    number: int
    hint_s: float | None
    status: int | None
    words: str | None


class Headers(Struct, frozen=True, array_like=True, tag=7):
    """Headers of an answer that are about limits. refusal: it was none that is good."""

    raw: list[tuple[bytes, bytes]]
    refusal: bool


class Pause(Struct, frozen=True, array_like=True, tag=8):
    """All are to send nothing for so long."""

    seconds: float
    reason: str
    asked: bool


class Ended(Struct, frozen=True, array_like=True, tag=9):
    """A request has ended, and its attempt is saved. unused: none was sent."""

    number: int
    unused: bool = False


class Beat(Struct, frozen=True, array_like=True, tag=10):
    """A sign of life."""


class Grant(Struct, frozen=True, array_like=True, tag=20):
    """Tickets. limit: how many the run may have, with what the others have now."""

    numbers: list[int]
    limit: int


class Known(Struct, frozen=True, array_like=True, tag=21):
    """What is so for all runs. runs: how many there are. per_minute: in force; reported: by the server. cause: why tickets wait.

    limit: how many tickets the run may have, with what the others have now. serves: the name of the run that serves.
    set_by: of each kind the smallest limit that a user has set, and the name of that user's run.
    """

    runs: int
    limit: int
    learned: Learned
    per_minute: dict[str, float]
    reported: dict[str, float]
    pause_s: float = 0.0
    reason: str = ""
    asked: bool = False
    cause: str = ""
    serves: str = ""
    set_by: dict[str, tuple[float, str]] = {}


class Note(Struct, frozen=True, array_like=True, tag=22):
    """A sentence for the user."""

    sentence: str


class Bye(Struct, frozen=True, array_like=True, tag=23):
    """The run does not serve. reason: why it never will; empty if it ends or follows another one."""

    reason: str = ""


FromRun: TypeAlias = Hello | Ask | Drop | Out | Taken | Said | Throttled | Headers | Pause | Ended | Beat
ToRun: TypeAlias = Grant | Known | Note | Bye

encode = msgspec.msgpack.Encoder().encode
decode_from_run = msgspec.msgpack.Decoder(list[FromRun]).decode
decode_to_run = msgspec.msgpack.Decoder(list[ToRun]).decode


class StrangerError(Exception):
    """A run cannot be let in; the text tells it why."""


def greeting(frame: bytes, identity: str | None = None) -> tuple[Hello, list[FromRun]]:
    """Return the greeting of a run, and what it says after that in its first frame. identity: what it must have.

    Raises StrangerError.
    """
    try:
        said = decode_from_run(frame)
    except msgspec.DecodeError as error:
        # another version may have other fields, so its number cannot be looked at
        raise StrangerError(_OTHER) from error
    hello = said[0] if said else None
    if not isinstance(hello, Hello) or hello.protocol != PROTOCOL:
        raise StrangerError(_OTHER)
    if identity is not None and hello.identity != identity:
        raise StrangerError("the run at this socket has another endpoint, model or key")
    return hello, said[1:]
