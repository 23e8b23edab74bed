"""The answers of two runs as a table of pairs, in files."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, TypedDict, cast

from runner.answer_shape import FieldKind, fields_in
from runner.errors import UsageError
from runner.exports import answer_fields
from runner.exports.columns import of_rows, spelt
from runner.exports.file import open_output
from runner.exports.kinds import Kind, Kinds
from runner.interfaces import Exporter
from runner.model import Run
from runner.session import exporting, outputs
from runner.session.agreement import Tally
from runner.session.exporting import own_fields
from runner.session.outputs import Output
from runner.store.comparing import PairReader
from runner.text import clean

_FIRST: Mapping[str, Kind] = {
    "answer_number": "int",
    **dict.fromkeys(("left_status", "right_status"), "text"),
    "same": "bool",
    **dict.fromkeys(("left_text", "right_text", "left_error_code", "right_error_code"), "text"),
}
"""The columns of a table of pairs behind the rows' own fields, and what they hold."""


class CsvFlags(TypedDict, total=False):
    """How pairs are written as CSV.

    raw: do not escape cells that a spreadsheet would run as formulas. csv_escape: escape them in the ids and in the rows' own
    fields too. csv_excel: begin a file with a byte order mark.
    """

    raw: bool
    csv_escape: bool
    csv_excel: bool


def outputs_of(places: Sequence[tuple[Any, str | None]], reader: PairReader, flags: CsvFlags) -> list[Output]:
    """Return the files that are to be written, each a place and a format. Raises UsageError for one that cannot hold pairs."""
    wanted = [outputs.of(place, name) for place, name in places]
    exporting.refuse_flags(wanted, cast("exporting.ExportFlags", flags))
    for output in wanted:
        if output.is_whole:
            kind = output.kind.replace("_", "-")
            raise UsageError(
                f"{kind} holds the answers of one run, and no pairs of answers; take a table, such as .csv or .parquet"
            )
    outputs.refuse_among(wanted, reader, manifest=False)
    return wanted


class Pairs:
    """The pairs of two runs in a snapshot of a reader. fields: those that are compared; None: texts are."""

    def __init__(self, reader: PairReader, both: tuple[Run, Run], rows: int, fields: Sequence[str] | None) -> None:
        self._reader, self._both, self._rows, self._fields = reader, both, rows, fields
        self._own = own_fields(reader, both[0])

    def write(self, wanted: Sequence[Output], flags: CsvFlags, notes: list[str] | None) -> None:
        """Write the table to each file. Raises UsageError for one that has no room for it, before any is written."""
        named = [_columns(self._own, self._fields or (), getattr(output.module, "ALIKE", spelt)) for output in wanted]
        for output, names in zip(wanted, named, strict=True):
            for what, size, most in (("rows", self._rows, "MOST_ROWS"), ("columns", len(names), "MOST_COLUMNS")):
                if hasattr(output.module, most):
                    outputs.refuse_size(output, what, size, getattr(output.module, most), "take another format")
        for output, names in zip(wanted, named, strict=True):
            said = self._written(output, names, flags)
            if notes is not None:
                notes += [f"{clean(str(output.place))}: {sentence}" if len(wanted) > 1 else sentence for sentence in said]

    def _written(self, output: Output, names: Sequence[str], flags: CsvFlags) -> list[str]:
        """Write the table to one file; return what is to be said of it."""
        write, said, more = cast("Exporter", output.module.write), list[str](), dict[str, Any]()
        if output.kind == "csv":
            kept = [] if flags.get("csv_escape") else names[: len(self._own) + 1]
            more = {"raw": flags.get("raw", False), "kept": kept, "excel": flags.get("csv_excel", False)}
        if outputs.takes(write, "kinds"):
            more["kinds"] = _kinds(self._reader, self._both, self._own, self._fields or ())
        if outputs.takes(write, "notes"):
            more["notes"] = said
        with open_output(output.place, output.form) as out:
            write(names, _records(self._reader, self._both, self._own, self._fields), out, **more)
        return said


def _columns(own: Sequence[str], fields: Sequence[str], alike: Any) -> list[str]:
    """Return the names of the columns: id, the rows' own fields, both answers, and each field of both."""
    ours = ["id", *_FIRST]
    names = ["id", *of_rows(own, ours, alike, prefix=False), *_FIRST]
    sides = [f"{side}_{name}" for name in fields for side in ("left", "right")]
    return [*names, *answer_fields.named(names, sides, alike)]


def _kinds(reader: PairReader, both: tuple[Run, Run], own: Sequence[str], fields: Sequence[str]) -> list[Kind]:
    """Return what the columns hold. All pairs are read for it."""
    kinds = Kinds()
    for pair in reader.pairs(*both, fields=True):
        own_id, values = pair.id_and_fields()
        kinds.see({**values, "id": own_id})
    sides = []
    for run, text in zip(both, ("left_text", "right_text"), strict=True):
        of: dict[str, FieldKind] = {name: kind for name, kind in fields_in(run.settings).items() if name in fields}
        found = answer_fields.kinds_of((getattr(pair, text) for pair in reader.pairs(*both) if pair.both_done), of)
        sides.append(dict(zip(of, found, strict=True)))
    return [kinds.of("id"), *map(kinds.of, own), *_FIRST.values(), *(side[name] for name in fields for side in sides)]


def _records(
    reader: PairReader, both: tuple[Run, Run], own: Sequence[str], fields: Sequence[str] | None
) -> Iterator[list[object]]:
    tally, kinds = Tally(fields), [fields_in(run.settings) for run in both]
    of_left, of_right = ({name: of[name] for name in fields or ()} for of in kinds)
    for pair in reader.pairs(*both, fields=True):
        own_id, values = pair.id_and_fields()
        same = tally.add(pair.left_text, pair.right_text) if pair.both_done else None
        texts = [pair.left_text, pair.right_text]
        states = [pair.answer_number, pair.left_status, pair.right_status, same, *texts, pair.left_code, pair.right_code]
        # a failed row may have kept a text that does not fit
        shown = texts if pair.both_done else [None, None]
        left, right = answer_fields.values(shown[0], of_left), answer_fields.values(shown[1], of_right)
        sides = (value for both_sides in zip(left, right, strict=True) for value in both_sides)
        yield [own_id, *map(values.get, own), *states, *sides]
