"""Reads a sheet of a spreadsheet file: .xlsx, .xls and .ods. Needs the extra ``excel`` (python-calamine).

The whole sheet is in memory while it is read, for that is how the library reads it.
"""

from collections.abc import Callable, Generator
from pathlib import Path
from typing import Any, TypeVar

from msgspec import structs

from runner.errors import UsageError
from runner.inputs import recognition
from runner.inputs.cells import Plain, Settings, column_names
from runner.inputs.files import explained, refuse_packed, size_and_head
from runner.inputs.json_rows import RAW_BYTES, ROW_BYTES, TOO_LONG
from runner.inputs.options import ReadOptions
from runner.inputs.sheet_look import refuse_bomb
from runner.model import Row

PLACE = "row"
IS_TABLE = True
OPTIONS = ("sheet",)
_KINDS = ("xlsx", "ods")
_SHOWN = 10

T = TypeVar("T")


def read(path: Path, *, limit_bytes: int | None = None, options: ReadOptions | None = None) -> Generator[Row, None, None]:  # noqa: ARG001 - a part of such a file cannot be read
    """Read the rows of a sheet behind its header; a row's line is the number that the sheet shows.

    Raises UsageError if the file cannot be read or has no such sheet.
    """
    _, head = size_and_head(path)
    refuse_packed(path, "xlsx")
    wrong = recognition.other_than(_KINDS, head)
    if wrong is not None:
        raise UsageError(f"{path} is not a spreadsheet file: {wrong}")
    options = options or ReadOptions()
    return _rows(_in_book(path, lambda book: book.get_sheet_by_index(_number(path, book.sheet_names, options.sheet))), options)


def settled(path: Path, options: ReadOptions, *, most_bytes: int | None = None) -> tuple[ReadOptions, list[str]]:  # noqa: ARG001 - a part of such a file cannot be read
    """Return the options with the name of the sheet, and which sheets the file has if they are several.

    By default the first sheet is read that is not hidden.
    """
    head = size_and_head(path)[1]
    if options.sheet is not None or recognition.look(head).format not in _KINDS:
        return options, []
    refuse_packed(path, "xlsx")
    names, visible = _in_book(path, _sheets)
    chosen = (visible or names)[0]
    others = _shown([name for name in names if name != chosen])
    about = [f"has several sheets, and {chosen!r} is read; --sheet names another one: {others}"] if others else []
    return structs.replace(options, sheet=chosen), about


def _sheets(book: Any) -> tuple[list[str], list[str]]:
    """Return the names of all sheets, and of those with cells that are not hidden."""
    from python_calamine import SheetTypeEnum, SheetVisibleEnum

    usual = (SheetTypeEnum.WorkSheet, SheetVisibleEnum.Visible)
    return book.sheet_names, [one.name for one in book.sheets_metadata if (one.typ, one.visible) == usual]


def _in_book(path: Path, use: Callable[[Any], T]) -> T:
    """Open a spreadsheet file, and return what is made of it."""
    try:
        from python_calamine import CalamineError, CalamineWorkbook, PasswordError
    except ImportError:
        raise UsageError("spreadsheet files need one package more: pip install 'prompt-runner[excel]'") from None
    try:
        with explained(path):
            refuse_bomb(path)
        # not by its name, which may have another ending
        with explained(path), path.open("rb") as file, CalamineWorkbook.from_filelike(file) as book:
            return use(book)
    except PasswordError:
        raise UsageError(f"{path} is protected by a password; save it without one") from None
    except CalamineError as error:
        why = " ".join(str(error).split()).rstrip(".")[:200]
        raise UsageError(f"{path} is cut off or damaged ({why}); save the file again, or copy it again") from error


def _number(path: Path, names: list[str], wanted: str | None) -> int:
    """Return the index of the sheet that is wanted by its name or its number; by default the first one."""
    if wanted is None:
        return 0
    if wanted in names:
        return names.index(wanted)
    if wanted.isdecimal() and 1 <= int(wanted) <= len(names):
        return int(wanted) - 1
    raise UsageError(f"{path} has no sheet {wanted!r}; its sheets: {_shown(names)}")


def _shown(names: list[str]) -> str:
    return ", ".join(repr(name) for name in names[:_SHOWN]) + (", ..." if len(names) > _SHOWN else "")


def _rows(sheet: Any, options: ReadOptions) -> Generator[Row, None, None]:
    names: list[str] = []
    settings, first = Settings((), as_data=True), 0
    for number, cells in enumerate(sheet.to_python(skip_empty_area=False), 1):
        filled = [place for place, cell in enumerate(cells) if cell != ""]
        # rows without a cell are as blank as blank lines
        if not filled:
            continue
        if not names:
            first = filled[0]
            names = column_names(cells[first : filled[-1] + 1])
            settings = Settings(names, as_data=not options.row_settings)
            continue
        plain = Plain()
        fields = {name: plain.value(cell) for name, cell in zip(names, cells[first:], strict=False)}
        settings.read(fields)
        beyond = cells[first + len(names) :]
        size = sum(len(cell) if isinstance(cell, str) else 8 for cell in cells)
        fault = None
        if any(cell != "" for cell in beyond):
            fault = f"a cell beyond the last column of the header, {names[-1]}"
        if size > ROW_BYTES:
            fault = TOO_LONG
        raw = b""
        if fault is not None:
            short = [cell[:RAW_BYTES] if isinstance(cell, str) else cell for cell in cells]
            raw = repr(short)[:RAW_BYTES].encode(errors="replace")
        yield Row(line=number, fields=fields, fault=fault, raw=raw, nulls=plain.nulls, size=size, place=PLACE)
