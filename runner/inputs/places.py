"""How a person finds a row of an input. Pure."""

from collections.abc import Sequence
from typing import NamedTuple

from runner.origin import LINES


class Places(NamedTuple):
    """How a person finds a row. files: of an input of several, their names. kinds: what lines count, for each file."""

    files: tuple[str, ...] = ()
    kinds: tuple[str, ...] = ("line",)

    def where(self, position: int) -> str:
        """Return where one row is: ``line 17``, or ``b.csv, line 17``."""
        index, line = divmod(position, LINES)
        place = f"{self.kinds[min(index, len(self.kinds) - 1)]} {line}"
        return f"{self.files[index]}, {place}" if index < len(self.files) else place

    def all_of(self, positions: Sequence[int], most: int) -> str:
        """Return where several rows are: ``on lines 1, 8 and 15``. most: of more than so many, only the first are named."""
        listed = _enumerate([self.where(position) if self.files else str(position) for position in positions], most)
        return f"in {listed}" if self.files else f"{'on lines' if self.kinds[0] == 'line' else 'in rows'} {listed}"


def _enumerate(places: Sequence[str], most: int) -> str:
    """Return places as ``1 and 8``, ``1, 8 and 15`` or ``1, 8, 15, ...``."""
    if len(places) > most:
        return ", ".join([*places[:most], "..."])
    return f"{', '.join(places[:-1])} and {places[-1]}"
