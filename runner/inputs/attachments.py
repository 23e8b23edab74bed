"""The pictures, PDFs and recordings that a row names, in fields of its own or in its messages. Pure: looks at no file."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress

import msgspec

from runner.inputs import sources
from runner.inputs.broken_lines import RowFaultError
from runner.media import Media, MediaField
from runner.model import Json, Message, Request

_PARTS = {"image_url": "image", "input_audio": "audio", "file": "pdf", "image": "image", "document": "pdf"}
"""The content parts of both dialects that hold a file, and its kind."""
_AUDIO_TYPES = {"wav": "audio/wav", "mp3": "audio/mpeg"}


def with_media(
    messages: tuple[Message, ...], fields: Mapping[str, Json], named: Mapping[str, MediaField]
) -> tuple[tuple[Message, ...], bool]:
    """Return the messages of a row with all its files in them as ``Media``, and True if there are any.

    named: the fields of the row that name files. Those go in front of the text of the last message of the user, as the providers
    advise. Raises RowFaultError.
    """
    own: list[Media] = []
    if not named.keys().isdisjoint(fields):
        own = [media for name, kind in named.items() for media in _in_field(name, kind, fields)]
    if not own and not _have_parts(messages):
        return messages, False
    found = tuple(_with_parts(message) for message in messages)
    if own:
        found = _with_own(found, own)
    return found, any(True for _ in media_in(found))


def _have_parts(messages: Sequence[Message]) -> bool:
    # for each row: a generator would cost more than the look
    for message in messages:  # noqa: SIM110
        if isinstance(message.get("content"), list):
            return True
    return False


def media_in(messages: Sequence[Message]) -> Iterator[Media]:
    """Yield the files in messages."""
    for message in messages:
        content = message.get("content")
        if isinstance(content, list):
            yield from (part for part in content if isinstance(part, Media))


def is_local(media: Media) -> bool:
    """Return True for a file of this computer, which is read when the request is made."""
    return not (media.data or media.url or sources.is_data_uri(media.source))


def names_local_files(request: Request) -> bool:
    """Return True if a request depends on files of this computer, which may change while the row stays the same."""
    return request.media and any(map(is_local, media_in(request.messages)))


def names_files(messages: Sequence[Message], fields: Mapping[str, Json], named: Mapping[str, MediaField]) -> bool:
    """Return True if a row asked about files that its messages do not hold. named: the fields of the row that name files."""
    if any(True for name in named for _ in sources_in(name, fields.get(name))):
        return True
    return any(map(is_local, media_in(tuple(map(_with_parts, messages)))))


# -- the fields of a row


def _in_field(name: str, kind: MediaField, fields: Mapping[str, Json]) -> Iterator[Media]:
    for source in sources_in(name, fields.get(name)):
        if media_type := sources.type_of_base64(source):
            yield Media(source="", data=source.strip(), media_type=media_type, kind=kind)
        elif sources.is_url(source):
            found = kind or sources.kind_of_url(source)
            if not found:
                words = "its ending does not tell whether it is a picture or a PDF; put pictures into images"
                raise RowFaultError(f"{name}: {sources.shown(source)}: {words}")
            yield Media(source=source, url=source, kind=found)
        else:
            yield Media(source=source, kind=kind)


def sources_in(name: str, value: Json) -> Iterator[str]:
    """Yield the texts that a field holds: one, a list, a list as JSON, or what Hugging Face makes of a file."""
    if isinstance(value, str) and value.lstrip().startswith("["):
        # a name may begin with a bracket
        with suppress(msgspec.DecodeError, RecursionError):
            value = msgspec.json.decode(value, type=list[str])
    for one in value if isinstance(value, list) else [value]:
        text = (one.get("bytes") or one.get("path")) if isinstance(one, Mapping) else one
        if text is None or (isinstance(text, str) and not text.strip()):
            continue
        if not isinstance(text, str):
            hint = "row_settings = false makes it plain data"
            raise RowFaultError(f"{name} must be a path, a URL, a data URI, or a list of them; {hint}")
        yield text


def _with_own(messages: tuple[Message, ...], own: list[Media]) -> tuple[Message, ...]:
    """Return the messages with files in front of the text of the last one of the user."""
    for place in reversed(range(len(messages))):
        message = messages[place]
        if message.get("role") == "user":
            content = message.get("content")
            text = content if isinstance(content, list) else [{"type": "text", "text": content}] if content else []
            return (*messages[:place], {**message, "content": [*own, *text]}, *messages[place + 1 :])
    raise RowFaultError("there is no message of the user to which its files could be added")


# -- content parts in messages


def _with_parts(message: Message) -> Message:
    content = message.get("content")
    if not isinstance(content, list):
        return message
    parts = [(_of_part(part) if isinstance(part, dict) else None) or part for part in content]
    return {**message, "content": parts}


def _of_part(part: Mapping[str, Json]) -> Media | None:
    """Return the file in a content part of either dialect; None if it holds none that is known here."""
    word = part.get("type")
    kind = _PARTS.get(word) if isinstance(word, str) else None
    if kind is None:
        return None
    if word in ("image", "document"):
        return _of_source(part, kind)
    inner = part.get(str(word))
    if word == "image_url":
        source = inner.get("url") if isinstance(inner, dict) else inner
        return _made(source, kind, part)
    if not isinstance(inner, dict):
        return None
    source = inner.get("data" if word == "input_audio" else "file_data")
    media_type = _AUDIO_TYPES.get(str(inner.get("format")), "") if kind == "audio" else "application/pdf"
    # a path has a dot, which base64 has not
    if isinstance(source, str) and source and "." not in source and not sources.is_data_uri(source):
        return Media(source="", kind=kind, part=part, data=source, media_type=media_type)
    return _made(source, kind, part, name=str(inner.get("filename") or ""))


def _of_source(part: Mapping[str, Json], kind: str) -> Media | None:
    """Return the file in a part of the Messages dialect."""
    source = part.get("source")
    if not isinstance(source, dict):
        return None
    if source.get("type") == "url":
        return _made(source.get("url"), kind, part)
    data, media_type = source.get("data"), source.get("media_type")
    if source.get("type") != "base64" or not isinstance(data, str) or not data or not isinstance(media_type, str):
        return None
    return Media(source="", kind=kind, part=part, data=data, media_type=media_type)


def _made(source: Json, kind: str, part: Mapping[str, Json], *, name: str = "") -> Media | None:
    if not isinstance(source, str) or not source:
        return None
    return Media(source=source, kind=kind, part=part, url=source if sources.is_url(source) else "", name=name)
