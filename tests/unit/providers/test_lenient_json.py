"""Lenient decoding of JSON from servers, and encoding of our own."""

import json
from types import MappingProxyType

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runner.errors import StreamError
from runner.providers.lenient_json import count, decode_json, encode_json, join_url, json_text, merged, table, text_of, word


@pytest.mark.parametrize(
    ("data", "value", "notes"),
    [
        (b'{"a":1}', {"a": 1}, ()),
        (b' {"a":[1.5,null,true]}\n', {"a": [1.5, None, True]}, ()),
        (b'"\\ud83d\\ude00"', "😀", ()),
        (b'"\xff"', "\ufffd", ("invalid_utf8",)),
        (b'"\xed\xa0\x80"', "\ufffd" * 3, ("invalid_utf8",)),
        (b'"a\\ud800"', "a\ufffd", ("lone_surrogate",)),
        (b'"\\udc00\\ud800b"', "\ufffd\ufffdb", ("lone_surrogate",)),
        (b'{"\\ud800":["x",{"y":"\\udfff"}],"z":1}', {"\ufffd": ["x", {"y": "\ufffd"}], "z": 1}, ("lone_surrogate",)),
        (b'"\xff\\ud800"', "\ufffd\ufffd", ("invalid_utf8", "lone_surrogate")),
        (b'[NaN,Infinity,-Infinity,"NaN"]', [None, None, None, "NaN"], ()),
        (b"[1e999,-1e999,1e3]", [None, None, 1000.0], ()),
        (b"1" + b"0" * 400, 10**400, ()),
        (b'"a\tb\x00"', "a\tb\x00", ()),
        (b"\xef\xbb\xbf{}", {}, ()),
    ],
)
def test_decode(data: bytes, value: object, notes: tuple[str, ...]) -> None:
    assert decode_json(data) == (value, notes)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"  \n",
        b"{",
        b"{}{}",
        b"[1,]",
        b"{'a':1}",
        b"nul",
        b"<html>",
        b'"\\x"',
        b'"\\ud8"',
        b"\xff",
        b"1" + b"0" * 5000,
        b"[" * 100000,
        b"[" * 100000 + b"]" * 100000,
        b'{"a":' * 100000,
        b'["\\ud800",' + b"[" * 5000,
        b"\x00",
    ],
)
def test_not_json(data: bytes) -> None:
    with pytest.raises(StreamError) as caught:
        decode_json(data)
    assert (caught.value.code, caught.value.verdict) == ("malformed_stream", "retry")
    assert len(str(caught.value)) < 200


@pytest.mark.parametrize("depth", range(700, 1100, 20))
def test_depth_is_never_more_than_a_stream_error(depth: int) -> None:
    for core in (b"1", b'"\\ud800"', b"NaN"):
        try:
            value, _ = decode_json(b"[" * depth + core + b"]" * depth)
            json_text(value)
        except StreamError:
            pass


@given(st.binary(max_size=40) | st.text(max_size=30).map(lambda t: json.dumps(t).encode()))
def test_any_bytes_give_clean_text_or_a_stream_error(data: bytes) -> None:
    try:
        value, _ = decode_json(data)
    except StreamError:
        return
    json_text(value).encode()


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


@given(JSON)
def test_round_trip(value: object) -> None:
    assert decode_json(json.dumps(value).encode()) == (value, ())


def test_encode() -> None:
    assert encode_json({"a": "ä", "b": MappingProxyType({"c": 1})}) == '{"a":"ä","b":{"c":1}}'.encode()
    assert encode_json({"a": float("nan")}) == b'{"a":null}'
    assert encode_json({"a": "\ud800", "b": MappingProxyType({})}) == b'{"a":"\\ud800","b":{}}'
    with pytest.raises(TypeError):
        encode_json({"a": object()})


@pytest.mark.parametrize(
    ("value", "number"),
    [
        (0, 0),
        (12, 12),
        (12.0, 12),
        (12.5, None),
        (-1, None),
        (-1.0, None),
        (True, None),
        ("12", None),
        (None, None),
        (float("nan"), None),
        (float("inf"), None),
        (2**63, None),
        (1e300, None),
        ([], None),
        ({}, None),
    ],
)
def test_count(value: object, number: int | None) -> None:
    assert count(value) == number
    assert type(count(value)) is type(number)


def test_small_readers() -> None:
    assert [word(v) for v in ("x", "", None, 3, ["x"])] == ["x", None, None, None, None]
    assert [table(v) for v in ({"a": 1}, None, [], "x")] == [{"a": 1}, {}, {}, {}]
    assert json_text("x") == "x"
    assert json_text({"ä": [1]}) == '{"ä":[1]}'
    parts = ["a", {"type": "text", "text": "b"}, {"type": "image_url"}, {"text": None}, None, 3]
    assert [text_of(v) for v in ("x", parts, None, {"text": "x"})] == ["x", "ab", "", ""]


def test_merged() -> None:
    body = {"a": 1, "b": None, "c": {"d": 1}}
    assert merged(body, None) == body
    assert merged(body, {"a": None, "c": 2, "e": 0, "f": None}) == {"b": None, "c": 2, "e": 0}


@pytest.mark.parametrize(
    ("base", "url"),
    [
        ("http://h/v1", "http://h/v1/x"),
        ("http://h/v1//", "http://h/v1/x"),
        (" http://h ", "http://h/x"),
        ("http://h/v1/?api=2", "http://h/v1/x?api=2"),
    ],
)
def test_join_url(base: str, url: str) -> None:
    assert join_url(base, "/x") == url
