"""Figures, their targets, and the table of them."""

import statistics
from collections.abc import Mapping, Sequence
from typing import NamedTuple


class Figure(NamedTuple):
    """One measured number; it is met from ``at_least`` up or ``at_most`` down, and has no target without either."""

    what: str
    value: float
    unit: str = ""
    at_least: float | None = None
    at_most: float | None = None

    @property
    def target(self) -> str:
        """The target in words."""
        if self.at_least is not None:
            return f">= {self.at_least:g}{self._tail}"
        return "" if self.at_most is None else f"<= {self.at_most:g}{self._tail}"

    @property
    def _tail(self) -> str:
        return self.unit if self.unit == "%" else f" {self.unit}" if self.unit else ""

    def met(self, value: float) -> bool:
        """Tell whether a value reaches the target."""
        return (self.at_least is None or value >= self.at_least) and (self.at_most is None or value <= self.at_most)

    def text(self, value: float) -> str:
        """Write a value of this figure."""
        digits = 0 if value == int(value) else 2 if abs(value) < 10 else 1
        return f"{value:.{digits}f}{self._tail}"


HEAD = ("scenario", "figure", "median", "all runs", "target", "met")


def render(found: Mapping[str, Sequence[Sequence[Figure]]]) -> str:
    """Make the Markdown table; per scenario there is one list of figures a run."""
    lines = [HEAD, *(line for name, runs in found.items() for line in _lines(name, runs))]
    widths = [max(len(line[column]) for line in lines) for column in range(len(HEAD))]
    padded = ["| " + " | ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)) + " |" for line in lines]
    return "\n".join([padded[0], "|" + "|".join("-" * (width + 2) for width in widths) + "|", *padded[1:]])


def missed(runs: Sequence[Sequence[Figure]]) -> bool:
    """Tell whether the median of any figure misses its target."""
    return any(not same[0].met(_median(same)) for same in zip(*runs, strict=True))


def _median(same: Sequence[Figure]) -> float:
    return statistics.median(figure.value for figure in same)


def _lines(name: str, runs: Sequence[Sequence[Figure]]) -> list[tuple[str, ...]]:
    lines: list[tuple[str, ...]] = []
    for same in zip(*runs, strict=True):
        one = same[0]
        median = _median(same)
        every = ", ".join(one.text(figure.value).removesuffix(one.unit).strip() for figure in same)
        met = ("yes" if one.met(median) else "NO") if one.target else ""
        lines.append((name, one.what, one.text(median), every, one.target, met))
    return lines
