"""Limits that a person changes while a session runs: how many requests, how many a minute, and what the run may cost."""

from collections.abc import Iterator
from typing import Any

from msgspec import structs

from runner.config.job import Job
from runner.config.settings import BY_NAME
from runner.config.values import check
from runner.control.messages import NONE, Set
from runner.engine.limits import Lanes
from runner.errors import UsageError
from runner.money import exact, picodollars
from runner.session import wiring
from runner.session.budgeting import Purse
from runner.session.naming import command

RATES = ("rpm", "tpm")
"""Limits that can also be taken away."""
_UNTIL = "until the session ends"


class LimitSteering:
    """Changes the limits of a session. job: as it began; it is changed too, so that the next change begins there."""

    def __init__(self, job: Job, lanes: Lanes) -> None:
        self._job, self._lanes = job, lanes
        # None: there is no budget
        self.purse: Purse | None = None

    def set(self, asked: Set, run: int, db: str) -> str:
        """Change limits, and return what has changed, a sentence. All of it is checked first. Raises UsageError.

        run, db: for commands.
        """
        given = {name: value for name in asked.__struct_fields__ if (value := getattr(asked, name)) is not None}
        if not given:
            raise UsageError("name a limit: --concurrency, --rpm, --tpm or --max-cost")
        wanted = {
            name: None if value == NONE and name in RATES else check(BY_NAME[name], value, "set") for name, value in given.items()
        }
        if "max_cost" in wanted and (self.purse is None or not self.purse.counts_dollars):
            again = command("resume", run, db, "--max-cost", f"{wanted['max_cost']:g}")
            raise UsageError(
                f"run {run} has begun without a budget of dollars, so what its open requests may cost is not held in dollars, "
                f"and a budget could be exceeded: `{command('stop', run, db)}`, then `{again}`"
            )
        return f"{'; '.join(self._set(wanted))}; this holds {_UNTIL}"

    def _set(self, wanted: dict[str, Any]) -> Iterator[str]:
        """Change the limits, and yield what has changed, a phrase each."""
        if "concurrency" in wanted:
            yield self._concurrency(wanted["concurrency"])
        rates = {name: wanted[name] for name in RATES if name in wanted}
        if rates:
            self._change(structs.replace(self._job, **rates))
            yield from (f"{name} {NONE if amount is None else f'{amount:,.10g}'}" for name, amount in rates.items())
        if "max_cost" in wanted and self.purse is not None:
            self.purse.change_max_cost(picodollars(wanted["max_cost"]))
            yield f"the run may cost {exact(picodollars(wanted['max_cost']))}"

    def _concurrency(self, number: int) -> str:
        if self._job.concurrency is None:
            note = self._change(structs.replace(self._job, max_concurrency=number))
            words = f"concurrency adapts up to {number:,}"
        else:
            note = self._change(structs.replace(self._job, concurrency=number))
            words = f"concurrency {number:,}"
        several = " at each endpoint" if self._job.members else ""
        return f"{words}{several}{f' ({note})' if note else ''}"

    def _change(self, job: Job) -> str | None:
        """Have the limits of a job hold. Return what a person should know of it."""
        limits, note = wiring.limits(job)
        self._job = job
        self._lanes.change(limits, min(wiring.most_at_one(job), limits.ceiling))
        return note
