"""Reading the files of a row: where they may be, what they may be, how large, and how each dialect encodes them."""

import os
from base64 import b64encode
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from msgspec import structs
from samples import FILES, PDF, PNG, TYPES, WAV, png, write_files

from runner.errors import AttachmentError
from runner.inputs.media_files import IMAGE_TOKENS, Dialect, MediaFiles
from runner.inputs.prompts import Template, make_item
from runner.media import MediaLimits
from runner.model import Item, Params, Request, Row
from runner.providers.dialects import anthropic, openai

NONE = MediaLimits()
OPENAI = Dialect("openai", openai.content_part, openai.CONTENT_PARTS, NONE)
ANTHROPIC = Dialect("anthropic", anthropic.content_part, anthropic.CONTENT_PARTS, NONE)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    write_files(tmp_path / "in")
    (tmp_path / "secret.png").write_bytes(PNG)
    return tmp_path / "in"


def request(**fields: Any) -> Request:
    made = make_item(Row(line=1, fields={"prompt": "hi", **fields}), "k", Template(model="m", system=None, params=Params()))
    assert isinstance(made, Item), made
    return made.request


def parts_request(*parts: Any) -> Request:
    return request(prompt=None, messages=[{"role": "user", "content": list(parts)}])


def parts(root: Path, dialect: Dialect, asked: Request) -> list[Any]:
    files = MediaFiles(root, dialect)
    outline = files.outlined(asked)
    assert not outline.request.media
    filled = files.filled(asked)
    # the outline has the same parts, without the contents
    content, empty = filled.messages[-1]["content"], outline.request.messages[-1]["content"]
    assert [part["type"] for part in content] == [part["type"] for part in empty]
    result: list[Any] = content
    return result


def refused(root: Path, dialect: Dialect, asked: Request) -> str:
    """The outline refuses it, before a place is taken for it, and in the same words as the reading itself."""
    files = MediaFiles(root, dialect)
    words = []
    for step in (files.outlined, files.filled, files.shown):
        with pytest.raises(AttachmentError) as caught:
            step(asked)
        words.append(str(caught.value))
    assert len(set(words)) == 1
    assert "\n" not in words[0]
    return words[0]


def uri(name: str) -> str:
    return f"data:{TYPES[name]};base64,{b64encode(FILES[name]).decode()}"


def test_openai_encodes_every_kind(root: Path) -> None:
    content = parts(root, OPENAI, request(images=["1.png", "2.jpg", "https://h/x"], files=["5.pdf", "6.wav", "7.mp3", "4.webp"]))
    urls = [uri("1.png"), uri("2.jpg"), "https://h/x"]
    assert content[:3] == [{"type": "image_url", "image_url": {"url": url}} for url in urls]
    assert content[3] == {"type": "file", "file": {"filename": "5.pdf", "file_data": uri("5.pdf")}}
    assert content[4] == {"type": "input_audio", "input_audio": {"data": b64encode(WAV).decode(), "format": "wav"}}
    assert content[5]["input_audio"]["format"] == "mp3"
    assert content[6:] == [{"type": "image_url", "image_url": {"url": uri("4.webp")}}, {"type": "text", "text": "hi"}]


def test_anthropic_encodes_pictures_and_pdfs(root: Path) -> None:
    content = parts(root, ANTHROPIC, request(images=["3.gif", "https://h/x"], files=["5.pdf", "https://h/y.pdf"]))

    def source(name: str) -> dict[str, str]:
        return {"type": "base64", "media_type": TYPES[name], "data": b64encode(FILES[name]).decode()}

    assert content[:2] == [
        {"type": "image", "source": source("3.gif")},
        {"type": "image", "source": {"type": "url", "url": "https://h/x"}},
    ]
    assert content[2:4] == [
        {"type": "document", "source": source("5.pdf")},
        {"type": "document", "source": {"type": "url", "url": "https://h/y.pdf"}},
    ]


@pytest.mark.parametrize(
    ("dialect", "source", "words"),
    [
        (ANTHROPIC, "6.wav", "takes no recordings"),
        (OPENAI, "https://h/y.pdf", "takes a PDF only as data"),
        (OPENAI, "https://h/y.mp3", "takes a recording only as data"),
        (Dialect("mine", None, frozenset(), NONE), "1.png", "the provider mine takes no files"),
    ],
)
def test_what_a_dialect_does_not_take_is_said(root: Path, dialect: Dialect, source: str, words: str) -> None:
    assert words in refused(root, dialect, request(files=source))


def test_a_part_of_the_user_in_the_same_dialect_is_sent_as_it_is(root: Path) -> None:
    own: list[tuple[Dialect, Any]] = [
        (OPENAI, {"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA", "detail": "low"}}),
        (OPENAI, {"type": "image_url", "image_url": {"url": "data:image/heic;base64,odd"}, "other": 1}),
        (OPENAI, {"type": "file", "file": {"file_data": "https://h/x.pdf"}}),
        (OPENAI, {"type": "input_audio", "input_audio": {"data": "AAAA", "format": "flac"}}),
        (ANTHROPIC, {"type": "image", "source": {"type": "base64", "media_type": "image/bmp", "data": "AAAA"}, "x": 1}),
        (Dialect("mine", None, frozenset(), NONE), {"type": "image_url", "image_url": {"url": "https://h/x.png"}}),
    ]
    for dialect, part in own:
        assert MediaFiles(root, dialect).filled(parts_request(part)).messages[0]["content"] == [part]
        MediaFiles(root, dialect).outlined(parts_request(part))


def test_a_path_in_a_part_of_the_user_is_read_and_the_rest_of_the_part_is_kept(root: Path) -> None:
    (image,) = parts(root, OPENAI, parts_request({"type": "image_url", "image_url": {"url": "1.png", "detail": "low"}}))
    assert image == {"type": "image_url", "image_url": {"url": uri("1.png"), "detail": "low"}}
    (file,) = parts(root, OPENAI, parts_request({"type": "file", "file": {"file_data": "5.pdf", "filename": "mine.pdf"}}))
    assert file["file"] == {"filename": "mine.pdf", "file_data": uri("5.pdf")}
    cached = {"type": "document", "source": {"type": "url", "url": "5.pdf"}, "cache_control": {"type": "ephemeral"}}
    (document,) = parts(root, ANTHROPIC, parts_request(cached))
    assert document["cache_control"] == {"type": "ephemeral"}
    assert document["source"]["data"] == b64encode(PDF).decode()


def test_a_part_of_the_other_dialect_is_translated(root: Path) -> None:
    for url in ("1.png", uri("1.png")):
        (image,) = parts(root, ANTHROPIC, parts_request({"type": "image_url", "image_url": {"url": url, "detail": "low"}}))
        data = {"type": "base64", "media_type": "image/png", "data": b64encode(PNG).decode()}
        assert image == {"type": "image", "source": data}
    source = {"type": "base64", "media_type": "image/png", "data": b64encode(PNG).decode()}
    (image,) = parts(root, OPENAI, parts_request({"type": "image", "source": source}))
    assert image == {"type": "image_url", "image_url": {"url": uri("1.png")}}


def linked(root: Path) -> str:
    (root / "link.png").symlink_to(root.parent / "secret.png")
    return "link.png"


def linked_folder(root: Path) -> str:
    (root / "up").symlink_to(root.parent)
    return "up/secret.png"


def pipe(root: Path) -> str:
    os.mkfifo(root / "pipe.png")
    return "pipe.png"


def looped(root: Path) -> str:
    (root / "loop.png").symlink_to(root / "loop.png")
    return "loop.png"


def written(content: bytes) -> Callable[[Path], str]:
    def write(root: Path) -> str:
        (root / "x.png").write_bytes(content)
        return "x.png"

    return write


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("nothing.png", "there is no file nothing.png"),
        ("1.png/x", "there is no file"),
        ("../secret.png", "--files-root"),
        ("/etc/passwd", "--files-root"),
        ("file:///etc/passwd", "--files-root"),
        ("file://localhost/etc/passwd", "--files-root"),
        ("file://other/x.png", "of another computer"),
        ("file:///%2e%2e/%2e%2e/etc/passwd", "--files-root"),
        ("ftp://h/x.png", "neither a path, nor a URL"),
        ("s3://bucket/x.png", "neither a path, nor a URL"),
        ("data:image/png;base64,%%%", "valid base64"),
        ("data:image/png", "is not a data URI"),
        ("data:text/plain;base64,aGk=", "no picture, PDF or recording"),
        ("a\0b.png", "no name that a file can have"),
        ("x" * 5000, ""),
        (".", "no regular file"),
        (linked, "--files-root"),
        (linked_folder, "--files-root"),
        (pipe, "no regular file"),
        (looped, ""),
        (written(b""), "is empty"),
        (written(b"root:x:0:0:root:/root:/bin/sh\n"), "is not PNG, JPEG"),
        (written(PDF), "is a PDF, where a picture is named"),
    ],
)
def test_what_may_not_be_sent_is_one_sentence(root: Path, name: Any, words: str) -> None:
    source = name if isinstance(name, str) else name(root)
    assert words in refused(root, OPENAI, request(images=source))


def test_a_link_inside_of_the_folder_a_file_url_and_a_wider_root(root: Path) -> None:
    (root / "link.png").symlink_to(root / "1.png")
    for source in ("link.png", (root / "1.png").as_uri(), str(root / "1.png"), "x/../1.png"):
        (root / "x").mkdir(exist_ok=True)
        assert parts(root, OPENAI, request(images=source))[0]["image_url"]["url"] == uri("1.png")
    assert parts(root.parent, OPENAI, request(images="secret.png"))[0]["image_url"]["url"] == uri("1.png")


def test_limits_count_base64_all_pdfs_and_the_whole_request(root: Path) -> None:
    (root / "big.png").write_bytes(png(100, 100))
    encoded = len(b64encode(png(100, 100)))
    fits = structs.replace(NONE, image=encoded)
    parts(root, OPENAI._replace(limits=fits), request(images=["big.png", "big.png"]))
    assert "too large" in refused(root, OPENAI._replace(limits=MediaLimits(image=encoded - 1)), request(images="big.png"))
    for limits in (MediaLimits(pdfs=2 * len(PDF) - 1), MediaLimits(request=2 * len(PDF))):
        parts(root, OPENAI._replace(limits=limits), request(files="5.pdf"))
        assert "too large" in refused(root, OPENAI._replace(limits=limits), request(files=["5.pdf", "5.pdf"]))
    assert anthropic.MEDIA_LIMITS.image == 10 << 20


def test_a_file_counts_by_its_expected_tokens_and_not_by_its_base64(root: Path) -> None:
    (root / "big.png").write_bytes(png(400, 400))
    outline = MediaFiles(root, OPENAI).outlined(request(images=["big.png", "https://h/x"]))
    assert outline.tokens == 2 * IMAGE_TOKENS
    assert outline.size > 480_000


def test_what_a_user_has_encoded_takes_room_too(root: Path) -> None:
    data = b64encode(png(400, 400)).decode()
    for dialect, part in (
        (OPENAI, {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{data}"}}),
        (ANTHROPIC, {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": data}}),
    ):
        assert MediaFiles(root, dialect).outlined(parts_request(part)).size >= len(data)


def test_nothing_is_read_where_that_is_not_allowed(root: Path) -> None:
    asked: list[int] = []

    def refusal() -> str | None:
        asked.append(1)
        return "not there" if len(asked) == 1 else None

    files = MediaFiles(root, OPENAI, refusal)
    # what is no file of this computer needs no word
    files.filled(request(images=["https://h/x", uri("1.png")]))
    assert asked == []
    with pytest.raises(AttachmentError, match="not there"):
        files.filled(request(images="1.png"))
    files.filled(request(images=["1.png", "2.jpg"]))
    assert len(asked) == 2
