"""``runner show``: one row whole, with what was asked, every attempt and the answer."""

from math import exp
from typing import Any

import click

from runner.cli.completing import complete_run_alone
from runner.cli.options import db_option, json_option
from runner.cli.typed import run_name

_LEAST = 10
"""Tokens whose probability is shown."""


@click.command()
@click.argument("words", metavar="[RUN] ID", nargs=-1, required=True, shell_complete=complete_run_alone)
@db_option
@json_option
def show(words: tuple[str, ...], db: str, as_json: bool) -> None:
    """Show one row whole: its request, each attempt, its answer.

    ID is the id of the row, or its line (of several files, b.csv:17). RUN is the number or the name of its run, or its prompt
    file; the default is the newest run.
    """
    from pathlib import Path

    from runner.cli import chosen, output
    from runner.cli.fitting import say
    from runner.origin import files_in
    from runner.session import in_json
    from runner.store.reader import StoreReader

    if len(words) > 2:
        raise click.UsageError("one row at a time: `runner show [RUN] ID`")
    store = Path(db).resolve()
    with StoreReader(store) as reader:
        run = reader.run(chosen.run_number(run_name(words[0]), db) if len(words) == 2 else None, counted=False)
    files, found = files_in(run.settings), in_json.stories(store, run, words[-1])
    if as_json:
        told = [in_json.row(run, one, files) for one in found]
        click.echo(output.to_json(told if len(told) > 1 else told[0]))
    else:
        say("\n\n".join(_text(run, one, files) for one in found))


def _text(run: Any, found: Any, files: Any) -> str:
    """Return a row for a person. Foreign text is made harmless; answers keep their lines."""
    from runner.errors import BAD_ROW
    from runner.origin import place_of
    from runner.session import in_json
    from runner.session.opening import media_fields
    from runner.text import clean, plural

    media = media_fields(run.settings)
    (system, prompt), own = in_json.question(run, found)
    file, line = place_of(found.line, files) if found.line is not None else (None, None)
    named = f"{clean(file)}, " if file is not None else ""
    where = f" ({named}line {line})" if line is not None else ""
    state = found.status or "no outcome yet"
    where += f", answer {found.answer_number}" if run.answers > 1 or found.answer_number > 1 else ""
    lines = [f"run {run.id}, row {clean(found.key)}{where}: {state}, {plural(len(found.attempts), 'attempt')}"]
    lines[0] = ", ".join([lines[0], *_cost(found)])
    lines += [f"  {clean(name, 30)}: {_shown(value, is_source=name in media)}" for name, value in own.items() if name != "id"]
    lines += ["system:", _shown(system)] if system else []
    if found.error_code != BAD_ROW:
        lines += ["asked:", _shown(prompt) if prompt is not None else "(the store has not kept it)"]
    lines += [f"with a seed of its own: {found.made_seed}"] if found.made_seed is not None else []
    lines += [f"not sent: row {clean(found.same_as)} asked the same, and this is its answer"] if found.same_as is not None else []
    lines += [_taken_from(found.taken_from)] if found.taken_from is not None else []
    lines += map(_attempt, found.attempts)
    if found.status == "failed":
        lines.append(f"failed: {clean(found.error_code or 'unknown')}: {clean(found.error or '', 500)}")
    for name, value in found.extra.items():
        lines += [f"{clean(name, 30)}:", *_beside(name, value)]
    if found.text is not None:
        notes = f", {clean(found.notes)}" if found.notes else ""
        lines += [f"answer ({clean(found.finish_reason or 'no finish reason')}{notes}):", _shown(found.text)]
    lines += _former(found.former)
    return "\n".join(lines)


def _former(answers: Any) -> list[str]:
    """Return the answers that a row had before, oldest first."""
    from runner.cli import output
    from runner.text import clean

    lines = []
    for old in answers:
        why = clean(old.error_code or old.finish_reason or "no finish reason")
        lines += [f"answer until {output.date(old.replaced_at)} ({why}):", _shown(old.text)]
    return lines


def _attempt(one: Any) -> str:
    """Return the line about an attempt."""
    from runner.cli import output
    from runner.text import clean, plural

    told = [f"attempt {one.number}  {output.date(one.started_at)}", f"{one.duration_s:.2f} s"]
    told += [f"first token {one.time_to_first_token_s:.2f} s"] if one.time_to_first_token_s is not None else []
    told += [f"HTTP {one.status}"] if one.status is not None else []
    told += [] if one.sent else ["never sent"]
    told += [f"at {clean(one.endpoint)}"] if one.endpoint is not None else []
    told += [*_tokens(one), *_cost(one)]
    told += [f"ended early, saved about {plural(saved, 'token')}"] if (saved := one.estimated_saved_tokens) is not None else []
    told += [f"{clean(one.error_code)}: {clean(one.error or '', 500)}"] if one.error_code else []
    return ", ".join(told)


def _beside(name: str, value: Any) -> list[str]:
    """Return the lines about what came with an answer: of the many probabilities of tokens, the least."""
    if name != "logprobs":
        return [_shown(one) for one in value] if isinstance(value, list) else [_shown(value)]
    from runner.text import clean, plural

    tokens = [one for values in value.values() for one in values if isinstance(one, dict) and _is_number(one.get("logprob"))]
    tokens.sort(key=lambda one: one["logprob"])
    least = [f"{clean(repr(one.get('token')), 30)} {100 * exp(one['logprob']):.1f} %" for one in tokens[:_LEAST]]
    return [f"{plural(len(tokens), 'token')}, all with --json; the least likely: {', '.join(least) or 'none'}"]


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and value <= 0


def _shown(value: Any, *, is_source: bool = False) -> str:
    """Return a value in full: a text with its lines, anything else as JSON. The content of a file is cut short.

    is_source: the value is that of a field that names files.
    """
    from runner.inputs.sources import shortened
    from runner.text import as_text, clean

    if is_source or not isinstance(value, str):
        value = shortened(value, is_source=is_source)
    return "\n".join(clean(line) for line in as_text(value).split("\n"))


def _cost(of: Any) -> list[str]:
    """Say what a row or an attempt has cost, where that is known."""
    from runner.money import PICO, shown

    return [shown(round(of.cost * PICO))] if of.cost else []


def _taken_from(bought: Any) -> str:
    """Say which run bought an answer that was taken over, and with what attempt."""
    from runner.cli import output
    from runner.several import key_of, spoken
    from runner.text import clean

    row = spoken(key_of(clean(bought.from_key), bought.from_answer))
    where = f"taken over from run {bought.from_run}, row {row}: {output.date(bought.started_at)}"
    return ", ".join([where, f"{bought.duration_s:.2f} s", *_tokens(bought)])


def _tokens(attempt: Any) -> list[str]:
    """Say how many tokens an attempt took, and which model answered."""
    from runner.cli import output
    from runner.text import clean

    told = []
    if attempt.output_tokens is not None:
        told.append(f"{output.count(attempt.input_tokens)} tokens in, {output.count(attempt.output_tokens)} out")
    return [*told, *([clean(attempt.served_model, 60)] if attempt.served_model else [])]
