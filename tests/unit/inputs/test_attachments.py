"""What a row names: in its fields, and in the content parts of both dialects."""

import json
from base64 import b64encode
from typing import Any

import pytest
from samples import FILES, JPEG, PDF, PNG, TYPES, WAV

from runner.inputs import sources
from runner.inputs.attachments import media_in, names_local_files
from runner.inputs.cells import Plain
from runner.inputs.keys import fingerprint
from runner.inputs.prompts import Template, asked, make_item
from runner.media import MEDIA_FIELDS, Media
from runner.model import Item, Outcome, Params, Request, Row

TEMPLATE = Template(model="m", system=None, params=Params())
LONG = b64encode(PNG * 9).decode()


def made(fields: dict[str, Any], **options: Any) -> Item | Outcome:
    return make_item(Row(line=1, fields=fields, **options), "k", TEMPLATE)


def request(fields: dict[str, Any], **options: Any) -> Request:
    item = made(fields, **options)
    assert isinstance(item, Item), item
    return item.request


def fault(fields: dict[str, Any], **options: Any) -> str:
    outcome = made(fields, **options)
    assert isinstance(outcome, Outcome)
    return outcome.error or ""


def found(fields: dict[str, Any], **options: Any) -> list[Media]:
    return list(media_in(request(fields, **options).messages))


@pytest.mark.parametrize(
    ("value", "names"),
    [
        ("a.png", ["a.png"]),
        (["a.png", "b.png"], ["a.png", "b.png"]),
        ('["a.png", "b.png"]', ["a.png", "b.png"]),
        ("[draft] a.png", ["[draft] a.png"]),
        ({"bytes": None, "path": "a.png"}, ["a.png"]),
        ([{"path": "a.png"}, None, ""], ["a.png"]),
        ("", []),
        (None, []),
        ([], []),
    ],
)
def test_a_field_names_files_in_every_form(value: Any, names: list[str]) -> None:
    asked_for = request({"prompt": "hi", "images": value})
    assert [media.source for media in media_in(asked_for.messages)] == names
    assert asked_for.media is bool(names)
    if not names:
        assert asked_for.messages == ({"role": "user", "content": "hi"},)


def test_files_go_before_the_text_of_the_last_message_of_the_user() -> None:
    messages = [{"role": "user", "content": "1"}, {"role": "assistant", "content": "2"}, {"role": "user", "content": "3"}]
    sent = request({"messages": messages, "images": "a.png", "files": ["b.pdf"]}).messages
    assert sent[:2] == tuple(messages[:2])
    *media, text = sent[2]["content"]
    assert [one.source for one in media] == ["a.png", "b.pdf"]
    assert text == {"type": "text", "text": "3"}
    # the row itself stays as it was
    assert messages[2]["content"] == "3"
    parts = [{"type": "text", "text": "3"}]
    assert request({"messages": [{"role": "user", "content": parts}], "images": "a.png"}).messages[0]["content"][1:] == parts


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"images": 3}, "images must be a path"),
        ({"images": ["a.png", 3]}, "row_settings = false makes it plain data"),
        ({"files": {"other": 1}}, ""),
        ({"files": "https://h/x"}, "does not tell whether it is a picture or a PDF"),
    ],
)
def test_what_is_no_name_is_a_broken_row(fields: dict[str, Any], words: str) -> None:
    if words:
        assert words in fault({"prompt": "hi", **fields})
    else:
        assert found({"prompt": "hi", **fields}) == []


def test_files_without_a_message_of_the_user_are_a_broken_row() -> None:
    row = {"messages": [{"role": "system", "content": "x"}], "images": "a.png"}
    assert "no message of the user" in fault(row)


def test_plain_data_and_columns_of_other_names() -> None:
    row = {"prompt": "hi", "images": 3, "photo": "a.png"}
    assert not request(row, media={}).media
    assert [media.source for media in found(row, media={"photo": "image"})] == ["a.png"]


def test_bytes_and_base64_are_told_from_paths() -> None:
    for name, content in FILES.items():
        stored = Plain().value({"bytes": content, "path": name})
        (media,) = found({"prompt": "hi", "files": stored})
        assert (media.source, media.media_type) == ("", TYPES[name])
        assert not names_local_files(request({"prompt": "hi", "files": stored}))
    # a path may look like base64
    assert found({"prompt": "hi", "images": "photos/" + "a" * 80})[0].source == "photos/" + "a" * 80


def test_a_url_and_a_data_uri_are_no_local_files() -> None:
    for source in ("https://h/a.png", "HTTPS://h/a.png", "data:image/png;base64,AAAA"):
        assert not names_local_files(request({"prompt": "hi", "images": source}))
    for source in ("a.png", "file:///x/a.png", "/x/a.png"):
        assert names_local_files(request({"prompt": "hi", "images": source}))


PARTS = [
    ({"type": "image_url", "image_url": {"url": "a.png", "detail": "low"}}, "image", True),
    ({"type": "image_url", "image_url": "a.png"}, "image", True),
    ({"type": "image_url", "image_url": {"url": "https://h/a.png"}}, "image", False),
    ({"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA"}}, "image", False),
    ({"type": "input_audio", "input_audio": {"data": "a.wav", "format": "wav"}}, "audio", True),
    ({"type": "input_audio", "input_audio": {"data": "AAAA", "format": "wav"}}, "audio", False),
    ({"type": "file", "file": {"file_data": "a.pdf", "filename": "x"}}, "pdf", True),
    ({"type": "file", "file": {"file_data": "data:application/pdf;base64,AAAA"}}, "pdf", False),
    ({"type": "image", "source": {"type": "url", "url": "a.png"}}, "image", True),
    ({"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": "AAAA"}}, "image", False),
    ({"type": "document", "source": {"type": "url", "url": "https://h/a.pdf"}}, "pdf", False),
]
OTHERS = [
    {"type": "text", "text": "a.png"},
    {"type": "file", "file": {"file_id": "f-1"}},
    {"type": "image", "source": {"type": "file", "file_id": "f-1"}},
    {"type": "document", "source": {"type": "text", "media_type": "text/plain", "data": "x"}},
    {"type": "image_url"},
    {"type": "input_audio", "input_audio": None},
    {"type": ["image"]},
    "text",
]


@pytest.mark.parametrize(("part", "kind", "local"), PARTS)
def test_content_parts_of_both_dialects(part: dict[str, Any], kind: str, local: bool) -> None:
    asked_for = request({"messages": [{"role": "user", "content": [part]}]})
    (media,) = media_in(asked_for.messages)
    assert (media.kind, media.part, names_local_files(asked_for)) == (kind, part, local)


@pytest.mark.parametrize("part", OTHERS)
def test_other_parts_stay_as_they_are(part: Any) -> None:
    sent = request({"messages": [{"role": "user", "content": [part]}]})
    assert not sent.media
    assert sent.messages == ({"role": "user", "content": [part]},)


def test_a_name_is_part_of_the_fingerprint_and_an_empty_field_is_not() -> None:
    def of(**fields: Any) -> int:
        return fingerprint(Row(line=1, fields={"prompt": "hi", **fields}))

    assert of(images="a.png") != of() != of(images="b.png") != of(images="a.png")
    assert of(images="") == of(images=None) == of(images=[]) == of()
    plain = Row(line=1, fields={"prompt": "hi", "images": "a.png"}, media={})
    assert fingerprint(plain) == of()
    assert MEDIA_FIELDS == {"images": "image", "files": ""}


def test_what_a_person_reads_holds_no_base64() -> None:
    part = {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{LONG}"}}
    row = {"messages": [{"role": "user", "content": [{"type": "text", "text": "hi"}, part]}]}
    shown = json.dumps(asked(dict(row), None))
    assert "hi" in shown
    assert "characters of base64" in shown
    assert len(shown) < 400
    assert sources.base64_chars(row) > len(LONG) - 200
    text = "a prompt is left alone, as long as it may be. " * 40
    assert sources.shortened({"prompt": text, "n": [1, None]}) == {"prompt": text, "n": [1, None]}
    assert sources.base64_chars({"prompt": text}) == 0
    # a text that only looks like base64 is a text
    for looks in ("x" * 4_000, "words without a stop " * 200):
        for row in (
            {"prompt": looks},
            {"note": looks},
            {"messages": [{"role": "user", "content": [{"type": "text", "text": looks}]}]},
        ):
            assert sources.base64_chars(row) == 0
            assert sources.shortened(row) == row
    assert sources.base64_chars("x" * 4_000, is_source=True) > 3_900
    assert sources.base64_chars({"source": {"type": "base64", "data": "x" * 4_000}}) > 3_900


def test_a_file_is_known_by_its_beginning() -> None:
    for name, content in FILES.items():
        assert sources.type_of(content[:1024]) == TYPES[name]
    for other in (b"", b"GIF", b"BM" + bytes(60), b"root:x:0:0:", b"RIFF1234AVI ", b"\xff\xfe<\x00", b"PK\x03\x04"):
        assert sources.type_of(other) == ""
    assert sources.type_of(JPEG[:4]) == "image/jpeg"
    assert sources.type_of(b"\n" + PDF) == "application/pdf"
    assert sources.type_of(WAV[:12]) == "audio/wav"
