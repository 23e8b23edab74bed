"""Which rows of a retry set themselves what it is asked to change: the settings of a row hold, so these are sent as before."""

from collections import Counter
from collections.abc import Sequence
from typing import Any

from msgspec import structs

from runner.config.job import Job
from runner.config.settings import BY_NAME
from runner.errors import UsageError
from runner.inputs.prompts import make_item
from runner.model import Item
from runner.session.opening import template_of
from runner.session.prepare import Plan
from runner.session.to_send import ToSend
from runner.several import unit
from runner.store.runs import differences
from runner.text import plural

_OF_ROWS = ("model", "system", "max_tokens", "temperature", "top_p", "stop", "seed", "extra_body")
"""Settings that a row may have too."""


def kept(plan: Plan, of: ToSend) -> list[str]:
    """Say how many of the rows that are asked again keep what they set themselves. Blocks.

    Raises UsageError if all of them keep all that a new retry is to change: they would be paid again for the same.
    """
    run, variant = plan.chosen.run, plan.chosen.changes.variant
    different = differences(run.settings, variant) if run is not None and variant is not None else {}
    names = [name for name in different if name in _OF_ROWS]
    if not names or not plan.job.row_settings:
        return []
    now = template_of(plan.job)
    before = {name: template_of(_with(plan.job, name, different[name][0])) for name in names}
    counts, rows = Counter[str](), 0
    for key, row in of.asked_again():
        rows += 1
        made = make_item(row, key, now)
        for name in names if isinstance(made, Item) else ():
            old = make_item(row, key, before[name])
            counts[name] += isinstance(old, Item) and isinstance(made, Item) and old.request == made.request
    if rows and plan.options.choice is not None and all(counts[name] == rows for name in different):
        raise UsageError(_refusal(names, rows, unit(plan.answers)))
    return [_sentence(name, counts[name], rows, unit(plan.answers)) for name in names if counts[name]]


def _sentence(name: str, number: int, rows: int, one: str) -> str:
    sets, it = ("sets", "it keeps that") if number == 1 else ("set", "they keep that")
    return f"{number:,} of these {plural(rows, one)} {sets} {name} {'itself' if number == 1 else 'themselves'}, and {it}"


def _refusal(names: Sequence[str], rows: int, one: str) -> str:
    what = " and ".join(names)
    options = " and ".join(BY_NAME[name].option for name in names)
    who = f"the {one} that is chosen sets" if rows == 1 else f"all {rows:,} {one}s that are chosen set"
    own = "itself" if rows == 1 else "themselves"
    return f"{who} {what} {own}, so {options} would change nothing; change the rows, or leave {options} out. Nothing was sent"


def _with(job: Job, name: str, value: Any) -> Job:
    """Return a job with another value of a setting."""
    if BY_NAME[name].key.startswith("params."):
        return structs.replace(job, params=structs.replace(job.params, **{name: value}))
    return structs.replace(job, **{name: value})
