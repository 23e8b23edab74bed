"""What a session tells that has nothing to do: its run is finished, and the input is the same."""

import os

from runner.config.job import Job
from runner.config.variables import unknown_variables
from runner.event_types import Finished, Quantiles, Started, Summary
from runner.inputs import spool
from runner.model import Run
from runner.money import Money, costs
from runner.session import budgeting, pricing, unpriced
from runner.session.continuing import Idle
from runner.text import plural


def allowed(job: Job, failed: int, *, of: int) -> int | str | None:
    """Return the setting ``ok_failed`` if rows of a run with ``of`` rows failed, and so many count as success; else None."""
    return job.ok_failed if failed and job.tolerates(failed, of=of) else None


def summary(job: Job, run: Run, money: Money) -> Summary:
    """Return the summary of a session that had nothing to do. job: as it was given to the session."""
    settled = run.done + run.failed
    rows = run.rows if run.rows is not None else settled // run.answers
    # nobody has looked which of the outcomes are those of the rows that are there now
    missing = max(0, -(-settled // run.answers) - rows)
    nothing = Quantiles(p50=None, p95=None)
    return Summary(
        run=run.id,
        finished=True,
        rows=rows,
        answers=run.answers,
        done=run.done,
        failed=run.failed,
        broken=run.broken,
        skipped=settled,
        done_now=0,
        failed_now=0,
        kept=0,
        attempts_now=0,
        input_tokens=None,
        output_tokens=None,
        time_to_first_token=nothing,
        duration=nothing,
        elapsed_s=0.0,
        missing=missing,
        chosen=job.where is not None or job.sample is not None,
        changed=0,
        stop_reason=None,
        causes=run.causes,
        beyond=run.beyond,
        ok_failed=allowed(job, run.failed, of=rows * run.answers),
        dedupe=bool(run.settings.get("dedupe")),
        **costs(money, money.spent),
    )


def _unpriced(job: Job, money: Money) -> tuple[str, ...]:
    """Return what is said to somebody who has named a price or a budget of dollars, where the cost is not known all the same."""
    if not money.unpriced or not (budgeting.costs_count(job) or job.prices):
        return ()
    whole = unpriced.of_job(job, pricing.price_book(job)) if not money.known else None
    return (whole or f"the cost of {plural(money.unpriced, 'attempt')} of the run is not known",)


def nothing_to_do(job: Job, idle: Idle) -> tuple[Started, Finished]:
    """Return the events of a session that had nothing to do."""
    run, ended = idle.run, summary(job, idle.run, idle.money)
    note = f"run {run.id} is finished and {spool.display_name(job.input)} has not changed: nothing is sent"
    notes = (*unknown_variables(os.environ), *idle.about, note, *_unpriced(job, idle.money))
    begun = Started(
        run=run.id,
        input=spool.full_name(job.input),
        rows=ended.rows + ended.missing,
        answers=ended.counted if ended.answers > 1 else None,
        each=ended.answers,
        restored=ended.skipped,
        restored_failed=ended.failed,
        notes=notes,
    )
    return begun, Finished(summary=ended)
