"""Whole runs against servers that give up, that refuse parameters, and that are addressed or signed wrongly."""

import json
import ssl
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import trustme
from processes import Ended, rows, run, write_prompts
from raw_server import (
    BLOCK_START,
    BLOCK_STOP,
    DONE,
    FIN,
    MESSAGE_START,
    MESSAGE_STOP,
    USAGE,
    RawServer,
    Received,
    Reply,
    block_delta,
    delta,
    events,
    finish,
    in_thread,
    message_delta,
    openai_answer,
    sse,
    stream,
    whole,
)

import runner as api
from runner.errors import RunStoppedError, UsageError
from runner.event_types import Event, Noted, Summary

DIALECTS = ("openai", "anthropic")
FORMS = ("stream", "whole")


def answer(dialect: str, form: str, text: str = "Hello", reason: str = "") -> Reply:
    """Return a whole answer. reason: its finish reason, by default the dialect's own for an answer that the model ended."""
    if dialect == "openai":
        reason = reason or "stop"
        if form == "stream":
            return stream(*([delta(text)] if text else []), finish(reason), USAGE, DONE)
        choice = {"index": 0, "message": {"role": "assistant", "content": text}, "finish_reason": reason}
        usage = {"prompt_tokens": 7, "completion_tokens": 3}
        return whole("200 OK", {"id": "c-1", "model": "m-1", "choices": [choice], "usage": usage})
    reason = reason or "end_turn"
    if form == "stream":
        pieces = [block_delta(text)] if text else []
        return stream(MESSAGE_START, BLOCK_START, *pieces, BLOCK_STOP, message_delta(reason), MESSAGE_STOP)
    content = [{"type": "text", "text": text}] if text else []
    message = {"type": "message", "id": "m-1", "model": "m-1", "content": content, "stop_reason": reason}
    return whole("200 OK", {**message, "usage": {"input_tokens": 7, "output_tokens": 3}})


class Bench:
    """A folder with a prompt file, and a server."""

    def __init__(self, folder: Path, server: RawServer, number: int) -> None:
        self.folder, self.server = folder, server
        self.prompts, self.store = folder / "prompts.jsonl", folder / "r.db"
        write_prompts(self.prompts, range(number))
        self.notes: list[str] = []

    def observe(self, event: Event) -> None:
        if isinstance(event, Noted):
            self.notes.append(event.note)

    def run(self, **settings: Any) -> Summary:
        settings = {"model": "m", "base_url": self.server.base_url, **settings}
        return api.run(self.prompts, db=self.store, observe=self.observe, **settings)

    def stopped(self, **settings: Any) -> str:
        """Run until the run stops, and return its sentence."""
        with pytest.raises(RunStoppedError) as caught:
            self.run(**settings)
        return str(caught.value)

    def command(self, *options: str, env: dict[str, str] | None = None) -> Ended:
        return run("run", "prompts.jsonl", "--model", "m", "--db", "r.db", *options, cwd=self.folder, env=env)

    def items(self, columns: str) -> list[tuple[Any, ...]]:
        return rows(self.store, f"SELECT {columns} FROM items ORDER BY position")

    def attempts(self) -> Counter[str | None]:
        return Counter(code for (code,) in rows(self.store, "SELECT error_code FROM attempts"))


@contextmanager
def bench(folder: Path, answers: Any, number: int = 1, **options: Any) -> Iterator[Bench]:
    with in_thread(RawServer(answers, **options)) as server:
        yield Bench(folder, server, number)


# -- finish reasons


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("dialect", DIALECTS)
@pytest.mark.parametrize("reason", ["error", "MALFORMED_FUNCTION_CALL", "unknown", "networkError"])
def test_a_server_that_gave_up_is_asked_again(tmp_path: Path, dialect: str, form: str, reason: str) -> None:
    replies = [answer(dialect, form, "Hel", reason), answer(dialect, form, "Hello")]
    with bench(tmp_path, replies) as desk:
        summary = desk.run(provider=dialect)
        assert (summary.done, summary.failed, len(desk.server.requests)) == (1, 0, 2)
        assert desk.items("status, text, attempts") == [("done", "Hello", 2)]
        # the attempt is in the books with what it cost
        assert rows(desk.store, "SELECT error_code, input_tokens, output_tokens, status FROM attempts WHERE number = 1") == [
            ("gave_up", 7, 3, 200)
        ]


def test_a_server_that_always_gives_up_fails_the_row_without_its_text(tmp_path: Path) -> None:
    with bench(tmp_path, answer("openai", "stream", "Hel", "abort")) as desk:
        summary = desk.run(attempts=2)
        assert (summary.done, summary.failed) == (0, 1)
        assert desk.items("status, text, error_code") == [("failed", None, "gave_up")]
        assert desk.attempts() == {"gave_up": 2}


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("dialect", DIALECTS)
def test_a_reason_that_nobody_knows_is_done_and_counted(tmp_path: Path, dialect: str, form: str) -> None:
    with bench(tmp_path, answer(dialect, form, "Hello", "plop"), 3) as desk:
        summary = desk.run(provider=dialect)
        assert summary.done == 3
        assert summary.unknown_finish == {"plop": 3}
        assert desk.items("text, finish_reason, notes") == [("Hello", "plop", "unknown_finish")] * 3


def test_the_summary_on_the_screen_names_unknown_reasons(tmp_path: Path) -> None:
    with bench(tmp_path, answer("openai", "stream", "Hello", "plop"), 2) as desk:
        ended = desk.command("--base-url", desk.server.base_url)
        assert ended.code == 0
        assert "unknown finish reasons, taken as done: 'plop' 2" in ended.out


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("dialect", DIALECTS)
@pytest.mark.parametrize(("reason", "text", "word"), [("length", "Hel", "LENGTH"), ("", "", "empty")])
def test_the_user_has_reasons_retried(tmp_path: Path, dialect: str, form: str, reason: str, text: str, word: str) -> None:
    replies = [answer(dialect, form, text, reason)] * 4 + [answer(dialect, form)]
    with bench(tmp_path, replies) as desk:
        summary = desk.run(provider=dialect, finish_retry=[word])
        # the same answer four times is still not final: the user wants another one
        assert (summary.done, len(desk.server.requests)) == (1, 5)
        assert desk.items("status, text") == [("done", "Hello")]
        assert desk.attempts() == {f"finish_{word.lower()}": 4, None: 1}


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("dialect", DIALECTS)
def test_the_user_has_reasons_fail(tmp_path: Path, dialect: str, form: str) -> None:
    with bench(tmp_path, answer(dialect, form, "Hel", "length"), 30) as desk:
        summary = desk.run(provider=dialect, finish_fail="length", concurrency=4)
        # all rows alike, and yet the endpoint is fine: the run goes on to its end
        assert (summary.done, summary.failed, len(desk.server.requests)) == (0, 30, 30)
        assert set(desk.items("status, text, finish_reason, error_code")) == {("failed", "Hel", "length", "finish_length")}
        shown = run("errors", "--db", "r.db", cwd=tmp_path).out
        assert "finish_length" in shown
        assert "setting finish" in " ".join(shown.split())


def test_many_retried_answers_are_no_outage(tmp_path: Path) -> None:
    tried: Counter[str] = Counter()

    def reply(request: Received) -> Reply:
        prompt = request.json["messages"][0]["content"]
        tried[prompt] += 1
        return answer("openai", "stream", "Hello" if tried[prompt] > 2 else "")

    with bench(tmp_path, reply, 40) as desk:
        assert desk.run(finish_retry="empty", concurrency=8).done == 40
        assert desk.attempts() == {"finish_empty": 80, None: 40}


def test_finish_in_a_job_file_by_option_and_in_the_environment(tmp_path: Path) -> None:
    with bench(tmp_path, answer("openai", "stream", "Hel", "length")) as desk:
        (tmp_path / "prompts.toml").write_text('finish = { retry = ["empty"], fail = ["length"] }\n')
        where = ("--base-url", desk.server.base_url)
        assert desk.command(*where).code == 1
        assert desk.items("error_code") == [("finish_length",)]
        # another meaning is no other run, and an option comes before the file
        ended = run("retry", "--db", "r.db", "--finish-fail", "stop", cwd=tmp_path)
        assert ended.code == 0
        assert desk.items("run_id, status, error_code") == [(1, "done", None)]
        ended = desk.command(*where, "--new", env={"RUNNER_FINISH_FAIL": '["LENGTH"]'})
        assert ended.code == 1
        ended = desk.command(*where, "--new", "--finish-retry", "length")
        assert (ended.code, "'length' is in finish.retry and in finish.fail" in ended.err) == (2, True)


def test_a_reason_of_ours_can_be_called_done(tmp_path: Path) -> None:
    with bench(tmp_path, answer("openai", "stream", "Hello", "other")) as desk:
        assert desk.run(finish_done="OTHER").done == 1
        assert desk.items("text, notes") == [("Hello", None)]


# -- parameters that a model refuses

UNSUPPORTED = {
    "max_tokens": "Unsupported parameter: 'max_tokens' is not supported with this model. Use 'max_completion_tokens' instead.",
    "temperature": "Unsupported value: 'temperature' does not support 0.5 with this model. Only the default (1) is allowed.",
    "top_p": "`top_p` is deprecated for this model.",
    "stop": "Unsupported parameter: 'stop' is not supported with this model.",
    "stop_sequences": "stop_sequences: Extra inputs are not permitted",
    "seed": "Unrecognized request argument supplied: seed",
    "stream_options": "stream_options: Extra inputs are not permitted",
}
SETTINGS: dict[str, dict[str, Any]] = {
    "max_tokens": {"max_tokens": 50},
    "temperature": {"temperature": 0.5},
    "top_p": {"top_p": 0.9},
    "stop": {"stop": "END"},
    "stop_sequences": {"stop": "END"},
    "seed": {"seed": 4},
    "stream_options": {},
}


class Picky:
    """A server whose model refuses parameters. after: it takes them for so many requests. inside: it says so in a 200 stream."""

    def __init__(self, dialect: str, *names: str, form: str = "stream", after: int = 0, inside: bool = False) -> None:
        self.dialect, self.names, self.form, self.after, self.inside = dialect, names, form, after, inside
        self.refusals: Counter[str] = Counter()
        self.bodies: list[dict[str, Any]] = []

    def __call__(self, request: Received) -> Reply:
        body = request.json
        self.bodies.append(body)
        found = next((name for name in self.names if name in body), None)
        if found is None or len(self.bodies) <= self.after:
            return answer(self.dialect, self.form)
        self.refusals[found] += 1
        error = {"message": UNSUPPORTED[found], "type": "invalid_request_error"}
        said = {"type": "error", "error": error} if self.dialect == "anthropic" else {"error": error}
        if self.inside:
            return stream(sse(said, "error" if self.dialect == "anthropic" else None))
        return whole("400 Bad Request", said)


PAIRS = [
    *(("openai", name) for name in UNSUPPORTED if name != "stop_sequences"),
    *(("anthropic", name) for name in ("temperature", "top_p", "stop_sequences")),
]


@pytest.mark.parametrize("inside", [False, True], ids=["400", "in the stream"])
@pytest.mark.parametrize(("dialect", "name"), PAIRS)
def test_a_parameter_is_learned_at_the_first_request(tmp_path: Path, dialect: str, name: str, inside: bool) -> None:
    picky = Picky(dialect, name, inside=inside)
    with bench(tmp_path, picky, 12) as desk:
        summary = desk.run(provider=dialect, concurrency=1, attempts=1, **SETTINGS[name])
        assert (summary.done, summary.failed) == (12, 0)
        # one refusal; the row is sent again, which counts against nothing
        assert picky.refusals == {name: 1}
        assert len(picky.bodies) == 13
        assert desk.attempts() == {"unsupported_parameter": 1, None: 12}
        (note,) = desk.notes
        assert note.startswith(f"m does not take {name}: ")
        assert all(("max_completion_tokens" in body) == (name == "max_tokens") for body in picky.bodies[1:])


@pytest.mark.parametrize("form", FORMS)
def test_many_rows_learn_together(tmp_path: Path, form: str) -> None:
    picky = Picky("openai", "max_tokens", "temperature", form=form)
    with bench(tmp_path, picky, 60) as desk:
        summary = desk.run(concurrency=8, max_tokens=5, temperature=0.5)
        assert (summary.done, summary.failed) == (60, 0)
        assert max(picky.refusals.values()) <= 8
        assert len(desk.notes) == 2
        ended = [body for body in picky.bodies if not {"max_tokens", "temperature"} & set(body)]
        assert len(ended) == 60
        assert all(body["max_completion_tokens"] == 5 for body in ended)


@pytest.mark.parametrize("dialect", DIALECTS)
def test_a_parameter_is_learned_in_mid_run_and_on_resume(tmp_path: Path, dialect: str) -> None:
    picky = Picky(dialect, "temperature", after=10)
    with bench(tmp_path, picky, 20) as desk:
        assert desk.run(provider=dialect, concurrency=2, temperature=0.5, limit=15).done == 15
        assert picky.refusals["temperature"] <= 2
        picky.refusals.clear()
        with_command = run("resume", "1", "--db", "r.db", cwd=tmp_path)
        assert with_command.code == 0
        assert "m does not take temperature" in with_command.out
        assert 1 <= picky.refusals["temperature"] <= 5
        assert set(desk.items("status")) == {("done",)}


def test_a_pair_that_excludes_each_other_loses_top_p(tmp_path: Path) -> None:
    words = "`temperature` and `top_p` cannot both be specified for this model. Please use only one."
    bodies: list[dict[str, Any]] = []

    def reply(request: Received) -> Reply:
        bodies.append(request.json)
        if {"temperature", "top_p"} <= set(request.json):
            return whole("400 Bad Request", {"type": "error", "error": {"type": "invalid_request_error", "message": words}})
        return answer("anthropic", "stream")

    with bench(tmp_path, reply) as desk:
        assert desk.run(provider="anthropic", temperature=0.5, top_p=0.9).done == 1
        assert [("temperature" in body, "top_p" in body) for body in bodies] == [(True, True), (True, False)]


@pytest.mark.parametrize("name", ["temperature", "max_tokens"])
def test_strict_params_stop_with_one_sentence(tmp_path: Path, name: str) -> None:
    picky = Picky("openai", name)
    with bench(tmp_path, picky, 30) as desk:
        options = ("--base-url", desk.server.base_url, "--strict-params", "--concurrency", "1")
        ended = desk.command(*options, f"--{name.replace('_', '-')}", "1")
        assert ended.code == 3
        assert f"m does not take {name}: 400" in ended.err
        assert "`runner resume 1 --no-strict-params --db r.db`" in ended.err
        assert len(picky.bodies) == 1
        assert desk.items("status") == []
        # what it says, typed
        again = run("resume", "1", "--no-strict-params", "--db", "r.db", cwd=tmp_path)
        assert (again.code, set(desk.items("status"))) == (0, {("done",)})


def test_what_the_user_wrote_into_the_body_is_never_dropped(tmp_path: Path) -> None:
    picky = Picky("openai", "temperature")
    with bench(tmp_path, picky, 2) as desk:
        summary = desk.run(extra_body={"temperature": 0.5})
        assert (summary.failed, desk.notes) == (2, [])
        assert desk.items("error_code") == [("bad_request",)] * 2
        assert len(picky.bodies) == 2


def test_what_shapes_the_answer_is_never_dropped(tmp_path: Path) -> None:
    words = "Unsupported parameter: 'response_format' is not supported with this model."
    refusal = {"error": {"message": words, "param": "response_format", "code": "unsupported_parameter"}}
    with bench(tmp_path, whole("400 Bad Request", refusal)) as desk:
        assert desk.run(extra_body={"response_format": {"type": "json_object"}}).failed == 1
        assert (len(desk.server.requests), desk.notes) == (1, [])


def test_a_prompt_that_is_quoted_teaches_nothing(tmp_path: Path) -> None:
    prompt = "Unsupported parameter: 'temperature' is not supported with this model."
    bodies: list[dict[str, Any]] = []

    def reply(request: Received) -> Reply:
        bodies.append(request.json)
        if prompt in request.body.decode():
            return whole("400 Bad Request", {"error": {"message": f"invalid prompt: {prompt}", "type": "invalid_request_error"}})
        return openai_answer()

    with bench(tmp_path, reply, 3) as desk:
        with desk.prompts.open("a") as file:
            file.write(json.dumps({"prompt": prompt}) + "\n")
        summary = desk.run(temperature=0.5)
        assert (summary.done, summary.failed, desk.notes) == (3, 1, [])
        assert all("temperature" in body for body in bodies)


@pytest.mark.parametrize("name", ["temperature", "max_tokens"])
def test_a_model_that_refuses_what_is_not_sent_causes_no_loop(tmp_path: Path, name: str) -> None:
    """It names the parameter whatever is sent, or refuses the other name as well."""

    def reply(request: Received) -> Reply:
        other = "max_completion_tokens" if "max_completion_tokens" in request.json else name
        return whole("400 Bad Request", {"error": {"message": f"Unsupported parameter: '{other}'", "type": "bad"}})

    with bench(tmp_path, reply) as desk:
        summary = desk.run(**SETTINGS[name])
        assert (summary.done, summary.failed) == (0, 1)
        assert len(desk.server.requests) == 2
        assert desk.items("error_code, attempts") == [("bad_request", 2)]


def test_each_model_learns_for_itself(tmp_path: Path) -> None:
    def reply(request: Received) -> Reply:
        if request.json["model"] == "picky" and "seed" in request.json:
            return whole("400 Bad Request", {"error": {"message": UNSUPPORTED["seed"], "type": "invalid_request_error"}})
        return openai_answer()

    with bench(tmp_path, reply, 0) as desk:
        lines = [{"prompt": f"{number}", "params": {"model": ("picky", "easy")[number % 2]}} for number in range(10)]
        desk.prompts.write_text("".join(json.dumps(line) + "\n" for line in lines))
        assert desk.run(seed=1, concurrency=1).done == 10
        sent = Counter((request.json["model"], "seed" in request.json) for request in desk.server.requests)
        assert sent == {("easy", True): 5, ("picky", True): 1, ("picky", False): 5}


# -- attempts that the user asks for


def test_attempts_that_the_user_sets_are_used_up(tmp_path: Path) -> None:
    """The rule that three alike faults of a row are enough holds for the default only."""
    sent: Counter[bool] = Counter()

    def reply(request: Received) -> Reply:
        bad = "number 3." in request.json["messages"][0]["content"]
        sent[bad] += 1
        return stream(delta("Hel"), sse(b"{oops")) if bad else openai_answer()

    for attempts, expected in (({}, 3), ({"attempts": 6}, 6), ({"attempts": 2}, 2)):
        sent.clear()
        with bench(tmp_path, reply, 300) as desk:
            summary = desk.run(new=True, concurrency=2, **attempts)
            assert (summary.done_now, summary.failed_now) == (299, 1)
            assert sent[True] == expected


# -- keys and addresses

UNAUTHORIZED = whole("401 Unauthorized", {"error": {"message": "Incorrect API key provided", "code": "invalid_api_key"}})


@pytest.mark.parametrize(("dialect", "variable"), [("openai", "OPENAI_API_KEY"), ("anthropic", "ANTHROPIC_API_KEY")])
def test_no_key_at_a_server_that_wants_one(tmp_path: Path, dialect: str, variable: str) -> None:
    with bench(tmp_path, UNAUTHORIZED, 8) as desk:
        options = ("--base-url", desk.server.base_url, "--provider", dialect, "--concurrency", "1")
        ended = desk.command(*options)
        assert ended.code == 3
        assert f"no key was sent: {variable} is not set (401" in ended.err
        assert "environment variable" in ended.err
        assert f"{variable} is empty" in desk.command(*options, env={variable: " "}).err
        wrong = desk.command(*options, env={variable: "k-1234567890"})
        assert f"the key was read from {variable}" in wrong.err
        placeholder = desk.command(*options, env={variable: "your-api-key"})
        assert f"the key in {variable} looks like a placeholder" in placeholder.err


def test_a_named_variable_that_holds_no_key(tmp_path: Path) -> None:
    with bench(tmp_path, UNAUTHORIZED) as desk:
        options = ("--base-url", desk.server.base_url, "--api-key-env")
        unset, empty = desk.command(*options, "MY_KEY"), desk.command(*options, "MY_KEY", env={"MY_KEY": ""})
        assert (unset.code, empty.code) == (2, 2)
        assert "MY_KEY is not set; set it to the key for" in unset.err
        assert "MY_KEY is empty; set it to the key for" in empty.err
        key = "sk-proj-Ab3dEf9h1JklMn0pQrStUvWx"
        ended = desk.command(*options, key)
        assert (ended.code, key in ended.err + ended.out) == (2, False)
        assert len(desk.server.requests) == 0


LM_STUDIO = whole("200 OK", {"error": "Unexpected endpoint or method. (POST /chat/completions)"})


@pytest.mark.parametrize(
    "lost",
    [
        LM_STUDIO,
        whole("404 Not Found", "404 page not found", kind="text/plain"),
        whole("404 Not Found", {"detail": "Not Found"}),
        whole("405 Method Not Allowed", {"detail": "Method Not Allowed"}),
        whole("200 OK", "<html><title>My server</title></html>", kind="text/html"),
    ],
    ids=["LM Studio", "Ollama", "FastAPI", "405", "a page"],
)
def test_a_base_url_without_v1_names_the_one_to_use(tmp_path: Path, lost: Reply) -> None:
    def reply(request: Received) -> Reply:
        return openai_answer() if request.path.startswith("/v1/") else lost

    with bench(tmp_path, reply, 8) as desk:
        options = ("--concurrency", "1", "--base-url")
        ended = desk.command(*options, f"{desk.server.origin}/")
        assert ended.code == 3
        assert f"base_url lacks /v1: use {desk.server.base_url}" in ended.err
        assert len(desk.server.requests) == 1
        assert desk.command(*options, desk.server.base_url).code == 0


@pytest.mark.parametrize("dialect", DIALECTS)
@pytest.mark.parametrize("ending", ["/v1/chat/completions", "/v1/messages", "/v1/", "/v1/chat/completions/"])
def test_a_pasted_path_is_mended_and_said(tmp_path: Path, dialect: str, ending: str) -> None:
    with bench(tmp_path, stream(*events(dialect, "Hello")), 2) as desk:
        ended = desk.command("--provider", dialect, "--base-url", f"{desk.server.origin}{ending}")
        assert ended.code == 0
        assert ("base_url is used without " in ended.out) == (ending != "/v1/")
        paths = {request.path for request in desk.server.requests}
        assert paths == {"/v1/chat/completions" if dialect == "openai" else "/v1/messages"}


def test_an_address_without_a_scheme_is_refused_with_the_right_one(tmp_path: Path) -> None:
    with bench(tmp_path, openai_answer()) as desk, pytest.raises(UsageError) as caught:
        desk.run(base_url=desk.server.base_url.removeprefix("http://"))
    assert str(caught.value).endswith(f"; use {desk.server.base_url}")


def test_https_to_a_plain_port(tmp_path: Path) -> None:
    greeting = whole("400 Bad Request").steps
    with bench(tmp_path, (), greeting=lambda _: greeting) as desk:
        words = desk.stopped(base_url=desk.server.base_url.replace("http:", "https:"))
        assert f"use {desk.server.base_url}" in words


def test_http_to_a_tls_port(tmp_path: Path) -> None:
    page = whole("400 Bad Request", "Client sent an HTTP request to an HTTPS server.\n", kind="text/plain")
    with bench(tmp_path, page, 8) as desk:
        words = desk.stopped()
        assert f"use {desk.server.base_url.replace('http:', 'https:')}" in words


def test_http_to_a_real_tls_port(tmp_path: Path) -> None:
    """Such a server closes the connection without a word: a handshake shows what it is."""
    authority = trustme.CA()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(context)
    with bench(tmp_path, openai_answer(), 20, tls=context) as desk:
        words = desk.stopped(base_url=desk.server.base_url.replace("https:", "http:"), concurrency=4)
        assert f"use {desk.server.base_url}." in words
        assert desk.items("key") == []


def test_a_plain_server_that_closes_is_no_tls_server(tmp_path: Path) -> None:
    def reply(request: Received) -> Reply:
        return Reply((FIN,)) if request.number <= 4 else openai_answer()

    with bench(tmp_path, reply, 3) as desk:
        assert desk.run(concurrency=1).done == 3


def test_a_wrong_model_has_advice_that_works(tmp_path: Path) -> None:
    def reply(request: Received) -> Reply:
        if request.json["model"] == "right":
            return openai_answer()
        return whole("404 Not Found", {"error": {"message": "The model `m` does not exist", "code": "model_not_found"}})

    with bench(tmp_path, reply, 3) as desk:
        where = ("--base-url", desk.server.base_url)
        ended = desk.command(*where)
        assert (ended.code, "`runner resume 1 --model NAME --db r.db`" in ended.err) == (3, True)
        assert "next: runner resume 1 --model NAME --db r.db\n" in ended.out
        # what it says, typed
        again = run("resume", "1", "--model", "right", "--db", "r.db", cwd=tmp_path)
        assert again.code == 0
