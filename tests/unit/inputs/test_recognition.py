"""A file is recognised by its first bytes, or refused in one sentence that says what it is."""

import bz2
import gzip
import json
import lzma
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from runner.errors import UsageError
from runner.inputs.formats import openai_batch
from runner.inputs.options import ReadOptions
from runner.session.opening import open_input

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

OBJECTS = [{"id": "a", "prompt": "x"}, {"id": "b", "prompt": "y"}, {"id": "c", "prompt": "z"}]
LINES = [json.dumps(one) for one in OBJECTS]
BIG = [{"id": str(number), "prompt": "x" * 1000} for number in range(200)]
BODY = {"custom_id": "a", "method": "POST", "url": "/v1/chat/completions", "body": {"model": "m", "messages": [], "n": 1}}
ANTHROPIC = {"custom_id": "a", "params": {"model": "m", "max_tokens": 5, "messages": []}}

# what is in a file whose ending says nothing, and the fields of its rows
READ = {
    "array on one line": (json.dumps(OBJECTS), OBJECTS),
    "array, pretty": (json.dumps(OBJECTS, indent=2), OBJECTS),
    "array, a line for each": ("[\n" + ",\n".join(LINES) + "\n]\n", OBJECTS),
    "array, larger than the head": (json.dumps(BIG), BIG),
    "array behind blanks": ("\n  \n [" + LINES[0] + "]", OBJECTS[:1]),
    "array, CR": (json.dumps(OBJECTS, indent=1).replace("\n", "\r"), OBJECTS),
    "array of texts": ('["one, [1]", "two"]', [{"prompt": "one, [1]"}, {"prompt": "two"}]),
    "array with NaN": ('[{"prompt": "x", "n": NaN},\n {"prompt": "y"}]', [{"prompt": "x", "n": None}, {"prompt": "y"}]),
    "empty array": ("[]", []),
    "arrays one after the other": ("\n".join(json.dumps([one]) for one in OBJECTS), OBJECTS),
    "inside of an array": (",\n".join(LINES), OBJECTS),
    "one object, pretty": (json.dumps(OBJECTS[0], indent=2), OBJECTS[:1]),
    "objects, pretty": ("\n".join(json.dumps(one, indent=4) for one in OBJECTS), OBJECTS),
    "objects, pretty, CR LF": ("\r\n".join(json.dumps(one, indent=4).replace("\n", "\r\n") for one in OBJECTS), OBJECTS),
    "objects, pretty, CR": ("\r".join(json.dumps(one, indent=4).replace("\n", "\r") for one in OBJECTS), OBJECTS),
    "object on two lines": ('{"id": "a",\n"prompt": "x"}\n', OBJECTS[:1]),
    "CR": ("\r".join(LINES) + "\r", OBJECTS),
    "CR and NaN": (
        '{"prompt": "x", "n": NaN}\r{"prompt": "y", "n": NaN}\r',
        [{"prompt": "x", "n": None}, {"prompt": "y", "n": None}],
    ),
    "lines": ("\n".join(LINES), OBJECTS),
    "batch": ("\n".join([json.dumps(BODY)] * 2), [{"id": "a", "model": "m", "messages": [], "extra_body": {"n": 1}}] * 2),
    "batch with a long first line": (
        json.dumps({"custom_id": "a", "body": {"model": "m", "messages": ["x" * 100_000]}}) + "\n",
        [{"id": "a", "model": "m", "messages": ["x" * 100_000]}],
    ),
    "CR with long lines": ("\r".join(json.dumps(one) for one in BIG) + "\r", BIG),
    "array behind many blanks": ("\n" * 70_000 + json.dumps(OBJECTS), OBJECTS),
    "two lines of an array": (",\n".join(LINES[:2]) + "\n", OBJECTS[:2]),
    "objects on one line": ("".join(LINES), OBJECTS),
    "batch of Anthropic": (json.dumps(ANTHROPIC), [{"id": "a", "model": "m", "messages": [], "extra_body": {"max_tokens": 5}}]),
    "csv that begins like a binary file": ("ORCID,prompt\n1,hello\n", [{"ORCID": "1", "prompt": "hello"}]),
    "csv": ("id,prompt\n1,hello\n2,x\n", [{"id": "1", "prompt": "hello"}, {"id": "2", "prompt": "x"}]),
    "tsv": ("id\tprompt\n1\thello\n2\tx\n", [{"id": "1", "prompt": "hello"}, {"id": "2", "prompt": "x"}]),
    "nothing": ("", []),
    "blanks": (" \n\n", []),
}
# what is in a file, and words of the sentence that refuses it
REFUSED: dict[str, tuple[bytes, str]] = {
    "lists": (b'["a", 1]\n["b", 2]\n', "a list on a line of its own"),
    "batch results": (b'{"id": "r", "custom_id": "a", "response": {}}\n', "the results of a batch without their requests"),
    "batch lines of neither kind": (b'{"custom_id": "a", "method": "POST"}\n', "neither request nor result"),
    "text behind a licence": (b"# line\n" * 50 + b"hello", "begins with '# line'"),
    "Python": ("\n".join(str(one) for one in OBJECTS).encode(), "Python dictionaries"),
    "text": (b"Why is the sky blue?\nWhy is grass green?\n", "begins with 'Why is the sky blue?'"),
    "one line of text": (b"hello", "begins with 'hello'"),
    "quoted texts": (b'"Why?"\n"How?"\n', "neither JSON nor a table"),
    "html": (b"<!doctype html>\n<p>", "HTML or XML"),
    "binary": (b"\x7fELF\0\x10\0", "binary file"),
    "SQLite": (b"SQLite format 3\0\x10\0", "an SQLite database"),
    "PDF": (b"%PDF-1.7\n", "a PDF"),
    "picture": (b"\x89PNG\r\n\x1a\n\0\0\0\r", "is a picture; a row names its pictures in its field images"),
    "recording": (b"RIFF\0\0\0\0WAVEfmt ", "is a recording"),
    "Arrow": (b"ARROW1\0\0", "is an Arrow file (Feather); save it as Parquet or CSV"),
    "ORC": (b"ORC\x08\0", "is an ORC file"),
    "pickle": (b"\x80\x05\x95\x0b\0\0\0", "is a pickle of Python"),
    "tar": (b"a.csv".ljust(257, b"\0") + b"ustar", "is a tar archive; unpack it and name a file inside"),
    "Word": (b"PK\x03\x04" + bytes(20) + b"word/document.xml", "is a Word document; save it as plain text"),
    "LZ4": (b"\x04\x22\x4d\x18\0", "is compressed with LZ4; unpack it"),
    "zip": (b"PK\x03\x04" + bytes(40), "a zip file"),
    "packed twice": (gzip.compress(b"{}", mtime=0), "packed twice (with gzip inside)"),
}
PACKINGS: dict[str, Callable[[bytes], bytes]] = {
    "plain": bytes,
    "gzip": gzip.compress,
    "bzip2": bz2.compress,
    "xz": lzma.compress,
    "zstd": zstd.compress,
}
ENCODINGS = ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "utf-32"]


@pytest.mark.parametrize("packing", PACKINGS)
@pytest.mark.parametrize("name", READ)
def test_rows_are_read_whatever_their_shape(tmp_path: Path, name: str, packing: str) -> None:
    content, fields = READ[name]
    path = tmp_path / "prompts"
    path.write_bytes(PACKINGS[packing](content.encode()))
    assert [(row.fields, row.fault) for row in open_input(path).read()] == [(one, None) for one in fields]


@pytest.mark.parametrize("encoding", ENCODINGS)
@pytest.mark.parametrize("name", [name for name in READ if READ[name][1] and name != "array behind many blanks"])
def test_rows_are_read_whatever_their_encoding(tmp_path: Path, name: str, encoding: str) -> None:
    content, fields = READ[name]
    path = tmp_path / "prompts"
    path.write_bytes(content.encode(encoding))
    assert [(row.fields, row.fault) for row in open_input(path).read()] == [(one, None) for one in fields]


@pytest.mark.parametrize(
    ("name", "packing"),
    [(name, packing) for name in REFUSED for packing in PACKINGS if (name, packing) != ("packed twice", "plain")],
)
def test_another_file_is_refused_in_one_sentence(tmp_path: Path, name: str, packing: str) -> None:
    content, words = REFUSED[name]
    path = tmp_path / "prompts"
    path.write_bytes(PACKINGS[packing](content))
    with pytest.raises(UsageError) as refused:
        open_input(path)
    message = str(refused.value)
    assert words in message
    assert "\n" not in message
    assert message.startswith(f"{path} ")


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("p.jsonl", b"id,prompt\n1,x\n2,y\n", "is not JSON, but looks like csv; name it so, or use --input-format csv"),
        ("p.csv", b"PK\x03\x04" + bytes(9), "is a zip file"),
        ("p.csv", b"PAR1", "is no table of texts (CSV): it is in the format parquet: name it so, or use --input-format parquet"),
        ("p.tsv", b"<html><body>", "is no table of texts (CSV): it looks like HTML or XML"),
        ("p.csv", b"\x00\x01\x02\x03binary", "is a binary file"),
        ("p.txt", b"%PDF-1.4\n", "is a PDF"),
        ("p.csv", b'{"prompt": "x"}\n', "is no table of texts (CSV), but looks like JSON: name it so, or use"),
        ("p.csv", b'[\n{"prompt": "x"}]', "looks like JSON"),
        ("p.tsv", b'["x", "y"]', "looks like JSON"),
        ("p.csv", b"ARROW1\0\0", "is no table of texts (CSV): it is an Arrow file"),
        ("p.parquet", b"id,prompt\n1,x\n", "is not a Parquet file: it looks like csv: name it so, or use --input-format csv"),
        ("p.parquet", b"", "is not a Parquet file: it is empty"),
        ("p.parquet", b"PAR1xxxxPAR1", "cut off or damaged (Parquet: "),
        ("p.xlsx", b"id,prompt\n1,x\n", "is not a spreadsheet file: it looks like csv: name it so, or use --input-format csv"),
        ("p.xlsx", gzip.compress(b"PK\x03\x04xl/", mtime=0), "is compressed (gzip), in which xlsx cannot be read;"),
        ("p.xlsx", b"PK\x03\x04" + bytes(20) + b"[Content_Types].xml", "cut off or damaged"),
        ("p.parquet", gzip.compress(b"PAR1", mtime=0), "is compressed (gzip), in which parquet cannot be read; unpack it first"),
    ],
)
def test_an_ending_that_lies_is_refused(tmp_path: Path, name: str, content: bytes, words: str) -> None:
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(UsageError) as refused:
        list(open_input(path).read())
    assert words in str(refused.value)
    assert "\n" not in str(refused.value)


def test_a_text_with_objects_in_it_is_json(tmp_path: Path) -> None:
    path = tmp_path / "prompts.txt"
    path.write_text('{"prompt": "x"}\n')
    assert [row.fields for row in open_input(path).read()] == [{"prompt": "x"}]
    # but a prompt may begin with a bracket
    path.write_text("[Task] say x\n{Task} say y\n")
    assert [row.fields for row in open_input(path).read()] == [{"prompt": "[Task] say x"}, {"prompt": "{Task} say y"}]


@pytest.mark.parametrize(
    ("option", "words"),
    [
        ({"sheet": "1"}, "--sheet means nothing for p.csv, which is read as csv"),
        ({"format": "jsonl", "encoding": "cp1252"}, "--encoding means nothing for p.csv, which is read as jsonl"),
        ({"encoding": "nonsense"}, "encoding must be the name of an encoding, such as utf-8, cp1252 or utf-16, not 'nonsense'"),
        ({"encoding": "base64"}, "encoding must be the name of an encoding"),
        ({"delimiter": "ab"}, "delimiter must be one character, or tab, not 'ab'"),
        ({"delimiter": '"'}, "delimiter must be one character, or tab"),
        ({"format": "cvs"}, "there is no input format 'cvs'; did you mean 'csv'?"),
        ({"id_column": "review"}, "p.csv has no field 'review' for the id (--id-column); its first row has: id, text"),
    ],
)
def test_a_wrong_option_is_refused(tmp_path: Path, option: dict[str, str], words: str) -> None:
    path = tmp_path / "p.csv"
    path.write_text("id,text\n1,x\n")
    with pytest.raises(UsageError) as refused:
        open_input(path, ReadOptions(**option))
    assert words in str(refused.value)


@pytest.mark.parametrize(
    ("url", "sent"),
    [
        ("/v1/chat/completions", True),
        ("https://h/v1/chat/completions/", True),
        ("/v1/messages", True),
        (None, True),
        ("/v1/responses", False),
        ("/v1/embeddings", False),
        ("/v1/completions", False),
    ],
)
def test_a_request_to_another_endpoint_is_a_broken_row(tmp_path: Path, url: str | None, sent: bool) -> None:
    (tmp_path / "p.jsonl").write_text(json.dumps({**BODY, "url": url}) + "\n")
    (row,) = openai_batch.read(tmp_path / "p.jsonl")
    assert row.fault == (None if sent else f"a request to {url}; runner asks for chat completions only")
