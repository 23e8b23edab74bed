"""Measured figures, their targets, and the table that shows both."""

import statistics
from collections.abc import Mapping, Sequence
from typing import NamedTuple


class Figure(NamedTuple):
    """One measured number. Its target is ``at_least`` or ``at_most``; with neither, it has no target."""

    what: str
    value: float
    unit: str = ""
    at_least: float | None = None
    at_most: float | None = None

    @property
    def target(self) -> str:
        """The target as text."""
        if self.at_least is not None:
            return f">= {self.at_least:g}{self._tail}"
        return "" if self.at_most is None else f"<= {self.at_most:g}{self._tail}"

    @property
    def _tail(self) -> str:
        return self.unit if self.unit == "%" else f" {self.unit}" if self.unit else ""

    def met(self, value: float) -> bool:
        """Return True if a value meets the target."""
        return (self.at_least is None or value >= self.at_least) and (self.at_most is None or value <= self.at_most)

    def text(self, value: float) -> str:
        """Return a value of this figure as text, with its unit."""
        digits = 0 if value == int(value) else 2 if abs(value) < 10 else 1
        return f"{value:.{digits}f}{self._tail}"


HEAD = ("scenario", "figure", "median", "all runs", "target", "met")


def render(figures_of: Mapping[str, Sequence[Sequence[Figure]]]) -> str:
    """Return the Markdown table. figures_of: for each scenario, one list of figures per run."""
    lines = [HEAD, *(line for name, runs in figures_of.items() for line in _lines(name, runs))]
    widths = [max(len(line[column]) for line in lines) for column in range(len(HEAD))]
    padded = ["| " + " | ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)) + " |" for line in lines]
    return "\n".join([padded[0], "|" + "|".join("-" * (width + 2) for width in widths) + "|", *padded[1:]])


def missed(runs: Sequence[Sequence[Figure]]) -> bool:
    """Return True if the median of any figure misses its target."""
    return any(not same[0].met(_median(same)) for same in zip(*runs, strict=True))


def _median(same: Sequence[Figure]) -> float:
    return statistics.median(figure.value for figure in same)


def _lines(name: str, runs: Sequence[Sequence[Figure]]) -> list[tuple[str, ...]]:
    lines: list[tuple[str, ...]] = []
    for same in zip(*runs, strict=True):
        first = same[0]
        median = _median(same)
        all_runs = ", ".join(first.text(figure.value).removesuffix(first.unit).strip() for figure in same)
        met = ("yes" if first.met(median) else "NO") if first.target else ""
        lines.append((name, first.what, first.text(median), all_runs, first.target, met))
    return lines
