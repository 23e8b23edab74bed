"""Tells from the first bytes of a file that it holds something other than JSON lines. Pure."""

import json
import re
from typing import Any

import msgspec

HEAD_BYTES = 64 * 1024
"""Bytes of a file that are looked at."""

BOM = b"\xef\xbb\xbf"
_PACKED = {
    b"\x1f\x8b": "gzip inside gzip",
    b"\x28\xb5\x2f\xfd": "zstd",
    b"\xfd7zXZ\x00": "xz",
    b"BZh": "bzip2",
    b"PK\x03\x04": "zip",
}
# UTF-32 comes first, because its byte order mark begins with that of UTF-16.
_WIDE_BOMS = {
    b"\xff\xfe\x00\x00": "UTF-32",
    b"\x00\x00\xfe\xff": "UTF-32",
    b"\xff\xfe": "UTF-16",
    b"\xfe\xff": "UTF-16",
}
# ASCII characters in two bytes each, without a byte order mark
_WIDE_ASCII = re.compile(rb"(?:[^\0]\0){4}|(?:\0[^\0]){4}")
_LINE_END = re.compile(rb"\r\n|\n|\r")
_BINARY = re.compile(rb"[\x00-\x08\x0e-\x1a\x1c-\x1f]")
_PYTHON = re.compile(rb"\{\s*'")
_EXAMPLE = 'every line must be one JSON object, such as {"prompt": "..."}'


def refusal(head: bytes) -> str | None:
    """Return what a file is instead of JSON lines, and what to do: a sentence without its subject. None: it may be JSON lines.

    head: the first ``HEAD_BYTES`` of the file, decompressed. A file is refused only if all of it is of another shape: a broken
    line among rows is a broken row.
    """
    packed = next((name for magic, name in _PACKED.items() if head.startswith(magic)), None)
    if packed is not None:
        return f"is compressed ({packed}), which is not supported: unpack it first, or use gzip instead"
    wide = next((name for mark, name in _WIDE_BOMS.items() if head.startswith(mark)), None)
    if wide is None and _WIDE_ASCII.match(head):
        wide = "UTF-16"
    if wide is not None:
        return f"is {wide} text, not UTF-8: convert it first, e.g. with iconv -f {wide} -t UTF-8"
    while head.startswith(BOM):
        head = head[len(BOM) :]
    text = head.lstrip()
    first = _decoded(text.partition(b"\n")[0])
    if isinstance(first, dict):
        return _batch(first)
    lines = [line for line in (part.strip() for part in _LINE_END.split(text)) if line]
    if not lines:
        return None
    if text.startswith(b"["):
        return _array(lines)
    if text.startswith(b"{"):
        return _objects(text, lines)
    return None if any(line.startswith(b"{") for line in lines) else _other(text, lines[0])


def _array(lines: list[bytes]) -> str | None:
    alone = isinstance(_decoded(lines[0]), list)
    if alone and len(lines) > 1:
        return None if lines[1].startswith(b"{") else f"has a list on a line of its own, and {_EXAMPLE}"
    return "is a JSON array, not JSON lines: put each object on a line of its own, e.g. with jq -c '.[]'"


def _objects(text: bytes, lines: list[bytes]) -> str | None:
    if isinstance(_decoded(lines[0]), dict):
        # What stands before the first LF is no object, but what stands before the first CR is one.
        return "has the line ends of an old Mac (CR alone): convert it first, e.g. with tr '\\r' '\\n'"
    if _is_spread(text, lines):
        return "holds JSON objects that go over several lines: put each object on one line, e.g. with jq -c ."
    if len(lines) > 2 and all(line.endswith(b",") and isinstance(_decoded(line[:-1]), dict) for line in lines[:2]):
        return "has a comma behind each object, like the inside of a JSON array: remove these commas"
    if all(_PYTHON.match(line) for line in lines):
        return "holds Python dictionaries in single quotes, not JSON: write each row with json.dumps"
    return None


def _batch(first: dict[str, Any]) -> str | None:
    """Refuse the formats of batch APIs, in which the request is inside of another object."""
    if "custom_id" not in first or "prompt" in first or "messages" in first:
        return None
    inner = next((name for name in ("body", "params") if isinstance(first.get(name), dict)), None)
    if inner is None:
        return f"holds lines of a Batch API without a prompt (custom_id, ...), and {_EXAMPLE}"
    fields = f"model: .{inner}.model, messages: .{inner}.messages, extra_body: (.{inner} | del(.model, .messages))"
    return (
        f"is in the format of a Batch API (custom_id, {inner}), not of prompts: convert it first, "
        f"e.g. with jq -c '{{id: .custom_id, {fields}}}'"
    )


def _is_spread(text: bytes, lines: list[bytes]) -> bool:
    """Tell whether the first object goes on behind its first line."""
    words = text.decode(errors="replace")
    try:
        _, end = json.JSONDecoder(strict=False).raw_decode(words)
    except (ValueError, RecursionError):
        # The object is longer than the head, or broken itself; or it is a broken line, with rows below it.
        if len(lines) < 2 or not lines[0].endswith((b"{", b"[", b",", b":")) or isinstance(_decoded(lines[1]), dict):
            return False
        return lines[0].endswith((b"[", b":")) or lines[1].startswith((b'"', b"}"))
    return re.search("[\r\n]", words[:end]) is not None


def _other(text: bytes, first: bytes) -> str:
    if _BINARY.search(text[:1024]):
        return f"is a binary file, not JSON lines: {_EXAMPLE}"
    if first.startswith(b"<"):
        return f"looks like HTML or XML, not JSON lines: {_EXAMPLE}"
    begins = first.decode(errors="replace")
    begins = begins if len(begins) <= 30 else begins[:29] + "\N{HORIZONTAL ELLIPSIS}"
    return f"is not JSON lines but begins with {begins!r}; {_EXAMPLE} (of plain text: jq -Rc '{{prompt: .}}')"


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
