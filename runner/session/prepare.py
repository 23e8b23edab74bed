"""Prepares a session: finds its run, checks whether anything is left to do, and writes the notes that a person reads first."""

import os
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple, TypeVar

from anyio import to_thread
from msgspec import Struct, structs

from runner import origin
from runner.config.endpoint import Endpoint, find_endpoint, with_base_url
from runner.config.job import Job
from runner.errors import UsageError
from runner.inputs import same_requests, scan, spool
from runner.inputs.content import hash_of
from runner.inputs.prompts import Template, make_item
from runner.inputs.same_requests import SameRequests
from runner.inputs.scan import PromptFile, Scan
from runner.model import Outcome
from runner.session import batch_fit, budgeting, called, continuing, identity, pricing, raising, reading, shaped, unfit
from runner.session.continuing import Chosen, Idle
from runner.session.identity import Given
from runner.session.opening import open_input, options_of, rooted, template_of
from runner.session.options import SessionOptions
from runner.several import amount
from runner.store import database
from runner.store.counts import RunCounts
from runner.store.places import place_of
from runner.store.runs import FoundRun
from runner.text import plural

_MAX_SHOWN = 5
_MAX_KEPT = 1_000  # broken rows whose reason is kept; further ones are only counted

T = TypeVar("T")


class Broken(NamedTuple):
    """Rows from which no request can be made: their number, and (line, reason) of the first 1,000."""

    number: int
    first: list[tuple[int, str]]


class Plan(Struct, frozen=True, kw_only=True):
    """Everything that is decided before a session begins."""

    job: Job
    options: SessionOptions
    # the input in front of the store, and what of it is read
    given: Given
    prompts: PromptFile
    scanned: Scan
    endpoint: Endpoint
    run: FoundRun
    # how that run was chosen, and what the session changes about it
    chosen: Chosen = Chosen()
    same_prompt: bool = False  # what the template makes is the same for all rows
    # requests that several rows make and that are sent once; None: none, or each row is sent
    same: SameRequests | None = None

    @property
    def template(self) -> Template:
        """Return what the job adds to every row."""
        return template_of(self.job)

    @property
    def rows(self) -> int:
        """Return the number of rows that will have an outcome if the session is not stopped."""
        limit = self.options.limit
        return self.scanned.rows if limit is None else min(limit, self.scanned.rows)

    @property
    def narrowed(self) -> bool:
        """Return True if this session alone uses other rows than its run: ``where`` or ``sample`` of a resume or a retry."""
        run = self.chosen.run
        return self.options.run_id is not None and run is not None and continuing.chooses_otherwise(self.job, run.settings)

    @property
    def answers(self) -> int:
        """Return how many answers of each row are wanted."""
        return self.job.answers or 1

    @property
    def wanted(self) -> int:
        """Return the number of outcomes that there will be if the session is not stopped: one for each answer of each row."""
        return self.rows * self.answers

    @property
    def requests(self) -> int:
        """Return how many requests the rows make, each counted once where it is sent once."""
        return self.wanted - (self.same.rows * self.answers if self.same is not None else 0)

    @property
    def unchanged(self) -> bool:
        """Return True if the input has the same content as in the last session of the run, which has looked at each row."""
        return self.run.input_digest == self.given.digest and not self.run.look_again


async def prepare(job: Job, store_path: Path, options: SessionOptions) -> Plan | Idle:
    """Return the plan of a session, or the run itself if it is finished and nothing is left to do.

    Sends nothing. A new run is created only after every other check has passed. Raises UsageError, StoreError.
    """
    job = await in_thread(lambda: rooted(with_base_url(job, os.environ), store_path))
    if options.new and not continuing.is_option(job, "reuse"):
        # whoever asks for a new run in any case wants new answers
        job = structs.replace(job, reuse=False)
    prompts = await in_thread(lambda: open_input(job.input, options_of(job), store_path))
    scan.refuse_empty(prompts.size, spool.display_name(job.input))
    known = await in_thread(lambda: continuing.known_runs(store_path))
    content = await in_thread(lambda: scan.measure(prompts, identity.lengths(known)))
    given = Given(store_path, prompts, content, place_of(job.settings()))
    chosen = await in_thread(lambda: continuing.choose(job, given, known, options))
    if chosen.run is not None and options.run_id is None:
        job = budgeting.inherited(job, chosen.run.settings)
    job = raising.settled(job, chosen.run)
    await in_thread(lambda: called.refuse_name(options, store_path, chosen.run.id if chosen.run is not None else None))
    if continuing.nothing_left(given, chosen, options) and not await in_thread(lambda: _can_be_priced(job, given, chosen)):
        return await in_thread(lambda: _idle(job, given, chosen, options))
    batch_fit.refuse(job, options)
    endpoint = find_endpoint(job, os.environ)
    to_read, scanned = await in_thread(lambda: _scanned(job, given, chosen, options))
    await in_thread(lambda: database.prepare(store_path, create=True))
    run = await in_thread(lambda: continuing.open_run(job, given, options, chosen))
    return Plan(
        job=await in_thread(lambda: batch_fit.at_lowest(job)),
        options=options,
        given=given,
        prompts=to_read,
        scanned=scanned,
        endpoint=endpoint,
        run=run,
        chosen=chosen,
        same_prompt=await in_thread(lambda: unfit.asks_the_same(job, prompts, scanned)),
        same=await in_thread(lambda: same_in(job, to_read, options)),
    )


def _idle(job: Job, given: Given, chosen: Chosen, options: SessionOptions) -> Idle:
    """Return a run of which nothing is left to do. Raises UsageError if a row of it is broken and none may be."""
    idle = continuing.idle(job, given, chosen)
    if options.strict and idle.run.broken:
        _refuse_broken(job, given.prompts)
    called.label(options, given.store, idle.run.id)
    return idle


def _scanned(job: Job, given: Given, chosen: Chosen, options: SessionOptions) -> tuple[PromptFile, Scan]:
    """Return what is to be read of the input, and its scan.

    Raises UsageError for rows that the job does not fit, and for a budget that cannot hold.
    """
    prompts = given.prompts
    to_read, scanned = reading.scan_input(given, chosen.run, options, whole=job.dedupe)
    if not scanned.rows and job.where is not None and options.retry_failed:
        # a retry says that there are no such rows
        return to_read, scanned
    scan.refuse_empty(scanned.rows, spool.display_name(job.input), job.where, prompts.about)
    scan.refuse_duplicates(scanned, job.input, prompts.places)
    unfit.refuse(job, prompts, scanned)
    budgeting.refuse(job, prompts)
    if options.strict:
        _refuse_broken(job, prompts)
    return to_read, scanned


def _can_be_priced(job: Job, given: Given, chosen: Chosen) -> bool:
    return chosen.run is not None and pricing.tells_more(job, given.store, chosen.run.id)


def same_in(job: Job, prompts: PromptFile, options: SessionOptions) -> SameRequests | None:
    """Return the requests that several rows make and that are sent once; None if there are none, or each row is sent."""
    if not job.dedupe:
        return None
    limit = None if options.limit is None else min(options.limit, sys.maxsize)
    return same_requests.find(prompts, template_of(job), limit=limit, answers=job.answers or 1)


async def in_thread(call: Callable[[], T]) -> T:
    """Run a blocking call in a thread. A cancelled session does not wait for it."""
    return await to_thread.run_sync(call, abandon_on_cancel=True)


def broken_rows(prompts: PromptFile, template: Template) -> Broken:
    """Find the rows from which no request can be made."""
    count = 0
    first: list[tuple[int, str]] = []
    for row in prompts.read():
        made = make_item(row, "", template)
        if isinstance(made, Outcome):
            count += 1
            if count <= _MAX_KEPT:
                first.append((made.position, made.error or ""))
    return Broken(count, first)


def _refuse_broken(job: Job, prompts: PromptFile) -> None:
    """Raise UsageError if a row is broken."""
    broken = broken_rows(prompts, template_of(job))
    if broken.number:
        first = "; ".join(reason for _, reason in broken.first[:_MAX_SHOWN])
        more = f"; and {broken.number - _MAX_SHOWN:,} more" if broken.number > _MAX_SHOWN else ""
        raise UsageError(
            f"{origin.shown(job.input)}: {plural(broken.number, 'broken row')}, and --strict was given: {first}{more}"
        )


def notes(plan: Plan, counts: RunCounts, changed: int, taken: Mapping[int, int], retrying: Sequence[str] = ()) -> list[str]:
    """Return what a person should know before a session begins, one sentence each.

    counts: outcomes that the run holds. changed: number of rows with an outcome whose prompt has changed since. taken: how many
    rows have just taken over an answer from each earlier run. retrying: what is said of the rows that a retry asks again.
    """
    options, run, scanned = plan.options, plan.run, plan.scanned
    sentences = [*plan.chosen.about, *_new_run_notes(run, all_rows=options.limit is None, taken=bool(taken))]
    if taken:
        sentences.append(taken_over(taken, plan.rows, plan.answers))
    sentences += retrying
    if run.finished and not (plan.chosen.raised or options.retry_failed):
        same = run.input_digest is not None and hash_of(run.input_digest) == plan.given.content.digest
        what = "its rows are looked at again" if same else "its input has changed since"
        sentences.append(f"run {run.id} was finished; {what}")
    elif run.existed and counts.done + counts.failed > sum(taken.values()) and not options.retry_failed:
        # how many are done is in the first line of the session
        sentences.append(f"continuing run {run.id}")
    if changed:
        sentences.append(changed_rows(changed, accepted=options.accept_changes))
    if plan.same is not None:
        sentences.append(sent_once(plan.same.rows, plan.rows))
    elif scanned.identical:
        sentences.append(identical_rows(scanned.identical))
    if (kept := budgeting.kept(plan.job)) and options.run_id is None:
        sentences.append(f"run {run.id} has {kept}, which holds for this session too")
    if plan.same_prompt:
        sentences.append(unfit.SAME_PROMPT)
    sentences += [*unfit.alike_answers(plan.job), *shaped.notes(plan.job)]
    return [*sentences, *plan.prompts.about, *scan.remarks(scanned)]


def taken_over(taken: Mapping[int, int], rows: int, answers: int = 1) -> str:
    """Return the sentence about rows that have taken over an answer. taken: how many from each run. rows: all of the session.

    answers: how many are wanted of each row; each counts.
    """
    number, numbers = sum(taken.values()), [str(run) for run in sorted(taken)]
    which = f"run {numbers[0]}" if len(numbers) == 1 else f"runs {', '.join(numbers[:-1])} and {numbers[-1]}"
    have, is_ = ("has", "its answer is") if number == 1 else ("have", "their answers are")
    of = amount(rows, answers)
    if answers > 1:
        return f"{number:,} of {of} have been bought in {which} by the same request: {is_} taken over (--new sends all rows)"
    return f"{number:,} of {of} {have} the same request as in {which}: {is_} taken over (--new sends all rows)"


def changed_rows(number: int, *, accepted: bool = False) -> str:
    """Return the sentence about rows that have changed since they were finished. accepted: --accept-changes was given."""
    have, its, it, results = ("has", "its", "it", "result is") if number == 1 else ("have", "their", "them", "results are")
    changed = f"{plural(number, 'finished row')} {have} changed since"
    if accepted:
        return f"{changed}; --accept-changes sends {it} again"
    return f"{changed}; {its} old {results} kept, and --accept-changes sends {it} again"


def identical_rows(number: int) -> str:
    """Return the sentence about rows without an id that repeat an earlier row."""
    advice = "each gets its own answer (--dedupe sends them once)"
    if number == 1:
        return f"1 row without an id is identical to an earlier one; {advice}"
    return f"{plural(number, 'row')} without an id are identical to earlier ones; {advice}"


def sent_once(number: int, rows: int) -> str:
    """Return the sentence about rows that ask the same as an earlier one. rows: all of the session."""
    asks = "asks" if number == 1 else "ask"
    return f"{number:,} of {plural(rows, 'row')} {asks} the same as an earlier one: sent once"


def _new_run_notes(run: FoundRun, *, all_rows: bool, taken: bool) -> list[str]:
    """Return the reasons why a new run begins although the store has a similar one.

    all_rows: False behind --limit. taken: some of its rows are not sent, which is said by itself.
    """
    sentences = []
    sent = "" if taken else f"{'all rows' if all_rows else 'rows'} are sent"
    if run.differs_from is not None:
        changes = ", ".join(f"{name} ({_brief(then)} -> {_brief(now)})" for name, (then, now) in run.differences.items())
        sentences.append(f"{changes} changed since run {run.differs_from}, so this starts a new run{sent and f'; {sent} again'}")
    if run.other_stdin is not None:
        sentences.append(
            f"standard input differs from that of run {run.other_stdin}, so this starts a new run{sent and f' and {sent}'}; "
            "prompts that you edit belong in a file"
        )
    return sentences


def _brief(value: object) -> str:
    text = "unset" if value is None else str(value)
    return text if len(text) <= 40 else text[:39] + "\N{HORIZONTAL ELLIPSIS}"
