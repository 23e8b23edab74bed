"""``runner batches``: the batches of runs at their providers, and what can be done with them."""

import sys
from typing import TYPE_CHECKING, Any

import click

from runner.cli.completing import complete_run_alone
from runner.cli.options import db_option, json_option, quiet_option, trust_option
from runner.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from runner.session.batch_list import ShownBatch

_DOING = ("cancel", "fetch", "forget")
_SOON_DAYS = 5.0
"""Days before the results of a batch are deleted at the provider from which on the list warns."""


@click.command(short_help="List the batches of a run, cancel one, take the answers of those that have ended.")
@click.argument(
    "words", metavar="[RUN | cancel BATCH... | fetch RUN|BATCH... | forget BATCH...]", nargs=-1, shell_complete=complete_run_alone
)
@click.option("--yes", "-y", is_flag=True, help="With forget: give up answers that may have been paid for.")
@db_option
@trust_option
@quiet_option
@json_option
def batches(words: tuple[str, ...], yes: bool, db: str, trust: bool, quiet: bool, as_json: bool) -> None:
    """List the batches of RUN, or of all runs of the store: what --mode batch has sent to a provider's batch API.

    RUN is the number, the name or the prompt file of a run; BATCH is the number of a batch, such as b3.

    cancel asks the provider to cancel a batch. What it has answered by then is paid for, and stays.

    fetch takes the answers of the batches that have ended, and sends nothing.

    forget gives up a batch that is lost at the provider: its rows are open again, and count as perhaps billed.
    """
    from runner.cli.fitting import say
    from runner.cli.typed import run_name

    doing = words[0] if words and words[0] in _DOING else None
    if doing is None:
        if len(words) > 1:
            raise UsageError(f"one run at a time, not {' and '.join(words)}; or name what is to be done: {', '.join(_DOING)}")
        say(_listing(run_name(words[0]) if words else None, db, as_json=as_json), as_it_is=as_json)
        return
    if not words[1:]:
        what = "RUN or BATCH" if doing == "fetch" else "BATCH"
        raise UsageError(f"name the {what.lower() if doing == 'fetch' else 'batch'}: `runner batches {doing} {what.split()[-1]}`")
    if doing == "fetch":
        sys.exit(_fetch(words[1:], db, trust=trust, quiet=quiet, as_json=as_json))
    if doing == "forget":
        _refuse_unless(yes, words[1:], db)
    from runner.session import batch_list

    said = (batch_list.cancel if doing == "cancel" else batch_list.forget)(db, words[1:])
    if as_json:
        from runner.cli.output import to_json

        say(to_json({"done": said}), as_it_is=True)
    elif not quiet:
        say("\n".join(said))


def _listing(name: "int | str | None", db: str, *, as_json: bool) -> str:
    from runner.cli import chosen, output
    from runner.session import batch_list

    number = chosen.run_number(name, db)
    found = batch_list.listed(db, number)
    if as_json:
        return output.to_json(found)
    if not found:
        return f"run {number} has no batches" if number is not None else f"no run of {db} has batches; --mode batch makes some"
    return "\n".join([_table(found), *_soon(found)])


def _table(found: "Sequence[ShownBatch]") -> str:
    from runner.cli import output
    from runner.durations import format_span
    from runner.money import PICO
    from runner.money import shown as amount
    from runner.session import batch_list
    from runner.text import clean

    rows = [("batch", "run", "state", "at", "rows", "answered", "failed", "waiting", "age", "at most", "kept until")]
    rows += [
        (
            f"b{one.id}",
            str(one.run),
            clean(batch_list.state_of(one), 20),
            clean(one.vendor, 20),
            f"{one.rows:,}",
            f"{one.done:,}",
            f"{one.failed:,}",
            f"{one.waiting:,}",
            format_span(batch_list.age_s(one)),
            amount(round(one.cost_most * PICO)) if one.cost_most is not None else "unknown",
            output.date(one.kept_until) if one.kept_until is not None and one.open else "",
        )
        for one in found
    ]
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    return "\n".join("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows)


def _soon(found: "Sequence[ShownBatch]") -> list[str]:
    """Warn of batches whose results are about to be deleted, and say what is wrong with some."""
    import time

    from runner.providers.batch.rules import kept_days
    from runner.text import clean

    lines = [f"b{one.id}: {clean(one.error, 200)}" for one in found if one.error]
    for one in found:
        left_days = (one.kept_until - time.time()) / 86_400 if one.open and one.kept_until is not None else None
        # some keep results for a day only: then it is no news at first
        if left_days is not None and left_days < min(_SOON_DAYS, kept_days(one.vendor) / 2):
            when = f"for {left_days:.1f} days more" if left_days > 0 else "no longer"
            lines.append(f"b{one.id}: its results are kept {when}; `runner resume {one.run}` takes them")
    return lines


def _refuse_unless(yes: bool, words: "Sequence[str]", db: str) -> None:
    """Raise UsageError for a batch that is not to be given up without --yes."""
    from runner.session import batch_list
    from runner.session.naming import store_option
    from runner.text import plural

    found = batch_list.found(db, words)
    if yes:
        return
    rows = plural(sum(batch.waiting for batch, _ in found), "row")
    again = f"`runner batches forget {' '.join(words)} --yes{store_option(db)}`"
    raise UsageError(f"{rows} wait there, and may have been answered and billed; to give that up, and send them again: {again}")


def _fetch(words: "Sequence[str]", db: str, *, trust: bool, quiet: bool, as_json: bool) -> int:
    """Take what has ended of a run, or of some of its batches. Return the exit code."""
    from msgspec import structs

    from runner import api
    from runner.cli import chosen, foreground
    from runner.cli.trusting import asked
    from runner.cli.typed import run_name
    from runner.session import batch_list

    named: tuple[int, ...] = ()
    if all(word[:1] in "bB" and word[1:].isdecimal() for word in words):
        pairs = batch_list.found(db, words)
        runs = {run.id for _, run in pairs}
        if len(runs) > 1:
            raise UsageError(f"these are batches of runs {' and '.join(map(str, sorted(runs)))}; fetch one run at a time")
        number: Any = runs.pop()
        named = tuple(batch.id for batch, _ in pairs)
    elif len(words) > 1:
        raise UsageError("one run at a time, or batches of one run, such as b3 b4")
    else:
        number = chosen.run_number(run_name(words[0]), db)
    if not batch_list.listed(db, number):
        raise UsageError(f"run {number} has no batches")
    job, options = api.resumed(db, number, {"mode": "live"})
    options = structs.replace(options, fetch=named)
    return foreground.drive(
        asked(job, trusted=trust), db, options, quiet=quiet, as_json=as_json, outputs=(), yes=True, web=None, telemetry=False
    )
