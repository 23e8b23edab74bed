"""Exports a run: chooses the format, makes the columns and the records, and writes a file that is complete or absent."""

from collections.abc import Callable, Iterable, Sequence
from contextlib import ExitStack
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import Any, TypedDict, cast

import msgspec
from msgspec import structs

from runner import origin
from runner.answer_shape import fields_of
from runner.config import plugins
from runner.errors import UsageError
from runner.exports import answer_fields, whole
from runner.exports.columns import Parts, columns, given, records
from runner.exports.file import is_standard_output, open_output
from runner.inputs import overwriting
from runner.inputs.bodies import body_of
from runner.inputs.compression import unpacked
from runner.inputs.patterns import matches
from runner.inputs.prompts import REQUEST_FIELDS
from runner.inputs.seeds import seeded_body
from runner.interfaces import Exporter
from runner.model import Json, Result, Run
from runner.session import part, shaped
from runner.session.opening import asked_in, columns_in, texts_in
from runner.store import reuse
from runner.store.reader import StoreReader

_UNENDED = ("openai_batch",)
"""Formats that have no ending of their own: ``--format`` names them."""


_NAMED_AS = {"csv": "csv", "jsonl": "jsonl", "openai_batch": "jsonl"}
"""The ending of the files of our own formats."""


class ExportFlags(TypedDict, total=False):
    """How an export is written.

    raw: do not escape CSV cells that a spreadsheet would run as formulas. csv_escape: escape them in the ids and in the rows' own
    fields too. csv_excel: begin a CSV file with a byte order mark. prompt: False leaves out the column of what each row asked.
    """

    raw: bool
    csv_escape: bool
    csv_excel: bool
    prompt: bool


def write(
    output: str | Path, store: Path, run_id: int | None, format_name: str | None, flags: ExportFlags, notes: list[str] | None
) -> int:
    """Write the finished rows of a run and return their number. The arguments are those of ``runner.export``."""
    raw, escape = flags.get("raw", False), flags.get("csv_escape", False)
    kind, module = _format(output, format_name)
    if raw and escape:
        raise UsageError("--csv-raw and --csv-escape exclude each other; choose one of them")
    for option in ("csv_escape", "csv_excel"):
        if flags.get(option) and kind != "csv":
            raise UsageError(f"--{option.replace('_', '-')} means nothing for {kind.replace('_', '-')}; leave it out")
    exporter, prompt = cast("Exporter", module.write), flags.get("prompt", True)
    with StoreReader(store) as reader, ExitStack() as stack:
        if not is_standard_output(output):
            overwriting.refuse_own(output, reader.path, files_read(reader))
            if format_name:
                _refuse_name(output, kind)
        run = reader.run(run_id, counted=False)
        stack.enter_context(reader.snapshot())
        parts = parts_of(reader, run)
        if getattr(module, "WHOLE_ROWS", False):
            made = _whole(reader, run, parts, prompt=prompt)
            with open_output(output) as out:
                return exporter(whole.columns(parts), made, out)
        own, asked = own_fields(reader, run), asked_in(run.settings)
        kept = [] if escape else given(own, parts)
        csv = {"raw": raw, "kept": kept, "excel": flags.get("csv_excel", False), "notes": notes}
        with open_output(output) as out:
            results = reader.results(run.id, asked, origin.files_in(run.settings))
            table = records(results, own, prompt=prompt, parts=parts)
            names, filled = with_fields(columns(own, prompt=prompt, parts=parts), table, run)
            return exporter(names, filled, out, **(csv if kind == "csv" else {}))


def _whole(reader: StoreReader, run: Run, parts: Parts, *, prompt: bool) -> Iterable[Sequence[Json]]:
    """Return the records of whole rows. prompt: False leaves out what each row asked."""
    texts, kept = texts_in(run.settings), columns_in(run.settings)
    variants = reuse.variants(reader.path).get(run.id, {})
    not_own = REQUEST_FIELDS if texts is None else ("params",)

    @cache
    def asked(variant: int | None) -> Callable[[dict[str, Json]], Json]:
        changed: dict[str, Any] = msgspec.json.decode(variants[variant]) if variant in variants else {}
        settings = {**run.settings, **changed}
        shape = shaped.body_in(settings)

        def body(fields: dict[str, Json]) -> Json:
            found = body_of(fields, texts, settings) if prompt else None
            found = {**shape, **found} if found is not None else None
            for name in not_own:
                fields.pop(name, None)
            return found

        return body

    found = reader.decided(run.id, asked, origin.files_in(run.settings))
    # a row that has another's answer has no attempt of its own
    told = (
        (_numbered(result, seed), whole.Told(ended_at or run.created_at, status, name, seed))
        for result, (ended_at, status, name, _, seed) in found
    )
    return whole.records(told, run.id, kept, parts)


def _numbered(result: Result, made_seed: int | None) -> Result:
    """Return a result whose request has the seed with which that answer was asked for. made_seed: the one made up for it."""
    if not isinstance(result.prompt, dict) or (result.answer_number == 1 and made_seed is None):
        return result
    made = {"seed": made_seed} if made_seed is not None else {}
    return structs.replace(result, prompt={**seeded_body(result.prompt, result.answer_number), **made})


def files_read(reader: StoreReader) -> dict[int, list[str]]:
    """Return the files that each run of a store has read. The answers of another run are no file."""
    read = {}
    for run in reader.runs(counted=False):
        files = origin.files_in(run.settings)
        paths = [*files.paths] if files is not None else origin.names_of(run.input)
        read[run.id] = [] if origin.run_of(run.input) is not None else paths
    return read


def parts_of(reader: StoreReader, run: Run) -> Parts:
    """Return which columns an export of a run has that most have not."""
    several, copies = reader.shares(run.id)
    return Parts(files=origin.files_in(run.settings) is not None, answers=several, copies=copies)


def with_fields(names: list[str], made: Iterable[Sequence[object]], run: Run) -> tuple[list[str], Iterable[Sequence[object]]]:
    """Return the columns and the records of an export with those of the fields of its answers, if the run has a schema."""
    schema = run.settings.get("schema")
    fields = [*fields_of(schema)] if isinstance(schema, dict) else []
    if not fields:
        return names, made
    at = answer_fields.place(names)
    return [*names[:at], *answer_fields.named(names, fields), *names[at:]], answer_fields.filled(made, names, fields)


def own_fields(reader: StoreReader, run: Run) -> list[str]:
    """Return the names of the rows' own fields that an export of a run has, in the order in which they first appear."""
    texts, kept = texts_in(run.settings), columns_in(run.settings)
    names = reader.metadata_names(run.id, REQUEST_FIELDS if texts is None else ("params",))
    return [name for name in names if kept is None or name in kept]


def refuse(output: str | Path, store: Path, prompts: Path) -> None:
    """Raise UsageError for an output to which no export can be written, before a session begins that is to end with one."""
    if is_standard_output(output):
        raise UsageError("the session prints on standard output; name a file, or use `runner export -o -` afterwards")
    if _of_ending(output) is None:
        endings = " or ".join(f".{name}" for name in plugins.known("exports") if name not in _UNENDED)
        raise UsageError(f"cannot tell the format of {output} from its ending; name it {endings}")
    if not Path(output).resolve().parent.is_dir():
        raise UsageError(f"{output} cannot be written: its folder does not exist")
    if overwriting.is_among(Path(output).resolve(), _own_files(prompts, Path(output).resolve())):
        raise UsageError(
            f"{output} is {'one of the prompt files' if origin.is_several(prompts) else 'the prompt file'}; name another file"
        )
    read = {}
    if store.is_file() and store.stat().st_size:
        with StoreReader(store) as reader:
            read = files_read(reader)
    overwriting.refuse_own(output, store, read)


def _own_files(prompts: Path, output: Path) -> list[str]:
    """Return the files of an input, which an export may not replace. An earlier export is none of those of a pattern."""
    if origin.run_of(prompts) is not None:
        return []
    if not origin.is_several(prompts):
        return [str(prompts)]
    paths = {match.path: match.pattern for match in matches(prompts)[0]}
    earlier = {
        path for path, pattern in paths.items() if pattern is not None and path.resolve() == output and part.is_export(path)
    }
    return [str(path) for path in paths if path not in earlier]


def _format(output: str | Path, name: str | None) -> tuple[str, ModuleType]:
    """Return the name of the format and its module: the one that was named, or that of the file's ending."""
    kind = name.strip().replace("-", "_") if name else _ending(output)
    if name:
        # a plug-in may have a name with a hyphen
        module = plugins.registered("exports", name) or plugins.registered("exports", kind) or plugins.load("exports", name)
        return kind, module
    found = plugins.registered("exports", "csv") if not kind and is_standard_output(output) else _of_ending(output)
    if found is None:
        *others, last = (each.replace("_", "-") if each in _UNENDED else each for each in plugins.known("exports"))
        known = f"{', '.join(others)} or {last}"
        raise UsageError(f"cannot tell the format of {output} from its ending; choose {known} with --format")
    return kind or "csv", found


def _refuse_name(output: str | Path, kind: str) -> None:
    """Raise UsageError for a file whose ending says that it holds something else than one of our own formats."""
    if kind not in _NAMED_AS:
        return
    ending = _ending(output)
    right = f"name it .{_NAMED_AS[kind]}"
    if unpacked(Path(output)) != Path(output):
        raise UsageError(f"{output} would not be compressed, as its ending says; {right}, and pack it afterwards")
    holds = part.ENDINGS.get(ending, ending)
    if holds in (*_NAMED_AS.values(), "parquet", "xlsx") and holds != _NAMED_AS[kind]:
        raise UsageError(f"{output} would hold {kind.replace('_', '-')}, and not {holds}, as its ending says; {right}")


def _ending(output: str | Path) -> str:
    return Path(output).suffix.lstrip(".").lower()


def _of_ending(output: str | Path) -> ModuleType | None:
    """Return the format that the ending of a file names."""
    kind = _ending(output)
    return None if kind in _UNENDED else plugins.registered("exports", kind)
