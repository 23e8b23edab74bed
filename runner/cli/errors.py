"""``runner errors``: what went wrong in a run, by cause, and the command for each."""

import re
import textwrap
from collections.abc import Iterator
from typing import Any

import click

from runner.cli.options import db_option, json_option, run_argument

_WIDTH = 79
_INDENT = 12
_EXAMPLE = 300
_COMMAND = re.compile(r"`[^`]*`")
_SPACE = "\0"
"""Stands for a space at which no line ends."""


@click.command(short_help="Show the failed rows of a run by cause, and what to do.")
@run_argument
@db_option
@json_option
def errors(run_id: int | str | None, db: str, as_json: bool) -> None:
    """Show the failed rows of a run by cause, and answers that are cut off, filtered or empty.

    Each cause has a count, an example, some ids, what it cost and the next command. RUN is its number, its
    name or its prompt file; the default is the newest run.
    """
    from runner import api
    from runner.cli import chosen

    with api.errors(chosen.run_number(run_id, db), db=db) as found:
        if as_json:
            for piece in _json(found, db):
                click.echo(piece, nl=False)
        else:
            click.echo(_text(found, db))


def _json(found: Any, db: str) -> Iterator[str]:
    """Yield the causes as a JSON list, with all ids. These are read one by one."""
    from runner.cli import output
    from runner.session import mending

    causes = [*found.failed, *found.answered]
    yield "[" if causes else "[]\n"
    for place, cause in enumerate(causes):
        whole = textwrap.indent(output.to_json(mending.told(cause, found, db)), "  ")
        yield ",\n" if place else "\n"
        yield whole.rstrip().removesuffix("}").rstrip() + ',\n    "ids": ['
        for number, one in enumerate(found.reader.ids(cause)):
            yield f"{',' if number else ''}\n      {output.to_json(one).strip()}"
        yield "\n    ]\n  }"
    yield "\n]\n" if causes else ""


def _text(found: Any, db: str) -> str:
    from runner.cli import output
    from runner.cli.advice import advice, lines
    from runner.several import unit
    from runner.text import plural

    run = found.run
    text = [_head(found, db)]
    state = output.state_of(run, errors_shown=True, retry_left=found.retry_left, ways=found.ways.all(), waiting=found.waiting)
    next_lines = lines(advice(state, db))
    for cause in found.failed:
        text += _lines(cause, found, db, run.failed if len(found.failed) > 1 else 0)
    if found.answered:
        number = sum(cause.count for cause in found.answered)
        text.append(
            f"{plural(number, f'answered {unit(run.answers)}')} of doubtful shape{_share(number, run.done + run.failed)}:"
        )
    for cause in found.answered:
        text += _lines(cause, found, db, 0)
    return "\n".join([*text, *next_lines])


def _head(found: Any, db: str) -> str:
    """Say how many rows failed; if none did, why the run was stopped."""
    from runner.cli import output
    from runner.event_types import AS_ASKED
    from runner.inputs import spool
    from runner.session import spelling
    from runner.session.naming import in_full
    from runner.several import unit
    from runner.text import plural

    run, every = found.run, found.run.done + found.run.failed
    if found.failed:
        return f"run {run.id}: {plural(run.failed, f'failed {unit(run.answers)}')} of {every:,}{_share(run.failed, every)}"
    if run.stop_reason and run.stop_reason not in AS_ASKED:
        reason = in_full(spelling.stop_reason(run) or "", run.id, db, asked=spool.is_asked(run.input))
        return f"no failed rows; run {run.id} was {output.stopped(reason, 'stopped')}"
    return f"run {run.id} has no failed rows"


def _lines(cause: Any, found: Any, db: str, of: int) -> list[str]:
    """Return the lines about one cause. of: rows of which its share is told; 0: it is not told."""
    from runner.session import mending
    from runner.session.ways import name_of
    from runner.text import clean

    text = [f"{cause.count:,} x {clean(name_of(cause))}{_share(cause.count, of)}"]
    text += _wrapped("example", f"{clean(cause.example_id, 60)}: {clean(cause.example, _EXAMPLE)}")
    if cause.count > 1:
        more = ", ..." if cause.count > len(cause.ids) else ""
        text += _wrapped("rows", ", ".join(clean(one, 40) for one in cause.ids) + more)
    text += _wrapped("spent", spent) if (spent := _spent(cause)) else []
    text += _wrapped("to do", mending.to_do(cause, found, db))
    # a command is never broken, so that it can be copied
    line, sent = mending.command(cause, found, db), found.ways.rows(cause)
    if line is None:
        return text
    others = [f"{'':<{_INDENT}}(sends all {sent:,} of this class)"] if sent > cause.count else []
    return [*text, f"  {'command':<{_INDENT - 2}}{line}", *others]


def _wrapped(name: str, words: str) -> list[str]:
    """Return words behind a name, in lines that a terminal of 80 columns has room for. No word or command is broken."""
    first = f"  {name:<{_INDENT - 2}}"
    lines = textwrap.wrap(
        _COMMAND.sub(lambda found: found[0].replace(" ", _SPACE), words),
        _WIDTH,
        initial_indent=first,
        subsequent_indent=" " * _INDENT,
        break_long_words=False,
        break_on_hyphens=False,
    )
    return [line.replace(_SPACE, " ") for line in lines] or [first.rstrip()]


def _share(number: int, of: int) -> str:
    return f" ({100 * number / of:.1f} %)" if of else ""


def _spent(cause: Any) -> str:
    """Say what the attempts of the rows took; nothing if nothing was sent."""
    from runner.cli.money import amount
    from runner.money import PICO
    from runner.text import plural

    spent = cause.spent
    if not spent.attempts:
        return ""
    words = [plural(spent.attempts, "attempt")]
    if spent.input_tokens is not None or spent.output_tokens is not None:
        words.append(f"{spent.input_tokens or 0:,} tokens in, {spent.output_tokens or 0:,} out")
    if spent.priced:
        least = amount(spent.cost / PICO)
        if spent.perhaps is None:
            least += " or more: some were perhaps billed, and their answers had no limit"
        elif spent.perhaps:
            least += f" to {amount((spent.cost + spent.perhaps) / PICO)}, as some were perhaps billed"
        words.append(least)
    return "; ".join(words)
