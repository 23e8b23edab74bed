"""What chance decides about a request of a batch, besides its answer: whether it expires, and how its result is delivered."""

from hashlib import blake2b

import msgspec

from runner.simulator.batch_behaviour import BatchBehaviour

_UNIT = 2.0**-64
_REMEMBERED = 1_000_000


class Lot(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """The decisions about one request."""

    expires: bool = False
    fails: bool = False
    # of its result, if it has an answer
    is_missing: bool = False
    is_twice: bool = False
    is_odd: bool = False
    # a line that nobody asked for comes with it
    with_unasked: bool = False
    # decides between kinds
    kind: int = 0


PLAIN = Lot()
"""Nothing goes wrong."""


class Lots:
    """Draws the lots of one simulator. Like its answers they depend on the seed, the body, and how often it came in batches."""

    def __init__(self, behaviour: BatchBehaviour, seed: int) -> None:
        self._behaviour = behaviour
        self._key = blake2b(str(seed).encode(), digest_size=32, person=b"batches").digest()
        self._drawn: dict[int, int] = {}
        shares = (behaviour.batch_expire, behaviour.batch_fail, behaviour.batch_missing, behaviour.batch_twice)
        self._any = any((*shares, behaviour.batch_odd, behaviour.batch_unasked))

    def draw(self, body: bytes) -> Lot:
        """Return the next lot for a body."""
        if not self._any:
            return PLAIN
        digest = blake2b(body, digest_size=16, key=self._key).digest()
        short = int.from_bytes(digest[:8], "big")
        before = self._drawn.pop(short, 0)
        # re-inserted at the end, so that the first key is the least recently drawn one
        self._drawn[short] = before + 1
        if len(self._drawn) > _REMEMBERED:
            del self._drawn[next(iter(self._drawn))]
        noise = blake2b(digest, salt=before.to_bytes(16, "big"), digest_size=32, key=self._key).digest()
        fate, delivery, more, kind = (int.from_bytes(noise[at : at + 8], "big") for at in range(0, 32, 8))
        return self._lot(fate * _UNIT, delivery * _UNIT, more * _UNIT, kind)

    def delay_s(self, number: int) -> float:
        """Return how long a batch takes. number: which one it is."""
        noise = blake2b(number.to_bytes(8, "big"), digest_size=8, key=self._key).digest()
        return self._behaviour.batch_delay_s * (0.5 + int.from_bytes(noise, "big") * _UNIT)

    def _lot(self, fate: float, delivery: float, more: float, kind: int) -> Lot:
        known = self._behaviour
        missing = known.batch_missing
        twice = missing + known.batch_twice
        return Lot(
            expires=fate < known.batch_expire,
            fails=known.batch_expire <= fate < known.batch_expire + known.batch_fail,
            is_missing=delivery < missing,
            is_twice=missing <= delivery < twice,
            is_odd=twice <= delivery < twice + known.batch_odd,
            with_unasked=more < known.batch_unasked,
            kind=kind,
        )
