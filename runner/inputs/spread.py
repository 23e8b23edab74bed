"""Keeps some rows of an input as examples of all. Pure."""

from runner.model import Row

_MOST, _MOST_BYTES = 256, 16 << 20
"""Rows that are kept, and about how many bytes of them."""


class Spread:
    """Rows that are spread evenly over an input whose end is not known, without much memory."""

    def __init__(self) -> None:
        self.rows: list[Row] = []
        # the number of the next row that is kept
        self.due = self._step = 1
        self._bytes = 0

    def add(self, row: Row) -> None:
        """Keep the row that is due. If they become too many or too large, every other one is dropped."""
        self.rows.append(row)
        self._bytes += row.size
        if len(self.rows) > _MOST or (self._bytes > _MOST_BYTES and len(self.rows) > 1):
            self.rows, self._step = self.rows[1::2], 2 * self._step
            self._bytes = sum(one.size for one in self.rows)
            self.due -= self.due % self._step
        self.due += self._step
