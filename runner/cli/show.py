"""``runner show``: one row whole, with what was asked, every attempt and the answer."""

from typing import Any

import click

from runner.cli.options import db_option, json_option
from runner.cli.typed import run_name


@click.command()
@click.argument("words", metavar="[RUN] ID", nargs=-1, required=True)
@db_option
@json_option
def show(words: tuple[str, ...], db: str, as_json: bool) -> None:
    """Show one row whole: its request, each attempt, its answer.

    ID is the id of the row, or its line. RUN is the number of its run or its prompt file; the default is the newest run.
    """
    from pathlib import Path

    from runner.cli import chosen, output
    from runner.errors import BAD_ROW, UsageError
    from runner.inputs.prompts import asked, system_of
    from runner.session.opening import texts_in
    from runner.store.reader import StoreReader
    from runner.store.story import story
    from runner.text import clean

    if len(words) > 2:
        raise click.UsageError("one row at a time: `runner show [RUN] ID`")
    store = Path(db).resolve()
    with StoreReader(store) as reader:
        run = reader.run(chosen.run_number(run_name(words[0]), db) if len(words) == 2 else None, counted=False)
    found = story(store, run.id, words[-1])
    if found is None:
        key = clean(words[-1])
        raise UsageError(f"run {run.id} has nothing about a row {key!r}; `runner export {run.id} -o -` lists the ids")
    own, texts = dict(found.fields), texts_in(run.settings)
    system = system_of(own, texts, run.settings) if found.error_code != BAD_ROW else None
    prompt = asked(own, texts)
    click.echo(
        output.to_json({"run": run.id, "system": system, "prompt": prompt, **_builtins(found, own)})
        if as_json
        else _text(run.id, found, system, prompt, own)
    )


def _builtins(found: Any, own: dict[str, Any]) -> dict[str, Any]:
    import msgspec

    return {**msgspec.to_builtins(found), "fields": own}


def _text(run: int, found: Any, system: str | None, prompt: Any, own: dict[str, Any]) -> str:
    """Return a row for a person. Foreign text is made harmless; answers keep their lines."""
    from runner.cli import output
    from runner.errors import BAD_ROW
    from runner.text import clean, plural

    where = f" (line {found.line})" if found.line is not None else ""
    state = found.status or "no outcome yet"
    lines = [f"run {run}, row {clean(found.key)}{where}: {state}, {plural(len(found.attempts), 'attempt')}"]
    lines += [f"  {clean(name, 30)}: {_shown(value)}" for name, value in own.items() if name != "id"]
    lines += ["system:", _shown(system)] if system else []
    if found.error_code != BAD_ROW:
        lines += ["asked:", _shown(prompt) if prompt is not None else "(the store has not kept it)"]
    for one in found.attempts:
        told = [f"attempt {one.number}  {output.date(one.started_at)}", f"{one.duration_s:.2f} s"]
        told += [f"first token {one.time_to_first_token_s:.2f} s"] if one.time_to_first_token_s is not None else []
        told += [f"HTTP {one.status}"] if one.status is not None else []
        told += [] if one.sent else ["never sent"]
        told += (
            [f"{output.count(one.input_tokens)} tokens in, {output.count(one.output_tokens)} out"]
            if one.output_tokens is not None
            else []
        )
        told += [clean(one.served_model, 60)] if one.served_model else []
        told += [f"{clean(one.error_code)}: {clean(one.error or '', 500)}"] if one.error_code else []
        lines.append(", ".join(told))
    if found.status == "failed":
        lines.append(f"failed: {clean(found.error_code or 'unknown')}: {clean(found.error or '', 500)}")
    for name, value in found.extra.items():
        lines += [f"{clean(name, 30)}:", _shown(value)]
    if found.text is not None:
        notes = f", {clean(found.notes)}" if found.notes else ""
        lines += [f"answer ({clean(found.finish_reason or 'no finish reason')}{notes}):", _shown(found.text)]
    return "\n".join(lines)


def _shown(value: Any) -> str:
    """Return a value in full: a text with its lines, anything else as JSON."""
    import msgspec

    from runner.text import clean

    text = value if isinstance(value, str) else msgspec.json.encode(value).decode()
    return "\n".join(clean(line) for line in text.split("\n"))
