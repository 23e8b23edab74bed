"""The commands of a page, with what the page shows of their output."""

import re
import shlex
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parents[2]
_BLOCK = re.compile(r"^```console\n(.*?)^```$", re.DOTALL | re.MULTILINE)
_LEFT_OUT = "..."
_GOES_ON = "\\"


class Shown(NamedTuple):
    """A command, and the lines below it."""

    text: str
    lines: list[str]

    @property
    def words(self) -> list[str]:
        """The words of the command, as a shell has them."""
        return shlex.split(self.text)

    @property
    def stopped(self) -> bool:
        """True if the page shows that Ctrl-C was pressed."""
        return self.lines[:1] == ["^C"]

    def missing_in(self, output: str) -> list[str]:
        """Return the lines of the page that an output does not have, whatever the numbers in them are."""
        there = {shape(line) for line in output.splitlines()}
        return [line for line in self.lines if line not in ("", "^C", _LEFT_OUT) and shape(line) not in there]


def shape(line: str) -> str:
    """Return a line without its numbers and ids, and without what depends on how fast a machine is."""
    line = re.sub(r"r\d+(?:, (?:r\d+|\.\.\.))*", "ids", line)
    return re.sub(r"\(.*\)|[\d,.:]*\d", "#", line).strip()


def commands(page: str) -> list[Shown]:
    """Return the commands of a page in its order; its name is relative to the repository."""
    found: list[Shown] = []
    goes_on = False
    for block in _BLOCK.findall((ROOT / page).read_text(encoding="utf-8")):
        for line in block.splitlines():
            if goes_on:
                found[-1] = Shown(f"{found[-1].text} {line.strip().removesuffix(_GOES_ON)}", [])
            elif line.startswith("$ "):
                found.append(Shown(line.removeprefix("$ ").removesuffix(_GOES_ON), []))
            else:
                found[-1].lines.append(line)
            goes_on = line.endswith(_GOES_ON) and (goes_on or line.startswith("$ "))
    return found
