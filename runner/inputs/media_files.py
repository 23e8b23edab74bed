"""Reads the files that a row names, when its request is made: nothing of them is kept.

    Media("photos/1.png") --outlined--> type and size, from the beginning of the file
                          --filled----> type and data as base64 -----------------------> a part of the dialect

Only regular files in one folder are read, whatever the row, a link or ``..`` says: the rows may come from somebody else.
"""

import os
import stat
from base64 import b64encode
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import IO, NamedTuple, NoReturn

from msgspec import structs

from runner import databases
from runner.errors import AttachmentError
from runner.inputs import sources
from runner.inputs.sources import shown
from runner.media import KINDS, Media, MediaLimits
from runner.model import Json, Request

MOST_BYTES = 512 << 20
"""Bytes of a request with all its files, whatever its provider accepts."""

IMAGE_TOKENS = 1_500
"""Tokens expected for a picture. Providers count 85 to 5,000, by its size in pixels."""
PDF_BYTES_PER_TOKEN = 40
"""A page is about 2,500 tokens, and 100 kB."""
AUDIO_BYTES_PER_TOKEN = 1_600
"""A second of audio is about 10 tokens, and 16 kB as MP3."""

_NAMES = {"image": "a picture", "pdf": "a PDF", "audio": "a recording"}
_TYPES = "PNG, JPEG, GIF, WebP, PDF, WAV or MP3"


class Outlined(NamedTuple):
    """A request without the contents of its files, the tokens that these are expected to have, and their bytes as base64."""

    request: Request
    tokens: int
    size: int


class Dialect(NamedTuple):
    """How a provider takes files. part: makes a content part; None: it takes none. own: the types of its own parts."""

    name: str
    part: Callable[[Media], Json] | None
    own: frozenset[str]
    limits: MediaLimits


class MediaFiles:
    """The files of the rows of one job. All methods block: call them in a thread.

    root: the folder that holds them. refusal: returns why none may be sent, or None; called when a row names the first one.
    """

    def __init__(self, root: Path, dialect: Dialect, refusal: Callable[[], str | None] = lambda: None) -> None:
        self._root, self._dialect, self._refusal = root, dialect, refusal
        self._allowed = False

    def outlined(self, request: Request) -> Outlined:
        """Look at the beginnings of all files. Raises AttachmentError for one that cannot be sent."""
        tokens, sizes = 0, _Sizes(self._dialect.limits)

        def part(media: Media) -> Json:
            nonlocal tokens
            looked, size = self._looked(media)
            tokens += _tokens(looked.kind, size)
            sizes.add(looked, size, checked=not self._passes(media))
            return self._part(media, structs.replace(looked, data=""), whole=False)

        return Outlined(_mapped(request, part), tokens, sizes.base64)

    def filled(self, request: Request) -> Request:
        """Return the request with the contents of its files. Raises AttachmentError."""
        sizes = _Sizes(self._dialect.limits)
        return _mapped(request, lambda media: self._filled(media, sizes))

    def shown(self, request: Request) -> Request:
        """Return the request for a person to read, with the number of its bytes in place of each content."""

        def part(media: Media) -> Json:
            if self._passes(media):
                return sources.shortened(media.part)
            looked, size = self._looked(media)
            words = f"({_base64_size(size):,} characters of base64)"
            return self._part(media, structs.replace(looked, data="" if looked.url else words), whole=False)

        self.outlined(request)
        return _mapped(request, part)

    def _filled(self, media: Media, sizes: "_Sizes") -> Json:
        if self._passes(media):
            return media.part
        whole, size = self._read(media)
        sizes.add(whole, size)
        return self._part(media, whole, whole=True)

    def _passes(self, media: Media) -> bool:
        """Return True for a part in the dialect's own form that names no file of this computer: it is sent as it stands."""
        if media.part is None:
            return False
        is_own = self._dialect.part is None or media.part.get("type") in self._dialect.own
        return is_own and bool(media.data or media.url or sources.is_data_uri(media.source))

    def _part(self, given: Media, media: Media, *, whole: bool) -> Json:
        """Return the content part for a file whose kind is known. given: as the row has it. whole: with its content."""
        if self._dialect.part is None:
            if not whole and given.part is not None:
                return {"type": given.part.get("type")}
            raise AttachmentError(f"the provider {self._dialect.name} takes no files (its module has no content_part)")
        if self._passes(given) and given.url:
            return given.part
        return self._dialect.part(media)

    def _looked(self, media: Media) -> tuple[Media, int]:
        """Return a file with its type and kind, and the number of its bytes."""
        if media.url:
            return media, 0
        if self._passes(media):
            return media, len(media.data or media.source) * 3 // 4
        if media.data:
            return _of_kind(media, media.media_type), len(media.data) * 3 // 4
        if sources.is_data_uri(media.source):
            return _given(media)
        return self._of_file(media, lambda file, size: (_type_of(media, file.read(sources.HEAD)), "", size))

    def _read(self, media: Media) -> tuple[Media, int]:
        """Return a file with its content as base64, and the number of its bytes."""
        if media.url or media.data:
            return self._looked(media)
        if sources.is_data_uri(media.source):
            return _given(media)
        return self._of_file(media, partial(_content, media))

    def _of_file(self, media: Media, look: "Callable[[IO[bytes], int], tuple[str, str, int]]") -> tuple[Media, int]:
        """Return what a look at a file of this computer shows: its type, its content and its bytes."""
        path = self._path(media.source)
        try:
            found = path.stat()
            if not stat.S_ISREG(found.st_mode):
                raise AttachmentError(f"{shown(media.source)} is no regular file; only such are sent")
            if not found.st_size:
                raise AttachmentError(f"{shown(media.source)} is empty")
            if found.st_size > MOST_BYTES:
                _refuse_too_large(media, found.st_size, MOST_BYTES)
            if databases.is_used(path):
                raise AttachmentError(f"{shown(media.source)} is not {_TYPES}, by its content; nothing else is sent")
            with open(path, "rb", opener=_opened) as file:
                media_type, data, size = look(file, found.st_size)
        except (FileNotFoundError, NotADirectoryError):
            raise AttachmentError(f"there is no file {shown(media.source)} in {self._root}") from None
        except OSError as error:
            raise AttachmentError(f"{shown(media.source)} cannot be read: {error.strerror or error}") from None
        return _of_kind(structs.replace(media, data=data, name=media.name or path.name), media_type), size

    def _path(self, source: str) -> Path:
        """Return the path of a file in the folder, with every link in it resolved. Raises AttachmentError."""
        if not self._allowed:
            words = self._refusal()
            if words is not None:
                raise AttachmentError(words)
            self._allowed = True
        try:
            root = os.path.realpath(self._root)
            path = Path(os.path.realpath(os.path.join(root, sources.path_of(source))))  # noqa: PTH118 - Path drops no NUL either
            inside = path.is_relative_to(root)
            os.fsencode(path)
        except (OSError, ValueError):
            raise AttachmentError(f"{shown(source)} is no name that a file can have") from None
        if not inside:
            raise AttachmentError(
                f"{shown(source)} is outside of {self._root}; if it is to be sent, --files-root DIR names a folder that holds it"
            )
        return path


class _Sizes:
    """The sizes of the files of one request. Raises AttachmentError for what the provider does not take."""

    def __init__(self, limits: MediaLimits) -> None:
        self._limits = limits
        self._pdfs = self.base64 = 0

    def add(self, media: Media, size: int, *, checked: bool = True) -> None:
        """Count a file. size: its bytes. checked: False for what is sent as the user wrote it."""
        encoded = _base64_size(size)
        self.base64 += encoded
        if not checked:
            return
        limits, request = self._limits, min(self._limits.request or MOST_BYTES, MOST_BYTES)
        self._pdfs += size if media.kind == "pdf" else 0
        if media.kind == "image" and limits.image is not None and encoded > limits.image:
            _refuse_too_large(media, encoded, limits.image, "as base64, and the provider takes pictures of")
        if media.kind == "pdf" and limits.pdfs is not None and self._pdfs > limits.pdfs:
            _refuse_too_large(media, self._pdfs, limits.pdfs, "with the PDFs before it, and the provider takes")
        if self.base64 > request:
            _refuse_too_large(media, self.base64, request, "as base64, with the files before it, and a request may have")


def _mapped(request: Request, part: Callable[[Media], Json]) -> Request:
    """Return a request with content parts in place of its files."""
    messages = [
        {**message, "content": [part(one) if isinstance(one, Media) else one for one in content]}
        if isinstance(content := message.get("content"), list)
        else message
        for message in request.messages
    ]
    return structs.replace(request, messages=tuple(messages), media=False)


def _opened(name: str, flags: int) -> int:
    """Open what was a regular file a moment ago. A pipe or a link in its place is not waited for or followed."""
    return os.open(name, flags | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_NOFOLLOW", 0))


def _content(media: Media, file: IO[bytes], size: int) -> tuple[str, str, int]:
    """Read a whole file. size: its bytes when it was opened; a file that grows meanwhile is not read further."""
    content = file.read(size)
    return _type_of(media, content[: sources.HEAD]), b64encode(content).decode(), len(content)


def _given(media: Media) -> tuple[Media, int]:
    """Return the file that a data URI holds, and the number of its bytes."""
    media_type, data = sources.read_data_uri(media.source)
    return _of_kind(structs.replace(media, data=data), media_type), len(data) * 3 // 4


def _type_of(media: Media, head: bytes) -> str:
    media_type = sources.type_of(head)
    if not media_type:
        raise AttachmentError(f"{shown(media.source)} is not {_TYPES}, by its content; nothing else is sent")
    return media_type


def _of_kind(media: Media, media_type: str) -> Media:
    """Return a file with its type. Raises AttachmentError if it is of another kind than its place in the row says."""
    kind = KINDS.get(media_type, media.kind)
    if media.kind and kind != media.kind:
        hint = "; the field files is for files of any kind" if media.part is None else ""
        raise AttachmentError(f"{shown(media.source) or 'a file'} is {_NAMES[kind]}, where {_NAMES[media.kind]} is named{hint}")
    return structs.replace(media, kind=kind, media_type=media_type)


def _tokens(kind: str, size: int) -> int:
    if kind == "audio":
        return max(100, size // AUDIO_BYTES_PER_TOKEN)
    return IMAGE_TOKENS if kind == "image" else max(IMAGE_TOKENS, size // PDF_BYTES_PER_TOKEN)


def _base64_size(size: int) -> int:
    return -(-size // 3) * 4


def _refuse_too_large(media: Media, size: int, most: int, words: str = "and a request may have") -> NoReturn:
    """Raise AttachmentError. size, most: bytes. words: what stands between them."""
    name = shown(media.source) or "a file"
    raise AttachmentError(f"{name} is too large: {size / 1e6:,.1f} MB {words} {most / 1e6:,.1f} MB")
