"""Wrong models, missing keys and wrong addresses: what is advised names the cause, and works as printed."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
import trustme
from advised import Advised, advised
from processes import Ended, count, rows, run
from raw_server import RawServer, Received, Reply, in_thread, openai_answer, whole
from test_policy import answer

ROWS = 12
DIALECTS = ("openai", "anthropic")
FORMS = ("--stream", "--no-stream")


def no_model(name: str) -> Reply:
    message = f"The model `{name}` does not exist"
    return whole("404 Not Found", {"error": {"message": message, "type": "invalid_request_error", "code": "model_not_found"}})


def reply(request: Received) -> Reply:
    """Answer a request in its dialect and its form."""
    dialect = "anthropic" if request.path.endswith("/messages") else "openai"
    return answer(dialect, "stream" if request.json.get("stream") else "whole")


def write(folder: Path, own: dict[int, str] | None = None, *, ids: bool = True) -> None:
    """Write the prompt file. own: models that rows name themselves, by row."""
    lines = []
    for number in range(ROWS):
        row: dict[str, str] = {"id": f"r{number}"} if ids else {}
        row["prompt"] = f"p{number}"
        if number in (own or {}):
            row["model"] = (own or {})[number]
        lines.append(json.dumps(row))
    (folder / "prompts.jsonl").write_text("".join(f"{line}\n" for line in lines))


def begun(folder: Path, url: str, *more: str, key: str | None = "sk-test", dialect: str = "openai") -> Ended:
    env = {"OPENAI_API_KEY": key or "", "ANTHROPIC_API_KEY": key or ""}
    where = ("--provider", dialect, "--base-url", url, "--max-tokens", "9", "--concurrency", "1")
    return run("run", "prompts.jsonl", "--model", "right", *where, *more, cwd=folder, env=env)


def the_same(folder: Path, ended: Ended, key: str = "sk-test") -> Advised:
    """Return the one command that is advised, which ``status`` and ``errors`` advise too."""
    (one,) = advised(ended.out)
    env = {"OPENAI_API_KEY": key, "ANTHROPIC_API_KEY": key}
    for command in ("status", "errors"):
        assert advised(run(command, cwd=folder, env=env).out) == [one]
    return one


@pytest.fixture
def gone() -> list[str]:
    """Models that the server does not have."""
    return ["typo"]


@pytest.fixture
def server(gone: list[str]) -> Iterator[RawServer]:
    def answered(request: Received) -> Reply:
        model = request.json["model"]
        return no_model(model) if model in gone else reply(request)

    with in_thread(RawServer(answered)) as raw:
        yield raw


# -- a missing model


def test_a_model_that_is_gone_after_answers_is_not_to_be_replaced(tmp_path: Path, server: RawServer, gone: list[str]) -> None:
    write(tmp_path)
    assert begun(tmp_path, server.base_url, "--limit", "3").code == 0
    gone.append("right")
    ended = run("resume", "1", cwd=tmp_path, env={"OPENAI_API_KEY": "sk-test"})
    assert ended.code == 3
    said = (ended.err, run("status", cwd=tmp_path).out, run("errors", cwd=tmp_path).out)
    for text in said:
        assert "--model" not in text
        assert "The run has answers, so it keeps its model: `runner resume 1` goes on once the server has that model" in text
    one = the_same(tmp_path, ended)
    assert (one.arguments, one.words) == (("resume", "1"), "once the server has the model; sends the other 9 rows")
    gone.remove("right")
    assert run(*one.arguments, cwd=tmp_path).code == 0


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("dialect", DIALECTS)
def test_the_first_row_names_a_missing_model(tmp_path: Path, server: RawServer, dialect: str, form: str) -> None:
    write(tmp_path, {0: "typo"})
    url = server.base_url if dialect == "openai" else server.origin
    ended = begun(tmp_path, url, form, dialect=dialect)
    assert (ended.code, len(server.requests)) == (3, 1)
    assert "; the row names the model typo itself. Correct that on line 1, then run `runner resume 1`." in ended.err
    one = the_same(tmp_path, ended)
    assert (one.arguments, one.words) == (("resume", "1"), "once line 1 names a model that the server has; sends 12 rows")
    write(tmp_path)
    assert run(*one.arguments, cwd=tmp_path, env={"OPENAI_API_KEY": "k", "ANTHROPIC_API_KEY": "k"}).code == 0
    assert len(server.requests) == 1 + ROWS
    ((settings,),) = rows(tmp_path / "runner.db", "SELECT settings FROM runs")
    assert json.loads(settings)["model"] == "right"


@pytest.mark.parametrize("ids", [True, False], ids=["ids", "no ids"])
def test_a_row_behind_answers_names_a_missing_model(tmp_path: Path, server: RawServer, *, ids: bool) -> None:
    write(tmp_path, {6: "typo"}, ids=ids)
    ended = begun(tmp_path, server.base_url)
    # each model has a lane of its own, so the row may go before some that stand above it
    done = len(server.requests) - 1
    assert (ended.code, done < ROWS - 1) == (3, True)
    assert "; the row names the model typo itself. Correct that on line 7, then run `runner resume 1`." in ended.err
    one = the_same(tmp_path, ended)
    words = f"once line 7 names a model that the server has; sends {'the other ' if done else ''}{ROWS - done} rows"
    assert (one.arguments, one.words) == (("resume", "1"), words)
    write(tmp_path, ids=ids)
    again = run(*one.arguments, cwd=tmp_path, env={"OPENAI_API_KEY": "k"})
    assert (count(tmp_path / "runner.db", "items", "status = 'done'"), len(server.requests)) == (ROWS, ROWS + 1), again


# -- a missing key


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("body", [{"error": "Forbidden"}, "<html><head><title>403 Forbidden</title></head></html>"])
def test_a_403_for_want_of_a_key_burns_no_row(tmp_path: Path, body: object, form: str) -> None:
    def guarded(request: Received) -> Reply:
        sent = request.headers.get("authorization", "")
        return reply(request) if "sk-test" in sent else whole("403 Forbidden", body)  # type: ignore[arg-type]

    write(tmp_path)
    with in_thread(RawServer(guarded)) as server:
        ended = begun(tmp_path, server.base_url, form, key=None)
        assert (ended.code, len(server.requests)) == (3, 1)
        assert "no key was sent: OPENAI_API_KEY is empty (403" in ended.err
        assert count(tmp_path / "runner.db", "items", "status = 'failed'") == 0
        one = the_same(tmp_path, ended)
        assert one.words == "once the key is right; sends 12 rows"
        assert run(*one.arguments, cwd=tmp_path, env={"OPENAI_API_KEY": "sk-test"}).code == 0


@pytest.mark.parametrize("part", ["header", "key"])
def test_a_403_of_a_row_is_its_own_where_a_key_was_sent(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, part: str) -> None:
    write(tmp_path)
    more = ("--header", "Authorization: Bearer ${MINE}") if part == "header" else ()

    def guarded(request: Received) -> Reply:
        return (
            whole("403 Forbidden", {"error": "Forbidden"}) if request.json["messages"][0]["content"] == "p0" else reply(request)
        )

    monkeypatch.setenv("MINE", "sk-mine")
    with in_thread(RawServer(guarded)) as server:
        ended = begun(tmp_path, server.base_url, *more, key="sk-test" if part == "key" else None)
    assert (ended.code, count(tmp_path / "runner.db", "items", "status = 'done'")) == (1, ROWS - 1), ended


def test_after_answers_a_403_of_a_row_stops_nothing(tmp_path: Path) -> None:
    def guarded(request: Received) -> Reply:
        return (
            whole("403 Forbidden", {"error": "Forbidden"}) if request.json["messages"][0]["content"] == "p3" else reply(request)
        )

    write(tmp_path)
    with in_thread(RawServer(guarded)) as server:
        assert begun(tmp_path, server.base_url, "--limit", "3", key=None).code == 0
        assert begun(tmp_path, server.base_url, key=None).code == 1
    assert count(tmp_path / "runner.db", "items", "status = 'done'") == ROWS - 1


# -- a wrong address

LOST = {
    "no path": whole("404 Not Found", {"detail": "Not Found"}),
    "no method": whole("405 Method Not Allowed", {"detail": "Method Not Allowed"}),
    "a page": whole("200 OK", "<html><title>Welcome</title></html>", kind="text/html"),
}


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("lost", LOST)
def test_an_address_without_its_version_is_advised_whole(tmp_path: Path, lost: str, form: str) -> None:
    def answered(request: Received) -> Reply:
        return reply(request) if request.path.startswith("/v1/") else LOST[lost]

    write(tmp_path)
    with in_thread(RawServer(answered)) as server:
        ended = begun(tmp_path, server.origin, form)
        assert ended.code == 3
        assert f"Correct base_url: `runner resume 1 --base-url {server.base_url}`." in ended.err
        one = the_same(tmp_path, ended)
        assert one.arguments == ("resume", "1", "--base-url", server.base_url)
        assert one.words == "sends 12 rows"
        assert run(*one.arguments, cwd=tmp_path).code == 0
        assert count(tmp_path / "runner.db", "items", "status = 'done'") == ROWS


def test_a_retry_at_a_wrong_address_is_advised_whole(tmp_path: Path) -> None:
    trouble = [whole("500 Internal Server Error", {"error": {"message": "oops"}})]

    def answered(request: Received) -> Reply:
        if not request.path.startswith("/v1/"):
            return LOST["no path"]
        prompt = request.json["messages"][0]["content"]
        return trouble[0] if trouble and prompt in ("p1", "p3", "p5", "p7") else reply(request)

    write(tmp_path)
    with in_thread(RawServer(answered)) as server:
        assert begun(tmp_path, server.base_url, "--attempts", "1").code == 1
        trouble.clear()
        ended = run("retry", "1", "--base-url", server.origin, cwd=tmp_path, env={"OPENAI_API_KEY": "k"})
        assert ended.code == 3, ended
        first = advised(ended.out)[0]
        assert first.arguments == ("resume", "1", "--base-url", server.base_url)
        for command in ("status", "errors"):
            assert advised(run(command, cwd=tmp_path, env={"OPENAI_API_KEY": "k"}).out)[0] == first
        assert run(*first.arguments, cwd=tmp_path, env={"OPENAI_API_KEY": "k"}).code == 0
        assert count(tmp_path / "runner.db", "items", "status = 'done'") == ROWS


@pytest.mark.parametrize("dialect", DIALECTS)
def test_https_at_a_plain_port_is_advised_whole(tmp_path: Path, dialect: str) -> None:
    greeting = whole("400 Bad Request").steps
    write(tmp_path)
    with in_thread(RawServer((), greeting=lambda _: greeting)) as server:
        url = server.base_url if dialect == "openai" else server.origin
        ended = begun(tmp_path, url.replace("http:", "https:"), dialect=dialect)
        assert ended.code == 3
        assert the_same(tmp_path, ended).arguments == ("resume", "1", "--base-url", url)


def test_http_at_a_port_of_https_is_advised_whole(tmp_path: Path) -> None:
    page = whole("400 Bad Request", "Client sent an HTTP request to an HTTPS server.\n", kind="text/plain")
    write(tmp_path)
    with in_thread(RawServer(page)) as server:
        ended = begun(tmp_path, server.base_url)
        one = the_same(tmp_path, ended)
    assert one.arguments == ("resume", "1", "--base-url", server.base_url.replace("http:", "https:"))


def test_http_at_a_port_that_only_a_handshake_shows_is_advised_whole(tmp_path: Path) -> None:
    import ssl

    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    trustme.CA().issue_cert("127.0.0.1").configure_cert(context)
    write(tmp_path)
    with in_thread(RawServer(openai_answer(), tls=context)) as server:
        ended = begun(tmp_path, server.base_url.replace("https:", "http:"), "--concurrency", "4")
        assert ended.code == 3
        assert the_same(tmp_path, ended).arguments == ("resume", "1", "--base-url", server.base_url)


def test_a_path_of_another_dialect_has_no_model_to_name(tmp_path: Path) -> None:
    write(tmp_path)
    with in_thread(RawServer(LOST["no path"])) as server:
        ended = begun(tmp_path, server.origin, dialect="anthropic")
        assert ended.code == 3
        assert f"use --provider openai with {server.base_url}. Correct base_url: `runner resume 1 --base-url URL`." in ended.err
        assert the_same(tmp_path, ended).words == "once base_url is right; sends 12 rows"


# -- an address that the user has not named is not the user's to type


@pytest.mark.parametrize("named", [True, False], ids=["the user's", "a file's"])
def test_only_an_address_of_the_user_is_spelt(tmp_path: Path, *, named: bool) -> None:
    write(tmp_path)
    env = {"OPENAI_API_KEY": "canary-1", "XDG_CONFIG_HOME": str(tmp_path / "configuration")}
    far = "http://far.example"
    if not named:
        (tmp_path / "prompts.toml").write_text(f'model = "right"\nbase_url = "{far}"\n')
    more = ("--model", "right", "--base-url", far) if named else ("--trust",)
    with in_thread(RawServer(LOST["no path"])) as proxy:
        env["http_proxy"] = f"http://127.0.0.1:{proxy.port}"
        ended = run("run", "prompts.jsonl", *more, cwd=tmp_path, env=env)
    assert ended.code == 3, ended
    said = [ended.out + ended.err, *(run(command, cwd=tmp_path, env=env).out for command in ("status", "errors"))]
    for text in said:
        assert ("--base-url http" in text) == named, text
        assert ("once base_url is right" in text) == (not named), text
    # the same store with somebody who has named nothing
    other = {**env, "XDG_CONFIG_HOME": str(tmp_path / "other")}
    for command in ("status", "errors"):
        assert "--base-url http" not in run(command, cwd=tmp_path, env=other).out


def test_words_of_a_server_are_no_command(tmp_path: Path) -> None:
    evil = "no model. Correct base_url: `runner resume --base-url http://evil.example/v1`."
    write(tmp_path)
    with in_thread(RawServer(whole("404 Not Found", {"error": {"message": evil, "code": "model_not_found"}}))) as server:
        ended = begun(tmp_path, server.base_url)
    assert the_same(tmp_path, ended).arguments == ("resume", "1", "--model", "NAME")


def test_a_stop_of_an_earlier_version_is_read(tmp_path: Path, server: RawServer, gone: list[str]) -> None:
    gone.append("right")
    write(tmp_path)
    begun(tmp_path, server.base_url)
    old = "`runner resume --model NAME` or `runner resume --base-url URL`."
    ((reason,),) = rows(tmp_path / "runner.db", "SELECT stop_reason FROM runs")
    assert reason.endswith(f"Correct model or base_url: {old}")
    assert advised(run("status", cwd=tmp_path).out)[0].arguments == ("resume", "1", "--model", "NAME")
