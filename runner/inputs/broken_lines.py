"""What is wrong with a line that is not JSON, and what can be read of it all the same. Pure."""

import re

import msgspec

from runner.inputs.keys import whole

_ID_BYTES = 1 << 20
"""Bytes of a line in which its id is looked for."""

# A pair of surrogate escapes, a lone one (the group), or any other escape. Matching every escape ensures that a backslash is
# never read as part of two escapes.
_ESCAPES = re.compile(
    rb"\\(?:u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2}|(u[dD][89a-fA-F][0-9a-fA-F]{2})|.)", re.DOTALL
)
_POSITION = re.compile(r" \(byte (\d+)\)$")
_KINDS = {list: "a list", str: "a string", int: "a number", float: "a number", bool: "true or false", type(None): "null"}
# a string, which is left alone, or what programs write for a number that is none (the group)
_NOT_A_NUMBER = re.compile(rb'"[^"\\]*(?:\\.[^"\\]*)*"|(?<![\w.])(-?(?:NaN|Infinity|Inf)(?![\w.]))', re.IGNORECASE | re.DOTALL)
# what precedes any of them, so that other broken lines, which may be long, are searched only once
_PERHAPS_ONE = re.compile(rb"[:\[,]\s*-?(?:NaN|Inf)", re.IGNORECASE)
_QUOTED = rb'"[^"\\]*(?:\\.[^"\\]*)*"' + rb"|'[^'\\]*(?:\\.[^'\\]*)*'"
# a quoted string; a mark; a word; or a quotation mark that is never closed
_TOKEN = re.compile(_QUOTED + rb"|[{}\[\]:,]|[^\s\"'{}\[\]:,]+|[\"']", re.DOTALL)
_BOM = b"\xef\xbb\xbf"


class RowFaultError(Exception):
    """No request can be made from a row; ``str()`` says why, in one phrase."""


def reason(line: bytes) -> str:
    """Return why the decoder refused a line, in one phrase."""
    nul = line.find(b"\0")
    if nul >= 0:
        return f"a NUL byte at {_column(line, nul)}"
    try:
        line.decode()
    except UnicodeDecodeError as error:
        return f"not valid UTF-8 at {_column(line, error.start)}"
    for escape in _ESCAPES.finditer(line):
        if escape[1]:
            name = escape[0].decode()
            return f"a lone surrogate escape, {name}, at {_column(line, escape.start())}: half a character"
    try:
        value = msgspec.json.decode(line)
    except RecursionError:
        return "nested too deeply"
    except msgspec.ValidationError:
        return "a number out of range"
    except msgspec.DecodeError as error:
        return f"not JSON: {_explained(line, str(error))}"
    return f"not a JSON object but {_KINDS.get(type(value), 'something else')}"


def _explained(line: bytes, message: str) -> str:
    position = _POSITION.search(message)
    if position is None:
        # Only one message of msgspec has no position: the line stops in the middle of a value.
        return "the line ends too early"
    byte = int(position[1])
    why = message[: position.start()].removeprefix("JSON is malformed: ")
    # msgspec's position is one byte too high after trailing characters
    if why == "trailing characters":
        byte -= 1
    return f"{why} at {_column(line, byte)}"


def _column(line: bytes, byte: int) -> str:
    return f"column {len(line[:byte].decode(errors='replace')) + 1}"


def without_nan(line: bytes) -> tuple[bytes, int]:
    """Return a line with null in place of NaN and the infinities, which Python and pandas write; and the number of them."""
    count = 0
    if not _PERHAPS_ONE.search(line):
        return line, 0

    def null(match: re.Match[bytes]) -> bytes:
        nonlocal count
        if match[1] is None:
            return match[0]
        count += 1
        return b"null"

    return _NOT_A_NUMBER.sub(null, line), count


def own_id(line: bytes) -> str | int | None:
    """Return the id of a row whose line is broken; None if it has none, or none that can be read for certain.

    The line is taken as far as it looks like an object: an ``id`` at its top level counts, one inside of another value does not.
    """
    depth, key, before = 0, b"", b""
    tokens = _TOKEN.finditer(line[:_ID_BYTES])
    for match in tokens:
        token = match[0]
        if token in (b'"', b"'") or (depth == 0 and token not in (b"{", _BOM)):
            return None
        if depth == 1 and before == b":" and key.strip(b"\"'") == b"id":
            following = next(tokens, None)
            return _id(token, following[0] if following is not None else b"")
        if depth == 1 and before in (b"{", b","):
            key = token
        if token in (b"{", b"["):
            depth += 1
        elif token in (b"}", b"]"):
            depth -= 1
            if depth == 0:
                return None
        before = token
    return None


def _id(token: bytes, following: bytes) -> str | int | None:
    """Return the id that a token spells, if what follows it confirms that it ends there."""
    is_text = token[:1] in (b'"', b"'")
    # A word at the end of the line may have been cut. A quotation mark inside of a text would be followed by a word.
    if following not in (b",", b"}") and not (is_text and following[:1] in (b"", b'"', b"'")):
        return None
    if token[:1] == b"'" and b'"' not in token and b"\\" not in token:
        token = b'"' + token[1:-1] + b'"'
    try:
        value = whole(msgspec.json.decode(token))
    except (msgspec.DecodeError, UnicodeDecodeError):
        return None
    return (value or None) if isinstance(value, str) else value if type(value) is int else None
