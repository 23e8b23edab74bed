"""Random decisions about one answer, derived from the seed, the request body, and the number of earlier draws for that body.

They never depend on a clock, on a counter of all requests, or on the order of arrival, so the same requests get the same answers
and faults again.
"""

from hashlib import blake2b

import msgspec

from runner.simulator.behaviour import Behaviour
from runner.simulator.faults import FAULTS

_UNIT = 2.0**-64
# Number of bodies to remember. A retry comes within minutes, so older ones can be forgotten to keep memory flat.
_REMEMBERED = 1_000_000


class Draw(msgspec.Struct, frozen=True, kw_only=True):
    """The random decisions about one answer."""

    # In hex; equal draws have equal ids.
    answer_id: str
    fault: str | None
    wait_s: float
    # Number of chunks of text, before the max_tokens of the request is applied.
    tokens: int
    # Position of a fault within the answer, as a fraction of its length: at least 0, below 1.
    cut: float
    # Seed of the words.
    root: bytes
    # Number of tokens of reasoning, before the max_tokens of the request is applied; None if the model does not reason.
    reasoning: int | None = None
    # If a flex request: it is refused for lack of capacity, or served by the standard tier.
    flex_full: bool = False
    flex_downgrade: bool = False

    def noise(self, count: int) -> bytes:
        """Return ``count`` bytes of noise. A longer result starts with the shorter one."""
        blocks = (blake2b(self.root, salt=block.to_bytes(16, "big")).digest() for block in range(-(-count // 64)))
        return b"".join(blocks)[:count]


class Chance:
    """Makes the draws of one simulator. Counts the draws per body, of which it keeps only a digest."""

    def __init__(self, behaviour: Behaviour, *, remembered: int = _REMEMBERED) -> None:
        self._behaviour = behaviour
        self._seed = blake2b(str(behaviour.seed).encode(), digest_size=32).digest()
        self._remembered = remembered
        self._drawn: dict[bytes, int] = {}
        self._more = behaviour.reasoning_tokens > 0 or behaviour.flex_full > 0 or behaviour.flex_downgrade > 0

    def draw(self, body: bytes) -> Draw:
        """Return the next draw for a body; each draw for the same body is different."""
        digest = blake2b(body, digest_size=16, key=self._seed).digest()
        before = self._drawn.pop(digest, 0)
        # Re-inserted at the end, so that the first key of the dict is the least recently used one.
        self._drawn[digest] = before + 1
        if len(self._drawn) > self._remembered:
            del self._drawn[next(iter(self._drawn))]
        root = blake2b(digest, salt=before.to_bytes(16, "big"), key=self._seed).digest()
        fault, wait, length, cut = _points(root)
        drawn = Draw(
            answer_id=root[32:48].hex(),
            fault=self._fault(fault),
            wait_s=self._behaviour.first_token_s * (0.5 + wait),
            tokens=max(1, round(self._behaviour.tokens * (0.5 + length))),
            cut=cut,
            root=root[48:],
        )
        return self._with_more(drawn, root) if self._more else drawn

    def _with_more(self, drawn: Draw, root: bytes) -> Draw:
        """Add what few simulators draw. It comes from bytes of its own, so that the rest stays the same."""
        full, downgrade, length, _ = _points(blake2b(root, person=b"more").digest())
        return msgspec.structs.replace(
            drawn,
            reasoning=round(mean * (0.5 + length)) if (mean := self._behaviour.reasoning_tokens) else None,
            flex_full=full < self._behaviour.flex_full,
            flex_downgrade=downgrade < self._behaviour.flex_downgrade,
        )

    def _fault(self, point: float) -> str | None:
        # In the order of FAULTS, so that the order in which the shares were given does not matter.
        for name in FAULTS:
            point -= self._behaviour.faults.get(name, 0.0)
            if point < 0:
                return name
        return None


def _points(noise: bytes) -> list[float]:
    """Return four numbers from 0 to 1, without 1, made of the first 32 bytes."""
    return [int.from_bytes(noise[at : at + 8], "big") * _UNIT for at in range(0, 32, 8)]
