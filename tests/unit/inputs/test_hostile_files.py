"""Files that were made to hang a reader, to fill the memory or to lead elsewhere: one sentence, or broken rows, within bounds."""

import bz2
import gzip
import lzma
import random
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

_READ = """
import resource, sys
from pathlib import Path
from runner.errors import UsageError
from runner.inputs.options import ReadOptions
from runner.session.opening import open_input
resource.setrlimit(resource.RLIMIT_AS, (3 << 30, 3 << 30))
resource.setrlimit(resource.RLIMIT_CPU, (60, 60))
for name in sys.argv[1:]:
    try:
        found = [row.fault for row in open_input(Path(name), ReadOptions(asked=frozenset({"text"}))).read()]
        print(len(found), "rows,", sorted({fault for fault in found if fault is not None}))
    except UsageError as error:
        print(error)
"""
PACKINGS: dict[str, Callable[[bytes], bytes]] = {
    "gz": lambda data: gzip.compress(data, 1),
    "bz2": lambda data: bz2.compress(data, 1),
    "xz": lambda data: lzma.compress(data, preset=0),
    "zst": zstd.compress,
}


def told(*paths: Path) -> list[str]:
    """Read files in a process with little memory and time; return what each has: rows and their faults, or what was refused."""
    command = [sys.executable, "-c", _READ, *map(str, paths)]
    ended = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (ended.returncode, ended.stderr) == (0, "")
    said = ended.stdout.splitlines()
    assert len(said) == len(paths)
    return said


def test_small_files_that_unpack_to_one_huge_line(tmp_path: Path) -> None:
    paths = [tmp_path / f"zeros.csv.{packing}" for packing in PACKINGS]
    for path, pack in zip(paths, PACKINGS.values(), strict=True):
        # each kind may hold several parts, one after the other
        path.write_bytes(pack(bytes(8 << 20)) * 9)
    line = tmp_path / "line.csv.gz"
    line.write_bytes(gzip.compress(b"id,text\n1,") + gzip.compress(b"x" * (8 << 20), 1) * 9)
    *zeros, long = told(*paths, line)
    assert [said.removeprefix(f"{path} ") for said, path in zip(zeros, paths, strict=True)] == [
        "is no table of texts (CSV): it is a binary file"
    ] * len(paths)
    assert long == "1 rows, ['longer than 64 MiB']"


def test_tables_that_take_the_time_or_the_memory_of_a_naive_reader(tmp_path: Path) -> None:
    own, same, cell = (tmp_path / f"{name}.csv" for name in ("own", "same", "cell"))
    number = 200_000
    own.write_text(",".join(f"c{place}" for place in range(number)) + "\n" + ",".join("x" * number) + "\n")
    same.write_text(",".join("c" * number) + "\n" + ",".join("x" * number) + "\n")
    cell.write_text(f"id,text\n1,{'y' * 10_000_000}\n")
    assert told(own, same, cell) == ["1 rows, []"] * 3


def _xlsx(path: Path, cells: str, *, target: str = "worksheets/sheet1.xml", entities: str = "") -> None:
    office = "http://schemas.openxmlformats.org"
    of_part = f"{office}/officeDocument/2006/relationships"
    main = f"{office}/spreadsheetml/2006/main"
    links = (
        f'<Relationships xmlns="{office}/package/2006/relationships"><Relationship Id="r1" Type="{of_part}/{{}}" Target="{{}}"/>'
    )
    sheets = '<sheets><sheet name="A" sheetId="1" r:id="r1"/></sheets>'
    parts = {
        "[Content_Types].xml": f'<Types xmlns="{office}/package/2006/content-types"/>',
        "_rels/.rels": links.format("officeDocument", "xl/workbook.xml") + "</Relationships>",
        "xl/workbook.xml": f'<workbook xmlns="{main}" xmlns:r="{of_part}">{sheets}</workbook>',
        "xl/_rels/workbook.xml.rels": links.format("worksheet", target) + "</Relationships>",
        "xl/worksheets/sheet1.xml": f'{entities}<worksheet xmlns="{main}"><sheetData>{cells}</sheetData></worksheet>',
    }
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as packed:
        for name, content in parts.items():
            packed.writestr(name, f'<?xml version="1.0"?>{content}')


def _cell(place: str, text: str) -> str:
    return f'<c r="{place}" t="inlineStr"><is><t>{text}</t></is></c>'


TABLE = f'<row r="1">{_cell("A1", "id")}{_cell("B1", "text")}</row><row r="2">{_cell("A2", "1")}{_cell("B2", "hello")}</row>'


def test_sheets_that_are_not_what_they_seem(tmp_path: Path) -> None:
    laughs = "".join(f'<!ENTITY l{n} "{f"&l{n - 1};" * 10}">' for n in range(1, 12))
    entities = f'<!DOCTYPE l [<!ENTITY l0 "lol">{laughs}]>'
    sheets: list[tuple[dict[str, str], str]] = [
        ({"cells": TABLE}, "1 rows, []"),
        # the cells up to there would take half a terabyte; a styled one without a value takes nothing
        (
            {"cells": TABLE + f'<row r="1048576">{_cell("XFD1048576", "far")}</row>'},
            "that reaches to XFD1048576, more than",
        ),
        ({"cells": TABLE + '<row r="1048576"><c r="XFD1048576" s="1"/></row>'}, "1 rows, []"),
        ({"cells": TABLE, "target": "../../../../../etc/passwd"}, "cut off or damaged"),
        ({"cells": TABLE, "target": "/etc/passwd"}, "cut off or damaged"),
        ({"cells": TABLE.replace("hello", "&l11;"), "entities": entities}, "cut off or damaged"),
    ]
    paths = [tmp_path / f"{place}.xlsx" for place in range(len(sheets))]
    for path, (sheet, _) in zip(paths, sheets, strict=True):
        _xlsx(path, **sheet)
    for said, (_, words) in zip(told(*paths), sheets, strict=True):
        assert words in said


def _ods(path: Path, rows: str, *, entities: str = "") -> None:
    names = " ".join(f'xmlns:{name}="urn:oasis:names:tc:opendocument:xmlns:{name}:1.0"' for name in ("office", "table", "text"))
    around = ("office:document-content", "office:body", "office:spreadsheet", "table:table")
    opened = f"<{around[0]} {names}><{around[1]}><{around[2]}><{around[3]} table:name='A'>"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as packed:
        packed.writestr(zipfile.ZipInfo("mimetype"), "application/vnd.oasis.opendocument.spreadsheet")
        packed.writestr("META-INF/manifest.xml", '<m:manifest xmlns:m="urn:oasis:names:tc:opendocument:xmlns:manifest:1.0"/>')
        closed = "".join(f"</{name}>" for name in reversed(around))
        packed.writestr("content.xml", f'<?xml version="1.0"?>{entities}{opened}{rows}{closed}')


def _repeated(text: str, columns: int = 1) -> str:
    return (
        f'<table:table-cell office:value-type="string" table:number-columns-repeated="{columns}"><text:p>{text}</text:p>'
        "</table:table-cell>"
    )


def _row_of(cells: str, rows: int = 1) -> str:
    return f'<table:table-row table:number-rows-repeated="{rows}">{cells}</table:table-row>'


def test_cells_that_stand_there_a_million_times(tmp_path: Path) -> None:
    table = _row_of(_repeated("id") + _repeated("text")) + _row_of(_repeated("1") + _repeated("hello"))
    nothing = '<table:table-cell table:number-columns-repeated="16383"/>'
    sheets = [
        (table + _row_of(nothing, 1_048_574), "1 rows, []"),
        (_row_of(_repeated("x", 16_384), 1_048_576), "texts of more than 256 MiB"),
        (table + _row_of(_repeated("", 16_384)) * 2_000, "more than a"),
        (table + _row_of(nothing + _repeated("x")) * 2_000, "reaches to XFD"),
        (table + _row_of(_repeated('<text:s text:c="2000000000"/>')), "texts of more than 256 MiB"),
    ]
    paths = [tmp_path / f"{place}.ods" for place in range(len(sheets))]
    for path, (rows, _) in zip(paths, sheets, strict=True):
        _ods(path, rows)
    laughs = tmp_path / "laughs.ods"
    _ods(laughs, table.replace("hello", "&l;"), entities='<!DOCTYPE l [<!ENTITY l "lol">]>')
    for said, words in zip(told(*paths, laughs), [*(words for _, words in sheets), "cut off or damaged"], strict=True):
        assert words in said


def test_cells_that_hide_where_they_are_or_share_one_long_text(tmp_path: Path) -> None:
    far = [
        """<row r='9'><c\n r='XFD1048576'><v>1</v></c></row>""",
        '<row r="9"><c x="&gt;>" r="XFD1048576"><v>1</v></c></row>',
        '<row r="99999999999"><c><v>1</v></c></row>',
        f'<row r="9"><c r="A9" x="{"a" * (2 << 20)}"><v>1</v></c></row>',
    ]
    shared = f"<si><t>{'z' * 32_000}</t></si>" + '<row r="3"><c r="A3" t="s"><v>0</v></c></row>' * 10_000
    paths = [tmp_path / f"{place}.xlsx" for place in range(len(far) + 1)]
    for path, cells in zip(paths, [*far, shared], strict=True):
        _xlsx(path, TABLE + cells)
    words = ["reaches to XFD1048576"] * 2 + ["reaches to B"] + ["a tag without an end"] + ["texts of more than 256 MiB"]
    for said, expected in zip(told(*paths), words, strict=True):
        assert expected in said


def test_parquet_cells_that_do_not_fit_into_the_memory_together(tmp_path: Path) -> None:
    long, same = tmp_path / "long.parquet", tmp_path / "same.parquet"
    huge = pa.array(["x" * (70 << 20)], pa.large_string())
    pq.write_table(pa.table({"text": huge}), long, compression="zstd", use_dictionary=False)
    text = pa.DictionaryArray.from_arrays(pa.array([0] * 400, pa.int32()), pa.array(["y" * (8 << 20)]))
    pq.write_table(pa.table({"text": text}), same, compression="zstd")
    refused, read = told(long, same)
    assert "has a cell of more than 64 MiB in row group 1" in refused
    assert read == "400 rows, []"


def test_a_parquet_file_whose_end_lies(tmp_path: Path) -> None:
    whole_path, chance = tmp_path / "whole.parquet", random.Random(1)
    pq.write_table(pa.table({"id": ["1"], "text": ["hello"]}), whole_path)
    whole = whole_path.read_bytes()
    lies = [whole[:-8] + length.to_bytes(4, "little") + whole[-4:] for length in (0, 1, 2**31 - 1)]
    for _ in range(10):
        changed = bytearray(whole)
        for _ in range(4):
            changed[-9 - chance.randrange(int.from_bytes(whole[-8:-4], "little"))] = chance.randrange(256)
        lies.append(bytes(changed))
    paths = [tmp_path / f"{place}.parquet" for place in range(len(lies))]
    for path, lie in zip(paths, lies, strict=True):
        path.write_bytes(lie)
    said = told(*paths)
    assert all(path.name in words for path, words in zip(paths[:3], said, strict=False))
