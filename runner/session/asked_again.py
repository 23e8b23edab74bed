"""Which rows a retry asks again: chosen once, before its session begins, and kept in the store until each of them was asked."""

from collections import Counter
from collections.abc import Iterator
from itertools import islice

from runner.session import only, to_send
from runner.session.naming import command
from runner.session.options import Choice
from runner.session.prepare import Plan, in_thread
from runner.several import spoken, unit
from runner.store.checkpoint import RunStore
from runner.store.reader import StoreReader
from runner.store.retrying import Chosen
from runner.store.selection import Selection
from runner.text import clean, plural

_BATCH = 500
_CAUSES = 4


async def choose(plan: Plan, store: RunStore) -> Chosen:
    """Choose the rows of a retry, or return those that the last one has left. Changes nothing that cannot be taken back."""
    choice = plan.options.choice
    if choice is None:
        return await store.chosen()
    selection = await in_thread(lambda: _selection(plan, choice))
    return await store.choose(selection.where, _keys(plan, choice), plan.job.stored())


def _selection(plan: Plan, choice: Choice) -> Selection:
    with StoreReader(plan.given.store) as reader:
        return only.again(choice, reader, reader.run(plan.run.id, counted=False))


def _keys(plan: Plan, choice: Choice) -> Iterator[list[str]] | None:
    """Return the keys of the rows that come into question, in batches; None if the store knows them all."""
    among, job = None if choice.ids is None else frozenset(choice.ids), plan.job
    if plan.options.limit is None and job.where is None and job.sample is None:
        return None if among is None else _batches(iter(sorted(among)))
    read = (key for key, _ in to_send.of_plan(plan, settled=True).answers() if among is None or key in among)
    return _batches(read)


def _batches(keys: Iterator[str]) -> Iterator[list[str]]:
    while batch := list(islice(keys, _BATCH)):
        yield batch


def sentences(plan: Plan, chosen: Chosen, found: int) -> list[str]:
    """Say which rows a retry asks again. found: how many of them are in the input."""
    run, one = plan.run.id, unit(plan.answers)
    if not chosen.count:
        failed = plan.options.choice == Choice() and not plan.narrowed
        return [f"run {run}: there are no {'failed' if failed else 'such'} {one}s to send again"]
    done = chosen.count - chosen.failed
    answered = "answered row" if one == "row" else one
    what = plural(chosen.count, f"failed {one}" if not done else one if chosen.failed else answered)
    shown = ", ".join(clean(spoken(key), 40) for key in chosen.first)
    more = ", ..." if chosen.count > len(chosen.first) else ""
    text = [f"run {run}: retrying {what}: {_causes(chosen)} ({shown}{more})"]
    if done:
        its, answers = ("its", "answer stays") if done == 1 else ("their", "answers stay")
        text.append(f"{its} old {answers} until the new {'one is' if done == 1 else 'ones are'} there")
    if chosen.instead_of:
        text.append(
            f"{plural(chosen.instead_of, one)} that an earlier retry has left {_is(chosen.instead_of)} not asked again by it"
        )
    gone = chosen.count - found
    if gone > 0 and plan.options.narrowed:
        text.append(f"{found:,} of these {one}s {_is(found)} chosen now; {_resume(plan)} sends the others")
    elif gone > 0:
        text.append(f"{gone:,} of these {one}s {_is(gone)} no longer in the file, and not sent")
    return text


def left(plan: Plan, pending: int) -> list[str]:
    """Say that a session leaves rows which an interrupted retry is still to ask again. pending: how many."""
    rows = plural(pending, unit(plan.answers))
    # among them may be rows that have changed
    does = "asks for what this session leaves of them" if plan.options.accept_changes else "does that"
    return [f"{rows} of an interrupted retry {_is(pending)} still to be asked again: {_resume(plan)} {does}"]


def _resume(plan: Plan) -> str:
    return f"`{command('resume', plan.run.id, plan.options.db or plan.given.store)}`"


def _causes(chosen: Chosen) -> str:
    """Say what the rows are, most frequent first."""
    named = Counter[str]()
    for kind in chosen.kinds:
        named[only.kind_of(kind.status, kind.error_code, kind.finish_reason, kind.notes)] += kind.count
    ranked = named.most_common(_CAUSES)
    words = [f"{number:,} {clean(name, 40)}" for name, number in ranked]
    return ", ".join([*words, *(["..."] if len(named) > _CAUSES else [])])


def _is(number: int) -> str:
    return "is" if number == 1 else "are"
