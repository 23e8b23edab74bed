"""``runner estimate``: what a run will take, before it starts."""

import sys
from typing import TYPE_CHECKING, Any

import click

from runner.cli.options import (
    count,
    db_option,
    gathered,
    given_settings,
    json_option,
    quiet_option,
    rows_argument,
    setting_options,
    trust_option,
    yes_option,
)
from runner.cli.typed import one_or_several
from runner.config.settings import SETTINGS

_BATCH_TIME = {
    "batch": "up to the provider: most batches end within hours, and each within 24 h or expires",
    "mixed": "up to the provider; what is not back by --by or --within goes live, to be done by then",
}

if TYPE_CHECKING:
    from runner.model import Json
    from runner.session.estimating import Estimate

LEAST = 10
"""Rows of a sample, at the least."""
_SAMPLE = 50
"""Rows of a sample that are enough for most files."""
_LONG = 20_000
"""Tokens of an answer that hardly any has: a limit as high as that makes the highest cost meaningless."""
_OTHERS = [setting.name for setting in SETTINGS if setting.name != "sample"]
"""The settings of a run. Its --sample stands in the job file or RUNNER_SAMPLE here: this command has another one."""


@click.command(short_help="Say what a run of FILE will take: tokens, cost and time.")
@rows_argument
@click.option(
    "--sample",
    type=count(LEAST),
    metavar="N",
    help="Really send N rows (10 or more), as rows of the run, and estimate from them.",
)
@setting_options(*_OTHERS)
@db_option
@click.option("--limit", type=count(1), metavar="N", help="Use only the first N rows of the file.")
@click.option("--new", is_flag=True, help="Estimate a new run, even if there is one to continue.")
@trust_option
@yes_option
@quiet_option
@json_option
@gathered("options", "limit", "new")
@gathered("shown", "quiet", "as_json", "yes")
def estimate(
    named: tuple[str, ...], sample: int | None, db: str, trust: bool, shown: Any, options: dict[str, Any], **settings: Any
) -> None:
    """Say what a run of FILE will take: tokens, cost and time, each between bounds. FILE and the settings are those of `run`.

    Without --sample nothing is sent and no key is needed; the bounds are then as wide as what the sizes of the rows leave open.

    With --sample N, N rows are sent, and the bounds hold with a probability of 95 %. These rows are rows of the run that
    `runner run FILE` with the same settings begins or continues, so nothing is paid twice.

    The cost is known where the provider's list prices hold, or where [prices] in the job file states them.
    """
    from runner import api
    from runner.cli import foreground
    from runner.cli.signals import orderly_end
    from runner.cli.trusting import asked
    from runner.config.job import load_job
    from runner.config.trust import allowed
    from runner.session.options import SessionOptions

    job = load_job(one_or_several(named), given_settings(settings))
    if sample is None:
        show(api.estimate_job(allowed(job, trust), db, SessionOptions(**options)), job.prices, as_json=shown["as_json"])
        return
    job = asked(job, trusted=trust)
    quiet = shown["quiet"] or shown["as_json"]
    with orderly_end(), api.spooled(job, db) as kept:
        code = foreground.sample(kept, db, SessionOptions(sample=sample, **options), quiet=quiet, yes=shown["yes"])
        if code:
            click.echo("runner: the sample is not complete; the same command goes on with it", err=True)
        if not code or shown["as_json"]:
            # a program gets what can be told by the rows that were sent, and the exit code says that these are not all
            found = api.estimate_job(kept, db, SessionOptions(limit=options["limit"]))
            show(found, kept.prices, as_json=shown["as_json"])
        if not code and found.run is not None and not shown["as_json"]:
            warn_of_failures(found.run, db)
    sys.exit(code)


def show(found: "Estimate", prices: "Json", *, as_json: bool) -> None:
    """Print an estimate. prices: the setting."""
    from msgspec import to_builtins

    from runner.cli import fitting
    from runner.cli.output import to_json

    fitting.say(to_json(to_builtins(found)) if as_json else text(found, prices), as_it_is=as_json)


def warn_of_failures(run_id: int, db: str) -> None:
    """Say that rows of a sample failed: now is the time to mend what is wrong, before the others are sent."""
    from runner import api
    from runner.cli import fitting
    from runner.session.naming import command
    from runner.several import unit
    from runner.text import plural

    run, _ = api.status(run_id, db=db)
    if run.failed:
        settled = plural(run.done + run.failed, unit(run.answers))
        fitting.say(f"{run.failed:,} of {settled} failed: `{command('errors', run.id, db)}` shows why")


def text(found: "Estimate", prices: "Json" = None) -> str:
    """Return an estimate as text. prices: the setting."""
    from runner.cli import money
    from runner.session import unpriced
    from runner.session.estimating import between, count
    from runner.several import amount, unit
    from runner.text import plural

    rows, wanted = amount(found.rows, found.answers), found.rows * found.answers
    run = f"run {found.run}: " if found.run is not None else ""
    if not found.rows_left:
        return "\n".join(_nothing_left(found, f"{run}{rows}", prices))

    def line(name: str, of: Any, show: Any) -> str:
        return f"  {name:12}  about {show(of.mid)} ({between(of, show)})"

    left = f", {found.rows_left:,} left to send" if found.rows_left < wanted else ""
    lines = [f"{run}{rows}{left}; {found.words}", *_not_sent(found)]
    lines += [line("tokens in", found.input_tokens, count), line("tokens out", found.output_tokens, count)]
    if found.cost is None:
        lines.append(f"  {'cost':12}  {unpriced.unknown(found.model or 'the model', prices, found.tier)}")
    else:
        lines.append(line("cost", found.cost, money.amount))
    if found.cost_left is not None and (found.cost_spent or found.cost_perhaps):
        perhaps = f", perhaps up to {money.amount(found.cost_perhaps)} more" if found.cost_perhaps else ""
        rest = f"about {money.amount(found.cost_left.mid)} ({between(found.cost_left, money.amount)})"
        lines.append(f"  {'':12}  {money.amount(found.cost_spent or 0.0)} is spent{perhaps}; the rest costs {rest}")
    if found.unpriced_rows and found.cost is not None:
        lines.append(f"  {'':12}  beside {plural(found.unpriced_rows, unit(found.answers))} whose price is not known")
    return "\n".join([*lines, _time(found), *_more(found)])


def _not_sent(found: "Estimate") -> list[str]:
    """Return why rows without an outcome are not left to send."""
    from runner.session.prepare import sent_once, taken_over

    told = [f"  {taken_over(found.reused, found.rows, found.answers)}"] if found.reused else []
    return [*told, f"  {sent_once(found.shared, found.rows)}"] if found.shared else told


def _nothing_left(found: "Estimate", rows: str, prices: "Json") -> list[str]:
    """Return what a run has cost of which nothing is left to send. rows: how the input is called."""
    from runner.cli import money
    from runner.session import unpriced

    if found.run is None:
        told = _not_sent(found)
        return [
            f"{rows}, nothing is left to send" if told else f"{rows}, of which none can be sent; `runner check` says why",
            *told,
        ]
    spent = found.cost_spent
    cost = (
        unpriced.unknown(found.model or "the model", prices, found.tier) if spent is None else f"{money.amount(spent)} was spent"
    )
    if found.cost is not None and found.cost.high is None:
        cost += "; perhaps more, for attempts whose usage is unknown and whose answers had no limit"
    elif found.cost is not None and found.cost.high is not None and spent is not None and found.cost.high > spent:
        cost += f"; perhaps up to {money.amount(found.cost.high - spent)} more, for attempts whose usage is unknown"
    tokens = f"{found.input_tokens.mid:,.0f} in, {found.output_tokens.mid:,.0f} out"
    return [f"{rows}, nothing is left to send", f"  {'tokens':12}  {tokens}", f"  {'cost':12}  {cost}"]


def _time(found: "Estimate") -> str:
    from runner.durations import format_span
    from runner.session.estimating import between

    if found.mode != "live":
        return f"  {'time':12}  {_BATCH_TIME[found.mode]}"
    if found.seconds is None:
        return f"  {'time':12}  unknown before the first answers; limits such as --tpm tell more"
    at = "as many requests are open at once as the server takes" if found.limited_by == "concurrency" else None
    at = at or (f"at the limit {found.limited_by}" if found.limited_by else None)
    about = f"about {format_span(found.seconds.mid)} ({between(found.seconds, format_span)})"
    return f"  {'time':12}  {about}{f', {at}' if at else ''}"


def _more(found: "Estimate") -> list[str]:
    """Return how the bounds are meant, and how they come closer."""
    from runner.money import FLEX
    from runner.several import unit

    one = f"{unit(found.answers)}s"
    if found.basis == "sample":
        what = "tokens and cost" if found.cost is not None else "tokens"
        sure = f"{what} are between these bounds with a probability of 95 %; the {one} of the sample stay in the run"
        return [sure, *_perhaps(found)]
    if found.basis in ("like_sample", "answers"):
        return [f"the bounds hold with a probability of 95 % if the {one} that are left are like these", *_perhaps(found)]
    wide = ["a token is 2 to 6 bytes of text, and an answer has 1 token up to its limit; failed attempts come on top"]
    if found.tier == FLEX:
        wide.append("the lowest and the middle cost are at flex rates, the highest at standard ones, to which rows may fall back")
    if found.mode == "mixed":
        wide.append("the lowest and the middle cost are at batch rates, the highest at those of rows that go live")
    most = found.output_tokens.high
    if most is None:
        wide.append("an answer has no known limit here: --max-tokens sets one")
    elif most > _LONG * found.rows_left:
        wide.append("an answer may be as long as the model allows: --max-tokens sets a lower limit")
    if found.rows_left > _SAMPLE:
        wide.append(f"--sample {_SAMPLE} sends {_SAMPLE} {one} as the first of the run, and the bounds come close")
    return wide


def _perhaps(found: "Estimate") -> list[str]:
    """Return why the high cost is as high as it is, if attempts of unknown usage are the reason."""
    from runner.cli import money
    from runner.session.expecting import unknown_attempts

    without, cost = found.cost_high_without, found.cost
    if not (found.perhaps_billed or found.open_at_ends) or without is None or cost is None:
        return []
    if cost.high is not None and money.amount(cost.high) == money.amount(without):
        return []
    why = unknown_attempts(found.perhaps_billed, found.open_at_ends)
    return [f"{why}: without them the highest cost is {money.amount(without)}"]
