"""Compares two runs: which answers are the same, what changed, and what each run took."""

from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from operator import index
from pathlib import Path
from typing import Any, Unpack

from msgspec import Struct

from runner.answer_shape import fields_in
from runner.config.settings import BY_NAME
from runner.errors import UsageError
from runner.exports import answer_fields
from runner.exports.kinds import Kind
from runner.model import Json, Run
from runner.session import arguments, pairs
from runner.session.agreement import Agreement, Tally, common
from runner.session.called import number_of
from runner.session.naming import DEFAULT_STORE, store_path
from runner.session.only import listed
from runner.session.pairs import CsvFlags
from runner.several import row_of
from runner.store.comparing import Pair, PairReader
from runner.store.totals import Totals
from runner.text import clean, encodable

_EXAMPLES = 5
OF_ANSWERS = tuple(name for name, setting in BY_NAME.items() if setting.answer)
"""Settings that change answers."""


class Change(Struct, frozen=True, kw_only=True):
    """An answer that is not the same in both runs. fields: the names of those that differ; empty without a schema."""

    id: str
    answer_number: int
    left: str
    right: str
    fields: tuple[str, ...] = ()


class Comparison(Struct, frozen=True, kw_only=True):
    """Two runs side by side. What is a pair has the left run first. With several answers of each row, it counts answers."""

    # the numbers of the runs
    runs: tuple[int, int]
    # answers that are wanted of each row
    answers: tuple[int, int]
    # with an outcome in both runs; only those are compared
    rows: int
    # of the rows that both have answered
    same: int
    changed: int
    only_left: int
    only_right: int
    # same / (same + changed); and Cohen's kappa (``Agreement``); None where they cannot be told
    agreement: float | None
    kappa: float | None
    # the fields that the schemas of both runs have
    fields: Mapping[str, Agreement]
    # of ``rows``: how many are done or failed, left and right
    outcomes: Mapping[str, int]
    # of ``rows``: those whose own fields are others in the two runs, under the same id
    other_fields: int
    # dollars of the whole runs, and what they may have cost in addition; None: not known
    cost: tuple[float | None, float | None]
    cost_perhaps: tuple[float | None, float | None]
    # input and output together, and each; None: no attempt reported any
    tokens: tuple[int | None, int | None]
    input_tokens: tuple[int | None, int | None]
    output_tokens: tuple[int | None, int | None]
    # what all attempts took together, and the median of the answers
    seconds: tuple[float, float]
    median_seconds: tuple[float | None, float | None]
    # outcomes of the whole runs; of the done, those taken over from earlier runs, which cost nothing
    done: tuple[int, int]
    failed: tuple[int, int]
    reused: tuple[int, int]
    # settings that make answers and are not the same
    settings: Mapping[str, tuple[Json, Json]]
    # the first changed answers, in the order of the input
    examples: tuple[Change, ...]


def compare(
    left: int | str,
    right: int | str,
    *,
    db: str | Path = DEFAULT_STORE,
    on: str | Sequence[str] | None = None,
    output: str | Path | list[str] | list[Path] | tuple[str | Path, ...] | None = None,
    format: str | Sequence[str | None] | None = None,  # noqa: A002 - the option's name
    notes: list[str] | None = None,
    **flags: Unpack[CsvFlags],
) -> Comparison:
    """Return two runs of a store side by side. Rows are matched by their ids, and rows without an id by their content.

    left, right: the number or the name of each. on: the fields of the schemas that are compared, by default all that both runs
    have. output: a file to which the pairs are written as a table, or a list of files. format: as for ``runner.export``. notes:
    receives a sentence for each kind of change that was made to texts in a file. flags: see ``CsvFlags``. Takes constant memory.
    Raises UsageError, StoreError.
    """
    if unknown := flags.keys() - CsvFlags.__annotations__.keys():
        raise TypeError(f"compare() got an unexpected keyword argument {min(unknown)!r}")
    arguments.check(db=db, on=on, notes=notes, **flags)
    one, other = (_number(run, db) for run in (left, right))
    places = _places(output, format)
    if one == other:
        raise UsageError(f"both are run {one}; name two runs (`runner list` shows them)")
    with PairReader(store_path(db)) as reader, ExitStack() as stack:
        wanted = pairs.outputs_of(places, reader, flags)
        stack.enter_context(reader.snapshot())
        both = reader.run(one), reader.run(other)
        fields = fields_of(both, listed(on, "--on"))
        found = compared(reader, both, fields)
        if wanted:
            pairs.Pairs(reader, both, found.rows, fields).write(wanted, flags, notes)
        return found


def _places(output: Any, format_: Any) -> list[tuple[str | Path, str | None]]:
    """Return the files that are to be written, each with its format if that was named. Raises UsageError."""
    if output is None:
        return []
    if not isinstance(output, list | tuple):
        arguments.check(output=output, format=format_)
        return [(output, format_)]
    arguments.check_outputs(output, format_)
    return list(zip(output, format_ or [None] * len(output), strict=True))


def _number(run: int | str, db: str | Path) -> int:
    number = number_of(run, db)
    if number is None:
        raise UsageError("name both runs by their numbers or their names (`runner list` shows them)")
    return index(number)


def fields_of(both: tuple[Run, Run], wanted: Sequence[str] = ()) -> list[str] | None:
    """Return the fields that are compared; None where not both runs have a schema. Raises UsageError for one that is none."""
    left, right = (fields_in(run.settings) for run in both)
    shared = common(left, right)
    for name in wanted:
        if name not in shared:
            names = f"the fields of both: {', '.join(map(clean, shared))}" if shared else "they have none in common"
            raise UsageError(f"{name!r} is no field of the answers of run {both[0].id} and run {both[1].id}; {names}")
    if any(not isinstance(run.settings.get("schema"), dict) for run in both):
        return None
    return [name for name in shared if not wanted or name in wanted]


def compared(reader: PairReader, both: tuple[Run, Run], fields: Sequence[str] | None) -> Comparison:
    """Return two runs side by side, as they are in a snapshot of the reader. fields: those that are compared, ``fields_of``."""
    tally, outcomes, other, examples = Tally(fields), Counter[str](), 0, list[Change]()
    for pair in reader.pairs(*both):
        outcomes[f"{pair.left_status}_{pair.right_status}"] += 1
        other += not pair.alike
        if pair.both_done and not tally.add(pair.left_text, pair.right_text) and len(examples) < _EXAMPLES:
            examples.append(_change(pair, dict.fromkeys(tally.fields, "other")))
    rows, totals = outcomes.total(), [reader.totals(run.id) for run in both]
    whole = tally.whole
    # without the rows themselves (keep_rows = false) nothing can be said of their fields
    kept = all(run.settings.get("keep_rows") is not False for run in both)
    left, right = both
    return Comparison(
        runs=(left.id, right.id),
        answers=(left.answers, right.answers),
        rows=rows,
        same=whole.same,
        changed=whole.changed,
        only_left=max(0, left.done + left.failed - rows),
        only_right=max(0, right.done + right.failed - rows),
        agreement=whole.agreement,
        kappa=whole.kappa,
        fields=tally.fields,
        outcomes={f"{one}_{two}": outcomes[f"{one}_{two}"] for one in ("done", "failed") for two in ("done", "failed")},
        other_fields=other if kept else 0,
        cost=_of(totals, "cost"),
        cost_perhaps=_of(totals, "cost_perhaps"),
        tokens=_each(totals, _tokens),
        input_tokens=_of(totals, "input_tokens"),
        output_tokens=_of(totals, "output_tokens"),
        seconds=(reader.seconds(left), reader.seconds(right)),
        median_seconds=_each(totals, lambda books: books.duration.p50),
        done=(left.done, right.done),
        failed=(left.failed, right.failed),
        reused=(left.reused, right.reused),
        settings=_settings(left, right),
        examples=tuple(examples),
    )


def _change(pair: Pair, fields: Mapping[str, Kind]) -> Change:
    values = zip(fields, *(answer_fields.values(text, fields) for text in (pair.left_text, pair.right_text)), strict=True)
    differ = tuple(name for name, left, right in values if left != right)
    texts = encodable(pair.left_text or ""), encodable(pair.right_text or "")
    return Change(id=row_of(pair.key), answer_number=pair.answer_number, left=texts[0], right=texts[1], fields=differ)


def _settings(left: Run, right: Run) -> dict[str, tuple[Json, Json]]:
    """Return the answer settings that differ."""
    pairs = {name: (left.settings.get(name), right.settings.get(name)) for name in OF_ANSWERS}
    return {name: pair for name, pair in pairs.items() if pair[0] != pair[1]}


def _tokens(books: Totals) -> int | None:
    known = [count for count in (books.input_tokens, books.output_tokens) if count is not None]
    return sum(known) if known else None


def _each(totals: Sequence[Totals], of: Any) -> tuple[Any, Any]:
    return of(totals[0]), of(totals[1])


def _of(totals: Sequence[Totals], name: str) -> tuple[Any, Any]:
    return _each(totals, lambda books: getattr(books, name))
