"""How good the interval of an estimate is, over 200 data sets: ``python -m benchmarks.estimates`` prints coverage and width.

``--again 0.05`` and ``--cut 0.05`` are the shares of the rows whose first attempt fails, with and without a known usage.
"""

import argparse
import math
import random
import sys
from collections.abc import Callable, Sequence
from statistics import fmean, median, pstdev
from typing import NamedTuple

from runner.prices.interval import Population, positions, sampled
from runner.prices.sample import Stratum, Taken

SETS = 200
SAMPLE = 50
COVERAGE, HALF_WIDTH = 0.95, 0.10
"""The least share of intervals that must hold, and the largest half-width in the median of sets that vary up to ``VARIED``."""
VARIED = 1.0
"""Coefficient of variation of the costs of the rows."""


def missed(holds: Sequence[bool], widths: Sequence[float], *, faults: bool) -> list[str]:
    """Return what was not met. holds: of each interval, if the truth lies in it. widths: half-widths of sets that vary little.

    faults: attempts fail, which the interval must hold, however wide that makes it.
    """
    wrong = list[str]()
    if fmean(holds) < COVERAGE:
        wrong.append(f"{fmean(holds):.3f} of the intervals hold, not {COVERAGE:g}")
    if not widths:
        wrong.append("no set varies so little that its width counts: more sets are needed")
    elif not faults and median(widths) > HALF_WIDTH:
        wrong.append(f"the half-width is {median(widths):.3f} in the median, more than {HALF_WIDTH:g}")
    return wrong


class TokenSet(NamedTuple):
    """Rows as (size, tokens in, tokens out), the rates of both in dollars per million, and what kind of set it is."""

    rows: list[tuple[int, int, int]]
    rates: tuple[float, float]
    kind: str


def data_set(seed: int, number: int | None = None) -> tuple[list[tuple[int, float]], str]:
    """Return (size, cost) of each row, and what kind of set it is. number: as for ``token_set``."""
    rows, (read, written), kind = token_set(seed, number)
    return [(size, into * read + out * written) for size, into, out in rows], kind


def token_set(seed: int, number: int | None = None) -> TokenSet:
    """Return a generated set. number: of its rows; None: 2,000 to 20,000."""
    chance = random.Random(seed)  # noqa: S311
    rows = chance.choice([2_000, 5_000, 20_000])
    rows = number or rows
    spread = chance.uniform(0.05, 1.0)
    fixed = chance.choice([0, 200, 1_500])
    sizes = [fixed + 40 + int(chance.lognormvariate(math.log(chance.choice([150, 600, 3_000])), spread)) for _ in range(rows)]
    languages = chance.choice([(4.2,), (4.2, 2.6), (4.2, 3.1, 1.9)])
    kind = chance.choice(["constant", "log", "proportional", "bimodal", "steady"])
    mean = chance.choice([30, 120, 400])
    wide = chance.uniform(0.1, 0.7)
    long = chance.uniform(0.05, 0.5)
    outputs: dict[str, Callable[[int], float]] = {
        "constant": lambda _: mean,
        "steady": lambda _: mean * chance.uniform(0.5, 1.5),
        "log": lambda _: mean * chance.lognormvariate(0, wide),
        "proportional": lambda size: size / 8 * chance.uniform(0.6, 1.4),
        "bimodal": lambda _: mean * (10 if chance.random() < long else 1) * chance.uniform(0.8, 1.2),
    }
    rates = chance.choice([(0.25, 2.0), (3.0, 15.0), (1.0, 1.0)])
    made = [(size, round(size / chance.choice(languages)), max(1, round(outputs[kind](size)))) for size in sizes]
    return TokenSet(made, rates, kind)


def truth_and_taken(cost: float, again: float, cut: float, chance: random.Random) -> tuple[float, Taken]:
    """Return what a row is billed in all, and what is known of it.

    again, cut: the shares of the rows whose first attempt fails with an answer that is billed, or is cut off somewhere, billed
    up to there without a word.
    """
    drawn = chance.random()
    if drawn < again:
        return 2 * cost, Taken(cost, cost)
    if drawn < again + cut:
        return cost * (1 + chance.random()), Taken(cost, 0.0, cost)
    return cost, Taken(cost)


class Held(NamedTuple):
    """An estimate beside the truth. holds: the truth lies in the interval. varied: the coefficient of variation of the costs."""

    kind: str
    holds: bool
    half_width: float
    varied: float


def held(seed: int, again: float, cut: float, number: int | None = None) -> Held:
    """Draw a sample from a set, and compare its interval with the truth. The arguments: as for the functions above."""
    rows, kind = data_set(seed, number)
    chance = random.Random(-seed - 1)  # noqa: S311 - no secret
    made = [truth_and_taken(cost, again, cut, chance) for _, cost in rows]
    population = Population(rows=len(rows), size=sum(size for size, _ in rows))
    sizes = ((place, size) for place, (size, _) in enumerate(rows))
    places = list(sampled(sizes, population, positions(population, SAMPLE, seed)))
    drawn = {str(place): rows[place][0] for place in places}
    stratum = Stratum(models=["m"], rows=population.rows, size=population.size, drawn=drawn)
    found = stratum.of_attempts({str(place): made[place][1] for place in places}, seed)
    costs = [cost for cost, _ in made]
    # what the drawn rows may have cost comes on top, and is on the books
    truth, high = sum(costs), found.high + sum(made[place][1].perhaps for place in places)
    return Held(kind, found.low <= truth <= high, (high - found.low) / 2 / truth, pstdev(costs) / fmean(costs))


def main() -> int:
    """Compare estimates with the truth over many sets. Return 1 if a figure is missed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sets", type=int, default=SETS)
    parser.add_argument("--again", type=float, default=0.0, help="share of the rows that fail once, billed")
    parser.add_argument("--cut", type=float, default=0.0, help="share of the rows whose answer is cut off once, perhaps billed")
    given = parser.parse_args()
    found = [held(seed, given.again, given.cut) for seed in range(given.sets)]
    by_kind = dict[str, list[bool]]()
    for one in found:
        by_kind.setdefault(one.kind, []).append(one.holds)
    width = median(one.half_width for one in found)
    print(f"coverage {fmean(one.holds for one in found):.3f} of {len(found)} sets; half-width {width:.3f} in the median")
    widths = [one.half_width for one in found if one.varied <= VARIED]
    if widths:
        print(f"of {len(widths)} sets with a coefficient of variation up to 1: half-width {median(widths):.3f} in the median")
    for kind, ones in sorted(by_kind.items()):
        print(f"  {kind:14}{fmean(ones):.3f} of {len(ones)}")
    wrong = missed([one.holds for one in found], widths, faults=given.again + given.cut > 0)
    for what in wrong:
        print(f"MISSED  {what}")
    return int(bool(wrong))


if __name__ == "__main__":
    sys.exit(main())
