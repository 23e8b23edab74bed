"""Looks at an input that nobody has written a job file for: its columns, its size, what may be its text and its ids."""

from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from itertools import islice
from pathlib import Path
from statistics import median
from typing import Literal, NamedTuple

from msgspec import Struct, structs

from runner import origin
from runner.errors import UsageError
from runner.inputs import scan, spool
from runner.inputs.broken_lines import RowFaultError
from runner.inputs.choosing import Rows
from runner.inputs.compression import packing_of
from runner.inputs.files import explained
from runner.inputs.keys import ROW_SETTINGS, WHOLE_ROW
from runner.inputs.options import ReadOptions
from runner.model import Json
from runner.session import opening, part, shape
from runner.session.likely_id import Ids
from runner.session.proposal import MediaColumns, asking, likely_texts, media_columns
from runner.text import as_text

LOOK_BYTES = 16 << 20
"""Bytes of a file that are read. Of a larger one the number of rows is estimated."""
LOOK_ROWS = 500_000
"""Rows that are counted, at most."""
SAMPLE = 1_000
"""Rows whose cells are looked at."""
_OF_TEXT = ("csv", "json", "jsonl", "openai_batch", "txt")
"""Formats that can be read in part by their bytes, if they are not compressed."""
_BRIEF = 1_000
"""Characters of a text with which a template is tried."""
ENDINGS = ("jsonl", "json", "csv", "txt", "parquet", "xlsx", *part.ENDINGS)
"""Endings of files that may be an input, if nothing else is behind them than that of a packed file."""


class Column(NamedTuple):
    """A column of the sample: one of its cells, the median length of its cells in characters, and how many are filled."""

    name: str
    example: str
    typical: int
    filled: int
    # its cells, if they are few different ones
    values: Sequence[Json] = ()


class Survey(Struct, frozen=True, kw_only=True):
    """What was seen of an input."""

    path: Path
    bytes: int
    # the name of its format, and how it is read
    format: str
    options: ReadOptions
    about: Sequence[str]
    # rows that were counted; estimated: that is an estimate; more: there are more than these
    rows: int
    counted: Literal["counted", "estimated", "more"]
    # rows that were read; of them, broken ones
    read: int
    broken: int
    columns: Sequence[Column]
    # each row has its own prompt or messages
    has_prompt: bool
    # the column that is the id; None: there is none
    id_column: str | None
    # a column ``id`` has the same value twice
    id_repeats: bool
    # the column that may be the id, as far as it was read
    id_maybe: str | None
    # columns with the name of a setting
    row_settings: Sequence[str]
    # the column that is most likely the text, and a template that asks about it; None: it is not needed, or cannot be made
    text: str | None = None
    prompt: str | None = None
    # columns that name or hold files which can be sent along
    media: MediaColumns = MediaColumns([], [])

    @property
    def is_whole(self) -> bool:
        """True if the columns are those of all rows."""
        return self.counted == "counted" and self.read <= SAMPLE


class _Input(NamedTuple):
    """An input that is looked at: its rows, its bytes, and the names of its formats.

    in_part: its first ``LOOK_BYTES`` alone are read. is_cut: tells, at the end of the rows, whether there are more of them.
    """

    rows: Rows
    size: int
    formats: list[str]
    options: ReadOptions
    about: Sequence[str]
    in_part: bool
    is_cut: Callable[[], bool] = bool


def _one(path: Path, options: ReadOptions) -> _Input:
    size, most_bytes = _sizes(path)
    found = part.recognise(path, options, most_bytes=most_bytes)
    rows = opening.open_input(path, options, most_bytes=most_bytes).read()
    about, in_part = [f"It {words}" for words in found.about], most_bytes is not None and found.name in _OF_TEXT
    return _Input(rows, size, [found.name], found.options, about, in_part)


def _several(path: Path, options: ReadOptions) -> _Input:
    prompts, (parts, about) = opening.open_input(path, options), part.opened_all(path, options)
    seen = _Beginning(prompts.read())
    formats = list(dict.fromkeys(one.name for one in parts))
    # the first file shows how the others are read, if they are of its kind
    read = parts[0].options if len(formats) == 1 else options
    return _Input(seen.rows(), prompts.size, formats, read, about, False, lambda: seen.cut)


class _Beginning:
    """The rows of several files until they have ``LOOK_BYTES``. cut: there are more."""

    def __init__(self, rows: Rows) -> None:
        self._rows, self.cut = rows, False

    def rows(self) -> Rows:
        size = 0
        with closing(self._rows) as rows:
            for row in rows:
                self.cut = size > LOOK_BYTES
                if self.cut:
                    return
                size += row.size
                yield row


def survey(path: Path, options: ReadOptions) -> Survey:
    """Look at a file, also at a table without prompts. Raises UsageError for a file that is no input, or has no rows."""
    options = structs.replace(options, asked=frozenset({WHOLE_ROW}), row_settings=False)
    found = _several(path, options) if origin.is_several(path) else _one(path, options)
    with closing(found.rows) as rows:
        first = list(islice(rows, SAMPLE))
        sound = [row.fields for row in first if row.fault is None and row.fields is not None]
        columns = _columns(sound)
        ids = Ids({column.name: column.filled for column in columns}, sound)
        ids.add(first)
        read, broken = len(first), len(first) - len(sound)
        for row in islice(rows, LOOK_ROWS - read):
            read += 1
            broken += row.fault is not None
            ids.add([row])
        more = next(rows, None) is not None or found.is_cut()
    scan.refuse_empty(read, spool.display_name(path))
    if read == 1:
        shape.refuse_one(path, first[0])
    has_prompt = any(not {"prompt", "messages"}.isdisjoint(fields) for fields in sound)
    own = ids.found(all_read=not (more or found.in_part))
    seen = Survey(
        path=path,
        bytes=found.size,
        format=" and ".join(name.replace("_", "-") for name in found.formats),
        options=found.options,
        about=found.about,
        rows=_two_digits(read * found.size / LOOK_BYTES) if found.in_part and not more else read,
        counted="more" if more else "estimated" if found.in_part else "counted",
        read=read,
        broken=broken,
        columns=columns,
        has_prompt=has_prompt,
        id_column=own.column,
        id_repeats=own.repeats,
        id_maybe=own.maybe,
        row_settings=[column.name for column in columns if column.name in ROW_SETTINGS and found.formats != ["openai_batch"]],
    )
    seen = structs.replace(seen, media=media_columns({column.name: _cells(sound, column.name) for column in columns}))
    return seen if has_prompt else _with_proposal(seen, sound)


def _sizes(path: Path) -> tuple[int, int | None]:
    """Return the size of a file in bytes, and how much of it is read; None: all of it. Raises UsageError."""
    with explained(path):
        size = path.stat().st_size
        if size <= LOOK_BYTES:
            return size, None
        with path.open("rb") as file:
            return size, LOOK_BYTES if packing_of(file.read(8)) is None else None


def _two_digits(number: float) -> int:
    """Round to two digits: an estimate is no better."""
    return round(float(f"{number:.1e}"))


def _columns(rows: Sequence[Mapping[str, Json]]) -> list[Column]:
    """Return the columns of rows, in the order in which they first come."""
    names = list(dict.fromkeys(name for fields in rows for name in fields))
    return [_column(name, _cells(rows, name)) for name in names]


def _cells(rows: Sequence[Mapping[str, Json]], name: str) -> list[Json]:
    """Return the cells of a column that are filled."""
    return [value for fields in rows if (value := fields.get(name)) not in (None, "")]


def _column(name: str, values: Sequence[Json]) -> Column:
    texts = [as_text(value) for value in values]
    different = list(dict(zip(texts, values, strict=True)).values()) if len(set(texts)) * 2 <= len(texts) else []
    return Column(name, texts[0] if texts else "", round(median(map(len, texts))) if texts else 0, len(texts), different[:20])


def _with_proposal(seen: Survey, rows: Sequence[Mapping[str, Json]]) -> Survey:
    """Add the column that is most likely the text, and a template that asks about it: the first one that really does so."""
    # imported here: the library of the templates takes a tenth of a second
    from runner.inputs.template import Texts

    files = {*seen.media.images, *seen.media.files}
    cells = {
        column.name: list(map(as_text, _cells(rows, column.name)))
        for column in seen.columns
        if column.filled and column.name not in files
    }
    if files and cells.keys() <= {"id", seen.id_column}:
        return structs.replace(seen, prompt=seen.media.prompt)
    for name in likely_texts(cells):
        prompt = asking(name)
        fields = _brief(next(fields for fields in rows if fields.get(name) not in (None, "")))
        try:
            # a name that is no text of its own cannot be written down
            name.encode()
            asked = Texts(prompt=prompt, messages=None, system=None).messages(fields)
        except (UnicodeEncodeError, UsageError, RowFaultError):
            continue
        if str(fields[name]) in asked[0]["content"]:
            return structs.replace(seen, text=name, prompt=prompt)
    return seen


def _brief(fields: Mapping[str, Json]) -> Mapping[str, Json]:
    """Return fields without the rest of long texts: a template that fits most rows is not given up for one."""
    return {name: value[:_BRIEF] if isinstance(value, str) else value for name, value in fields.items()}
