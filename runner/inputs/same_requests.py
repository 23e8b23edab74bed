"""Finds the rows of an input that make the same request, and remembers what becomes of each such request. Pure.

Two requests are the same if model, messages, system text and parameters are, by a hash of 128 bits. Of files, the names count, as
in the fingerprint of a row; what is written out in a row counts by itself.
"""

from array import array
from collections.abc import Iterable
from hashlib import blake2b
from itertools import islice

import msgspec

from runner.inputs.duplicates import HashCollector, RepeatedHashes
from runner.inputs.prompts import Template, make_item
from runner.inputs.scan import PromptFile
from runner.inputs.seeds import seeded
from runner.model import Item, Request, Row

_ENCODE = msgspec.json.Encoder().encode
MOST_SENT = 3
"""Rows with the same request that one session sends while each fails for a reason that is not the request's own."""


class SameRequests:
    """The requests that several rows make. Takes 29 bytes of memory for each, and 9 for each further answer that is wanted."""

    def __init__(self, repeated: RepeatedHashes, answers: int) -> None:
        self._repeated, self._answers = repeated, answers
        # the other half of each hash; 0: not seen yet
        self._rest = array("Q", bytes(8 * len(repeated)))
        # by request and number of the answer. Positive: the entry of the store that has the outcome. Negative: sent, with the
        # position of the row that was. 0: neither
        self.states = array("q", bytes(8 * len(repeated) * answers))
        # how often it was sent in this session, by rows that failed
        self.sent = bytearray(len(repeated) * answers)

    @property
    def rows(self) -> int:
        """Rows that make the same request as an earlier one."""
        return sum(self._repeated.counts) - len(self._repeated)

    def place(self, request: Request, number: int) -> int | None:
        """Return the place of a request in ``states``; None if no other row makes it. number: of the answer."""
        hashes = _hashes(seeded(request, 2 - number))
        index = self._repeated.find(hashes[0]) if hashes is not None else None
        if index is None or hashes is None:
            return None
        self._rest[index] = self._rest[index] or hashes[1]
        # another request with the same first half is sent by itself
        return index * self._answers + number - 1 if self._rest[index] == hashes[1] else None


def find(prompts: PromptFile, template: Template, *, limit: int | None, answers: int) -> SameRequests | None:
    """Return the requests that several rows make; None if there are none. limit: rows that are looked at, at most."""
    collector = HashCollector()
    for item in _items(islice(prompts.read(), limit), template):
        hashes = _hashes(item.request)
        if hashes is not None:
            collector.add(hashes[0])
    repeated = collector.repeats()
    return SameRequests(repeated, answers) if len(repeated) else None


def _items(rows: Iterable[Row], template: Template) -> Iterable[Item]:
    return (made for row in rows if isinstance(made := make_item(row, "", template), Item))


def _hashes(request: Request) -> tuple[int, int] | None:
    """Return the two halves of the hash of a request; None if it cannot be encoded, which the engine reports."""
    try:
        digest = blake2b(_ENCODE(request), digest_size=16).digest()
    except (msgspec.MsgspecError, TypeError, ValueError, RecursionError, OverflowError):
        return None
    return int.from_bytes(digest[:8], "big", signed=True), int.from_bytes(digest[8:], "big") or 1
