"""What ``runner status`` prints: one run in full, as text or as JSON."""

import time
from collections.abc import Mapping, Sequence

from msgspec import structs

from runner.cli import money, output, time_spent
from runner.cli.advice import advice
from runner.cli.advice import lines as advice_lines
from runner.durations import clock, format_span
from runner.inputs import spool
from runner.model import Json, Run
from runner.money import tier_asked
from runner.pace import LaneState, Pace, batches_words, worker_words
from runner.session import in_json, perhaps, spelling, unpriced, ways
from runner.session.naming import command, in_full, store_path
from runner.session.steering import WHO
from runner.several import unit
from runner.store.steered import Steered
from runner.store.totals import Totals
from runner.text import clean, plural

_ASKED = 5
"""Things that were asked of the sessions of a run that are shown."""


def status(run: Run, books: Totals, *, db: str, as_json: bool, watched: bool = False) -> str:
    """Return the details of one run and of everything that it sent. watched: `--watch` was given, so it is not advised."""
    if as_json:
        return output.to_json(in_json.status(run, books))
    settings = run.settings
    lines = [
        f"run {run.id}{f', {clean(run.name)}' if run.name else ''}: {spelling.state(run)}",
        f"  input         {clean(spool.full_name(run.input))}",
        f"  model         {_model(settings)}",
        f"  started       {output.date(run.created_at)}",
        f"  {f'{unit(run.answers)}s':<12}  {_counts(run)}{_shared(run, books)}",
        *_retry(books),
        *_waiting(books, run, db),
        *([f"  tags          {clean(', '.join(run.tags))}"] if run.tags else []),
        *_pace(run.pace),
        *_attempts(books),
    ]
    budget = settings.get("max_tokens_total")
    if books.input_tokens is not None or books.output_tokens is not None or budget is not None:
        lines.append(f"  tokens        {_tokens(books)}{_budget_of_tokens(books, budget)}")
    lines += [*_cost(books, run), *_ended_early(books), *time_spent.lines(books.time)]
    for name, measured in (("first token", books.time_to_first_token), ("whole answer", books.duration)):
        if measured.p50 is not None:
            lines.append(f"  {name:12}  {output.quantiles(measured)}")
    lines += money.endpoints(books.endpoints)
    lines += _steered(books.steered)
    if (reason := spelling.stop_reason(run)) and not run.active:
        lines.insert(1, f"  stopped       {_stopped(reason, run, db)}")
    if books.finish_reasons:
        reasons = ", ".join(f"{clean(reason)} {count:,}" for reason, count in books.finish_reasons.items())
        lines.append(f"  finish reason {reasons}")
    if books.tiers:
        tiers = ", ".join(f"{clean(tier) or 'not named'} {count:,}" for tier, count in books.tiers.items())
        standard = f"; {plural(books.standard_tier, 'answer')} at the standard price" if books.standard_tier else ""
        lines.append(f"  service tier  {tiers}{standard}")
    elif (words := money.standard_tier(books)) is not None:
        lines.append(f"  service tier  {words}")
    return "\n".join(lines if run.active and watched else [*lines, *_next(run, books, db)])


def _next(run: Run, books: Totals, db: str) -> list[str]:
    needed = ways.needed(run.id, run.causes, store_path(db))
    state = output.state_of(run, retry_left=books.retry_left, ways=needed, waiting=books.waiting)
    state = structs.replace(state, requests_left=books.requests_left)
    paid = run.done + run.failed - run.broken - run.reused - books.shared
    left = state.left if books.requests_left is None else books.requests_left
    state = structs.replace(state, budget_left=money.budget_left(books, run.settings, rows=paid, left=left))
    return advice_lines(advice(state, db))


def _model(settings: Mapping[str, Json]) -> str:
    from runner.store.places import place_of

    return f"{clean(str(settings.get('model')))} at {clean(place_of(settings) or 'the simulator')}"


def _counts(run: Run) -> str:
    taken_over = f" ({run.reused:,} taken over from earlier runs)" if run.reused else ""
    counts = f"{run.done:,} done{taken_over}, {run.failed:,} failed"
    if run.rows is None:
        return counts
    # rows that are no longer in the file, or not chosen any more, keep their outcomes
    wanted = run.rows * run.answers
    every = max(wanted, run.done + run.failed)
    counts += f", {every - run.done - run.failed:,} left of {every:,}"
    counts += f" answers of {plural(-(-every // run.answers), 'row')}" if run.answers > 1 else ""
    now = "chosen now" if run.settings.get("where") or run.settings.get("sample") else "in the file"
    return f"{counts}; {run.rows:,} {now}" if every != wanted else counts


def _shared(run: Run, books: Totals) -> str:
    one, got = unit(run.answers), "its answer" if books.shared == 1 else "their answers"
    return f"; {plural(books.shared, one)} got {got} from another one that asks the same" if books.shared else ""


def _waiting(books: Totals, run: Run, db: str) -> list[str]:
    if not books.batches:
        return []
    shows = f"`{command('batches', run.id, db)}` shows {'it' if books.batches == 1 else 'them'}"
    where = f"in {books.batches:,} {'batch' if books.batches == 1 else 'batches'} at the provider"
    return [f"  waiting       {plural(books.waiting, unit(run.answers))} {where}; {shows}"]


def _retry(books: Totals) -> list[str]:
    left, have = books.retry_left, "is" if books.retry_left == 1 else "are"
    return [f"  retry         {plural(left, 'row')} {have} still to be asked again"] if left else []


def _cost(books: Totals, run: Run) -> list[str]:
    words = money.cost(books, left=output.state_of(run).left, active=run.active)
    if words is None and not books.unpriced_attempts:
        return []
    limits = {"the budget is": "max_cost", "the budget of a session is": "max_cost_session"}
    known = {what: run.settings.get(name) for what, name in limits.items()}
    of = "".join(f"; {what} {money.typed(limit)}" for what, limit in known.items() if isinstance(limit, int | float))
    if words is None:
        settings, extra = run.settings, run.settings.get("extra_body")
        tier = tier_asked(settings.get("tier"), extra if isinstance(extra, dict) else None)
        words = unpriced.unknown(str(settings.get("model")), settings.get("prices"), tier)
    return [f"  cost          {words}{of}"]


def _ended_early(books: Totals) -> list[str]:
    words = money.ended_early(books)
    return [f"  ended early   {words}"] if words is not None else []


def _budget_of_tokens(books: Totals, budget: object) -> str:
    if not isinstance(budget, int):
        return ""
    used, known = books.tokens_of_budget, (books.input_tokens or 0) + (books.output_tokens or 0)
    return f"; the budget is {plural(budget, 'token')}, {used:,} used{' or perhaps used' if used > known else ''}"


def _stopped(reason: str, run: Run, db: str) -> str:
    return clean(in_full(reason, run.id, db, asked=spool.is_asked(run.input))).removeprefix("stopped ")


def _pace(pace: Pace | None) -> list[str]:
    """Return a line for each lane of a running session, and one for the rows that wait for a retry."""
    if pace is None:
        return []
    lines = [f"  requests      {_lane(lane)}" for lane in pace.lanes]
    if pace.workers is not None:
        lines.append(f"  workers       {worker_words(pace.workers)}")
    if pace.retrying:
        lines.append(f"  retrying      {clean(pace.retrying)}")
    if pace.batches is not None and (words := batches_words(pace.batches)):
        lines.append(f"  batches       {clean(words)}")
    if pace.halted_at is not None:
        lines.append(
            f"  paused        since {output.date(pace.halted_at)} ({format_span(max(0.0, time.time() - pace.halted_at))})"
        )
    if pace.left_s is not None:
        outage = " after the outage" if any(lane.outage_s for lane in pace.lanes) else ""
        lines.append(f"  time left     about {clock(pace.left_s)}{outage}")
    lines.append(f"  last update   {format_span(max(0.0, time.time() - pace.at))} ago")
    return lines


def _steered(steered: Sequence[Steered]) -> list[str]:
    """Return a line for each of the last things that were asked of the sessions of a run."""
    lines = [f"  asked         {output.date(one.at)}, by {WHO.get(one.by, clean(one.by))}: {clean(one.what)}" for one in steered]
    earlier = len(lines) - _ASKED
    return [*([f"  asked         {earlier:,} times before; --json has it all"] if earlier > 0 else []), *lines[-_ASKED:]]


def _lane(lane: LaneState) -> str:
    words = f"{clean(lane.model, 60)}: " if lane.model else ""
    words += f"{lane.in_flight:,} of {lane.slots:,} in flight"
    if lane.ceiling != lane.slots:
        words += f" (up to {lane.ceiling:,})"
    for name, limit in lane.limits.items():
        number = f"{limit:,.0f}" if limit >= 10 else f"{limit:g}"
        words += f", {clean(name.replace('_', ' '))} {number}"
    words += f", limits shared by {plural(lane.shared, 'run')}" if lane.shared else ""
    return f"{words}; {clean(lane.waiting)}" if lane.waiting else words


def _attempts(books: Totals) -> list[str]:
    """Return the lines about what was sent, what went wrong and what that cost, as far as it is known."""
    words = f"  attempts      {books.attempts:,}"
    if books.retries:
        retries = sum(books.retries.values())
        words += f"; {retries:,} {'retry' if retries == 1 else 'retries'} ({_causes(books.retries)})"
    if books.deciding:
        words += f"; {plural(sum(books.deciding.values()), 'row')} failed after the last attempt ({_causes(books.deciding)})"
    lines = [words]
    if books.failed_attempts:
        lines.append(f"                {_failed_attempts(books)}")
    if (left := perhaps.unpriced(books)) is not None:
        lines.append(f"                {left}")
    if books.wasted_input_tokens or books.wasted_output_tokens or books.wasted_bytes:
        lines.append(f"  wasted        {_waste(books)}")
    return lines


def _failed_attempts(books: Totals) -> str:
    """Count the attempts without an answer. A cancelled attempt is not a failed one."""
    failed = {code: count for code, count in books.failed_attempts.items() if code != "cancelled"}
    cancelled = books.failed_attempts.get("cancelled", 0)
    unasked = min(books.unsent, sum(books.failed_attempts.get(code, 0) for code in ("batch_expired", "batch_cancelled")))
    counts = [f"{plural(sum(failed.values()), 'failed attempt')} ({_causes(failed)})"] if failed else []
    counts += [plural(cancelled, "cancelled attempt")] if cancelled else []
    kinds = (
        (books.unsent - unasked, "never reached the server"),
        (unasked, "in batches that ended before them, and not billed"),
        (books.refused, "refused"),
        (books.perhaps_billed, "perhaps billed (usage unknown)"),
    )
    details = ", ".join(f"{count:,} {kind}" for count, kind in kinds if count)
    return f"{', '.join(counts)}{details and ': '}{details}"


def _causes(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{clean(code)} {count:,}" for code, count in counts.items())


def _waste(books: Totals) -> str:
    received = f"{books.wasted_bytes:,} bytes received by failed attempts"
    if books.wasted_input_tokens is None and books.wasted_output_tokens is None:
        return received
    return f"{output.count(books.wasted_input_tokens)} tokens in, {output.count(books.wasted_output_tokens)} out, {received}"


def _tokens(books: Totals) -> str:
    if not books.attempts:
        return "none"
    words = f"{output.count(books.input_tokens)} in"
    if books.cached_tokens:
        words += f" ({books.cached_tokens:,} cached)"
    words += f", {output.count(books.output_tokens)} out"
    if books.reasoning_tokens:
        words += f" ({books.reasoning_tokens:,} reasoning)"
    return words
