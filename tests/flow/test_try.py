"""``runner try``: one answer, typed as it comes, with the retries, errors and exit codes of a run, and nothing stored."""

import json
import os
import re
import signal
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import click
import pytest
from processes import Ended, assert_clean, piped, run, runner, until
from raw_server import (
    BLOCK_START,
    DONE,
    HANG,
    MESSAGE_START,
    RST,
    USAGE,
    RawServer,
    Received,
    Reply,
    block_delta,
    delta,
    events,
    finish,
    in_thread,
    openai_answer,
    sse,
    stream,
    whole,
)
from samples import write_files
from test_signals import Terminal

from runner.cli.commands import cli
from runner.errors import UsageError
from runner.session.stopping import GRACE_S

KEY = "canary-0123456789abcdef"
ROWS = '{"id": "a"}\n\n{"id": "b", "prompt": "two", "temperature": 0.5}\n{"id": "c", "prompt": "four"}\n'
REASONING = sse({"choices": [{"index": 0, "delta": {"reasoning_content": "Let me\nsee."}}]})


def plain(said: str) -> str:
    """Return what a terminal shows of what was written to it."""
    return re.sub(r"\x1b\[\d*[mK]", "", said).replace("\r\n", "\n")


class Folder:
    """A folder with rows, a server, and what the server received."""

    def __init__(self, path: Path, server: RawServer) -> None:
        self.path, self.server, self.replies = path, server, list[Reply]()
        self.where = ("--model", "m", "--base-url", server.base_url)

    def tried(self, *words: str, code: int = 0, env: dict[str, str] | None = None) -> Ended:
        ended = run("try", *words, *self.where, cwd=self.path, env=env)
        assert ended.code == code, ended
        assert "\x1b" not in ended.out + ended.err
        # it is no row of a run
        assert not list(self.path.glob("*.db*"))
        return ended

    def typed(self, *words: str, until_said: str, keys: bytes = b"", env: dict[str, str] | None = None) -> tuple[int, str]:
        """Try it in a terminal, press keys once something was said, and return the exit code and all that was said."""
        with Terminal(100) as terminal:
            environment = {"TERM": "xterm", **(env or {})}
            words = ("try", *words, *self.where)
            with runner(*words, cwd=self.path, env=environment, terminal=terminal.slave) as process:
                terminal.let_go()
                until(lambda: until_said in terminal.said() or not process.alive, until_said)
                if keys:
                    assert process.alive, terminal.said()
                    terminal.press(keys)
                until(lambda: terminal.said() and not process.alive, "the end")
                assert "Traceback" not in terminal.said()
                return process.ended().code, terminal.said()

    @property
    def sent(self) -> list[Any]:
        return [request.json for request in self.server.requests]

    @property
    def prompts(self) -> list[str]:
        return [body["messages"][-1]["content"] for body in self.sent]


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Folder]:
    (tmp_path / "rows.jsonl").write_text(ROWS)
    found: list[Folder] = []

    def answer(request: Received) -> Reply:
        replies = found[0].replies
        return replies[min(request.number, len(replies)) - 1] if replies else openai_answer("Hello\n\x1b[31mthere")

    with in_thread(RawServer(answer)) as server:
        found.append(Folder(tmp_path, server))
        yield found[0]


# -- in a terminal


@pytest.mark.parametrize(
    ("dialect", "begun"), [("openai", [delta("Hel")]), ("anthropic", [MESSAGE_START, BLOCK_START, block_delta("Hel")])]
)
def test_the_answer_is_typed_as_it_comes_and_ctrl_c_ends_it_at_once(folder: Folder, dialect: str, begun: list[bytes]) -> None:
    folder.replies = [stream(*begun, end=(HANG,))]
    code, said = folder.typed("Hi", "--provider", dialect, until_said="Hel", keys=b"\x03")
    assert code == 130
    assert "stopped; the tokens received so far may be billed" in said
    # the prompt of the shell begins on a line of its own, in its own colour
    assert said.endswith("\r\n")
    assert said.rfind("\x1b[0m") >= said.rfind("\x1b[2m")
    until(lambda: folder.server.open == 0, "the end of the connection")
    assert len(folder.server.requests) == 1


def test_a_wait_is_shown_until_something_comes(folder: Folder) -> None:
    folder.replies = [stream(end=(HANG,))]
    code, said = folder.typed("Hi", until_said="no answer yet, ", keys=b"\x03")
    assert code == 130
    # the line is gone when the next one comes
    assert re.search(r"no answer yet, \d+ s(\x1b\[0m)?\x1b\[K(\^C)?\r\x1b\[K", said), said


def test_reasoning_answer_and_figures(folder: Folder) -> None:
    text = f"one\r\ntwo\t\x1b[31m \u202e {KEY[:7]}"
    folder.replies = [stream(REASONING, delta(text), delta(KEY[7:]), finish(), USAGE, DONE)]
    code, said = folder.typed("rows.jsonl", "--system", "Be \x07 brief.", until_said="tokens/s", env={"OPENAI_API_KEY": KEY})
    assert code == 0
    # what is switched on is switched off, and nothing moves or switches but by us
    assert not re.search(r"\x1b(?!\[(?:0m|2m|32m|33m|K))", said), said
    assert KEY not in said
    lines = plain(said)
    head, _, rest = lines.partition("\n\nreasoning:\n")
    assert head.splitlines()[1:] == [
        "line 1: no prompt and no messages; passed over",
        "rows.jsonl, line 3",
        "system: Be \\x07 brief.",
        "user: two",
    ]
    assert f"endpoint {folder.server.base_url}, model m, key from OPENAI_API_KEY" in head
    assert rest.startswith("Let me\nsee.\n\nanswer:\none\ntwo")
    assert rest.count("\\x1b[31m \\u202e [redacted]\n") == 1
    last = rest.splitlines()[-1]
    assert re.fullmatch(r"stop, first token \d+\.\d\d s(, [\d,.]+ tokens/s)?, 7 tokens in, 3 out, m-1", last), last


def test_an_attempt_that_breaks_is_told_where_it_stands(folder: Folder) -> None:
    folder.replies = [stream(delta("half"), end=(0.1, RST)), openai_answer("whole")]
    code, said = folder.typed("Hi", until_said="stop,")
    assert code == 0
    lines = plain(said)
    again = "that attempt failed; the answer starts over:"
    assert re.search(rf"\nhalf\nattempt 1 failed: .*; trying again\n{again}\nwhole\n", lines), lines


# -- without a terminal


@pytest.mark.parametrize("stream_option", ["--stream", "--no-stream"])
@pytest.mark.parametrize("dialect", ["openai", "anthropic"])
def test_standard_output_has_the_answer_and_nothing_else(folder: Folder, dialect: str, stream_option: str) -> None:
    folder.replies = [stream(*events(dialect, "Hello\n", "\x1b[31mthere"))]
    ended = folder.tried("rows.jsonl", "--provider", dialect, stream_option)
    assert ended.out == "Hello\n\\x1b[31mthere\n"
    assert "7 tokens in, 3 out, m-1" in ended.err.splitlines()[-1]
    assert folder.sent[0].get("stream", False) is (stream_option == "--stream")
    assert (folder.prompts, folder.sent[0]["temperature"]) == (["two"], 0.5)


def test_an_answer_that_is_cut_off_is_said_to_be(folder: Folder) -> None:
    folder.replies = [stream(delta("one two"), finish("length"), USAGE, DONE)]
    ended = folder.tried("Hi", "--max-tokens", "3")
    assert ended.out == "one two\n"
    cut, last = ended.err.splitlines()[-2:]
    assert cut == "cut off: the answer has reached its limit of tokens (3); --max-tokens allows more"
    assert last.startswith("length, first token")


@pytest.mark.parametrize(
    ("first", "words"),
    [
        (whole("429 Too Many Requests", {"error": {"message": "slow down"}}, retry_after="1"), "429: slow down"),
        (whole("503 Service Unavailable", {"error": {"message": "busy"}}), "503: busy"),
        (stream(delta("half"), end=(RST,)), "the connection broke in the middle of the answer"),
    ],
    ids=["429", "503", "cut"],
)
def test_what_passes_is_tried_again_and_leaves_nothing_behind(folder: Folder, first: Reply, words: str) -> None:
    folder.replies = [first, openai_answer("whole")]
    ended = folder.tried("Hi")
    assert ended.out == "whole\n"
    assert f"attempt 1 failed: {words}; trying again" in ended.err.splitlines()
    assert len(folder.sent) == 2
    folder.server.requests.clear()
    assert len(json.loads(folder.tried("Hi", "--json").out)["attempts"]) == 2


def refusal(status: str, words: str) -> Reply:
    return whole(status, {"error": {"message": words}})


BUSY, LATE = refusal("503 Service Unavailable", "busy"), refusal("503 Service Unavailable", "late")


@pytest.mark.parametrize(
    ("replies", "told"),
    [
        ([BUSY], ["attempt 1 failed: 503: busy; trying again", "attempt 2 failed in the same way"]),
        ([BUSY, LATE, BUSY], ["attempt 1 failed: 503: busy; trying again", "attempt 2 failed: 503: late; trying again"]),
        ([BUSY, BUSY, LATE], ["attempt 1 failed: 503: busy; trying again", "attempt 2 failed in the same way"]),
    ],
)
def test_each_attempt_that_failed_is_told(folder: Folder, replies: list[Reply], told: list[str]) -> None:
    folder.replies = replies
    said = folder.tried("Hi", "--attempts", "3", code=1).err.splitlines()
    last = "late" if replies[-1] is LATE else "busy"
    assert said[-3 - len(told) + 1 : -1] == [*told, f"failed after 3 attempts: server_error: 503: {last}"]


def test_alike_failures_are_told_before_another_one_and_before_a_deadline(folder: Folder) -> None:
    folder.replies = [whole("429 Too Many Requests", {"error": {"message": "slow"}}, retry_after="0.1")] * 3 + [
        refusal("401 No", "key")
    ]
    said = folder.tried("Hi", code=3).err
    assert "attempts 2 and 3 failed in the same way\nrunner: " in said
    folder.replies = [BUSY]
    folder.server.requests.clear()
    ended = folder.tried("Hi", "--attempts", "9", "--deadline", "1", code=3)
    assert ended.err.endswith("runner: the deadline of 1 s has passed; the same command asks again\n")


@pytest.mark.parametrize(
    ("reply", "code"),
    [
        (whole("401 Unauthorized", {"error": {"message": "wrong key", "code": "invalid_api_key"}}), 3),
        (whole("404 Not Found", {"error": {"message": "no model `m`", "code": "model_not_found"}}), 3),
        (whole("402 Payment Required", {"error": {"message": "no credit"}}), 3),
        (whole("422 Unprocessable Entity", {"error": {"message": "no such\x1b[31m thing"}}), 1),
        (stream(delta("bad"), finish("content_filter"), DONE), 0),
    ],
    ids=["key", "model", "credit", "row", "filter"],
)
def test_errors_have_the_words_and_the_codes_of_a_run(folder: Folder, reply: Reply, code: int) -> None:
    folder.replies = [reply]
    ended = folder.tried("two", code=code)
    told = json.loads(folder.tried("two", "--json", code=code).out)
    sent = folder.sent[0]
    (folder.path / "one.jsonl").write_text('{"prompt": "two"}\n')
    other = run("run", "one.jsonl", *folder.where, cwd=folder.path)
    assert (other.code, folder.sent[-1]) == (code, sent)
    assert told["status"] == ("failed" if code else "done")
    if code:
        assert ended.out == ""
        assert "runner re" not in ended.err
        assert "the same command" in ended.err
        first = told["error"].partition(". ")[0]
        assert first in ended.err
        assert first in other.err + run("errors", cwd=folder.path).out
        assert told["error_code"] == json.loads(run("status", "--json", cwd=folder.path).out)["run"].get("stop_code") or code == 1


def test_a_reader_that_goes_away_ends_it(folder: Folder) -> None:
    reading, writing = os.pipe()
    os.close(reading)
    with runner("try", "Hi", *folder.where, cwd=folder.path, stdout=writing) as process:
        os.close(writing)
        ended = process.ended()
    assert_clean(ended)
    assert ended.code == 141


@pytest.mark.parametrize("kind", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_before_the_first_token(folder: Folder, kind: signal.Signals) -> None:
    folder.replies = [stream(end=(HANG,))]
    with runner("try", "Hi", "--json", *folder.where, cwd=folder.path) as process:
        process.until(lambda: folder.server.requests, "the request")
        process.signal(kind)
        ended = process.ended()
    assert_clean(ended)
    told = json.loads(ended.out)
    assert (ended.code, told["error_code"], told["text"]) == (128 + kind, "cancelled", None)
    # and not after the time that a run gives its open requests
    assert told["duration_s"] < GRACE_S / 2


def test_as_json(folder: Folder) -> None:
    folder.replies = [stream(REASONING, delta("one"), finish(), USAGE, DONE)]
    ended = folder.tried("rows.jsonl", "--json", "--row", "4")
    told = json.loads(ended.out)
    assert ended.err == ""
    assert (told["line"], told["request"]["messages"]) == (4, [{"role": "user", "content": "four"}])
    assert (told["status"], told["text"], told["extra"]) == ("done", "one", {"reasoning": "Let me\nsee."})
    assert (told["finish_reason"], told["input_tokens"], told["output_tokens"]) == ("stop", 7, 3)
    assert (told["served_model"], len(told["attempts"]), told["error"]) == ("m-1", 1, None)
    assert told["time_to_first_token_s"] <= told["duration_s"]


# -- what is sent


def test_which_row(folder: Folder) -> None:
    (folder.path / "t.csv").write_text("text,lang\none,de\ntwo,fr\n")
    (folder.path / "t.toml").write_text('input = "t.csv"\nprompt = "Is {{ text }} good?"\nsystem = "In {{ lang }}."\n')
    for words in (
        ("t.csv",),
        ("t.toml", "--row", "3"),
        ("t.csv", "--where", "lang == 'fr'"),
        ("t.csv", "--prompt", "{{ text }}!"),
    ):
        folder.tried(*words)
    assert folder.prompts == ["Is one good?", "Is two good?", "Is two good?", "one!"]
    assert folder.sent[0]["messages"][0]["content"] == "In de."
    # the settings of the file, and the prompt as it stands
    folder.tried("t.csv", "Why?", "--system", "Be brief.")
    assert folder.sent[-1]["messages"] == [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Why?"}]
    ended = piped("try", "-", *folder.where, given=b'{"prompt": "piped"}\n', cwd=folder.path)
    assert (ended.code, folder.prompts[-1]) == (0, "piped")


def test_a_row_with_a_picture(folder: Folder) -> None:
    write_files(folder.path)
    (folder.path / "p.jsonl").write_text('{"prompt": "What is it?", "images": "1.png"}\n')
    ended = folder.tried("p.jsonl")
    assert "user: [image 1.png] What is it?" in ended.err.splitlines()
    assert "base64" not in ended.err
    picture, text = folder.sent[0]["messages"][0]["content"]
    assert (picture["type"], text["text"]) == ("image_url", "What is it?")
    assert json.loads(folder.tried("p.jsonl", "--json").out)["status"] == "done"


def test_a_prompt_alone_has_the_settings_of_options_and_environment(folder: Folder) -> None:
    folder.tried("Is {{ this }} a prompt, a.csv?", env={"RUNNER_TEMPERATURE": "0.25"})
    folder.tried("--prompt", "rows.csv")
    assert folder.prompts == ["Is {{ this }} a prompt, a.csv?", "rows.csv"]
    assert folder.sent[0]["temperature"] == 0.25


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("reviews.csv",), "there is no file reviews.csv; if that is the prompt: `runner try --prompt reviews.csv`"),
        (("my reviews.csv.gz",), "there is no file my reviews.csv.gz; if that is the prompt: `runner try --prompt 'my"),
        (("data/reviews",), "there is no file data/reviews"),
        (("job.toml",), "there is no file job.toml"),
        (("prompts.xyz",), "there is no file prompts.xyz"),
        (("absent", "Hi"), "there is no file absent"),
        (("inner",), "inner is a folder"),
        (("",), "the name of the prompt file is empty"),
        (("  ",), "the prompt is empty, so nothing was sent"),
        ((), "name a file with rows, or write a prompt"),
        (("rows.jsonl", "Hi", "there"), "one prompt at a time; put quotation marks around it"),
        (("rows.jsonl", "Hi", "--row", "3"), "--row names a row of a file"),
        (("Hi", "--row", "3"), "--row names a row of a file"),
        (("Hi", "--prompt", "Ho"), "--prompt and a prompt exclude each other"),
        (("rows.jsonl", "Is {{ id }} good?"), "--prompt makes a template of it"),
        (("--prompt", "Is {{ id }} good?"), "no field 'id', which the template names, so nothing was sent"),
        (("rows.jsonl", "bad.jsonl"), "rows.jsonl and bad.jsonl are two files, and one row of one file is asked"),
        (("rows.jsonl", "--row", "0"), "'0' is not a whole number of 1 or more"),
        (("rows.jsonl", "--row", "1"), "rows.jsonl, line 1: no prompt and no messages, so nothing was sent"),
        (("rows.jsonl", "--row", "2"), "rows.jsonl has no row that begins on line 2; the nearest: 1 and 3"),
        (("rows.jsonl", "--row", "9"), "rows.jsonl has no row that begins on line 9; the nearest: 4"),
        (("rows.jsonl", "--where", "id == 'z'"), "rows.jsonl has no row for which --where"),
        (("bad.jsonl",), "none of the first 2 rows of bad.jsonl can be sent; line 1: no prompt and no messages"),
        (("sys.jsonl", "Hi"), "the system text is a template for rows: no field 'lang', which the template names"),
        (("rows.jsonl", "--provider", "nobody"), "nobody"),
        (("rows.jsonl", "--columns", "nope"), "--columns names the field 'nope', which no row of rows.jsonl has; its fields: id"),
        (("rows.jsonl", "--prompt", "{{ nope }}"), "the template names the field 'nope', which no row of rows.jsonl has"),
        (("rows.jsonl", "--prompt", "Is {id} good?"), "{{ id }} stands for the field, {id} for itself"),
        (("Hi", "--where", "id == 'a'"), "--where is for the rows of a file, and none is read for the prompt"),
        (("rows.jsonl", "Hi", "--columns", "nope"), "--columns is for the rows of a file"),
        (("--prompt", "Hi", "--id-column", "nr"), "--id-column is for the rows of a file"),
    ],
)
def test_what_cannot_be_meant_sends_nothing(
    folder: Folder, monkeypatch: pytest.MonkeyPatch, words: Sequence[str], told: str
) -> None:
    (folder.path / "inner").mkdir()
    (folder.path / "bad.jsonl").write_text('{"id": 1}\n{"id": 2}\n')
    (folder.path / "sys.jsonl").write_text('{"lang": "de"}\n')
    (folder.path / "sys.toml").write_text('prompt = "{{ lang }}"\nsystem = "In {{ lang }}."\n')
    monkeypatch.chdir(folder.path)
    with pytest.raises((UsageError, click.UsageError)) as refused:
        cli.main(["try", *words, *folder.where], standalone_mode=False)
    assert refused.value.exit_code == 2
    assert told in str(refused.value)
    assert folder.sent == []


def test_what_only_a_job_file_asks_for_is_sent_nowhere(folder: Folder) -> None:
    (folder.path / "rows.toml").write_text('model = "m"\nbase_url = "http://far.example/v1"\n')
    for words in (("rows.jsonl",), ("rows.jsonl", "Hi")):
        ended = run("try", *words, cwd=folder.path, env={"OPENAI_API_KEY": KEY, "http_proxy": folder.server.origin})
        assert (ended.code, ended.out, folder.server.requests) == (2, "", [])
        assert "rows.toml wants to send OPENAI_API_KEY to http://far.example" in ended.err


def test_without_a_model_nothing_is_sent(folder: Folder) -> None:
    ended = run("try", "Hi", "--base-url", folder.server.base_url, cwd=folder.path)
    assert (ended.code, ended.err) == (2, "runner: no model is set; set model in the job file, or use --model\n")
    assert folder.sent == []


def test_what_an_answer_cost_is_told_where_its_price_is_known(folder: Folder) -> None:
    told = folder.tried("hi", "--prices", '{"m": {"input": 1, "output": 2}}').err.splitlines()[-1]
    # 7 tokens in and 3 out, of dollars per million
    assert told.endswith(", m-1, $0.000013")
