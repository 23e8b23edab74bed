"""How a session ended: the summary of ``run``, ``resume`` and ``retry``, with the next command as its last line."""

from collections.abc import Collection, Mapping, Sequence
from contextlib import suppress

from runner.cli import money, time_spent
from runner.cli.advice import State, advice, lines
from runner.cli.output import count, date, quantiles
from runner.errors import RunnerError, remedy
from runner.event_types import INPUT_CHANGED, Summary
from runner.session import prepare, ways
from runner.session.batch_list import waiting_in
from runner.session.naming import command, store_option, store_path
from runner.session.spelling import as_asked, how_ended, raised
from runner.session.ways import Way
from runner.several import unit
from runner.text import clean, plural

__all__ = ["INPUT_CHANGED", "as_asked", "summary"]

_CAUSES = 3
_MOST_BATCHES = 5
"""Batches that are named."""


def summary(end: Summary, db: str, told: Collection[str] = (), *, exported: bool = False) -> str:
    """Return the summary of a session, with the next command as its last line.

    told: what was said at its start. exported: the results are about to be written to a file, so that nobody has to be told how.
    """
    text, one = [how_ended(end)], unit(end.answers)
    if end.stop_reason == INPUT_CHANGED:
        # any other reason was printed when the stop was requested
        text.append(f"  {INPUT_CHANGED}, so some rows were not seen")
    earlier = _settled_before(end)
    if earlier > 0 and end.skipped <= end.wanted and end.attempts_now:
        text.append(f"  {plural(earlier, one)} {'was' if earlier == 1 else 'were'} {_earlier(end)}")
    if end.reused:
        rows, answers = plural(end.reused, one), "answer was" if end.reused == 1 else "answers were"
        text.append(f"  {rows}: the {answers} taken over from earlier runs, and nothing was sent")
    if end.shared:
        asked, got = ("asks", "it got its answer") if end.shared == 1 else ("ask", "they got their answers")
        text.append(f"  {plural(end.shared, one)} {asked} the same as another one: {got} from that, and nothing was sent")
    text += _measured(end)
    if end.missing:
        are, results = ("is", "its result is") if end.missing == 1 else ("are", "their results are")
        what = "not among the chosen rows" if end.chosen else "no longer in the file"
        text.append(f"  {plural(end.missing, 'row')} {are} {what}; {results} kept")
    if end.kept:
        its, answers = ("its", "answer is") if end.kept == 1 else ("their", "answers are")
        causes = f"`{command('status', end.run, db)}` counts the causes"
        what = plural(end.kept, "answered row" if one == "row" else one)
        text.append(f"  {what} failed when sent again; {its} old {answers} kept; {causes}")
    text += [*_waiting(end, one, db), *_left_of_retry(end, one)]
    if end.changed and (changed := prepare.changed_rows(end.changed)) not in told:
        text.append(f"  {changed}")
    text += _of_answers(end, db)
    if end.failed:
        shows = f"`{command('errors', end.run, db)}` shows why"
        allowed = f"; --ok-failed {end.ok_failed} allows that" if end.ok_failed is not None else ""
        text.append(f"  {plural(end.failed, one)} failed{_causes(end.causes)}: {shows}{allowed}")
    todo = [one for one in advice(_state(end, db), db) if not (exported and one.command.startswith("runner export "))]
    return "\n".join([*text, *(lines(todo) if todo else [])])


def _of_answers(end: Summary, db: str) -> list[str]:
    """Say which answers of the session may not be what was wanted."""
    text = []
    if end.unknown_finish:
        reasons = ", ".join(f"{clean(reason, 40)!r} {number:,}" for reason, number in end.unknown_finish.items())
        text.append(f"  unknown finish reasons, taken as done: {reasons}; [finish] in the job file sets what they mean")
    if end.doubtful:
        kinds = ", ".join(f"{number:,} {name}" for name, number in sorted(end.doubtful.items(), key=lambda kind: -kind[1]))
        text.append(f"  of doubtful shape: {kinds}; `{command('errors', end.run, db)}` shows these answers")
    return text


def _waiting(end: Summary, one: str, db: str) -> list[str]:
    """Say what waits at the provider when the session has ended. one: what is counted."""
    if not end.waiting:
        return []
    named = " ".join(f"b{number}" for number in end.batches[:_MOST_BATCHES])
    several = len(end.batches) > 1
    more = f" and {len(end.batches) - _MOST_BATCHES:,} more" if len(end.batches) > _MOST_BATCHES else ""
    goes_on = "which go on without this session" if several else "which goes on without this session"
    where = f"{'batches' if several else 'batch'} {named.replace(' ', ', ')}{more}"
    if (unsent := _unsent(end, db)) and not several:
        finishes = f"`{command('resume', end.run, db)}` finishes that"
        wait = "waits" if end.waiting == 1 else "wait"
        return [f"  {plural(end.waiting, one)} {wait} in {where}, which was still being sent: {finishes}"]
    goes_on += f", but for {unsent}: the next session finishes sending {'them' if ',' in unsent else 'it'}" if unsent else ""
    kept = f"; results are kept until {date(end.kept_until)}" if end.kept_until is not None else ""
    cancel = f"runner batches cancel {named}{store_option(db)}"
    return [
        f"  {plural(end.waiting, one)} wait{'s' if end.waiting == 1 else ''} at the provider in {where}, {goes_on}{kept}",
        f"  to cancel {'them' if several else 'it'}: `{cancel}`",
    ]


def _unsent(end: Summary, db: str) -> str:
    """Return the batches that were being sent when the session ended, in words; empty if there are none."""
    # without it, the ending says less
    with suppress(RunnerError):
        open_now = waiting_in(store_path(db), end.run)
        return ", ".join(f"b{one.id}" for one in open_now if one.remote_id is None)
    return ""


def _left_of_retry(end: Summary, one: str) -> list[str]:
    """Say what a retry that was interrupted is still to ask. one: what is counted."""
    if not end.retry_left:
        return []
    are, keep = ("is", "keeps its result") if end.retry_left == 1 else ("are", "keep their results")
    return [f"  {plural(end.retry_left, one)} of the retry {are} still to be asked again, and {keep} until then"]


def _earlier(end: Summary) -> str:
    """Say what became of the rows that were not sent in this session; only some of them may have failed."""
    return "already done or failed" if end.skipped_failed else "already done"


def _settled_before(end: Summary) -> int:
    """Return how many rows had an outcome from earlier sessions of the run."""
    return end.skipped - end.reused


def _continues(end: Summary) -> bool:
    """Return True if earlier sessions have sent something, so that figures of this one are not those of the run."""
    return _settled_before(end) > 0 or money.in_this_session(end) is not None


def _measured(end: Summary) -> list[str]:
    """Return what was measured; nothing is said of what is unknown."""
    text, now = [], " in this session" if _continues(end) else ""
    settled = end.done_now + end.failed_now
    if end.attempts_now > settled > 0 and end.elapsed_s >= 1:
        pace = f"{settled / end.elapsed_s:,.1f} {unit(end.answers)}s/s, {end.attempts_now / end.elapsed_s:,.1f} requests/s"
        text.append(f"  speed         {pace}")
    if end.input_tokens is not None or end.output_tokens is not None:
        text.append(f"  tokens        {count(end.input_tokens)} in, {count(end.output_tokens)} out{now}")
    words = money.cost(end, left=end.left)
    if (end.attempts_now and (words is not None or end.unpriced_attempts)) or end.cost:
        text.append(f"  cost          {words or money.UNKNOWN}")
    if (words := money.standard_tier(end)) is not None:
        text.append(f"  service tier  {words}{now}")
    if (words := money.ended_early(end)) is not None:
        text.append(f"  ended early   {words}")
    for name, measured in (("first token", end.time_to_first_token), ("whole answer", end.duration)):
        if measured.p50 is not None:
            text.append(f"  {name:12}  {quantiles(measured)}")
    return [*text, *money.endpoints(end.endpoints), *time_spent.lines(end.time)]


def _causes(causes: Mapping[str, int]) -> str:
    ranked = sorted(causes.items(), key=lambda cause: -cause[1])
    words = [f"{number:,} {clean(code, 30)}" for code, number in ranked[:_CAUSES]]
    return f" ({', '.join([*words, *(['...'] if len(ranked) > _CAUSES else [])])})" if words else ""


def _ways(end: Summary, db: str) -> Sequence[Way] | None:
    """Return how the failed rows are sent again, where some need more room or time."""
    # without it, the next command says less
    with suppress(RunnerError):
        return ways.needed(end.run, end.causes, store_path(db))
    return None


def _state(end: Summary, db: str) -> State:
    mend = remedy(end.stop_reason)
    return State(
        run=end.run,
        done=end.done,
        failed=end.failed,
        left=end.left,
        retry_left=end.retry_left,
        waiting=end.waiting,
        broken=end.broken,
        causes=end.causes,
        ways=_ways(end, db),
        beyond=end.beyond,
        stop_code=end.stop_code,
        unit=unit(end.answers),
        address=mend.address,
        line=mend.line,
        raised=raised(end.stop_reason, own=True),
        to_limit=max(0, end.limit * end.answers - end.skipped - end.done_now - end.failed_now) if end.limit is not None else 0,
        limited=as_asked(end),
        input_changed=end.stop_reason == INPUT_CHANGED,
        dedupe=end.dedupe,
        requests_left=end.requests_left,
        requests_failed=end.requests_failed,
        same_command=end.same_command and end.stop_code is None,
    )
