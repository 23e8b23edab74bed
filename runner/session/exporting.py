"""Exports a run: makes the columns and the records, and writes files that are complete or absent."""

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from contextlib import ExitStack
from functools import cache, cached_property
from itertools import chain
from pathlib import Path
from typing import Any, NamedTuple, TypedDict, cast

import msgspec
from msgspec import structs

from runner import origin
from runner.answer_shape import fields_in
from runner.errors import UsageError
from runner.exports import answer_fields, whole
from runner.exports.columns import Parts, columns, given, picked, records, spelt
from runner.exports.file import open_output
from runner.exports.kinds import OURS, Kind, Kinds
from runner.inputs.attachments import names_files
from runner.inputs.bodies import body_of
from runner.inputs.prompts import REQUEST_FIELDS
from runner.inputs.seeds import seeded_body
from runner.interfaces import Exporter
from runner.model import Json, Result, Run
from runner.session import manifest, only, outputs, shaped, spelling
from runner.session.opening import asked_in, columns_in, media_fields, texts_in
from runner.session.outputs import Output
from runner.store import reuse
from runner.store.reader import StoreReader
from runner.store.selection import Selection
from runner.text import clean, nearest


class ExportFlags(TypedDict, total=False):
    """Which rows are exported, and how they are written.

    only: names for rows, such as "failed", "length" or an error code; by default all rows. columns: names of columns, in their
    order; by default all. order: "input" or "finished". prompt: False leaves out the column of what each row asked.
    prefix_fields: the rows' own fields are called ``input_NAME``, those of answers ``answer_NAME``. manifest: write a manifest
    beside each file. raw: do not escape CSV cells that a spreadsheet would run as formulas. csv_escape: escape them in the ids
    and in the rows' own fields too. csv_excel: begin a CSV file with a byte order mark.
    """

    only: str | Sequence[str] | None
    columns: str | Sequence[str] | None
    order: str
    prompt: bool
    prefix_fields: bool
    manifest: bool
    raw: bool
    csv_escape: bool
    csv_excel: bool


_COSTS = {"cost", "cost_perhaps"}
"""Columns of which a reader makes sums."""
_OF_TABLES = ("columns", "prefix_fields")


def write(
    places: Sequence[tuple[str | Path, str | None]], store: Path, run_id: int | None, flags: ExportFlags, notes: list[str] | None
) -> list[int]:
    """Write the finished rows of a run to each place, in the format that is named there; return the number of rows of each.

    All files have the same state of the store. The other arguments are those of ``runner.export``.
    """
    wanted = [outputs.of(place, name) for place, name in places]
    refuse_flags(wanted, flags)
    with StoreReader(store) as reader, ExitStack() as stack:
        outputs.refuse_among(wanted, reader, manifest=flags.get("manifest", False))
        run = reader.run(run_id, counted=False)
        stack.enter_context(reader.snapshot())
        rows = _Rows(reader, run, flags)
        made = [_prepared(output, rows) for output in wanted]
        counts = [_written(output, shape, rows, notes, several=len(made) > 1) for output, shape in zip(wanted, made, strict=True)]
        told = [shape.names for output, shape in zip(wanted, made, strict=True) if not output.is_whole]
        if notes is not None and not _COSTS.isdisjoint(chain(*told)):
            notes += spelling.in_no_row(reader.killed(run.id))
        return counts


class _Shape(NamedTuple):
    """What a file is to hold: the names of its columns, what is told to its format besides, and what makes its records."""

    names: Sequence[str]
    more: Mapping[str, Any]
    records: Callable[[], Iterable[Sequence[object]]]


class _Rows:
    """The rows of an export, and what is known of them before they are read."""

    def __init__(self, reader: StoreReader, run: Run, flags: ExportFlags) -> None:
        self.reader, self.run, self.flags = reader, run, flags
        order = flags.get("order")
        self.chosen: Selection = only.selection(
            only.listed(flags.get("only"), "--only"), "input" if order is None else order, reader, run
        )
        self.parts, self.prompt = parts_of(reader, run), flags.get("prompt", True)
        self.files, self.fields = origin.files_in(run.settings), fields_in(run.settings)

    @cached_property
    def own(self) -> list[str]:
        """The names of the rows' own fields."""
        return own_fields(self.reader, self.run)

    @cached_property
    def kinds(self) -> Kinds:
        """What the rows' own fields hold, and their ids. Only typed formats want to know: all rows are read for it."""
        kinds = Kinds()
        for own_id, fields in self.reader.fields(self.run.id):
            fields["id"] = own_id
            kinds.see(fields)
        return kinds

    @cached_property
    def field_kinds(self) -> list[Kind]:
        """What the columns of these fields hold. Only typed formats want to know: all answers are read for it."""
        done = Selection(every=False, statuses=frozenset({"done"}))
        results = self.reader.results(self.run.id, chosen=done) if self.fields else ()
        return answer_fields.kinds_of((result.text for result in results), self.fields)

    def columns(self, alike: Callable[[str], str]) -> tuple[list[str], range]:
        """Return the names of all columns of a table, and where among them the fields of the answers are."""
        prefix = self.flags.get("prefix_fields", False)
        names = columns(self.own, prompt=self.prompt, parts=self.parts, prefix=prefix, alike=alike)
        at = answer_fields.place(names)
        return answer_fields.added(names, self.fields, alike, prefix=prefix), range(at, at + len(self.fields))

    def table(self, *, asked: bool) -> Iterable[Sequence[object]]:
        """Return the records of a table, with all its columns. asked: tell what each row asked."""
        words = asked_in(self.run.settings) if asked else None
        results = self.reader.results(self.run.id, words, self.files, self.chosen)
        made = records(results, self.own, prompt=self.prompt, parts=self.parts)
        return answer_fields.filled(made, columns(self.own, prompt=self.prompt, parts=self.parts), self.fields)

    def whole(self, *, without_files: bool) -> Iterable[Sequence[Json]]:
        """Return the records of whole rows. without_files: nothing is told of what a row asked that names files."""
        body = self._bodies(without_files=without_files)
        found = self.reader.decided(self.run.id, body, self.files, self.chosen)
        # a row that has another's answer has no attempt of its own
        told = (
            (_numbered(result, seed), whole.Told(ended_at or self.run.created_at, status, name, seed))
            for result, (ended_at, status, name, _, seed) in found
        )
        return whole.records(told, self.run.id, columns_in(self.run.settings), self.parts)

    def _bodies(self, *, without_files: bool) -> Callable[[int | None], Callable[[dict[str, Json]], Json]]:
        """Return what tells, by the variant of a row, the body of its request from its stored fields."""
        texts, variants = texts_in(self.run.settings), reuse.variants(self.reader.fetch).get(self.run.id, {})
        not_own = REQUEST_FIELDS if texts is None else ("params",)

        @cache
        def asked(variant: int | None) -> Callable[[dict[str, Json]], Json]:
            changed: dict[str, Any] = msgspec.json.decode(variants[variant]) if variant in variants else {}
            settings = {**self.run.settings, **changed}
            named, shape = media_fields(settings), shaped.body_in(settings)

            def body(fields: dict[str, Json]) -> Json:
                found = body_of(fields, texts, settings) if self.prompt else None
                if without_files and found is not None and names_files(found["messages"], fields, named):
                    found = None
                for name in not_own:
                    fields.pop(name, None)
                return {**shape, **found} if found is not None else None

            return body

        return asked


def _prepared(output: Output, rows: _Rows) -> _Shape:
    """Return what a file is to hold. Raises UsageError for what its format cannot hold, before anything is written."""
    if hasattr(output.module, "MOST_ROWS"):
        size = rows.reader.size(rows.run.id, rows.chosen)
        outputs.refuse_size(output, "rows", size, output.module.MOST_ROWS, "take another format, or fewer rows")
    if output.is_whole:
        without_files = getattr(output.module, "WHOLE_REQUESTS", False)
        return _Shape(whole.columns(rows.parts), {}, lambda: rows.whole(without_files=without_files))
    flags, own = rows.flags, rows.own
    alike = getattr(output.module, "ALIKE", spelt)
    names, answered = rows.columns(alike)
    theirs = {*range(len(given(names, len(own)))), *answered}
    places = _chosen(names, only.listed(flags.get("columns"), "--columns")) or _glance(names, output, theirs)
    if hasattr(output.module, "MOST_COLUMNS"):
        outputs.refuse_size(output, "columns", len(places or names), output.module.MOST_COLUMNS, "choose some with --columns")
    more: dict[str, Any] = {}
    if output.kind == "csv":
        kept = [] if flags.get("csv_escape") else given(names, len(own))
        more = {"raw": flags.get("raw", False), "kept": kept, "excel": flags.get("csv_excel", False)}
    if outputs.takes(output.module.write, "kinds"):
        kinds = _kinds(names, rows, answered)
        more["kinds"] = [kinds[place] for place in places or range(len(names))]
    if places is None:
        return _Shape(names, more, lambda: rows.table(asked=rows.prompt))
    asked = "prompt" in names and names.index("prompt") in places
    return _Shape([names[place] for place in places], more, lambda: picked(rows.table(asked=asked), places))


def _written(output: Output, shape: _Shape, rows: _Rows, notes: list[str] | None, *, several: bool) -> int:
    """Write a file, and its manifest if that is wanted; return the number of rows. several: notes say of which file they are."""
    exporter, said = cast("Exporter", output.module.write), list[str]()
    more = dict(shape.more)
    if outputs.takes(exporter, "notes"):
        more["notes"] = said
    with open_output(output.place, output.form) as out:
        count = exporter(shape.names, shape.records(), out, **more)
    if notes is not None:
        notes += [f"{clean(str(output.place))}: {sentence}" if several else sentence for sentence in said]
    if rows.flags.get("manifest"):
        manifest.write(output, rows.reader, rows.run.id, manifest.Written(count, shape.names, dict(rows.flags)))
    return count


def _chosen(names: Sequence[str], wanted: Sequence[str]) -> list[int] | None:
    """Return the places of the columns that were named, in that order; None if none were. Raises UsageError."""
    for name in wanted:
        if name not in names:
            close = nearest(name, names)
            meant = f" (did you mean {close!r}?)" if close else ""
            raise UsageError(f"the export has no column {name!r}{meant}; its columns: {', '.join(names)}")
        if wanted.count(name) > 1:
            raise UsageError(f"--columns names {name!r} twice")
    return [names.index(name) for name in wanted] or None


def _glance(names: Sequence[str], output: Output, theirs: Collection[int]) -> list[int] | None:
    """Return the places of the columns that a format has unless some are named; None if it has all.

    theirs: the places of what the rows came with, and of the fields of their answers.
    """
    glance = getattr(output.module, "GLANCE", None)
    if glance is None:
        return None
    return [place for place, name in enumerate(names) if place in theirs or name in glance]


def _kinds(names: Sequence[str], rows: _Rows, answered: range) -> list[Kind]:
    """Return what each column holds. answered: where the fields of the answers are."""
    first = [rows.kinds.of("id"), *map(rows.kinds.of, rows.own)]
    before, behind = names[len(first) : answered.start], names[answered.stop :]
    return [*first, *(OURS[name] for name in before), *rows.field_kinds, *(OURS[name] for name in behind)]


def refuse_flags(wanted: Sequence[Output], flags: ExportFlags) -> None:
    """Raise UsageError for what means nothing together, or for one of the formats."""
    if flags.get("raw") and flags.get("csv_escape"):
        raise UsageError("--csv-raw and --csv-escape exclude each other; choose one of them")
    for output in wanted:
        if getattr(output.module, "WHOLE_REQUESTS", False) and not flags.get("prompt", True):
            raise UsageError(f"{output.kind} is made of what each row asked; leave --no-prompt out")
        nothing = [option for option in ("csv_escape", "csv_excel") if output.kind != "csv"]
        nothing += [option for option in _OF_TABLES if output.is_whole]
        for option in nothing:
            if flags.get(option):
                raise UsageError(f"--{option.replace('_', '-')} means nothing for {output.kind.replace('_', '-')}; leave it out")


def _numbered(result: Result, made_seed: int | None) -> Result:
    """Return a result whose request has the seed with which that answer was asked for. made_seed: the one made up for it."""
    if not isinstance(result.prompt, dict) or (result.answer_number == 1 and made_seed is None):
        return result
    made = {"seed": made_seed} if made_seed is not None else {}
    return structs.replace(result, prompt={**seeded_body(result.prompt, result.answer_number), **made})


def parts_of(reader: StoreReader, run: Run) -> Parts:
    """Return which columns an export of a run has that most have not."""
    several, copies, endpoints = reader.shares(run.id)
    files = origin.files_in(run.settings) is not None
    return Parts(files=files, answers=several, copies=copies, endpoints=endpoints)


def own_fields(reader: StoreReader, run: Run) -> list[str]:
    """Return the names of the rows' own fields that an export of a run has, in the order in which they first appear."""
    texts, kept = texts_in(run.settings), columns_in(run.settings)
    names = reader.metadata_names(run.id, REQUEST_FIELDS if texts is None else ("params",))
    return [name for name in names if kept is None or name in kept]
