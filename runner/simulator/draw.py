"""What chance decides about one answer, from (seed, request body, how often this body was drawn for before) only.

Never from a clock, a counter of all requests, or the order of arrival: the same requests meet the same fate again.
"""

from hashlib import blake2b

import msgspec

from runner.simulator.behaviour import Behaviour
from runner.simulator.faults import FAULTS

_UNIT = 2.0**-64
# A retry comes within minutes; forgetting bodies older than this many keeps memory flat over millions of rows.
_REMEMBERED = 1_000_000


class Draw(msgspec.Struct, frozen=True, kw_only=True):
    """What chance decided about one answer."""

    # Hex, the same whenever the same draw is made.
    answer_id: str
    fault: str | None
    wait_s: float
    # Chunks of text, before any max_tokens of the request.
    tokens: int
    # Place of a fault in the middle of the answer, as a part of its length, 0 to just below 1.
    cut: float
    # Where the words come from.
    root: bytes

    def noise(self, count: int) -> bytes:
        """As many bytes as asked for; a longer draw begins with the shorter one."""
        blocks = (blake2b(self.root, salt=block.to_bytes(16, "big")).digest() for block in range(-(-count // 64)))
        return b"".join(blocks)[:count]


class Chance:
    """Draws for one simulator; remembers how often each body was drawn for, as a digest only."""

    def __init__(self, behaviour: Behaviour, *, remembered: int = _REMEMBERED) -> None:
        self._behaviour = behaviour
        self._seed = blake2b(str(behaviour.seed).encode(), digest_size=32).digest()
        self._remembered = remembered
        self._drawn: dict[bytes, int] = {}

    def draw(self, body: bytes) -> Draw:
        """Draw for this body; the next draw for the same body is another one."""
        digest = blake2b(body, digest_size=16, key=self._seed).digest()
        before = self._drawn.pop(digest, 0)
        # Put back at the end, so that the first of the dict is the one longest not asked for.
        self._drawn[digest] = before + 1
        if len(self._drawn) > self._remembered:
            del self._drawn[next(iter(self._drawn))]
        root = blake2b(digest, salt=before.to_bytes(16, "big"), key=self._seed).digest()
        fault, wait, length, cut = (int.from_bytes(root[at : at + 8], "big") * _UNIT for at in range(0, 32, 8))
        return Draw(
            answer_id=root[32:48].hex(),
            fault=self._fault(fault),
            wait_s=self._behaviour.first_token_s * (0.5 + wait),
            tokens=max(1, round(self._behaviour.tokens * (0.5 + length))),
            cut=cut,
            root=root[48:],
        )

    def _fault(self, point: float) -> str | None:
        # In the order of FAULTS, so that the order in which shares were given makes no difference.
        for name in FAULTS:
            point -= self._behaviour.faults.get(name, 0.0)
            if point < 0:
                return name
        return None
