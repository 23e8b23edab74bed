"""Draws the rows that are sent for an estimate: in proportion to size, from those of a run that have no outcome yet."""

import time
from array import array
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from itertools import islice
from typing import TypeAlias

from msgspec import Struct, structs

from runner.config.job import Job
from runner.inputs.keys import keyed
from runner.inputs.scan import PromptFile, Scan
from runner.model import Row
from runner.money import Money
from runner.pace import LaneState
from runner.prices.book import PriceBook
from runner.prices.sample import Drawn, Lane, Stratum, draw, shares
from runner.session import rest
from runner.session.prepare import Plan
from runner.session.rest import Guesses, Rest, seed_of
from runner.session.sizing import Sizer
from runner.store import samples

Known: TypeAlias = Callable[[Sequence[str]], Collection[str]]
"""Returns which of some keys have an outcome."""

_BATCH = 1_000


class Open(Struct):
    """The rows without an outcome: their places among all rows, the models they are for, and their sizes."""

    places: "array[int]"
    models: "array[int]"
    sizes: "array[int]"
    # by their numbers in ``models``
    names: list[str]
    guesses: Guesses

    @property
    def number(self) -> int:
        """How many rows have no outcome and can be sent."""
        return len(self.places)


class Drawing(Struct, frozen=True, kw_only=True):
    """The rows that were drawn, how many of them are still to be sent, and what these may take by their sizes."""

    drawn: Drawn
    left: int
    rest: Rest | None


def open_rows(
    prompts: PromptFile,
    scanned: Scan,
    limit: int | None,
    settled: Known,
    job: Job,
    guesses: Guesses,
) -> Open:
    """Measure the rows of an input that have no outcome. Blocks.

    limit: how many rows count; None: all. settled: returns which of some keys have an outcome. Raises UsageError.
    """
    sizer, numbers = Sizer(job), dict[str, int]()
    found = Open(array("Q"), array("L"), array("Q"), [], guesses)
    for place, row in unsettled(prompts, scanned, limit, settled):
        size = sizer.size(row)
        if size is None:
            continue
        found.places.append(place)
        found.models.append(numbers.setdefault(size.model, len(numbers)))
        found.sizes.append(size.measure)
        guesses.add(size)
    found.names = list(numbers)
    return found


def drawing(plan: Plan, number: int, book: PriceBook | None, money: Money, settled: int) -> Drawing:
    """Draw rows, or return those that were drawn before, if they still tell of what is left. Blocks.

    number: how many. money: what the run has cost. settled: its rows with an outcome.
    """
    store, run = plan.given.store, plan.run.id
    source = (plan.given.digest, plan.rows)
    earlier = rest.drawn_rows(store, run, source, settled) if settled else None

    def known(keys: Sequence[str]) -> Collection[str]:
        return samples.settled_keys(store, run, keys) if settled else ()

    if earlier is not None and earlier.number == number:
        left = len(earlier.keys) - len(known(earlier.keys))
        return Drawing(drawn=earlier, left=left, rest=_of_some(plan, book, left) if left else None)
    found = open_rows(plan.prompts, plan.scanned, plan.options.limit, known, plan.job, Guesses(book, time.time()))
    so_far = samples.tokens_so_far(store, run)
    drawn = Drawn(
        number=number,
        input=source,
        settled=settled,
        cost=money.spent,
        input_tokens=so_far.input_tokens,
        output_tokens=so_far.output_tokens,
        strata=_strata(plan, found, number),
    )
    whole = sum(found.sizes)
    share = sum(sum(stratum.drawn.values()) for stratum in drawn.strata) / whole if whole else 0.0
    left = len(drawn.keys)
    return Drawing(drawn=drawn, left=left, rest=found.guesses.rest(left, share) if left else None)


def with_lanes(drawn: Drawn, lanes: Sequence[LaneState]) -> Drawn:
    """Return the drawn rows with what was learned of the limits. A lane that has not been opened now keeps what was known."""
    learned = {lane.model: Lane(slots=lane.slots, limits=dict(lane.limits)) for lane in lanes}
    return structs.replace(drawn, lanes={**drawn.lanes, **learned})


def _strata(plan: Plan, found: Open, number: int) -> list[Stratum]:
    if not found.number:
        return []
    costs, by_name = found.guesses.cost(), {name: index for index, name in enumerate(found.names)}
    groups = shares(costs, number)
    of_groups = [({by_name[name] for name in names}, count) for names, count in groups]
    sizes = _comparable(found, costs, [members for members, _ in of_groups])
    chosen = draw(found.models, sizes, of_groups, seed_of(plan.given.digest))
    keys = _keys(plan, [found.places[index] for rows in chosen for index in rows])
    strata = []
    for (names, _), (members, _), rows in zip(groups, of_groups, chosen, strict=True):
        theirs = [size for model, size in zip(found.models, sizes, strict=True) if model in members]
        drawn = {keys[found.places[index]]: sizes[index] for index in rows}
        strata.append(Stratum(models=names, rows=len(theirs), size=sum(theirs), drawn=drawn))
    return strata


def _comparable(found: Open, costs: Mapping[str, float], groups: Sequence[set[int]]) -> Sequence[int]:
    """Return the sizes of all rows. Among the models of one group, a byte counts as much as it is expected to cost."""
    if all(len(members) == 1 for members in groups):
        return found.sizes
    bytes_ = [0] * len(found.names)
    for model, size in zip(found.models, found.sizes, strict=True):
        bytes_[model] += size
    each = [costs[name] / bytes_[model] for model, name in enumerate(found.names)]
    factors = [1.0] * len(each)
    for members in groups:
        dearest = max(each[model] for model in members)
        for model in members:
            factors[model] = each[model] / dearest if dearest else 1.0
    return [max(1, round(size * factors[model])) for model, size in zip(found.models, found.sizes, strict=True)]


def _keys(plan: Plan, places: Sequence[int]) -> dict[int, str]:
    """Return the keys of the rows at these places."""
    wanted, last = set(places), max(places, default=-1)
    rows = islice(_keyed(plan.prompts, plan.scanned, None), last + 1)
    return {place: key for place, (key, _) in enumerate(rows) if place in wanted}


def _keyed(prompts: PromptFile, scanned: Scan, limit: int | None) -> Iterator[tuple[str, Row]]:
    return islice(keyed(prompts.read(), scanned.repeated, scanned.before.identical), limit)


def unsettled(prompts: PromptFile, scanned: Scan, limit: int | None, settled: Known) -> Iterator[tuple[int, Row]]:
    """Yield the rows without an outcome, each with its place among all. limit, settled: as for ``open_rows``."""
    rows, first = _keyed(prompts, scanned, limit), 0
    while batch := list(islice(rows, _BATCH)):
        known = settled([key for key, _ in batch])
        yield from ((place, row) for place, (key, row) in enumerate(batch, first) if key not in known)
        first += len(batch)


def _of_some(plan: Plan, book: PriceBook | None, left: int) -> Rest | None:
    """Return what some rows may take that are like all of the input."""
    rows = plan.scanned.some or islice(plan.prompts.read(), _BATCH)
    return rest.examples(Sizer(plan.job), rows, Guesses(book, time.time()), 0.0, left)
