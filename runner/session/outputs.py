"""The files that an export is to write: the format of each, and which of them are refused."""

from collections.abc import Callable, Sequence
from inspect import signature
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

from runner import origin
from runner.config import plugins
from runner.errors import UsageError
from runner.exports.file import Form, is_special, is_standard_output
from runner.exports.file import refuse as refuse_place
from runner.inputs import overwriting
from runner.inputs.compression import unpacked
from runner.inputs.patterns import matches
from runner.session import part
from runner.store.reader import StoreReader

_UNENDED = ("messages", "openai_batch")
"""Formats that have no ending of their own: ``--format`` names them."""
_ENDINGS = {"markdown": "md", "ndjson": "jsonl", "pq": "parquet", "sqlite3": "sqlite"}
"""Endings that are not the name of their format."""
_NAMED_AS = {
    **{name: name for name in ("csv", "jsonl", "md", "parquet", "sqlite", "xlsx")},
    **dict.fromkeys(_UNENDED, "jsonl"),
}
"""The ending of the files of our own formats."""
_READ_ONLY = ("ods", "xls", "xlsm")
"""Endings of sheets that are read, and not written."""


class Output(NamedTuple):
    """A file to write. place: as it was given. kind: the name of its format. named: it was given, the ending does not tell it."""

    place: str | Path
    kind: str
    module: ModuleType
    named: bool

    @property
    def form(self) -> Form:
        """What the format writes to."""
        form: Form = getattr(self.module, "OUTPUT", "text")
        return form

    @property
    def is_whole(self) -> bool:
        """True for a format that is no table."""
        return bool(getattr(self.module, "WHOLE_ROWS", False))

    @property
    def manifest(self) -> Path:
        """The file of its manifest."""
        return Path(f"{self.place}{overwriting.MANIFEST}")


def of(place: str | Path, format_name: str | None) -> Output:
    """Return an output with its format: the one that was named, or that of the file's ending.

    Raises UsageError if there is none, or if a package is missing.
    """
    kind, module = _format(place, format_name)
    if hasattr(module, "ready"):
        module.ready()
    return Output(place, kind, module, named=bool(format_name))


def refuse_among(outputs: Sequence[Output], reader: StoreReader, *, manifest: bool) -> None:
    """Raise UsageError for an output that cannot be written, that replaces what no export may, or whose name is wrong.

    manifest: each output has one.
    """
    read, seen = files_read(reader), set[Path]()
    for output in outputs:
        place = Path(output.place)
        on_the_spot = is_standard_output(place) or is_special(place)
        if manifest and on_the_spot:
            raise UsageError("--manifest writes a file beside the export; name one with --output")
        files = [] if is_standard_output(place) else [place, *([output.manifest] if manifest else [])]
        for file in files:
            refuse_place(file)
            overwriting.refuse_own(file, reader.path, read)
        if files and output.named:
            _refuse_name(output.place, output.kind)
        names = {place} if on_the_spot else {file.resolve() for file in files}
        if not seen.isdisjoint(names):
            raise UsageError(f"{output.place} is named twice; name each output once")
        seen |= names


def takes(write: Callable[..., Any], name: str) -> bool:
    """Return True if a format's function has a parameter of this name."""
    try:
        return name in signature(write, follow_wrapped=False).parameters
    except ValueError:
        # written in C, and silent about its arguments
        return False


def refuse_size(output: Output, what: str, size: int, most: int, advice: str) -> None:
    """Raise UsageError for more rows or columns than a format has room for."""
    if size > most:
        kind = output.kind.replace("_", "-")
        raise UsageError(f"{kind} has room for {most:,} {what}, and the export has {size:,}; {advice}")


def refuse_early(places: Sequence[str], store: Path, prompts: Path) -> None:
    """Raise UsageError for an output to which no export can be written, before a session begins that is to end with exports."""
    for number, place in enumerate(places):
        _refuse_early(place, store, prompts)
        if Path(place).resolve() in (Path(other).resolve() for other in places[:number]):
            raise UsageError(f"{place} is named twice; name each output once")


def _refuse_early(output: str, store: Path, prompts: Path) -> None:
    if is_standard_output(output):
        raise UsageError("the session prints on standard output; name a file, or use `runner export -o -` afterwards")
    if _of_ending(output) is None:
        raise UsageError(f"cannot tell the format of {output} from its ending; name it {_endings()}")
    of(output, None)
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


def files_read(reader: StoreReader) -> dict[int, list[str]]:
    """Return the files that each run of a store has read. The answers of another run are no file."""
    read = {}
    for run in reader.runs(counted=False):
        files = origin.files_in(run.settings)
        paths = [*files.paths] if files is not None else origin.names_of(run.input)
        read[run.id] = [] if origin.run_of(run.input) is not None else paths
    return read


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
        kind = _ENDINGS.get(kind, kind)
        # a plug-in may have a name with a hyphen
        module = plugins.registered("exports", name) or plugins.registered("exports", kind) or plugins.load("exports", name)
        return kind, module
    found = plugins.registered("exports", "csv") if not kind and is_standard_output(output) else _of_ending(output)
    if found is None:
        *others, last = (each.replace("_", "-") if each in _UNENDED else each for each in plugins.known("exports"))
        known = f"{', '.join(others)} or {last}"
        raise UsageError(f"cannot tell the format of {output} from its ending; choose {known} with --format")
    return kind or "csv", found


def _endings() -> str:
    *others, last = (f".{name}" for name in plugins.known("exports") if name not in _UNENDED)
    return f"{', '.join(others)} or {last}"


def _refuse_name(output: str | Path, kind: str) -> None:
    """Raise UsageError for a file whose ending says that it holds something else than one of our own formats."""
    if kind not in _NAMED_AS:
        return
    ending = _ending(output)
    right = f"name it .{_NAMED_AS[kind]}"
    if unpacked(Path(output)) != Path(output):
        raise UsageError(f"{output} would not be compressed, as its ending says; {right}, and pack it afterwards")
    holds = ending if ending in _READ_ONLY else _ENDINGS.get(ending) or part.ENDINGS.get(ending, ending)
    if holds in (*_NAMED_AS.values(), *_READ_ONLY) and holds != _NAMED_AS[kind]:
        raise UsageError(f"{output} would hold {kind.replace('_', '-')}, and not {holds}, as its ending says; {right}")


def _ending(output: str | Path) -> str:
    ending = Path(output).suffix.lstrip(".").lower()
    return _ENDINGS.get(ending, ending)


def _of_ending(output: str | Path) -> ModuleType | None:
    """Return the format that the ending of a file names."""
    kind = _ending(output)
    return None if kind in _UNENDED else plugins.registered("exports", kind)
