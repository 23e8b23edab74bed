"""What a driver and a worker say to each other, as values and as bytes. Pure.

    driver                                       worker
      Welcome  -- version, keys, provider -->
               <-- version, host, keys -----     Hello
      Tries    -- requests to send --------->
      Cancel   -- numbers of requests ------>
               <-- begun, pieces, ended -----    Back
      Beat     <-- every second, both ways -->   Beat
      Bye      -- there is nothing more ---->
               <-- why it ends --------------    Bye

A frame is its length, four bytes, little-endian, and one message in msgpack. A key is in no frame: ``routes`` says what stands
for it. A number of a request is used once in a session, and its frame is sent once.
"""

import hashlib
import hmac
import json
from typing import Any, TypeAlias

import msgspec
from msgspec import Struct, structs

from runner.model import Completion
from runner.providers.http import Timeouts
from runner.text import encodable_tree

PROTOCOL = 3
"""Grows when a message changes. A driver and a worker that differ in it do not work together."""
FULL_BYTES = 8 << 20
"""Bytes after which no further message is put into a frame."""
BEAT_S = 1.0
"""Seconds between two beats."""
DIE_S = 30.0
"""Seconds without a frame of its driver after which a worker ends itself."""


class Setup(Struct, frozen=True, array_like=True):
    """What a worker needs to know of the job.

    provider: its name. base_urls: of the endpoints that there are by now. options: arguments for its ``make``. fallback: timeouts
    of rows that fell back from flex. direct: without a proxy. several: there are, or may be, several endpoints.
    """

    provider: str
    base_urls: tuple[str, ...]
    options: dict[str, bool | list[str]]
    timeouts: Timeouts
    fallback: Timeouts
    direct: bool = False
    several: bool = False


class Welcome(Struct, frozen=True, array_like=True, tag=0):
    """The first message of a driver. session: drawn at random for this worker. variables: those whose values requests need."""

    protocol: int
    version: str
    session: bytes = b""
    number: int = 0
    variables: tuple[str, ...] = ()
    setup: Setup | None = None


class Route(Struct, frozen=True, array_like=True):
    """Address and headers of requests. What stands in them for secrets: see ``routes``. base_url: of the endpoint."""

    number: int
    url: str
    headers: dict[str, str]
    base_url: str


class Try(Struct, frozen=True, array_like=True, gc=False):
    """One request. watched: the driver looks at the answer as it comes."""

    number: int
    route: int
    body: bytes
    fresh: bool = False
    fallback: bool = False
    watched: bool = False


class Tries(Struct, frozen=True, array_like=True, tag=1):
    """Requests that may go out now. routes: those that are new to this worker."""

    tries: list[Try]
    routes: list[Route] = []


class Cancel(Struct, frozen=True, array_like=True, tag=2):
    """Requests to end. What has come of them is sent back."""

    numbers: list[int]


class Beat(Struct, frozen=True, array_like=True, tag=3):
    """A sign of life. cpu_s: seconds of CPU time so far. lag_s: by how much the last beat was late. out: open requests.

    deaf_s: seconds since the worker has read anything of its driver. texts: the driver wants to know what open answers say.
    """

    cpu_s: float = 0.0
    lag_s: float = 0.0
    out: int = 0
    deaf_s: float = 0.0
    texts: bool = False


class Bye(Struct, frozen=True, array_like=True, tag=4):
    """The end. reason: why a worker ends, a sentence; empty if it was told to."""

    reason: str = ""


class Hello(Struct, frozen=True, array_like=True, tag=5):
    """The first message of a worker. files: connections that it may open. keys: see ``fingerprint``, by variable.

    trouble: why it cannot work for this driver, a sentence.
    """

    protocol: int
    version: str
    host: str = ""
    pid: int = 0
    files: int = 0
    keys: dict[str, str] = {}
    trouble: str = ""


class Heard(Struct, frozen=True, array_like=True, gc=False):
    """An answer has begun. headers: none if those of another answer were sent shortly before."""

    number: int
    status: int
    headers: list[tuple[bytes, bytes]] = []


class Piece(Struct, frozen=True, array_like=True, gc=False):
    """What an answer that is watched brings. events: names and data. whole: an answer in one piece.

    doubtful: the decoder of the worker has refused it, and it may have gone on.
    """

    number: int
    events: list[tuple[str, bytes]] = []
    whole: bytes | None = None
    doubtful: bool = False


class Said(Struct, frozen=True, array_like=True, gc=False):
    """What an answer that the worker decodes has said since the last look, without secrets. at: characters before it."""

    number: int
    reasoning: bool
    at: int
    text: str


class Fault(Struct, frozen=True, array_like=True):
    """An AttemptError: the name of its class, its words, and its attributes."""

    kind: str
    words: str
    fields: dict[str, Any]


class Refusal(Struct, frozen=True, array_like=True):
    """An answer whose status is not 2xx."""

    status: int
    headers: dict[str, str]
    body: bytes


class Done(Struct, frozen=True, array_like=True, kw_only=True):
    """An exchange has ended. answer: what was decoded. extra: its field of that name, as JSON; empty if there is none."""

    number: int
    status: int | None
    connected: bool
    received: int
    first_s: float | None
    answered_s: float | None
    tail_lost: bool
    stage: int
    ended: bool
    started: bool
    chars: int
    answer: Completion | None = None
    extra: bytes = b""
    fault: Fault | None = None
    refusal: Refusal | None = None

    @property
    def is_ended(self) -> bool:
        """True if the worker was told to end the exchange, or is ending itself."""
        return self.fault is not None and self.fault.fields.get("code") == "cancelled"

    @property
    def whole(self) -> bool:
        """True if the answer is complete, and no error."""
        return self.fault is None and self.refusal is None and self.stage > 0


class Back(Struct, frozen=True, array_like=True, tag=6):
    """What has happened at a worker since the last such message, in the order of the fields for each request.

    said: before it was done. None while nobody watches the session.
    """

    heard: list[Heard]
    pieces: list[Piece]
    done: list[Done]
    said: list[Said] = []


ToWorker: TypeAlias = Welcome | Tries | Cancel | Beat | Bye
ToDriver: TypeAlias = Hello | Back | Beat | Bye

encode = msgspec.msgpack.Encoder().encode
decode_for_worker = msgspec.msgpack.Decoder(ToWorker).decode
decode_for_driver = msgspec.msgpack.Decoder(ToDriver).decode


def fingerprint(session: bytes, value: str) -> str:
    """Return what shows that two sides have the same key, and tells nobody the key."""
    return hmac.new(session, value.encode(), hashlib.sha256).hexdigest()[:32]


def encoded(back: Back) -> bytes:
    """Return the frame of a message. An answer of a plug-in that no frame can hold as it is becomes one that it can."""
    try:
        return encode(back)
    except Exception:  # noqa: BLE001 - a batch that is lost would never end
        return encode(Back(back.heard, back.pieces, [holdable(one) for one in back.done], back.said))


def holdable(done: Done) -> Done:
    """Return a result that a frame can hold."""
    if done.answer is None:
        return done
    try:
        encode(done)
    except (ValueError, TypeError, OverflowError):
        plain = encodable_tree(json.loads(json.dumps(msgspec.to_builtins(done.answer), default=str)))
        return structs.replace(done, answer=msgspec.convert(plain, Completion, strict=False))
    return done
