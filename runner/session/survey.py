"""Looks at an input that nobody has written a job file for: its columns, its size, what may be its text and its ids."""

import re
from collections.abc import Mapping, Sequence
from contextlib import closing
from itertools import islice
from pathlib import Path
from statistics import median
from typing import Literal, NamedTuple

from msgspec import Struct, structs

from runner.errors import UsageError
from runner.inputs import overwriting, scan, spool
from runner.inputs.broken_lines import RowFaultError
from runner.inputs.compression import packing_of, unpacked
from runner.inputs.duplicates import HashCollector
from runner.inputs.files import explained
from runner.inputs.keys import ROW_SETTINGS, WHOLE_ROW
from runner.inputs.options import ReadOptions
from runner.model import Json, Row
from runner.session import opening, part, shape
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
_ID = re.compile(r"(?i:(?:.*[\W_])?(?:id|uuid|guid|key|nr|no|number|code|sku|asin|isbn))|.*[a-z](?:Id|ID|Key|Nr|No)")
_LONGEST_ID = 64
_BRIEF = 1_000
"""Characters of a text with which a template is tried."""
_MOST_IDS = 3
"""Columns that may be the id, and are compared over all rows."""
_NOT_ROWS = re.compile(
    r"(?:package|package-lock|tsconfig|composer|manifest|launch|settings)\.json|(?:requirements|constraints)[-\w]*\.txt"
    r"|(?:readme|license|licence|notice|changelog|changes|authors|robots|cmakelists)\.txt",
    re.IGNORECASE,
)
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


def survey(path: Path, options: ReadOptions) -> Survey:
    """Look at a file, also at a table without prompts. Raises UsageError for a file that is no input, or has no rows."""
    options = structs.replace(options, asked=frozenset({WHOLE_ROW}), row_settings=False)
    size, most_bytes = _sizes(path)
    found = part.recognise(path, options, most_bytes=most_bytes)
    in_part = most_bytes is not None and found.name in _OF_TEXT
    prompts = opening.open_input(path, options, most_bytes=most_bytes)
    with closing(prompts.read()) as rows:
        first = list(islice(rows, SAMPLE))
        sound = [row.fields for row in first if row.fault is None and row.fields is not None]
        columns = _columns(sound)
        ids = _Ids(columns, sound)
        ids.add(first)
        read, broken = len(first), len(first) - len(sound)
        for row in islice(rows, LOOK_ROWS - read):
            read += 1
            broken += row.fault is not None
            ids.add([row])
        more = next(rows, None) is not None
    scan.refuse_empty(read, spool.display_name(path))
    if read == 1:
        shape.refuse_one(path, first[0])
    has_prompt = any(not {"prompt", "messages"}.isdisjoint(fields) for fields in sound)
    own = ids.found(all_read=not (more or in_part))
    seen = Survey(
        path=path,
        bytes=size,
        format=found.name.replace("_", "-"),
        options=found.options,
        about=found.about,
        rows=_two_digits(read * size / LOOK_BYTES) if in_part and not more else read,
        counted="more" if more else "estimated" if in_part else "counted",
        read=read,
        broken=broken,
        columns=columns,
        has_prompt=has_prompt,
        id_column=own.column,
        id_repeats=own.repeats,
        id_maybe=own.maybe,
        row_settings=[column.name for column in columns if column.name in ROW_SETTINGS and found.name != "openai_batch"],
    )
    seen = structs.replace(seen, media=media_columns({column.name: _cells(sound, column.name) for column in columns}))
    return seen if has_prompt else _with_proposal(seen, sound)


def candidates(folder: Path) -> list[Path]:
    """Return the files of a folder that could be an input, and that no job file and no earlier export speaks for, by name."""
    return [path for path in sorted(folder.iterdir()) if _could_be_input(path)]


def _could_be_input(path: Path) -> bool:
    ending = unpacked(path).suffix.lower().lstrip(".")
    if path.name.startswith(".") or ending not in ENDINGS or _NOT_ROWS.fullmatch(path.name) or spool.is_copy(path):
        return False
    if not path.is_file() or unpacked(path).with_suffix(".toml").exists():
        return False
    try:
        with closing(opening.open_input(path, ReadOptions(asked=frozenset({WHOLE_ROW})), most_bytes=LOOK_BYTES).read()) as rows:
            first = next((row for row in rows if row.fault is None), None)
    except UsageError:
        return False
    return first is not None and not overwriting.is_exported(first.fields or {})


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


class _Id(NamedTuple):
    """The column that is the id; whether a column ``id`` repeats itself; and what may be the id, as far as it was read."""

    column: str | None
    repeats: bool
    maybe: str | None


class _Ids:
    """Finds out which column is the id of its rows: one that is different in each row, and is called or looks like an id."""

    def __init__(self, columns: Sequence[Column], rows: Sequence[Mapping[str, Json]]) -> None:
        full = [column.name for column in columns if column.filled == len(rows) and rows]
        named = [name for name in full if name != "id" and _ID.fullmatch(name) and _are_ids([row[name] for row in rows])]
        self._hashes = {name: HashCollector() for name in [*(["id"] if _has(columns, "id") else []), *named[:_MOST_IDS]]}
        self._unfit: set[str] = set()

    def add(self, rows: Sequence[Row]) -> None:
        """Look at the ids of rows."""
        for name, hashes in self._hashes.items():
            for row in rows:
                own = (row.fields or {}).get(name)
                if own not in (None, ""):
                    hashes.add(hash(str(own)))
                elif row.fault is None and name != "id":
                    self._unfit.add(name)

    def found(self, *, all_read: bool) -> "_Id":
        """Return what the columns are. all_read: no row was left out."""
        repeating = {name for name, hashes in self._hashes.items() if hashes.repeats()}
        repeats = "id" in repeating
        if "id" in self._hashes and not repeats:
            return _Id("id", False, None)
        fit = (name for name in self._hashes if name not in repeating | self._unfit)
        found = next(fit, None)
        # a column that was not read to its end may repeat itself yet, and then the whole file would be refused
        sure = all_read or repeats
        return _Id(found if sure else None, repeats, None if sure else found)


def _has(columns: Sequence[Column], name: str) -> bool:
    return any(column.name == name for column in columns)


def _are_ids(values: Sequence[Json]) -> bool:
    """Return True if values may be ids: short, without blanks, and each another."""
    texts = {
        value if isinstance(value, str) else str(value)
        for value in values
        if isinstance(value, str | int) and not isinstance(value, bool)
    }
    return len(texts) == len(values) and all(len(text) <= _LONGEST_ID and not any(map(str.isspace, text)) for text in texts)
