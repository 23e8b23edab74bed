import gzip
import json
import os
import subprocess
import sys
import tracemalloc
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from runner.errors import UsageError
from runner.inputs.formats.jsonl import read
from runner.inputs.json_rows import RAW_BYTES, ROW_BYTES
from runner.model import Row


def rows(tmp_path: Path, content: bytes, limit_bytes: int | None = None) -> list[Row]:
    path = tmp_path / "prompts.jsonl"
    path.write_bytes(content)
    return list(read(path, limit_bytes=limit_bytes))


def fault(tmp_path: Path, line: bytes) -> str:
    good, bad, after = rows(tmp_path, b'{"a":1}\n' + line + b'\n{"a":2}\n')
    assert (good.fields, after.fields) == ({"a": 1}, {"a": 2})
    assert (bad.line, bad.fields, bad.raw) == (2, None, line)
    assert bad.fault is not None
    return bad.fault


def test_lines_are_counted_from_one_and_blank_ones_give_no_row(tmp_path: Path) -> None:
    content = b'\n{"a":1}\n  \t\r\n\r\n{"b":"x"}\r\n{"c":null}'
    assert rows(tmp_path, content) == [
        Row(line=2, fields={"a": 1}, size=8),
        Row(line=5, fields={"b": "x"}, size=11),
        Row(line=6, fields={"c": None}, size=10),
    ]


def test_an_empty_file_has_no_rows(tmp_path: Path) -> None:
    assert rows(tmp_path, b"") == []
    assert rows(tmp_path, b"\xef\xbb\xbf") == []


def test_one_byte_order_mark_is_stripped(tmp_path: Path) -> None:
    assert rows(tmp_path, b'\xef\xbb\xbf{"a":1}\n') == [Row(line=1, fields={"a": 1}, size=8)]
    (broken,) = rows(tmp_path, b'\xef\xbb\xbf\xef\xbb\xbf{"a":1}\n')
    assert broken.fault == "not JSON: invalid character at column 1"


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        (b"hello", "not JSON: invalid character at column 1"),
        (b"{'a': 1}", "not JSON: object keys must be strings at column 2"),
        (b'{"a": 1} {"b": 2}', "not JSON: trailing characters at column 10"),
        ('{"ä": oops}'.encode(), "not JSON: invalid character at column 7"),
        (b'{"a": "cut', "not JSON: the line ends too early"),
        (b'{"a": 1e999}', "a number out of range"),
        (b'{"a": ' + b"1" * 5000 + b"}", "a number out of range"),
        (b"[1, 2]", "not a JSON object but a list"),
        (b'"text"', "not a JSON object but a string"),
        (b"1.5", "not a JSON object but a number"),
        (b"true", "not a JSON object but true or false"),
        (b"null", "not a JSON object but null"),
        (b'{"a": "\xff"}', "not valid UTF-8 at column 8"),
        (b'{"a": "\xed\xa0\x80"}', "not valid UTF-8 at column 8"),
        (b'{"a": "x\0y"}', "a NUL byte at column 9"),
        (rb'{"a": "\ud800"}', r"a lone surrogate escape, \ud800, at column 8: half a character"),
        (rb'{"a": "\\\udC00 x"}', r"a lone surrogate escape, \udC00, at column 10: half a character"),
        (rb'{"a": "\ud83d\ud83d\ude00"}', r"a lone surrogate escape, \ud83d, at column 8: half a character"),
        (b'{"a": ' + b"[" * 100_000 + b"]" * 100_000 + b"}", "nested too deeply"),
    ],
)
def test_a_broken_line_is_a_row_with_a_fault(tmp_path: Path, line: bytes, expected: str) -> None:
    if len(line) > RAW_BYTES:
        (row,) = rows(tmp_path, line)
        assert (row.fault, row.raw) == (expected, line[:RAW_BYTES])
    else:
        assert fault(tmp_path, line) == expected


def test_what_only_looks_like_a_lone_surrogate_is_fine(tmp_path: Path) -> None:
    assert [row.fields for row in rows(tmp_path, rb'{"a": "\ud83d\ude00 \\ud800 \u0000"}')] == [{"a": "😀 \\ud800 \0"}]


def test_what_is_appended_later_is_not_read(tmp_path: Path) -> None:
    path = tmp_path / "growing.jsonl"
    path.write_bytes(b'{"a":1}\n{"a":2')
    reading = read(path)
    with path.open("ab") as file:
        file.write(b'3}\n{"a":4}\n')
    # The incomplete line is still being written: it is no row and no error.
    assert [row.raw or row.fields for row in reading] == [{"a": 1}]
    assert [row.fields for row in read(path)] == [{"a": 1}, {"a": 23}, {"a": 4}]


def test_a_half_last_line_is_a_row(tmp_path: Path) -> None:
    first, second = rows(tmp_path, b'{"a":1}\n{"a":"ha')
    assert first.fields == {"a": 1}
    assert (second.line, second.raw, second.fault) == (2, b'{"a":"ha', "not JSON: the line ends too early")


def test_the_limit_stops_earlier_but_never_later(tmp_path: Path) -> None:
    content = b'{"a":1}\n{"a":2}\n{"a":3}\n'
    assert [row.fields for row in rows(tmp_path, content, 16)] == [{"a": 1}, {"a": 2}]
    assert len(rows(tmp_path, content, 10_000)) == 3
    assert rows(tmp_path, content, 0) == []


def test_a_file_that_shrinks_ends_early(tmp_path: Path) -> None:
    path = tmp_path / "shrinking.jsonl"
    path.write_bytes(b'{"a":1}\n{"a":2}\n')
    reading = read(path)
    os.truncate(path, 8)
    assert [row.fields for row in reading] == [{"a": 1}]


def test_a_long_line_is_read_and_an_endless_one_is_skipped(tmp_path: Path) -> None:
    path = tmp_path / "long.jsonl"
    exact = ROW_BYTES - len(b'{"p":""}')
    with path.open("wb") as file:
        file.write(b'{"p":"' + b"x" * exact + b'"}\r\n')
        file.write(b'{"p":"' + b"x" * (exact + 1) + b'"}\n')
        file.write(b'{"p":"')
        file.seek(3 * ROW_BYTES, os.SEEK_CUR)  # a hole, which takes no disk space
        file.write(b'"}\n{"p":"after"}\n')
    fitting, over, endless, after = read(path)
    assert fitting.fields is not None
    assert len(fitting.fields["p"]) == exact
    assert over.fault == endless.fault == "longer than 64 MiB"
    assert len(over.raw) == len(endless.raw) == RAW_BYTES
    assert (after.line, after.fields) == (4, {"p": "after"})


def refusal(path: Path) -> str:
    with pytest.raises(UsageError) as caught:
        read(path)
    assert str(path) in str(caught.value)
    return str(caught.value)


def test_a_file_that_cannot_be_read_is_a_usage_error(tmp_path: Path) -> None:
    assert "there is no prompt file" in refusal(tmp_path / "missing.jsonl")
    assert "is a folder" in refusal(tmp_path)
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    assert "not a regular file" in refusal(pipe)
    assert "cannot read" in refusal(Path("a" * 5000))
    (tmp_path / "file").write_bytes(b"{}")
    assert "cannot read" in refusal(tmp_path / "file" / "below.jsonl")


READ_AS_NOBODY = """
import os, sys
from pathlib import Path
from runner.errors import UsageError
from runner.inputs.formats.jsonl import read
os.chdir(sys.argv[1])
if os.geteuid() == 0:
    os.setgroups([])
    os.setgid(65534)
    os.setuid(65534)
try:
    read(Path("closed.jsonl"))
except UsageError as error:
    print(error)
"""


def test_no_permission_is_a_usage_error(tmp_path: Path) -> None:
    """Runs as a user without rights, because root can read everything."""
    path = tmp_path / "closed.jsonl"
    path.write_bytes(b"{}")
    path.chmod(0)
    tried = subprocess.run([sys.executable, "-c", READ_AS_NOBODY, tmp_path], capture_output=True, text=True, check=True)
    assert "no permission" in tried.stdout


@pytest.mark.parametrize("name", ["prompts.jsonl.gz", "prompts.jsonl", "prompts.GZ"])
def test_gzip_is_read_whatever_its_name(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    # two members, as `cat a.gz b.gz` makes them
    path.write_bytes(gzip.compress(b'\xef\xbb\xbf{"a":1}\n\n{"b"') + gzip.compress(b":2}\n{oops\n"))
    first, second, broken = read(path)
    assert [(row.line, row.fields) for row in (first, second)] == [(1, {"a": 1}), (3, {"b": 2})]
    assert (broken.line, broken.raw) == (4, b"{oops")


def test_a_plain_file_with_the_ending_of_gzip_is_read(tmp_path: Path) -> None:
    path = tmp_path / "prompts.jsonl.gz"
    path.write_bytes(b'{"a":1}\n')
    assert [row.fields for row in read(path)] == [{"a": 1}]


@pytest.mark.parametrize("spoil", ["cut off", "damaged", "followed by rubbish"])
def test_gzip_that_is_cut_off_or_damaged_is_a_usage_error(tmp_path: Path, spoil: str) -> None:
    path = tmp_path / "prompts.jsonl.gz"
    packed = gzip.compress(b"".join(b'{"a":%d}\n' % number for number in range(100_000)))
    middle = len(packed) // 2
    path.write_bytes(
        {
            "cut off": packed[:middle],
            "damaged": packed[:middle] + bytes(64) + packed[middle + 64 :],
            "followed by rubbish": packed + b"rubbish",
        }[spoil]
    )
    with pytest.raises(UsageError, match="cut off or damaged"):
        list(read(path))


def test_gzip_that_grows_afterwards_is_read_as_far_as_it_went(tmp_path: Path) -> None:
    path = tmp_path / "prompts.jsonl.gz"
    path.write_bytes(gzip.compress(b'{"a":1}\n'))
    found = read(path)
    with path.open("ab") as file:
        file.write(gzip.compress(b'{"a":2}\n'))
    assert [row.fields for row in found] == [{"a": 1}]
    assert [row.fields for row in read(path)] == [{"a": 1}, {"a": 2}]


def test_a_bomb_of_one_line_is_a_broken_row_and_stays_small(tmp_path: Path) -> None:
    """600 MB out of 3 MB. Memory holds only a few lines of the maximum length."""
    path = tmp_path / "prompts.jsonl.gz"
    with gzip.open(path, "wb", compresslevel=1) as file:
        file.write(b"{")
        for _ in range(600):
            file.write(bytes(1_000_000))
        file.write(b'\n{"a":1}\n')
    tracemalloc.start()
    broken, after = read(path)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert (broken.fault, after.fields) == ("longer than 64 MiB", {"a": 1})
    assert peak < 4 * ROW_BYTES


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le", "utf-16-be", "utf-32"])
def test_wide_encodings_are_read(tmp_path: Path, encoding: str) -> None:
    content = '{"prompt": "h\u00e9llo \U0001f600"}\n{"a": 1}\n'.encode(encoding)
    assert [row.fields for row in rows(tmp_path, content)] == [{"prompt": "h\u00e9llo \U0001f600"}, {"a": 1}]


@pytest.mark.parametrize(
    ("line", "fields", "nulls"),
    [
        (b'{"a": NaN}', {"a": None}, 1),
        (b'{"a":[Infinity,-Infinity],"b":{"c":NaN}}', {"a": [None, None], "b": {"c": None}}, 3),
        (b'{"id": "x", "a": NaN, "b": "NaN, \\"NaN\\" -Infinity"}', {"id": "x", "a": None, "b": 'NaN, "NaN" -Infinity'}, 1),
        (b'{"a": nan, "b": -inf}\r', {"a": None, "b": None}, 2),
    ],
)
def test_numbers_that_are_none_are_null(tmp_path: Path, line: bytes, fields: dict[str, object], nulls: int) -> None:
    assert rows(tmp_path, line + b"\n") == [Row(line=1, fields=fields, nulls=nulls, size=len(line) + 1)]


@pytest.mark.parametrize("line", [b'{"a": 1NaN}', b'{"a": NaNo}', b"{NaN: 1}", b'{"a": NaN,}', b'{"a": "NaN}', b'{"a": 1.NaN}'])
def test_nan_in_a_line_that_is_broken_all_the_same(tmp_path: Path, line: bytes) -> None:
    (row,) = rows(tmp_path, line)
    assert (row.fields, row.nulls, row.raw) == (None, 0, line)


def test_nan_in_a_deep_row_is_still_too_deep(tmp_path: Path) -> None:
    (row,) = rows(tmp_path, b'{"a": ' + b"[" * 250 + b"NaN" + b"]" * 250 + b"}")
    assert row.fault == "nested too deeply"


@pytest.mark.parametrize(("opened", "closed"), [(b"[", b"]"), (b'{"a": ', b"}")])
@pytest.mark.parametrize(("depth", "fault"), [(198, None), (250, "nested too deeply")])
def test_a_row_is_too_deep_by_lists_and_by_objects_alike(
    tmp_path: Path, opened: bytes, closed: bytes, depth: int, fault: str | None
) -> None:
    (row,) = rows(tmp_path, b'{"a": ' + opened * depth + b"1" + closed * depth + b"}")
    assert row.fault == fault


BROKEN_WITH_ID: dict[bytes, str | int | None] = {
    b'{"id": "a", "prompt": "x",}': "a",
    b'{"id": "a", "prompt": "x"},': "a",
    b'{"prompt": "x", "id": 7,}': 7,
    b'{"prompt": "x", "id": 7.0,}': 7,
    rb'{"id": "a", "prompt": "\ud800"}': "a",
    rb'{"prompt": "\"id\": \"no\"", "id": "\u00e9", "x": oops}': "é",
    b'{"id": "a", "prompt": "cut': "a",
    b'{"id": "a", "prompt": "x"': "a",
    b'{"id": "a"': "a",
    b'{"id": "a", "prompt": "\xff"}': "a",
    b'{"id": "a", "prompt": "x\0"}': "a",
    b'{"id": "a", "n": 1e999}': "a",
    b'{"id": "a", "prompt": "x"} {"id": "b"}': "a",
    b'{"meta": {"id": "no"}, "list": [{"id": "no"}], "id": "a", }': "a",
    b"{'id': 'a', 'prompt': 'x'}": "a",
    b'{id: "a", prompt: "x"}': "a",
    b'{"id": "a" "prompt": "x"}': "a",
    b'{"id": "a", "prompt": "say "hi""}': "a",
    b'{"id": "a", "prompt": ' + b"[" * 1000 + b"]" * 1000 + b"}": "a",
    # what cannot be read for certain
    b'{"id": "say "hi"", "prompt": "x"}': None,
    b'{"id": 12': None,
    b'{"id": "a': None,
    b'{"id": 1.5, "prompt": oops}': None,
    b'{"id": true, "prompt": oops}': None,
    b'{"id": "", "prompt": oops}': None,
    b'{"id": {"id": "no"}, "prompt": oops}': None,
    b'{"prompt": "the "id": "no", x"}': None,
    b'{"prompt": oops}': None,
    b'[{"id": "a"}, oops]': None,
    b'"id": "a"': None,
    b"oops": None,
}


@pytest.mark.parametrize("line", BROKEN_WITH_ID)
def test_a_broken_line_keeps_the_id_that_can_be_read(tmp_path: Path, line: bytes) -> None:
    _, row, _ = rows(tmp_path, b'{"a":1}\n' + line + b'\n{"a":2}\n')
    own = BROKEN_WITH_ID[line]
    assert row.fault is not None
    assert (row.fields, row.raw) == ({"id": own} if own is not None else None, line)


def test_the_id_of_a_line_that_is_too_long(tmp_path: Path) -> None:
    path = tmp_path / "long.jsonl"
    with path.open("wb") as file:
        file.write(b'{"id": "a", "prompt": "')
        file.seek(ROW_BYTES, os.SEEK_CUR)
        file.write(b'"}\n')
    (row,) = read(path)
    assert (row.fields, row.fault) == ({"id": "a"}, "longer than 64 MiB")


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b'[{"prompt": "x"}]', "is in the format json, not jsonl"),
        (b"id,prompt\n1,hello\n2,x\n", "is in the format csv, not jsonl"),
        (b"hello", "begins with 'hello'"),
    ],
)
def test_another_format_is_refused(tmp_path: Path, content: bytes, words: str) -> None:
    path = tmp_path / "prompts.jsonl"
    path.write_bytes(content)
    assert words in refusal(path)


@pytest.mark.parametrize(
    ("content", "broken"),
    [
        (b'{"id": "a",\n{"id": "b", "prompt": "y"}\n', 1),
        (b'{"id": "a", "prompt":\n{"id": "b", "prompt": "y"}\n{"id": "c", "prompt": "y"}\n', 1),
        (b'{"id": "a", "prompt": "x"\n{"id": "b", "prompt": "y"}\n', 1),
        (b'[1, 2]\n{"id": "b", "prompt": "y"}\n', 1),
        (b"#\n" * 50 + b'{"id": "b", "prompt": "y"}\n', 50),
        (b'{"id": "a", "n": NaN}\n{"id": "b", "prompt": "\\ud800"}\n', 1),
        (b'# my prompts\n{"id": "b", "prompt": "y"}\n', 1),
        (b"{'id': 'a'}\n" + b'{"id": "b", "prompt": "y"}\n', 1),
        (b'{"id": "a", "prompt": "x"}\r\r\n{"id": "b", "prompt": "y"}\r\r\n', 0),
        (b'{"custom_id": "a", "prompt": "x"}\n', 0),
        (b'{"custom_id": "a", "messages": [], "body": {}}\n', 0),
        (b'{"custom_id": "a", "body": {}}\n{"custom_id": "b"}\n', 0),
        (b'{"custom_id": "a", "text": "x"}\n', 0),
        (b'{"oops', 1),
    ],
)
def test_rows_among_broken_lines_are_read(tmp_path: Path, content: bytes, broken: int) -> None:
    found = rows(tmp_path, content)
    assert sum(row.fault is not None for row in found) == broken
    assert len(found) == len(content.splitlines()) - content.count(b"\r\r")


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


@settings(max_examples=60)
@given(st.lists(st.dictionaries(st.text(), VALUES, max_size=4), max_size=5), st.sampled_from(["\n", "\r\n"]), st.booleans())
def test_whatever_json_writes_is_read_back(
    tmp_path_factory: pytest.TempPathFactory, objects: list[dict[str, object]], end: str, ascii_only: bool
) -> None:
    path = tmp_path_factory.getbasetemp() / "round.jsonl"
    lines = [json.dumps(fields, ensure_ascii=ascii_only) for fields in objects]
    path.write_bytes(end.join(lines).encode())
    assert [row.fields for row in read(path)] == objects


@settings(max_examples=60)
@given(st.binary(max_size=200))
def test_no_bytes_make_it_fail(tmp_path_factory: pytest.TempPathFactory, content: bytes) -> None:
    path = tmp_path_factory.getbasetemp() / "any.jsonl"
    path.write_bytes(b"{}\n   \n" + content)
    for row in read(path):
        assert row.fault is None or row.fields is None or list(row.fields) == ["id"]
        assert row.fault is not None or row.fields is not None
        assert row.fault or not row.raw
