"""How a batch API is spoken to: what is sent, what its refusals mean, and downloads that break off, over raw sockets."""

import asyncio
import gzip
import json
import os
import ssl
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from raw_server import FIN, HANG, RST, RawServer, Received, Reply, free_port

from runner.batches import BatchService
from runner.errors import AttemptError, AttemptTimeoutError, ProviderError, StoreError, TransportError
from runner.providers.batch import download
from runner.providers.batch.rules import rules_of
from runner.providers.batch.service import open_service
from runner.providers.batch.transport import Way
from runner.providers.dialects import anthropic, openai

pytestmark = pytest.mark.anyio
KEY = "sk-secret-key-0123456789"
LINES = b"".join(b'{"custom_id":"row-%d"}\n' % number for number in range(200))
BATCH = {"id": "b1", "status": "validating", "created_at": 1}


@pytest.fixture(autouse=True)
def _no_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(download, "PAUSE_S", 0.0)


def reply(body: bytes | object, status: int = 200, *then: Any, length: int | None = None, **headers: str) -> Reply:
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    sent = {"content_length": str(len(data) if length is None else length), **headers}
    lines = [f"{name.replace('_', '-')}: {value}\r\n" for name, value in sent.items() if value]
    return Reply((f"HTTP/1.1 {status} X\r\n{''.join(lines)}\r\n".encode() + data, *then))


@asynccontextmanager
async def opened(base_url: str, dialect: str = "openai", key: str | None = KEY, **way: Any) -> AsyncIterator[BatchService]:
    made = openai.make if dialect == "openai" else anthropic.make
    provider = made(base_url, key, version="1", stream=False)
    async with open_service(dialect, base_url, key, provider, Way(version="1", **way)) as service:
        yield service


# -- what is sent


async def test_an_upload_has_a_length_and_the_name_of_its_batch(tmp_path: Path) -> None:
    file = tmp_path / "requests.jsonl"
    file.write_bytes(LINES)
    headers = {"X-Team": "blue", "authorization": "Bearer other"}
    async with RawServer(reply({"id": "file-1"})) as server:
        async with opened(f"{server.base_url}?api-version=1", headers=headers, query={"tag": "a b"}) as service:
            assert await service.upload(file, "abc") == "file-1"
        async with opened(server.base_url) as service:
            plain = service.account
    (sent,) = server.requests
    assert sent.path == "/v1/files?api-version=1&tag=a%20b"
    assert "transfer-encoding" not in sent.headers
    assert (sent.headers["x-team"], sent.headers["authorization"]) == ("blue", "Bearer other")
    kind, boundary = sent.headers["content-type"].split("; boundary=")
    assert kind == "multipart/form-data"
    purpose, part, end = sent.body.split(f"--{boundary}".encode())[1:]
    assert purpose == b'\r\ncontent-disposition: form-data; name="purpose"\r\n\r\nbatch\r\n'
    head, _, data = part.partition(b"\r\n\r\n")
    assert b'filename="runner-abc.jsonl"' in head
    assert (data, end) == (LINES + b"\r\n", b"--\r\n")
    # a key that the job gives in a header is another account
    async with opened(server.base_url, headers=headers) as service:
        assert service.account != plain
        assert len(service.account) == 8


@pytest.mark.parametrize("end", [b"\n", b""])
async def test_the_requests_of_anthropic_are_one_document(end: bytes, tmp_path: Path) -> None:
    file = tmp_path / "requests.jsonl"
    file.write_bytes(b'{"custom_id":"a","params":{"text":"x\\ny"}}\n{"custom_id":"b","params":{}}' + end)
    made = reply({"id": "m1", "processing_status": "in_progress"})
    async with RawServer(made) as server, opened(server.base_url, "anthropic") as service:
        assert (await service.create(file, None, "abc")).id == "m1"
    (sent,) = server.requests
    assert (sent.path, sent.headers["x-api-key"]) == ("/v1/messages/batches", KEY)
    assert (sent.headers["anthropic-version"], sent.headers["content-type"]) == ("2023-06-01", "application/json")
    asked = sent.json["requests"]
    assert asked == [{"custom_id": "a", "params": {"text": "x\ny"}}, {"custom_id": "b", "params": {}}]


@pytest.mark.parametrize(
    ("host", "path", "expected"),
    [
        ("openai.com", "/v1/batches", {"input_file_id": "f", "completion_window": "24h", "metadata": {"runner": "abc"}}),
        ("together.xyz", "/v1/batches", {"input_file_id": "f", "completion_window": "24h"}),
        (
            "mistral.ai",
            "/v1/batch/jobs",
            {"input_files": ["f"], "timeout_hours": 24, "model": "m", "metadata": {"runner": "abc"}},
        ),
    ],
)
async def test_what_each_vendor_is_asked(host: str, path: str, expected: dict[str, Any], tmp_path: Path) -> None:
    # through a proxy, which sees the whole address: so every host can be spoken to
    file = tmp_path / "requests.jsonl"
    file.write_bytes(b'{"custom_id":"a","body":{"model":"m"}}\n')
    made = reply({"job": {**BATCH, "status": "VALIDATING"}} if "together" in host else BATCH)
    async with RawServer(made) as server:
        proxy = f"http://user:word@127.0.0.1:{server.port}"
        async with opened(f"http://api.{host}/v1", proxy=proxy) as service:
            remote = await service.create(file, "f", "abc")
    (sent,) = server.requests
    assert (remote.id, remote.phase) == ("b1", "waiting")
    assert sent.path == f"http://api.{host}{path}"
    assert sent.headers["proxy-authorization"].startswith("Basic ")
    assert sent.json == {"endpoint": "/v1/chat/completions", **expected}


@pytest.mark.parametrize("dialect", ["openai", "anthropic"])
@pytest.mark.parametrize(
    ("name", "segment"),
    [("a/../b?x=1#y", "a%2F..%2Fb%3Fx%3D1%23y"), ("..", "%2E%2E"), ("b-1.2_z", "b-1.2_z"), ("bGk=", "bGk%3D")],
)
async def test_an_id_of_the_provider_is_one_segment_of_a_path(dialect: str, name: str, segment: str, tmp_path: Path) -> None:
    batches, files = ("/v1/batches", "/v1/files") if dialect == "openai" else ("/v1/messages/batches", "")
    ended = {**BATCH, "status": "completed", "processing_status": "ended"}

    def answered(request: Received) -> Reply:
        return reply(LINES if request.path.endswith(("content", "results")) else ended)

    async with RawServer(answered) as server, opened(server.base_url, dialect) as service:
        await service.look(name)
        await service.cancel(name)
        await service.download(name, tmp_path / "results.jsonl")
        await service.forget(name)
    paths = [f"{batches}/{segment}", f"{batches}/{segment}/cancel"]
    paths += [f"{files}/{segment}/content", f"{files}/{segment}"] if files else [f"{batches}/{segment}/results"]
    assert [request.path for request in server.requests] == paths


async def test_a_batch_whose_metadata_was_not_kept_is_found_by_its_file() -> None:
    def answer(request: Received) -> Reply:
        path, _, query = request.path.partition("?")
        if path == "/v1/files":
            if "after=" not in query:
                return reply({"data": [{"id": "f1", "filename": "runner-zzz.jsonl"}], "has_more": True})
            return reply({"data": [{"id": "f2", "filename": "runner-abc.jsonl"}], "has_more": False})
        batches = [
            {**BATCH, "id": name, "created_at": at, "input_file_id": file}
            for name, at, file in (("old", 10, "f2"), ("mine", 5000, "f2"), ("other", 5001, "f1"))
        ]
        return reply(batches)

    async with RawServer(answer) as server, opened(server.base_url) as service:
        assert [one.id for one in await service.find("abc", 5, 4990.0)] == ["mine"]
        assert [one.id for one in await service.find("none", 5, 4990.0)] == []


async def test_the_clock_of_the_server_counts() -> None:
    # it is an hour behind ours, by its Date; if it is ahead, ours may have been right when the batch was made
    batch = {
        "id": "m1",
        "processing_status": "in_progress",
        "created_at": "2026-11-29T23:53:21Z",
        "request_counts": {"processing": 5},
    }
    page = {"data": [batch, {**batch, "id": "m0", "created_at": "2026-11-29T23:43:20Z"}], "has_more": True, "last_id": "m0"}
    made = anthropic.make("http://x", KEY, version="1", stream=False)
    async with RawServer(reply(page, date="Sun, 29 Nov 2026 23:53:30 GMT")) as server:
        way = Way(version="1")
        async with open_service("anthropic", server.base_url, KEY, made, way, clock=lambda: 1_796_000_010.0) as service:
            assert [one.id for one in await service.find("abc", 5, 1_796_000_000.0)] == ["m1"]
    assert len(server.requests) == 1


# -- what goes wrong


REFUSALS = [
    ("look", 404, {"error": {"message": "No batch found", "type": "invalid_request_error"}}, "batch_not_found", "retry"),
    ("look", 401, {"error": {"message": f"Incorrect API key provided: {KEY}"}}, "auth", "stop"),
    ("look", 500, {"error": {"message": "x"}}, "server_error", "retry"),
    ("look", 429, {"error": {"message": "slow down"}}, "rate_limited", "retry"),
    ("upload", 404, {"detail": "Not Found"}, "batch_unsupported", "stop"),
    ("upload", 413, {"error": {"message": "x"}}, "batch_too_large", "stop"),
    ("upload", 400, {"error": {"message": "File is too large"}}, "batch_too_large", "stop"),
    ("create", 429, {"error": {"code": "token_limit_exceeded", "message": "Enqueued token limit"}}, "batch_quota", "retry"),
    ("create", 400, {"error": {"code": "x", "message": "Too many batches are queued"}}, "batch_quota", "retry"),
    ("create", 400, {"error": {"message": "Too many requests in one batch: the limit is 50000"}}, "batch_too_large", "stop"),
    ("create", 429, {"error": {"message": "Too many batches"}}, "batch_quota", "retry"),
    ("create", 429, {"error": {"code": "insufficient_quota", "message": "x"}}, "billing", "stop"),
    ("create", 400, {"error": {"message": "Invalid 'input_file_id'"}}, "bad_request", "fail"),
    ("look", 200, b"<html>", "bad_http", "retry"),
    ("upload", 200, b"<html>", "batch_unsupported", "stop"),
    ("create", 200, {"no": "id"}, "bad_http", "retry"),
]


@pytest.mark.parametrize(("deed", "status", "body", "code", "verdict"), REFUSALS)
async def test_refusals(deed: str, status: int, body: Any, code: str, verdict: str, tmp_path: Path) -> None:
    file = tmp_path / "requests.jsonl"
    file.write_bytes(LINES)
    async with RawServer(reply(body, status, retry_after="7")) as server, opened(server.base_url) as service:
        asked = {
            "look": lambda: service.look("b1"),
            "upload": lambda: service.upload(file, "abc"),
            "create": lambda: service.create(file, "f", "abc"),
        }
        with pytest.raises(AttemptError) as refused:
            await asked[deed]()
    error = refused.value
    assert (error.code, error.verdict, error.sent) == (code, verdict, True)
    assert KEY not in repr(error) + str(error)
    if isinstance(error, ProviderError) and status in (429, 500):
        assert error.retry_after_s == 7


async def test_a_cancel_of_what_has_ended_and_of_what_nobody_knows() -> None:
    def answer(request: Received) -> Reply:
        if request.method == "POST":
            return reply({"error": "Cannot cancel job"}, 409)
        return reply({**BATCH, "status": "completed"}) if "b1" in request.path else reply(BATCH)

    async with RawServer(answer) as server, opened(server.base_url) as service:
        assert (await service.cancel("b1")).end == "completed"
        with pytest.raises(ProviderError):
            await service.cancel("c1")


@pytest.mark.parametrize(
    ("steps", "code", "sent"),
    [((FIN,), "closed", True), ((RST,), "closed", True), ((b"nonsense\r\n\r\n", FIN), "bad_http", True)],
)
async def test_connections_that_break(steps: Sequence[Any], code: str, sent: bool) -> None:
    async with RawServer(Reply(tuple(steps))) as server, opened(server.base_url) as service:
        with pytest.raises(TransportError) as broken:
            await service.look("b1")
    assert (broken.value.code, broken.value.sent) == (code, sent)


async def test_a_server_that_says_nothing() -> None:
    async with RawServer(Reply((HANG,))) as server, opened(server.base_url, silence_s=0.1) as service:
        with pytest.raises(AttemptTimeoutError) as late:
            await service.look("b1")
    assert (late.value.code, late.value.sent) == ("timeout_first_byte", True)


async def test_what_never_left_this_machine() -> None:
    found = {}
    nowhere = f"http://127.0.0.1:{free_port()}"
    places: dict[str, tuple[str, dict[str, Any]]] = {
        "connect": (f"{nowhere}/v1", {}),
        "dns": ("http://nobody.invalid/v1", {}),
        "address": ("gopher://host/v1", {}),
    }
    async with opened("http://host:port/v1") as service:
        with pytest.raises(TransportError, match="cannot be sent"):
            await service.look("b1")
    for name, (address, way) in places.items():
        async with opened(address, **way) as service:
            with pytest.raises(TransportError) as lost:
                await service.look("b1")
        found[name] = (lost.value.code, lost.value.sent)
    assert found == {name: (name, False) for name in places}
    with pytest.raises(TransportError, match="proxy") as bad:
        async with opened("http://host/v1", proxy="ftp://user:word@host"):
            pass
    assert "word" not in str(bad.value)


async def test_a_server_without_a_certificate_that_we_trust() -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    async with RawServer(reply(BATCH), tls=context) as server, opened(server.base_url) as service:
        with pytest.raises(TransportError) as insecure:
            await service.look("b1")
    assert (insecure.value.code, insecure.value.sent) == ("tls", False)


# -- downloads


def half(length: int = 300, **headers: str) -> Reply:
    return reply(LINES[:length], 200, RST, length=len(LINES), etag='"v1"', **headers)


def rest(begin: int = 300, total: int = len(LINES)) -> Reply:
    return reply(LINES[begin:], 206, content_range=f"bytes {begin}-{total - 1}/{total}", etag='"v1"')


RANGE = f"bytes 300-{len(LINES) - 1}/{len(LINES)}"
UNTOLD = {"content_length": ""}
PACKED = gzip.compress(LINES[:100], mtime=0) + gzip.compress(LINES[100:], mtime=0)
REST = f"bytes 60-{len(PACKED) - 1}/{len(PACKED)}"
CHUNKED = {"content_length": "", "transfer_encoding": "chunked"}


def packed(begin: int, end: int | None = None) -> Reply:
    """A packed answer, or its beginning."""
    then = () if end is None else (RST,)
    return reply(PACKED[begin:end], 200, *then, length=len(PACKED), content_encoding="gzip", etag='"v1"')


CHUNKS = b"%x\r\n%b\r\n0\r\n\r\n" % (len(LINES), LINES)
DOWNLOADS: dict[str, tuple[list[Reply], list[str | None]]] = {
    "whole": ([reply(LINES)], [None]),
    "goes on": ([half(), rest()], [None, "bytes=300-"]),
    "breaks thrice": (
        [half(), reply(LINES[300:301], 206, RST, length=len(LINES) - 300, content_range=RANGE),
         rest(301)],
        [None, "bytes=300-", "bytes=301-"],
    ),
    "breaks before the first byte": ([half(0), half(0), reply(LINES)], [None, None, None]),
    "breaks in the first byte's place": ([half(), reply(b"", 206, RST, length=9, content_range=RANGE), rest()],
                                         [None, "bytes=300-", "bytes=300-"]),
    "goes on in pieces": (
        [half(), reply(LINES[300:400], 206, content_range=f"bytes 300-399/{len(LINES)}", etag='"v1"'), rest(400)],
        [None, "bytes=300-", "bytes=400-"],
    ),
    "does not go on": ([half(), reply(LINES)], [None, "bytes=300-"]),
    "another version": ([half(), rest(300, len(LINES) + 1), reply(LINES)], [None, "bytes=300-", None]),
    "goes on elsewhere": ([half(), rest(290), reply(LINES)], [None, "bytes=300-", None]),
    "nothing left": ([half(), reply(b"", 416), reply(LINES)], [None, "bytes=300-", None]),
    "packed": ([reply(PACKED, content_encoding="gzip")], [None]),
    "packed in secret": ([reply(PACKED)], [None]),
    "packed, not whole": ([reply(PACKED[:-9], content_encoding="gzip"), reply(PACKED, content_encoding="gzip")], [None, None]),
    "packed, breaks": (
        [packed(0, 60), reply(PACKED[60:], 206, content_encoding="gzip", content_range=REST, etag='"v1"')],
        [None, "bytes=60-"],
    ),
    "packed, goes on unpacked": ([packed(0, 60), rest(60, len(PACKED)), reply(LINES)], [None, "bytes=60-", None]),
    "packed in chunks, breaks": (
        [reply(b"%x\r\n%b\r\n" % (60, PACKED[:60]), 200, RST, content_encoding="gzip", **CHUNKED), packed(0)], [None, None]
    ),
    "no length": ([reply(LINES, 200, FIN, content_length="")], [None]),
    "no length, not whole": ([reply(LINES[:-5], 200, FIN, **UNTOLD), reply(LINES, 200, FIN, **UNTOLD)], [None, None]),
    "chunks": ([reply(CHUNKS, 200, content_length="", transfer_encoding="chunked")], [None]),
    "chunks, not whole": (
        [reply(CHUNKS[:-5], 200, FIN, content_length="", transfer_encoding="chunked"), reply(LINES)], [None, None]
    ),
    "an outage": ([reply({}, 503), reply({}, 404), reply(LINES)], [None, None, None]),
    "empty": ([reply(b"")], [None]),
}  # fmt: skip


@pytest.mark.parametrize("name", DOWNLOADS)
async def test_downloads(name: str, tmp_path: Path) -> None:
    answers, ranges = DOWNLOADS[name]
    path = tmp_path / "results.jsonl"
    async with RawServer(answers) as server, opened(server.base_url) as service:
        await service.download("f1", path)
        # it is there: nothing is asked for
        await service.download("f1", path)
    assert path.read_bytes() == (b"" if name == "empty" else LINES)
    assert [request.headers.get("range") for request in server.requests] == ranges
    assert {request.path for request in server.requests} == {"/v1/files/f1/content"}
    assert {request.headers["accept-encoding"] for request in server.requests} == {"identity"}
    assert all(request.headers["if-range"] == '"v1"' for request in server.requests if "range" in request.headers)
    assert os.listdir(tmp_path) == [path.name]  # noqa: PTH208 - as the rules have it for asynchronous functions


async def test_a_download_goes_on_in_another_session_and_gives_up_without_progress(tmp_path: Path) -> None:
    path = tmp_path / "results.jsonl"
    nothing = reply(b"", 206, RST, length=10, content_range=RANGE)
    async with RawServer([half(), nothing]) as server, opened(server.base_url) as service:
        with pytest.raises(TransportError) as broken:
            await service.download("f1", path)
        assert broken.value.code == "cut"
        assert len(server.requests) == 1 + download.MOST_IDLE
    assert not path.exists()
    async with RawServer(rest()) as server, opened(server.base_url) as service:
        await service.download("f1", path)
    assert [request.headers["range"] for request in server.requests] == ["bytes=300-"]
    assert path.read_bytes() == LINES


async def test_a_store_of_files_elsewhere_never_sees_the_key(tmp_path: Path) -> None:
    path = tmp_path / "results.jsonl"
    way = {"headers": {"X-Team": "blue"}}
    async with RawServer(reply(LINES)) as store:
        to_store = reply(b"", 302, location=f"{store.origin}/signed?x=1")
        async with RawServer([to_store, to_store]) as server, opened(server.base_url, **way) as service:
            await service.download("f1", path)
    (asked,) = store.requests
    assert asked.path == "/signed?x=1"
    assert {"authorization", "x-team"}.isdisjoint(asked.headers)
    assert path.read_bytes() == LINES
    loop = reply(b"", 302, location="/v1/files/f1/content")
    async with RawServer(loop) as server, opened(server.base_url) as service:
        with pytest.raises(TransportError, match="redirects"):
            await service.download("f1", tmp_path / "other.jsonl")


async def test_files_of_ours_that_cannot_be_read_or_written(tmp_path: Path) -> None:
    async with RawServer(reply(LINES)) as server, opened(server.base_url) as service:
        with pytest.raises(FileNotFoundError):
            await service.upload(tmp_path / "none.jsonl", "abc")
        with pytest.raises(StoreError, match="Is a directory"):
            await service.upload(tmp_path, "abc")
        with pytest.raises(StoreError, match="No such file"):
            await service.download("f1", tmp_path / "none" / "results.jsonl")


async def test_a_file_that_has_to_be_processed_first(tmp_path: Path) -> None:
    looks = iter(["pending", "processed"])

    def answer(request: Received) -> Reply:
        return reply({"id": "f", "status": next(looks)}) if request.method == "GET" else reply(BATCH)

    async with RawServer(answer) as server:
        proxy = f"http://127.0.0.1:{server.port}"
        async with opened("http://me.openai.azure.com/openai/v1", proxy=proxy) as service:
            assert (await service.create(tmp_path, "f", "abc")).id == "b1"
    assert [request.method for request in server.requests] == ["GET", "GET", "POST"]


async def test_a_large_file_goes_up_and_comes_down_piece_by_piece(tmp_path: Path) -> None:
    file, path = tmp_path / "requests.jsonl", tmp_path / "results.jsonl"
    await asyncio.to_thread(file.write_bytes, LINES * 1000)
    size = len(LINES) * 1000

    def answer(request: Received) -> Reply:
        return reply({"id": "m1"}) if request.method == "POST" else reply(LINES * 1000)

    async with RawServer(answer) as server, opened(server.base_url, "anthropic") as service:
        assert (await service.create(file, None, "abc")).id == "m1"
        assert server.requests[0].body.count(b"},{") == 200_000 - 1
        await service.download("m1", path)
    assert path.stat().st_size == size


def test_the_rules_without_a_service() -> None:
    assert (rules_of("openai", "https://api.openai.com/v1").lines, rules_of("anthropic", "x").lines) == (50_000, 100_000)
