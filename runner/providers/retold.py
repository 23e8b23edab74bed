r"""Text that comes in ``message`` and not in ``delta``: pieces, or each time the whole so far. Pure.

    first message --begins with what has come--> whole so far --does not, once--> pieces, those before too
                                                              \--the same up to blanks--> replaces it

Both look alike at first ("ha", "ha"). As long as each message begins with the one before, only their lengths are kept: from these
the pieces can be made again.
"""

from collections.abc import Mapping

from runner.model import Json


class Retold:
    """What messages have brought of one field. The pieces themselves belong to the decoder. in_pieces: each message is one."""

    __slots__ = ("_behind_deltas", "_lengths", "in_pieces")

    def __init__(self) -> None:
        # of each message so far, while each has begun with the one before
        self._lengths: list[int] = []
        # a message has shown that each brings a piece; nothing is compared from then on
        self.in_pieces = False
        # the first message came behind text in deltas, so it hardly is another piece
        self._behind_deltas = False

    def added(self, pieces: list[str], said: str, *, last: bool) -> str:
        """Return what a message adds to the pieces, which it may replace. last: a finish reason comes with it."""
        before = "".join(pieces)
        if not said:
            if last and len(self._lengths) > 1 and not self._grown():
                # a text that is only ever repeated is made of pieces that are equal
                self._expand(pieces, before)
            return ""
        if not self._lengths:
            self._behind_deltas = bool(before)
            self._lengths = [len(before)] if before else []
        known = self._beginning(before, said)
        if known < 0:
            self._expand(pieces, before)
            return said
        if said[:known] != before:
            pieces[:] = [said[:known]]
        self._lengths.append(len(said))
        return said[known:]

    def _beginning(self, before: str, said: str) -> int:
        """Return how much of a message has come before; -1 if it does not begin with that."""
        if said.startswith(before):
            return len(before)
        bare, blanks = before.strip(), len(said) - len(said.lstrip())
        if bare and (self._behind_deltas or self._grown()) and said.startswith(bare, blanks):
            known = blanks + len(bare)
            return known if said[known:].strip() else len(said)
        return -1

    def _grown(self) -> bool:
        return len(self._lengths) > 1 and self._lengths[-1] > self._lengths[0]

    def _expand(self, pieces: list[str], before: str) -> None:
        self.in_pieces = True
        if len(self._lengths) > 1:
            pieces[:] = [before[:length] for length in self._lengths]


def is_bare(delta: Mapping[str, Json]) -> bool:
    """Return True for a delta that brings nothing: the text may be in ``message`` then."""
    return not any(value for name, value in delta.items() if name != "role")
