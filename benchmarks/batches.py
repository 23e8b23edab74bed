"""``python -m benchmarks.batches``: the policy of ``--mode mixed`` against thirty traces of capacity, in virtual time.

What each trace costs is compared with an oracle that knows the trace. See ``benchmarks/README.md``.
"""

import argparse
import sys
from collections.abc import Sequence
from statistics import median
from typing import Any, NamedTuple

from benchmarks.batch_traces import HOUR, batch_world, traces
from runner.engine.batch.outlook import Decision, View
from runner.engine.batch.policy import decide

MOST = 1.05
"""The most that a trace may cost, as a multiple of the oracle's cost, where a policy that is surely in time can reach it."""
MOST_BEYOND = 1.2
"""Elsewhere: the most as a multiple of the least cost of a policy that is surely in time."""


class Result(NamedTuple):
    """A trace, what the policy made of it, and what it costs at least."""

    trace: Any
    played: Any
    bound: Any

    @property
    def ratio(self) -> float:
        """The cost as a multiple of the oracle's."""
        return float(self.played.cost / self.bound.oracle)

    @property
    def reachable(self) -> bool:
        """True if a policy can be surely in time and cost no more than the target."""
        return bool(self.bound.careful <= MOST * self.bound.oracle)

    @property
    def met(self) -> bool:
        """True if no row is late and the cost meets its target."""
        cost = self.ratio <= MOST if self.reachable else self.played.cost <= MOST_BEYOND * self.bound.careful
        return cost and not self.played.late


HEAD = (
    "trace",
    "hours",
    "oracle",
    "cost",
    "/ oracle",
    "certain",
    "late",
    "twice",
    "batch",
    "flex",
    "standard",
    "batches",
    "cancelled",
)


def line(result: Result) -> tuple[str, ...]:
    """Return a line of the table. Costs are shares of what all rows cost at the standard tier."""
    trace, played, bound = result
    shares = [f"{number / trace.rows:.0%}" for number in (played.by_batch, played.by_flex, played.by_live)]
    least = "" if result.reachable else f"{bound.careful / bound.oracle:.2f}"
    costs = [f"{bound.oracle / trace.rows:.3f}", f"{played.cost / trace.rows:.3f}", f"{result.ratio:.3f}", least]
    counts = [f"{played.batches:,}", f"{played.cancelled:,}"]
    return (trace.name, f"{trace.deadline_s / HOUR:g}", *costs, f"{played.late:,}", f"{played.twice:,}", *shares, *counts)


def table(lines: Sequence[Sequence[str]]) -> str:
    """Return a Markdown table."""
    widths = [max(len(one[column]) for one in lines) for column in range(len(lines[0]))]
    padded = ["| " + " | ".join(cell.ljust(width) for cell, width in zip(one, widths, strict=True)) + " |" for one in lines]
    return "\n".join([padded[0], "|" + "|".join("-" * (width + 2) for width in widths) + "|", *padded[1:]])


def distribution(results: Sequence[Result]) -> str:
    """Return the spread of the cost ratios in a line."""
    ratios = sorted(one.ratio for one in results)
    high = ratios[min(len(ratios) - 1, int(0.9 * len(ratios)))]
    return f"min {ratios[0]:.3f}, median {median(ratios):.3f}, p90 {high:.3f}, max {ratios[-1]:.3f}"


def trusting(view: View) -> Decision:
    """Decide as if the live path kept its speed until the end."""
    return decide(view, careful=1.0)


def why_beyond(result: Result) -> str:
    """Return why a trace is out of reach: what a policy that trusts the live path gains by it, and what it loses by its twin."""
    trace, bound = result.trace, result.bound
    trusted = batch_world.World(trace, trusting).play()
    twin = batch_world.twin(trace, bound.at)
    lost, kept = batch_world.World(twin, trusting).play(), batch_world.World(twin, decide).play()
    least, trusts = bound.careful / bound.oracle, trusted.cost / bound.oracle
    hour = f"{bound.at / HOUR:.1f}"
    late = f"late with {lost.late:,} of {trace.rows:,} rows, the policy with {kept.late:,}"
    return (
        f"{trace.name}: {least:.2f} times the oracle at least for what is surely in time, {result.ratio:.2f} the policy,\n"
        f"                {trusts:.2f} one that trusts the live path. Where batches bring nothing from hour {hour} on\n"
        f"                and the live path is half as fast, that one is {late}"
    )


def main() -> int:
    """Play the traces and print the figures. Return 1 if one is missed."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("--seeds", type=int, default=1, help="draw all traces this many times (1); the table shows the first")
    parser.add_argument("--says", action="store_true", help="print what happens in each trace, and nothing else")
    given = parser.parse_args()
    if given.says:
        print("\n".join(f"{trace.name}: {trace.says}." for trace in traces(0)))
        return 0
    drawn = [
        [Result(trace, batch_world.World(trace, decide).play(), batch_world.bound(trace)) for trace in traces(seed)]
        for seed in range(given.seeds)
    ]
    results = [one for of_seed in drawn for one in of_seed]
    print(table([HEAD, *(line(one) for one in drawn[0])]))
    late, reached = sum(one.played.late for one in results), [one for one in results if one.reachable]
    print(f"\nall             {distribution(results)} of {len(results)} traces; {late:,} rows late")
    low = sum(one.ratio <= MOST for one in reached)
    print(f"within reach    {distribution(reached)} of {len(reached)}; {low} of them cost {MOST} at most")
    for one in drawn[0]:
        if not one.reachable:
            print(f"out of reach    {why_beyond(one)}")
    missed = [one for one in results if not one.met]
    for one in missed:
        print(f"MISSED          {one.trace.name}: {one.ratio:.3f} times the oracle, {one.played.late:,} rows late")
    return int(bool(missed))


if __name__ == "__main__":
    sys.exit(main())
