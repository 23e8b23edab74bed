"""How long the rows that are left will take: by the limits per minute, or by the requests that may be open at once."""

import math
from collections.abc import Mapping

from runner.config.job import Job
from runner.engine.limits import Kind
from runner.engine.limits.slots import START
from runner.prices.guess import plus, times
from runner.prices.interval import Interval
from runner.prices.sample import Lane
from runner.session.rest import Rest, Use
from runner.session.wiring import per_minute


def duration(found: Rest, job: Job, lanes: Mapping[str, Lane]) -> tuple[Interval | None, str | None]:
    """Return how many seconds the rest will take, and what sets the pace; None for what is not known.

    lanes: what the requests of a sample met with. The pace is that of the tightest limit per minute, or of the requests that may
    be open at once: the fixed number, or one between what the sample came to and the highest that is tried.
    How long a batch takes is up to the provider.
    """
    if job.mode != "live" and found.left:
        return None, None
    paces = [
        (kind, times(_amount(kind, use), 60 / limit))
        for use in found.uses
        for kind, limit in _limits(use, per_minute(job), lanes).items()
    ]
    if found.busy_s is not None and found.left:
        most = min(job.max_concurrency if job.concurrency is None else job.concurrency, found.left)
        reached = sum(lane.slots for lane in lanes.values()) or START
        least = min(most, reached if job.concurrency is None else most)
        busy = found.busy_s
        open_s = Interval(low=busy.low / most, mid=busy.mid / math.sqrt(most * least), high=busy.high / least)
        paces.append(("concurrency", open_s))
    if not paces:
        return (Interval(low=0, mid=0, high=0) if not found.left else None), None
    slowest = max(paces, key=lambda one: one[1].mid)[0]
    low, mid, high = (max(getattr(one, name) for _, one in paces) for name in ("low", "mid", "high"))
    return Interval(low=low, mid=mid, high=high), slowest


def _limits(use: Use, asked: Mapping[Kind, float], lanes: Mapping[str, Lane]) -> dict[str, float]:
    """Return the limits per minute for the rows of some models: the lowest that the job sets or the server reported."""
    found: dict[str, float] = dict(asked.items())
    for model in use.models:
        for kind, limit in (lanes[model].limits if model in lanes else {}).items():
            found[kind] = min(limit, found.get(kind, limit))
    return {kind: limit for kind, limit in found.items() if limit > 0}


def _amount(kind: str, use: Use) -> Interval:
    match kind:
        case "rpm":
            return use.requests
        case "tpm":
            return plus(use.input, use.output)
        case "input_tpm":
            return use.input
        case _:
            return use.output
