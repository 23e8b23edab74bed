"""``runner compare``: two runs side by side."""

from collections.abc import Callable, Iterator
from typing import Any, cast

import click

from runner.cli.completing import complete_file, complete_plugins, complete_run
from runner.cli.options import csv_options, db_option, formats_of, gathered, json_option
from runner.cli.typed import run_name

_WIDTH = 100
"""Columns of an answer that is shown as an example."""
_CELL = 24
"""Columns of a setting that is shown beside that of the other run."""
_NO_TABLES = ("messages", "openai-batch")
"""Formats that hold the answers of one run."""
_CSV = {"raw": "csv-raw", "csv_escape": "csv-escape", "csv_excel": "csv-excel"}


@click.command(short_help="Show two runs side by side: answers, cost, tokens, time.")
@click.argument("words", metavar="RUN RUN", nargs=-1, type=run_name, shell_complete=complete_run)
@click.option("--on", metavar="NAMES", help="Compare only these fields of the answers, separated by commas; default: all.")
@click.option(
    *("--output", "-o", "outputs"),
    metavar="FILE",
    multiple=True,
    help="Write the pairs of answers as a table: .csv, .parquet, .xlsx, ... Repeatable.",
    shell_complete=complete_file,
)
@click.option(
    *("--format", "formats"),
    metavar="FORMAT",
    multiple=True,
    help="Its format; default: the ending of FILE.",
    shell_complete=complete_plugins("exports", *_NO_TABLES),
)
@csv_options
@db_option
@json_option
@gathered("csv", "raw", "csv_escape", "csv_excel")
def compare(
    words: tuple[int | str, ...],
    on: str | None,
    outputs: tuple[str, ...],
    formats: tuple[str, ...],
    db: str,
    as_json: bool,
    csv: dict[str, bool],
) -> None:
    """Show two runs side by side: same answers, changed ones, cost, tokens and time.

    Each RUN is its number, its name or its prompt file. Rows are matched by their ids, and rows without an id by their content.
    """
    from runner.cli import chosen
    from runner.cli import output as texts
    from runner.errors import UsageError
    from runner.exports.file import is_standard_output
    from runner.session import comparing

    if len(words) != 2:
        raise UsageError("name two runs, by their numbers, their names or their prompt files: `runner compare 1 2`")
    for option, given in (("--format", formats), *((f"--{_CSV[name]}", given) for name, given in csv.items())):
        if given and not outputs:
            raise UsageError(f"{option} is that of --output; name the file to write, as in `-o pairs.csv`")
    elsewhere = any(map(is_standard_output, outputs))
    if as_json and elsewhere:
        raise UsageError("--json prints on standard output, and so would -o -; name a file for one of them")
    left, right = (_number(chosen.run_number(word, db)) for word in words)
    notes: list[str] = []
    found = comparing.compare(
        left, right, db=db, on=on, output=outputs or None, format=formats_of(formats, outputs), notes=notes, **cast("Any", csv)
    )
    click.echo(texts.to_json(found) if as_json else "\n".join(_lines(found)), err=elsewhere)
    if outputs and not as_json:
        for sentence in [*(f"{texts.count(found.rows)} pairs written to {output}" for output in outputs), *notes]:
            click.echo(sentence, err=elsewhere)


def _number(run: int | None) -> int:
    assert run is not None
    return run


def _lines(found: Any) -> Iterator[str]:
    """Yield the lines for a person. Foreign text is made harmless."""
    from runner.several import unit
    from runner.text import clean, plural

    (left, right), one = found.runs, unit(min(found.answers))
    yield f"run {left} and run {right}: {plural(found.rows, one)} in both"
    yield f"  same          {found.same:,}{_share(found)}"
    yield f"  changed       {found.changed:,}"
    states = {name: count for name, count in found.outcomes.items() if count and name != "done_done"}
    for name, count in states.items():
        here, there = name.split("_")
        words = "failed in both" if here == there else f"{here} in run {left}, {there} in run {right}"
        yield f"  not compared  {count:,} {words}"
    if found.only_left or found.only_right:
        yield f"  in one only   {found.only_left:,} in run {left}, {found.only_right:,} in run {right}"
    for name, of in found.fields.items():
        yield f"  {clean(name, 12):12}  {of.same:,} the same{_share(of)}"
    yield from _table(found)
    if not found.rows:
        yield "no row is in both: rows are matched by their ids, and rows without an id by their content"
    if found.other_fields:
        have = "has" if found.other_fields == 1 else "have"
        yield f"{plural(found.other_fields, 'row')} {have} other fields in run {right}, under the same id"
    if found.only_left or found.only_right:
        yield "cost, tokens and time are those of the whole runs"
    if found.examples:
        yield "changed answers, for example:"
    for change in found.examples:
        number = f" (answer {change.answer_number})" if change.answer_number > 1 else ""
        differ = f": {clean(', '.join(change.fields), 60)}" if change.fields else ""
        yield f"  {clean(change.id, 40)}{number}{differ}"
        yield f"    {left:>4}  {clean(change.left, _WIDTH)}"
        yield f"    {right:>4}  {clean(change.right, _WIDTH)}"


def _share(of: Any) -> str:
    if of.agreement is None:
        return ""
    return f" ({100 * of.agreement:.1f} %{f'; kappa {of.kappa:.2f}' if of.kappa is not None else ''})"


def _table(found: Any) -> Iterator[str]:
    """Yield what each run took, in two columns, and the settings that differ."""
    from runner.cli import money
    from runner.text import as_text, clean

    def whole(value: int | None) -> str:
        return "unknown" if value is None else f"{value:,}"

    def seconds(value: float | None) -> str:
        return "unknown" if value is None else f"{value:,.2f} s"

    def dollars(value: float | None) -> str:
        return "unknown" if value is None else money.amount(value)

    kinds: list[tuple[str, tuple[Any, Any], Callable[[Any], str]]] = [
        ("done", found.done, whole),
        ("failed", found.failed, whole),
        ("tokens in", found.input_tokens, whole),
        ("tokens out", found.output_tokens, whole),
        ("cost", found.cost, dollars),
        ("attempts took", found.seconds, seconds),
        ("an answer took", found.median_seconds, seconds),
    ]
    if any(found.reused):
        kinds.insert(1, ("taken over", found.reused, whole))
    rows = [(name, *map(shown, pair)) for name, pair, shown in kinds]
    for name, pair in found.settings.items():
        rows.append((clean(name, _CELL), *("-" if value is None else clean(as_text(value), _CELL) for value in pair)))
    rows.insert(0, ("", *(f"run {run}" for run in found.runs)))
    wide = [max(len(row[column]) for row in rows) for column in (0, 1)]
    yield from (f"  {name:{max(12, wide[0])}}  {one:{wide[1]}}  {other}".rstrip() for name, one, other in rows)
