"""Headers and the query of a job: they arrive, in both dialects; no file, no screen and no answer shows a value."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl

import pytest
from processes import Ended, rows, run, write_prompts
from raw_server import RawServer, Received, Reply, anthropic_answer, in_thread, openai_answer, sse, stream, whole

import runner

SECRET = "canary-azure-0123456789"
KEY = "canary-openai-9876543210"
ENV = {"AZURE_KEY": SECRET, "OPENAI_API_KEY": KEY, "ANTHROPIC_API_KEY": KEY}


ODD = "3 &+%2F/=?#ü"


class Answering:
    """Answers in the dialect of the path, as the test wants."""

    def __init__(self) -> None:
        self.reply: Any = None

    def __call__(self, request: Received) -> Reply:
        if self.reply is not None:
            return self.reply(request)
        return anthropic_answer() if "/messages" in request.path else openai_answer()


@pytest.fixture
def answering() -> Answering:
    return Answering()


@pytest.fixture
def server(answering: Answering) -> Iterator[RawServer]:
    with in_thread(RawServer(answering)) as serving:
        yield serving


@pytest.fixture(autouse=True)
def _prompts(tmp_path: Path) -> None:
    write_prompts(tmp_path / "prompts.jsonl", range(3))


def job(folder: Path, text: str) -> None:
    (folder / "prompts.toml").write_text(f'model = "gpt-4o"\n{text}')


def assert_hidden(folder: Path, *ended: Ended) -> None:
    for path in folder.rglob("*"):
        if path.is_file() and path.name != "prompts.toml":
            data = path.read_bytes()
            assert b"canary" not in data, path
    for one in ended:
        assert "canary" not in one.out + one.err, one


AZURE = """
base_url = "{origin}/openai/deployments/gpt-4o{query}"
[headers]
api-key = "${{AZURE_KEY}}"
{table}
"""


@pytest.mark.parametrize("in_url", [True, False])
def test_azure(tmp_path: Path, server: RawServer, in_url: bool) -> None:
    query = "?api-version=2024-10-21" if in_url else ""
    table = "" if in_url else '[query]\napi-version = "2024-10-21"'
    job(tmp_path, AZURE.format(origin=server.origin, query=query, table=table))
    shown = run("run", "prompts.jsonl", "--show-config", cwd=tmp_path, env=ENV)
    ran = run("run", "prompts.jsonl", "--limit", "1", cwd=tmp_path, env=ENV)
    assert ran.code == 0, ran
    assert "header api-key from AZURE_KEY" in ran.out
    resumed = run("resume", "1", cwd=tmp_path, env=ENV)
    assert resumed.code == 0, resumed
    assert len(server.requests) == 3
    for request in server.requests:
        assert request.path == "/openai/deployments/gpt-4o/chat/completions?api-version=2024-10-21"
        assert request.headers["api-key"] == SECRET
        # the header carries the key, so the key of another provider is not sent along
        assert "authorization" not in request.headers
    more = [
        run(*words, cwd=tmp_path, env=ENV) for words in (["status", "--json"], ["list", "--json"], ["check", "prompts.jsonl"])
    ]
    assert "${AZURE_KEY}" in more[0].out
    assert "AZURE_KEY" in more[2].out
    assert_hidden(tmp_path, shown, ran, resumed, *more)


@pytest.mark.parametrize("dialect", ["openai", "anthropic"])
@pytest.mark.parametrize(
    ("option", "where"),
    [
        ("--header=api-key: ${AZURE_KEY}", "the key was in the header api-key (AZURE_KEY)"),
        ("--query=key=${AZURE_KEY}", "the key was in the part of the query key (AZURE_KEY)"),
    ],
)
def test_a_refused_key_is_named_where_it_was(tmp_path: Path, dialect: str, option: str, where: str) -> None:
    write_prompts(tmp_path / "prompts.jsonl", range(3))
    refused = whole("401 Unauthorized", {"error": {"type": "authentication_error", "message": "invalid api key"}})
    with in_thread(RawServer(lambda _request: refused)) as server:
        address = ("--provider", dialect, "--model", "m", "--base-url", server.origin + ("/v1" if dialect == "openai" else ""))
        # beside a part of the query, the key of the provider's variable is sent too
        env = ENV if "header" in option else {"AZURE_KEY": SECRET}
        ended = run("run", "prompts.jsonl", *address, option, cwd=tmp_path, env=env)
    assert ended.code == 3, ended
    assert where in ended.err
    assert "_API_KEY" not in ended.out + ended.err
    assert_hidden(tmp_path, ended)


@pytest.mark.parametrize("dialect", ["openai", "anthropic"])
def test_options_add_to_what_the_job_file_says(tmp_path: Path, server: RawServer, dialect: str) -> None:
    job(tmp_path, f'provider = "{dialect}"\n[headers]\nX-A = "file"\nX-B = "file"\n[query]\na = "1"\nb = "2"\n')
    options = ("--header", "x-b: Bearer ${AZURE_KEY}", "--header", "User-Agent: mine/1", "--query", f"b={ODD}", "--query", "c=")
    ended = run("run", "prompts.jsonl", "--base-url", f"{server.origin}?z=0&a=9", *options, cwd=tmp_path, env=ENV)
    assert ended.code == 0, ended
    for request in server.requests:
        assert (request.headers["x-a"], request.headers["x-b"]) == ("file", f"Bearer {SECRET}")
        assert request.headers["user-agent"] == "mine/1"
        query = parse_qsl(request.path.partition("?")[2], keep_blank_values=True)
        assert query == [("z", "0"), ("a", "1"), ("b", ODD), ("c", "")]
        # these headers carry no key, so the dialect sends its own
        assert KEY in (request.headers.get("x-api-key"), request.headers.get("authorization", "").removeprefix("Bearer "))
    assert_hidden(tmp_path, ended)


@pytest.mark.parametrize(("dialect", "own"), [("openai", "Authorization"), ("anthropic", "X-Api-Key")])
def test_a_header_replaces_that_of_the_dialect(tmp_path: Path, server: RawServer, dialect: str, own: str) -> None:
    options = ("--provider", dialect, "--header", f"{own}: Custom ${{AZURE_KEY}}", "--api-key-env", "OPENAI_API_KEY")
    address = ("--base-url", server.origin, "--model", "m")
    ended = run("run", "prompts.jsonl", *address, *options, cwd=tmp_path, env=ENV)
    assert ended.code == 0, ended
    for request in server.requests:
        assert request.headers[own.lower()] == f"Custom {SECRET}"
        assert KEY not in str(request.headers)


def test_both_are_sent_where_a_setting_names_the_key(tmp_path: Path, server: RawServer) -> None:
    options = (
        "--header",
        "api-key: ${AZURE_KEY}",
        "--api-key-env",
        "OPENAI_API_KEY",
        "--base-url",
        server.origin,
        "--model",
        "m",
    )
    assert run("run", "prompts.jsonl", *options, cwd=tmp_path, env=ENV).code == 0
    assert server.requests[0].headers["authorization"] == f"Bearer {KEY}"
    assert server.requests[0].headers["api-key"] == SECRET


def test_latin_1_arrives_as_one_byte_a_character(tmp_path: Path, server: RawServer) -> None:
    options = ("--header", "X-City: Zürich", "--base-url", server.origin, "--model", "m")
    assert run("run", "prompts.jsonl", *options, cwd=tmp_path).code == 0
    assert {request.headers["x-city"] for request in server.requests} == {"Zürich"}


@pytest.mark.parametrize(
    "line", ["X-A: a\r\nX-B: b", "X-A: \u20ac", "X A: b", "Host: evil", "no colon", "X-A: ${", "X-A: ${NOT_SET}"]
)
def test_a_header_that_cannot_be_sent_is_refused_in_one_sentence(tmp_path: Path, server: RawServer, line: str) -> None:
    ended = run("run", "prompts.jsonl", "--header", line, "--base-url", server.origin, "--model", "m", cwd=tmp_path)
    assert (ended.code, ended.out, ended.err.count("\n")) == (2, "", 1), ended
    assert not server.requests
    assert not (tmp_path / "runner.db").exists()


# -- secrets


def echoed_refusal(request: Received) -> Reply:
    # long enough to be shortened in the middle of a secret
    words = f"bad {'x' * 270} {request.headers['x-secret']} {request.headers['x-secret']}"
    return whole("400 Bad Request", {"error": {"message": words, "code": request.headers["x-secret"]}})


def echoed_answer(request: Received) -> Reply:
    text = f"your header is {request.headers['x-secret']}"
    return anthropic_answer(text) if "/messages" in request.path else openai_answer(text)


def echoed_inside(request: Received) -> Reply:
    return stream(sse({"error": {"message": f"{'y' * 280} {request.headers['x-secret']}", "type": "invalid_request_error"}}))


def echoed_page(request: Received) -> Reply:
    return whole("200 OK", f"<html>{request.headers['x-secret']}", kind="text/html")


@pytest.mark.parametrize("dialect", ["openai", "anthropic"])
@pytest.mark.parametrize("echo", [echoed_refusal, echoed_answer, echoed_inside, echoed_page])
@pytest.mark.parametrize("written", ["${AZURE_KEY}", "Bearer ${AZURE_KEY}", f"Bearer {SECRET}"])
def test_a_server_that_echoes_a_header(
    tmp_path: Path, server: RawServer, answering: Answering, echo: Any, dialect: str, written: str
) -> None:
    answering.reply = echo
    options = ("--header", f"X-Secret: {written}", "--base-url", server.origin, "--model", "m", "--provider", dialect)
    ended = run("run", "prompts.jsonl", *options, "--attempts", "1", cwd=tmp_path, env=ENV)
    assert server.requests
    more = [run(*words, cwd=tmp_path, env=ENV) for words in (["errors"], ["status", "--json"], ["export", "-o", "a.csv"])]
    assert_hidden(tmp_path, ended, *more)
    if echo is echoed_answer:
        assert rows(tmp_path / "runner.db", "SELECT text FROM items LIMIT 1")[0][0].startswith("your header is ")


@pytest.mark.parametrize("dialect", ["openai", "anthropic"])
@pytest.mark.parametrize("refused", [False, True])
def test_a_server_that_echoes_the_address_or_json(
    tmp_path: Path, server: RawServer, answering: Answering, refused: bool, dialect: str
) -> None:
    secret = 'p/w: "can&ary" \\ é+0123'

    def echo(request: Received) -> Reply:
        words = f"GET {request.path} {json.dumps(dict(request.headers))} {json.dumps(secret)}"
        if refused:
            return whole("400 Bad Request", {"error": {"message": words}})
        return anthropic_answer(words) if "/messages" in request.path else openai_answer(words)

    answering.reply = echo
    options = ("--query", "code=${CODE}", "--base-url", server.origin, "--model", "m", "--provider", dialect, "--attempts", "1")
    ended = run("run", "prompts.jsonl", *options, cwd=tmp_path, env={**ENV, "CODE": secret})
    more = [run(*words, cwd=tmp_path, env=ENV) for words in (["errors"], ["export", "-o", "a.csv"])]
    assert parse_qsl(server.requests[0].path.partition("?")[2]) == [("code", secret)]
    for one in (ended, *more):
        assert "26ary" not in one.out + one.err
        assert "&ary" not in one.out + one.err
    for path in tmp_path.rglob("*"):
        data = path.read_bytes() if path.is_file() else b""
        assert not any(part in data for part in (b"n%26ary", b"n&ary", b"n&amp;ary")), path
    told = rows(tmp_path / "runner.db", f"SELECT {'error' if refused else 'text'} FROM items LIMIT 1")[0][0]
    assert told.count("[redacted]") == 3 or refused, told


def test_a_harmless_header_leaves_answers_alone(tmp_path: Path, server: RawServer, answering: Answering) -> None:
    answering.reply = lambda _: openai_answer("in production, see https://me.example")
    headers = ("--header", "X-Stage: production", "--header", "HTTP-Referer: https://me.example")
    assert run("run", "prompts.jsonl", *headers, "--base-url", server.origin, "--model", "m", cwd=tmp_path).code == 0
    assert rows(tmp_path / "runner.db", "SELECT DISTINCT text FROM items") == [("in production, see https://me.example",)]


# -- the next session


def test_a_value_that_was_typed_is_asked_for_again(tmp_path: Path, server: RawServer) -> None:
    typed = ("--header", "X-Secret: typed-canary-1")
    address = ("--base-url", server.origin, "--model", "m")
    assert run("run", "prompts.jsonl", *typed, *address, "--limit", "1", cwd=tmp_path).code == 0
    asked = run("resume", "1", cwd=tmp_path)
    assert (asked.code, asked.err.count("\n")) == (2, 1), asked
    assert "the value of the header 'X-Secret' is not kept in the store; give it again with --header" in asked.err
    assert len(server.requests) == 1
    again = run("resume", "1", *typed, cwd=tmp_path)
    assert again.code == 0, again
    assert {request.headers["x-secret"] for request in server.requests} == {"typed-canary-1"}
    assert_hidden(tmp_path, asked, again)


def test_a_value_of_the_job_file_is_read_there_again(tmp_path: Path, server: RawServer) -> None:
    job(tmp_path, f'base_url = "{server.origin}"\n[headers]\nX-Title = "canary title"\n')
    assert run("run", "prompts.jsonl", "--limit", "1", cwd=tmp_path).code == 0
    moved = tmp_path / "moved"
    tmp_path.joinpath("other").mkdir()
    resumed = run("resume", "1", cwd=tmp_path)
    assert resumed.code == 0, resumed
    assert {request.headers["x-title"] for request in server.requests} == {"canary title"}
    assert len(server.requests) == 3
    assert not moved.exists()
    assert_hidden(tmp_path, resumed)
    (tmp_path / "prompts.toml").unlink()
    write_prompts(tmp_path / "prompts.jsonl", range(4))
    assert "the header 'X-Title' is not kept" in run("retry", "1", cwd=tmp_path).err


def test_from_python(tmp_path: Path, server: RawServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AZURE_KEY", SECRET)
    summary = runner.run(
        tmp_path / "prompts.jsonl",
        db=tmp_path / "r.db",
        model="m",
        base_url=server.origin,
        headers={"api-key": "${AZURE_KEY}"},
        query={"api-version": "1"},
    )
    assert summary.done == 3
    assert {(one.headers["api-key"], one.path) for one in server.requests} == {(SECRET, "/chat/completions?api-version=1")}
    assert_hidden(tmp_path)


def test_from_the_environment(tmp_path: Path, server: RawServer) -> None:
    env = {**ENV, "RUNNER_HEADERS": json.dumps({"api-key": "${AZURE_KEY}"}), "RUNNER_QUERY": "api-version=1"}
    ended = run("run", "prompts.jsonl", "--base-url", server.origin, "--model", "m", cwd=tmp_path, env=env)
    assert ended.code == 0, ended
    assert {(one.headers["api-key"], one.path) for one in server.requests} == {(SECRET, "/chat/completions?api-version=1")}
