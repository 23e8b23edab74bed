"""How good the interval of an estimate is, over 200 data sets: ``python -m benchmarks.estimates`` prints coverage and width."""

import math
import random
from collections.abc import Callable
from statistics import fmean, median, pstdev
from typing import NamedTuple

from runner.prices.interval import Population, positions, sampled, total

SETS = 200
SAMPLE = 50


class TokenSet(NamedTuple):
    """Rows as (size, tokens in, tokens out), the rates of both in dollars per million, and what kind of set it is."""

    rows: list[tuple[int, int, int]]
    rates: tuple[float, float]
    kind: str


def data_set(seed: int) -> tuple[list[tuple[int, float]], str]:
    """Return (size, cost) of each row, and what kind of set it is."""
    rows, (read, written), kind = token_set(seed)
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


def main() -> None:
    """Draw a sample from each set, and compare its interval with the truth."""
    held: dict[str, list[bool]] = {}
    widths, calm = [], []
    for seed in range(SETS):
        rows, kind = data_set(seed)
        population = Population(rows=len(rows), size=sum(size for size, _ in rows))
        sample = list(sampled(((row, row[0]) for row in rows), population, positions(population, SAMPLE, seed)))
        found = total(sample, population, seed)
        truth = sum(cost for _, cost in rows)
        held.setdefault(kind, []).append(found.low <= truth <= found.high)
        half = (found.high - found.low) / 2 / truth
        widths.append(half)
        if pstdev(cost for _, cost in rows) <= fmean(cost for _, cost in rows):
            calm.append(half)
    every = [one for kind in held.values() for one in kind]
    print(f"coverage {fmean(every):.3f} of {len(every)} sets; half-width {median(widths):.3f} in the median")
    print(f"of {len(calm)} sets with a coefficient of variation up to 1: half-width {median(calm):.3f} in the median")
    for kind, ones in sorted(held.items()):
        print(f"  {kind:14}{fmean(ones):.3f} of {len(ones)}")


if __name__ == "__main__":
    main()
