"""Tells from the first bytes of a file which format it holds, or what it is instead. Pure."""

import json
import re
from collections.abc import Collection, Mapping
from typing import Any, NamedTuple

import msgspec

from runner.inputs import delimiters, signatures
from runner.inputs.encoding import in_utf8

BOM = b"\xef\xbb\xbf"
_PACKED = {
    b"\x1f\x8b": "gzip",
    b"\x28\xb5\x2f\xfd": "zstd",
    b"\xfd7zXZ\x00": "xz",
    b"BZh": "bzip2",
}
_LINE_END = re.compile(rb"\r\n|\n|\r")
_BINARY = re.compile(rb"[\x00-\x08\x0e-\x1a\x1c-\x1f]")
_PYTHON = re.compile(rb"\{\s*'")
DATABASE = "is an SQLite database; `runner export` writes the answers of a store to a file"
MARKUP = "looks like HTML or XML"
_EXAMPLE = 'every line must be one JSON object, such as {"prompt": "..."}'


class Found(NamedTuple):
    """The format that a file holds; or what the file is instead, in words that follow its name.

    rows: it is JSON lines all the same, where a template asks about their fields.
    """

    format: str | None = None
    instead: str | None = None
    rows: bool = False


def look(head: bytes) -> Found:
    """Recognise a file by the first bytes of its content, unpacked."""
    return _binary(head) or _text(in_utf8(head))


def begins_with_object(head: bytes) -> bool:
    """Return True if the first line of a file is a JSON object."""
    text = in_utf8(head).removeprefix(BOM).lstrip()
    return isinstance(_decoded(text.partition(b"\n")[0]), dict)


def is_json(head: bytes) -> bool:
    """Return True if the first line of a file is JSON, or begins an array or an object as no table does."""
    first = in_utf8(head).removeprefix(BOM).lstrip().partition(b"\n")[0].rstrip()
    return first in (b"[", b"{") or first.startswith(b"[{") or isinstance(_decoded(first), dict | list)


def other_than_text(head: bytes) -> str | None:
    """Return what a file is that should be a text with rows, in words that follow its name; None if it may be one."""
    found = _binary(head)
    if found is None:
        text = in_utf8(head)
        while text.startswith(BOM):
            text = text[len(BOM) :]
        if b"\0" in text[:1024]:
            return "is a binary file"
        return MARKUP if text.lstrip()[:1] == b"<" else None
    return found.instead or f"is in the format {found.format}: name it so, or use --input-format {found.format}"


def other_than(formats: Collection[str], head: bytes) -> str | None:
    """Return what a file is that is in none of these formats, as a clause; None if it is in one of them."""
    if not head:
        return "it is empty"
    found = look(head)
    if found.format in formats:
        return None
    if found.format is None:
        return f"it {found.instead}"
    return f"it looks like {found.format}: name it so, or use --input-format {found.format}"


def not_json_lines(head: bytes) -> str | None:
    """Return what a file is instead of JSON lines, in words that follow its name; None if it may be JSON lines.

    A file is refused only if all of it is of another shape: a broken line among rows is a broken row. Lines of a batch API
    are rows for whoever names the format.
    """
    found = look(head)
    if found.rows or found.format == "openai-batch":
        return None
    if found.format in ("jsonl", None):
        return found.instead
    return f"is in the format {found.format}, not jsonl: leave out --input-format, or name {found.format} with it"


def _binary(head: bytes) -> Found | None:
    packed = next((name for magic, name in _PACKED.items() if head.startswith(magic)), None)
    if packed is not None:
        return Found(instead=f"is packed twice (with {packed} inside); unpack it once")
    if head.startswith(b"PAR1"):
        return Found("parquet")
    if head.startswith(b"PK\x03\x04"):
        return _zip(head)
    if head.startswith(b"\xd0\xcf\x11\xe0"):
        return Found("xlsx")
    if head.startswith(b"SQLite format 3\0"):
        return Found(instead=DATABASE)
    named = signatures.named(head)
    return Found(instead=named) if named is not None else None


def _zip(head: bytes) -> Found:
    if b"application/vnd.oasis.opendocument.spreadsheet" in head[:200]:
        return Found("ods")
    document = signatures.office_document(head)
    if document is not None and b"xl/" not in head:
        return Found(instead=document)
    if b"[Content_Types].xml" in head or b"xl/" in head:
        return Found("xlsx")
    return Found(instead="is a zip file; unpack it and name the file inside")


def _text(head: bytes) -> Found:
    while head.startswith(BOM):
        head = head[len(BOM) :]
    text = head.lstrip()
    first = _decoded(text.partition(b"\n")[0])
    if isinstance(first, dict):
        return of_object(first)
    lines = [line for line in (part.strip() for part in _LINE_END.split(text)) if line]
    if not lines:
        return Found("jsonl")
    if text.startswith(b"["):
        return _array(lines)
    if text.startswith(b"{"):
        return _objects(text, lines)
    return Found("jsonl") if any(line.startswith(b"{") for line in lines) else _other(text, lines[0])


def of_object(first: Mapping[str, Any]) -> Found:
    """Tell what lines hold that begin with this one: rows, or requests or results of a batch API, inside of other objects."""
    if "custom_id" not in first or "prompt" in first or "messages" in first:
        return Found("jsonl")
    result = first.get("result")
    ended = isinstance(result, dict) and isinstance(result.get("type"), str)
    if ended or any(isinstance(first.get(name), dict) for name in ("body", "params", "response", "error")):
        return Found("openai-batch")
    instead = f"holds lines of a batch API with neither request nor result (custom_id, ...), and {_EXAMPLE}"
    return Found(instead=f"{instead}; if they are rows, --prompt asks about their fields, or use --input-format jsonl", rows=True)


def _array(lines: list[bytes]) -> Found:
    first = _decoded(lines[0])
    if isinstance(first, list) and len(lines) > 1 and not all(isinstance(value, dict | str) for value in first):
        # lists among rows are broken rows
        return Found("jsonl") if lines[1].startswith(b"{") else Found(instead=f"has a list on a line of its own, and {_EXAMPLE}")
    return Found("json")


def _objects(text: bytes, lines: list[bytes]) -> Found:
    if isinstance(_decoded(lines[0]), dict):
        # What stands before the first LF is no object, but what stands before the first CR is one: line ends of an old Mac.
        return Found("json")
    if _is_spread(text, lines):
        return Found("json")
    if len(lines) > 1 and all(line.endswith(b",") and isinstance(_decoded(line[:-1]), dict) for line in lines[:-1][:2]):
        # like the inside of an array
        return Found("json")
    if all(_PYTHON.match(line) for line in lines):
        return Found(instead="holds Python dictionaries in single quotes, not JSON: write each row with json.dumps")
    return Found("jsonl")


def _is_spread(text: bytes, lines: list[bytes]) -> bool:
    """Tell whether the first object goes on behind its first line, or ends before the line does."""
    words = text.decode(errors="replace")
    try:
        _, end = json.JSONDecoder(strict=False).raw_decode(words)
    except (ValueError, RecursionError):
        # The object is longer than the head, or broken itself; or it is a broken line, with rows below it.
        if len(lines) < 2 or not lines[0].endswith((b"{", b"[", b",", b":")) or isinstance(_decoded(lines[1]), dict):
            return False
        return lines[0].endswith((b"[", b":")) or lines[1].startswith((b'"', b"}"))
    # over several lines, or with the next one on the same line
    return re.search("[\r\n]", words[:end]) is not None or words[end:].lstrip(" \t")[:1] == "{"


def _other(text: bytes, first: bytes) -> Found:
    if _BINARY.search(text[:1024]):
        return Found(instead=f"is a binary file, not JSON lines: {_EXAMPLE}")
    if first.startswith(b"<"):
        return Found(instead=f"{MARKUP}, not JSON lines: {_EXAMPLE}")
    if delimiters.is_table(text.decode(errors="replace")):
        return Found("csv")
    begins = first.decode(errors="replace")
    begins = begins if len(begins) <= 30 else begins[:29] + "\N{HORIZONTAL ELLIPSIS}"
    return Found(
        instead=f"begins with {begins!r}, which is neither JSON nor a table; --input-format txt reads each line as a prompt, "
        "--input-format csv the cells of a table"
    )


def _decoded(line: bytes) -> Any:
    """Return the value of a line, NaN and lone surrogates included; None if it is no JSON."""
    try:
        return msgspec.json.decode(line)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        pass
    try:
        return json.loads(line)
    except (ValueError, RecursionError):
        return None
