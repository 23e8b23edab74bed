"""Finds the encoding of a text file: by its byte order mark, by being UTF-8, else a guess, which is told."""

import codecs
import io
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, NamedTuple, cast

from runner.errors import UsageError
from runner.inputs.compression import open_compressed

HEAD_BYTES = 64 * 1024
"""Bytes by which the encoding is guessed, around the first that is not ASCII."""

_BLOCK = 1 << 20
# every byte, or nearly, is a character there
_USUAL = "cp1252"
# UTF-32 comes first, because its byte order mark begins with that of UTF-16; the codec of these names skips the mark
_MARKS = (
    (b"\xff\xfe\x00\x00", "utf-32"),
    (b"\x00\x00\xfe\xff", "utf-32"),
    (b"\xef\xbb\xbf", "utf-8-sig"),
    (b"\xff\xfe", "utf-16"),
    (b"\xfe\xff", "utf-16"),
)
# ASCII characters in two bytes each, without a byte order mark
_WIDE_LITTLE = re.compile(rb"(?:[^\0]\0){4}")
_WIDE_BIG = re.compile(rb"(?:\0[^\0]){4}")
_NOT_ASCII = re.compile(rb"[\x80-\xff]")
_BEYOND_ASCII = re.compile("[^\x00-\x7f]")
# Letters that the languages of cp1252 use often, and signs that are not in the middle of a word. The bytes of other code pages
# nearly always make something else.
_WESTERN = re.compile(
    "(?:[\x00-\x7f]|[\u00c0-\u00cf\u00d1-\u00d6\u00d8-\u00dc\u00df-\u00ef\u00f1-\u00f6\u00f8-\u00fc\u00ff\u0152\u0153]"
    "|(?<![A-Za-z])[\u00a0-\u00bf\u00d7\u20ac\u2018-\u201e\u2013\u2014\u2022\u2026]"
    "|[\u00a0-\u00bf\u00d7\u20ac\u2018-\u201e\u2013\u2014\u2022\u2026\u2122](?![A-Za-z])|\u2019)*"
)


class Encoding(NamedTuple):
    """An encoding by Python's name. guessed: nothing in the file says so."""

    name: str
    guessed: bool = False

    @property
    def in_bytes(self) -> bool:
        """True if each ASCII character is one byte, so that the file can be read from the middle."""
        return not self.name.startswith(("utf-16", "utf-32"))


def named(name: str) -> Encoding:
    """Return the encoding that a user has named. Raises UsageError if Python knows none of that name, or it is none of text."""
    try:
        found = codecs.lookup(name.strip())
        if "a".encode(found.name).decode(found.name) == "a":
            return Encoding("utf-8-sig" if found.name == "utf-8" else found.name)
    except (LookupError, ValueError, UnicodeError):
        pass
    raise UsageError(f"encoding must be the name of an encoding, such as utf-8, cp1252 or utf-16, not {name!r}")


def marked(head: bytes) -> Encoding | None:
    """Return the encoding that the first bytes of a file show for certain; None if they do not."""
    name = next((name for mark, name in _MARKS if head.startswith(mark)), None)
    if name is None and _WIDE_LITTLE.match(head):
        name = "utf-16-le"
    elif name is None and _WIDE_BIG.match(head):
        name = "utf-16-be"
    return Encoding(name) if name is not None else None


def find(path: Path, size: int) -> Encoding:
    """Return the encoding of the first ``size`` bytes of a file. Raises UsageError, OSError.

    A file that is ASCII at first is read as far as its first other byte, which costs less than hashing it.
    """
    with open_compressed(path, size) as (file, _):
        head = file.read(HEAD_BYTES)
        if (sure := marked(head)) is not None:
            return sure
        sample = _first_beyond_ascii(file, head)
    # a sample may end in the middle of a character
    try:
        codecs.getincrementaldecoder("utf-8")().decode(sample)
    except UnicodeDecodeError:
        return Encoding(_guess(sample), guessed=True)
    return Encoding("utf-8-sig")


def _first_beyond_ascii(file: IO[bytes], block: bytes) -> bytes:
    """Return a part of a file that holds its first bytes beyond ASCII, from the beginning of a line on if there is one."""
    before = b""
    while block:
        if (beyond := _NOT_ASCII.search(block)) is not None:
            begin = max(0, beyond.start() - HEAD_BYTES)
            line = block.rfind(b"\n", begin, beyond.start()) + 1
            sample = (before if not begin else b"") + block[max(begin, line) : begin + 2 * HEAD_BYTES]
            return sample + (file.read(HEAD_BYTES) if len(sample) < HEAD_BYTES else b"")
        before, block = block[block.rfind(b"\n") + 1 :][-HEAD_BYTES:], file.read(_BLOCK)
    return b""


def _guess(sample: bytes) -> str:
    """Return the most likely encoding of bytes that are not UTF-8."""
    western = sample.decode(_USUAL, "replace")
    if _WESTERN.fullmatch(western) and 4 * len(_BEYOND_ASCII.findall(western)) < len(western):
        # a short text is told better by its letters than by statistics
        return _USUAL
    # imported here: most files are UTF-8
    from charset_normalizer import from_bytes

    best = from_bytes(sample).best()
    if best is None or best.encoding in ("ascii", "utf_8"):
        return _USUAL
    name = best.encoding.replace("_", "-")
    # of code pages that read the sample alike, the most common one
    return _USUAL if western == sample.decode(name, "replace") else name


@contextmanager
def open_text(path: Path, size: int, encoding: Encoding, *, skip: int = 0) -> Iterator[tuple[IO[str], bool]]:
    """Open the first ``size`` bytes of a text file, unpacked; yield the text and whether the file is compressed.

    Line ends stay as they are. A byte that is no character becomes a lone surrogate, which ``fault`` finds; in UTF-16 and UTF-32,
    U+FFFD. skip: bytes of the content that are not read. Raises the errors of ``open_compressed``.
    """
    with open_compressed(path, size) as (file, compressed):
        while skip and (skipped := file.read(min(skip, _BLOCK))):
            skip -= len(skipped)
        errors = "surrogateescape" if encoding.in_bytes else "replace"
        with io.TextIOWrapper(file, encoding.name, errors, newline="") as text:
            yield text, compressed


@contextmanager
def open_content(path: Path, size: int) -> Iterator[tuple[IO[bytes], bool]]:
    """Open the first ``size`` bytes of a file as ``open_compressed`` does. UTF-16 and UTF-32 are read as UTF-8."""
    with open_compressed(path, size) as (file, compressed):
        encoding = marked(cast("io.BufferedReader", file).peek(8)[:8])
        if encoding is None or encoding.in_bytes:
            yield file, compressed
            return
        with io.TextIOWrapper(file, encoding.name, "replace", newline="") as text:
            yield io.BufferedReader(_InUtf8(text), _BLOCK), compressed


class _InUtf8(io.RawIOBase):
    """A text as a stream of its bytes in UTF-8."""

    def __init__(self, text: IO[str]) -> None:
        self._text, self._rest = text, b""

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]
        if not self._rest:
            self._rest = self._text.read(len(buffer) // 4 + 1).encode(errors="replace")
        part, self._rest = self._rest[: len(buffer)], self._rest[len(buffer) :]
        buffer[: len(part)] = part
        return len(part)


def in_utf8(head: bytes) -> bytes:
    """Return the first bytes of a file as UTF-8 if they are UTF-16 or UTF-32, else as they are."""
    encoding = marked(head)
    return head if encoding is None or encoding.in_bytes else head.decode(encoding.name, "ignore").encode(errors="replace")


def remarks(encoding: Encoding) -> list[str]:
    """Return what a person should know of how a text is read, in words that follow its name."""
    return [f"is not UTF-8 and is read as {encoding.name}; --encoding names another encoding"] if encoding.guessed else []


def fault(text: str) -> str | None:
    """Return why a text cannot be used, in one phrase: it holds bytes that are no characters. None if it can."""
    if text.isascii():
        return None
    try:
        text.encode()
    except UnicodeEncodeError as error:
        return f"the byte {ord(text[error.start]) - 0xDC00:#04x} is no character in this encoding; --encoding names another"
    return None
