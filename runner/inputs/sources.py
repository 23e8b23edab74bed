"""What a text that names a file is: a path, a URL, a data URI or base64; and what kind of file its first bytes show. Pure."""

import re
from base64 import b64decode, b64encode
from binascii import Error as Base64Error
from collections.abc import Mapping
from urllib.parse import unquote, unquote_to_bytes, urlsplit
from urllib.request import url2pathname

from runner.errors import AttachmentError
from runner.media import KINDS
from runner.model import Json
from runner.text import clean

HEAD = 1024
"""Bytes from the beginning of a file that show what it is."""
_LONG = 400
"""Characters of base64 from which it is shortened where a person reads it."""
_BEFORE_DATA = re.compile(r"data:[^,]{0,200};base64,", re.IGNORECASE)
_SHOWN = 80
"""Characters of a path or a URL that a message shows."""
_LEAST_BASE64 = 48
"""Characters that a text must have to be taken for base64. No path with a dot in it is taken for that."""
_LONGEST_PATH = 1_000
_BLANK = re.compile(r"\s")
_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]+)://")
_BASE64 = re.compile(r"[A-Za-z0-9+/]+={0,2}")
_WITH_SPACES = re.compile(r"[A-Za-z0-9+/\s]+={0,2}\s*")
_OF_TEXTS = ("text", "content", "prompt", "system")
"""Keys of texts in messages and in their parts."""
_OF_DATA = ("data", "file_data", "bytes")
"""Keys whose text is base64 without a head."""
_DATA_URI = re.compile(r"data:([^;,]*)((?:;[^;,]*)*),", re.IGNORECASE)
_BEGINNINGS = (
    (b"\x89PNG\r\n\x1a\n", "image/png"),
    (b"\xff\xd8\xff", "image/jpeg"),
    (b"GIF87a", "image/gif"),
    (b"GIF89a", "image/gif"),
    (b"ID3", "audio/mpeg"),
)
_IN_RIFF = {b"WEBP": "image/webp", b"WAVE": "audio/wav"}
_ENDINGS = {
    "png": "image",
    "jpg": "image",
    "jpeg": "image",
    "gif": "image",
    "webp": "image",
    "pdf": "pdf",
    "wav": "audio",
    "mp3": "audio",
}
_OTHER_TYPES = {"image/jpg": "image/jpeg", "audio/x-wav": "audio/wav", "audio/wave": "audio/wav", "audio/mp3": "audio/mpeg"}


def type_of(head: bytes) -> str:
    """Return the media type of a file, given its first bytes; empty if it is none that is sent."""
    for beginning, media_type in _BEGINNINGS:
        if head.startswith(beginning):
            return media_type
    if head.startswith(b"RIFF"):
        return _IN_RIFF.get(head[8:12], "")
    if b"%PDF-" in head:
        return "application/pdf"
    # a frame of MPEG audio, layer III
    is_frame = len(head) > 1 and head[0] == 0xFF and head[1] & 0xE6 == 0xE2
    return "audio/mpeg" if is_frame else ""


def is_url(source: str) -> bool:
    """Return True for an address from which the provider fetches the file itself."""
    return source[:8].lower().startswith(("http://", "https://"))


def is_data_uri(source: str) -> bool:
    """Return True if a text holds the file itself, with its type."""
    return source[:5].lower() == "data:"


def kind_of_url(source: str) -> str:
    """Return the kind of file that a URL leads to, by the ending of its path; empty if that does not tell."""
    return _ENDINGS.get(urlsplit(source).path.rpartition(".")[2].lower(), "")


def kind_of(source: str) -> str:
    """Return the kind of file that a text names or holds, as far as it shows that itself; empty if it is likely another text."""
    text = source.strip()
    if is_data_uri(text):
        head = _DATA_URI.match(text)
        named = head[1].strip().lower() if head is not None else ""
        return KINDS.get(_OTHER_TYPES.get(named, named), "")
    if is_url(text):
        return "" if _BLANK.search(text) else kind_of_url(text)
    if len(text) > _LONGEST_PATH or "." not in text or "\n" in text:
        return KINDS.get(type_of_base64(text), "")
    return _ENDINGS.get(text.rpartition(".")[2].lower(), "")


def type_of_base64(text: str) -> str:
    """Return the media type of the file that a text is the base64 of; empty if it is none. A path is never taken for one."""
    text = text.strip()
    if len(text) < _LEAST_BASE64 or len(text) % 4 or not _BASE64.fullmatch(text):
        return ""
    return type_of(b64decode(text[:_LEAST_BASE64]))


def read_data_uri(source: str) -> tuple[str, str]:
    """Return the media type and the base64 of a data URI. Raises AttachmentError."""
    head = _DATA_URI.match(source)
    if head is None:
        raise AttachmentError(f"{shown(source)} is not a data URI; such as data:image/png;base64,...")
    data = source[head.end() :]
    try:
        is_base64 = ";base64" in head[2].lower()
        raw = b64decode("".join(unquote(data).split()), validate=True) if is_base64 else unquote_to_bytes(data)
    except (Base64Error, ValueError):
        raise AttachmentError(f"{shown(source)} does not hold valid base64") from None
    named = head[1].strip().lower()
    media_type = type_of(raw[:HEAD]) or _OTHER_TYPES.get(named, named)
    if media_type not in KINDS:
        raise AttachmentError(f"{shown(source)} holds no picture, PDF or recording of a known type")
    return media_type, b64encode(raw).decode()


def path_of(source: str) -> str:
    """Return the path that a text names. Raises AttachmentError for a URL that is none."""
    scheme = _SCHEME.match(source)
    if scheme is None:
        return source
    if scheme[1].lower() != "file":
        raise AttachmentError(f"{shown(source)} is neither a path, nor a URL with http or https, nor a data URI")
    parts = urlsplit(source)
    if parts.netloc not in ("", "localhost"):
        raise AttachmentError(f"{shown(source)} names a file of another computer")
    return url2pathname(parts.path)


def shown(source: str) -> str:
    """Return a source as a message shows it."""
    return clean(source, _SHOWN)


def shortened(value: Json, *, is_source: bool = False) -> Json:
    """Return a JSON value with the contents of files cut short, for people. Texts stay as they are, whatever they look like.

    is_source: the value is that of a field that names files, so that a text in it may be base64 alone.
    """
    if isinstance(value, str):
        return _shortened_text(value, bare=is_source)
    if isinstance(value, list):
        return [shortened(inner, is_source=is_source) for inner in value]
    if isinstance(value, Mapping):
        return {
            name: inner
            if name in _OF_TEXTS and isinstance(inner, str)
            else shortened(inner, is_source=is_source or name in _OF_DATA)
            for name, inner in value.items()
        }
    return value


def base64_chars(value: Json, *, is_source: bool = False) -> int:
    """Return how many characters ``shortened`` cuts from a JSON value."""
    if isinstance(value, str):
        return len(value) - len(_shortened_text(value, bare=is_source))
    if isinstance(value, list):
        return sum(base64_chars(inner, is_source=is_source) for inner in value)
    if isinstance(value, Mapping):
        texts = {name for name in _OF_TEXTS if isinstance(value.get(name), str)}
        rest = value.keys() - texts
        return sum(base64_chars(value[name], is_source=is_source or name in _OF_DATA) for name in rest)
    return 0


def _shortened_text(text: str, *, bare: bool) -> str:
    if len(text) <= _LONG:
        return text
    head = _BEFORE_DATA.match(text)
    begin = head.end() if head is not None else 0
    if head is None and not (bare and _WITH_SPACES.fullmatch(text)):
        return text
    return f"{text[: begin + 40]}... ({len(text) - begin:,} characters of base64)"
