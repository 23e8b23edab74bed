"""Draws the rows that are sent for an estimate: in proportion to size, from those of a run that have no outcome yet."""

import time
from array import array
from collections.abc import Mapping, Sequence
from itertools import islice

from msgspec import Struct, structs

from runner.money import tier_of
from runner.pace import LaneState
from runner.prices.book import PriceBook
from runner.prices.sample import Drawn, Lane, Stratum, draw, shares
from runner.session import rest
from runner.session.prepare import Plan
from runner.session.rest import Guesses, Rest, seed_of
from runner.session.sizing import Sizer
from runner.session.to_send import ToSend, of_plan
from runner.store import samples

_BATCH = 1_000


class Open(Struct):
    """What is to be sent: the places among all answers, the models they are for, and the sizes of the rows."""

    places: "array[int]"
    models: "array[int]"
    sizes: "array[int]"
    # by their numbers in ``models``
    names: list[str]
    guesses: Guesses

    @property
    def number(self) -> int:
        """How many can be sent."""
        return len(self.places)


class Drawing(Struct, frozen=True, kw_only=True):
    """The rows that were drawn, how many of them are still to be sent, and what these may take by their sizes."""

    drawn: Drawn
    left: int
    rest: Rest | None


def open_rows(of: ToSend, guesses: Guesses) -> Open:
    """Measure what is to be sent of an input. Blocks. Raises UsageError."""
    sizer, numbers = Sizer(of.job), dict[str, int]()
    found = Open(array("Q"), array("L"), array("Q"), [], guesses)
    for place, row in of.open():
        size = sizer.size(row)
        if size is None:
            continue
        found.places.append(place)
        found.models.append(numbers.setdefault(size.model, len(numbers)))
        found.sizes.append(size.measure)
        guesses.add(size)
    found.names = list(numbers)
    return found


def live(of: ToSend) -> ToSend:
    """Return what is to be sent of a sample: nobody waits a day for an estimate, so it never goes through a batch."""
    return structs.replace(of, job=structs.replace(of.job, mode="live"))


def drawing(plan: Plan, number: int, book: PriceBook | None, settled: int) -> Drawing:
    """Draw rows, or return those that were drawn before, if they still tell of what is left. Blocks.

    number: how many. settled: rows of the run with an outcome.
    """
    store, run = plan.given.store, plan.run.id
    source = (plan.given.digest, plan.requests)
    earlier = rest.drawn_rows(store, run, source, settled) if settled else None
    if earlier is not None and earlier.number == number:
        left = len(earlier.keys) - len(samples.settled_keys(store, run, earlier.keys))
        return Drawing(drawn=earlier, left=left, rest=_of_some(plan, book, left) if left else None)
    of = live(of_plan(plan, settled=settled > 0))
    found = open_rows(of, Guesses(book, time.time()))
    so_far, before = of.so_far(run), rest.stored(store, run)
    drawn = Drawn(
        number=number,
        input=source,
        settled=settled,
        cost=so_far.money.spent,
        input_tokens=so_far.input_tokens,
        output_tokens=so_far.output_tokens,
        strata=_strata(of, found, number, seed_of(plan.given.digest)),
        most=found.guesses.most(),
        tier=tier_of(plan.job.tier),
        # it counts until the rows are sent, and longer if it tells of more rows
        expected=before.expected if before is not None else None,
    )
    whole = sum(found.sizes)
    share = sum(sum(stratum.drawn.values()) for stratum in drawn.strata) / whole if whole else 0.0
    left = len(drawn.keys)
    return Drawing(drawn=drawn, left=left, rest=found.guesses.rest(left, share) if left else None)


def with_lanes(drawn: Drawn, lanes: Sequence[LaneState]) -> Drawn:
    """Return the drawn rows with what was learned of the limits. A lane that has not been opened now keeps what was known."""
    learned = {lane.model: Lane(slots=lane.slots, limits=dict(lane.limits)) for lane in lanes}
    return structs.replace(drawn, lanes={**drawn.lanes, **learned})


def _strata(of: ToSend, found: Open, number: int, seed: int) -> list[Stratum]:
    if not found.number:
        return []
    costs, by_name = found.guesses.cost(), {name: index for index, name in enumerate(found.names)}
    groups = shares(costs, number)
    of_groups = [({by_name[name] for name in names}, count) for names, count in groups]
    sizes = _comparable(found, costs, [members for members, _ in of_groups])
    chosen = draw(found.models, sizes, of_groups, seed)
    keys = _keys(of, [found.places[index] for rows in chosen for index in rows])
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


def _keys(of: ToSend, places: Sequence[int]) -> dict[int, str]:
    """Return the keys of the answers at these places."""
    wanted, last = set(places), max(places, default=-1)
    return {place: key for place, (key, _) in enumerate(islice(of.answers(), last + 1)) if place in wanted}


def _of_some(plan: Plan, book: PriceBook | None, left: int) -> Rest | None:
    """Return what some rows may take that are like all of the input."""
    rows = plan.scanned.some or islice(plan.prompts.read(), _BATCH)
    return rest.examples(Sizer(structs.replace(plan.job, mode="live")), rows, Guesses(book, time.time()), 0.0, left)
