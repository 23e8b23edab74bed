"""Puts a part that code makes into a page that people write: between two lines of the page that say who made it."""

from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple


class Part(NamedTuple):
    """A part of a page. begin, end: the lines around it. made: returns its text."""

    page: Path
    begin: str
    end: str
    made: Callable[[], str]

    def written(self, page: str) -> str:
        """Return the text of the page with the part in its place."""
        before, _, rest = page.partition(self.begin)
        _, _, after = rest.partition(self.end)
        return f"{before}{self.begin}{self.made()}{self.end}{after}"

    def write(self) -> None:
        """Write the part into the page."""
        self.page.write_text(self.written(self.page.read_text(encoding="utf-8")), encoding="utf-8")
