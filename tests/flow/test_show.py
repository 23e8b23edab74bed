"""``runner show``: one row whole."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from desk import Asked, Desk
from processes import assert_clean, run
from raw_server import RawServer, Received, Reply, in_thread, openai_answer, whole

BUSY = whole("503 Service Unavailable", {"error": {"message": "come again"}}, headers=("Retry-After: 0.1",))
REFUSED = whole("422 Unprocessable Entity", {"error": {"message": "no such\x1b[31m thing"}})


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[Desk]:
    asked = Asked()

    def answer(request: Received) -> Reply:
        prompt = request.json["messages"][-1]["content"]
        asked[prompt] += 1
        if asked[prompt] == 1 and "twice" in prompt:
            return BUSY
        return REFUSED if "bad" in prompt else openai_answer("one\ntwo \x1b[31m" if "twice" in prompt else f"echo {prompt}")

    with in_thread(RawServer(answer)) as server:
        yield Desk(tmp_path, server, asked)


def shown(desk: Desk, *words: str) -> str:
    ended = run("show", *words, cwd=desk.folder)
    assert_clean(ended)
    assert ended.code == 0, ended
    return ended.out


def test_the_system_text_is_shown_beside_the_prompt(desk: Desk) -> None:
    desk.write([{"id": 7, "text": "t", "lang": "de"}, {"id": "b", "text": "u", "lang": "en", "system": "Own."}])
    desk.run("--prompt", "Say {{ text }}", "--system", "In {{ lang }}.")
    lines = shown(desk, "7").splitlines()
    # the id is in the first line already
    assert lines[1] == "  text: t"
    assert lines[lines.index("system:") :][:4] == ["system:", "In de.", "asked:", "Say t"]
    assert json.loads(shown(desk, "7", "--json"))["system"] == "In de."
    # a row's own is among its fields
    assert "system:\n" not in shown(desk, "b")
    assert "  system: Own." in shown(desk, "b")


def test_a_row_with_a_retry_and_a_row_that_failed(desk: Desk) -> None:
    desk.write([{"id": "a1", "prompt": "twice", "lang": "en"}, {"id": "a 2", "prompt": "bad"}])
    desk.run(code=1)
    said = shown(desk, "a1")
    lines = said.splitlines()
    assert lines[0] == "run 1, row a1 (line 1): done, 2 attempts"
    assert "  lang: en" in lines
    assert lines[lines.index("asked:") + 1] == "twice"
    first, second = (line for line in lines if line.startswith("attempt "))
    assert first.startswith("attempt 1  ")
    assert "HTTP 503, server_error: " in first
    assert "come again" in first
    assert "HTTP 200" in second
    assert "tokens in" in second
    # an answer keeps its lines, and nothing in it reaches the terminal as a command
    assert lines[-3:-1] == ["answer (stop):", "one"]
    # (escaped by us: click takes colours away where no terminal is)
    assert lines[-1] == r"two \x1b[31m"
    assert "\x1b" not in said
    failed = shown(desk, "prompts.jsonl", "a 2")
    assert failed.splitlines()[0] == "run 1, row a 2 (line 2): failed, 1 attempt"
    assert failed.splitlines()[-1].startswith("failed: bad_request: 422")
    assert "\x1b" not in failed


def test_as_json(desk: Desk) -> None:
    desk.write([{"id": "a1", "prompt": "twice", "lang": "en"}])
    desk.run()
    told = json.loads(shown(desk, "1", "a1", "--json"))
    assert (told["run"], told["key"], told["line"], told["status"]) == (1, "a1", 1, "done")
    assert (told["prompt"], told["text"], told["fields"]["lang"]) == ("twice", "one\ntwo \x1b[31m", "en")
    assert [(one["number"], one["status"], one["sent"], one["error_code"]) for one in told["attempts"]] == [
        (1, 503, True, "server_error"),
        (2, 200, True, None),
    ]


def test_an_answer_that_was_replaced_is_told_too(desk: Desk) -> None:
    desk.write([{"id": "a", "prompt": "one"}])
    desk.run()
    desk.write([{"id": "a", "prompt": "two"}])
    desk.run("--accept-changes")
    said = shown(desk, "a").splitlines()
    assert said[0] == "run 1, row a (line 1): done, 2 attempts"
    assert sum(line.startswith("attempt ") for line in said) == 2
    assert "echo two" in said
    # the newest is the answer, and those before it follow
    (before,) = [place for place, line in enumerate(said) if line.startswith("answer until ")]
    assert said.index("echo two") < before < said.index("echo one")


@pytest.mark.parametrize("key", ["007", "8", "1k", "-9", "a b", "1"])
def test_an_id_is_taken_as_it_is_written(desk: Desk, key: str) -> None:
    desk.write([{"id": key, "prompt": "one"}])
    desk.run()
    for words in (("--", key), ("1", "--", key)):
        assert shown(desk, *words).startswith(f"run 1, row {key} (line 1): done")


def test_a_row_without_an_id_is_found_by_its_line(desk: Desk) -> None:
    desk.write([{"prompt": "one"}, {"prompt": "two"}, {"id": "1", "prompt": "three"}])
    desk.run()
    assert "two" in shown(desk, "2").splitlines()
    assert shown(desk, "2").splitlines()[0].endswith(" (line 2): done, 1 attempt")
    # an id comes before a line
    assert shown(desk, "1").startswith("run 1, row 1 (line 3): done")
    assert run("show", "4", cwd=desk.folder).code == 2
    assert run("show", "9" * 30, cwd=desk.folder).code == 2


def test_a_row_that_asks_nothing(desk: Desk) -> None:
    desk.write([{"id": "a"}, {"id": "b", "prompt": "one"}])
    desk.run(code=1)
    assert shown(desk, "a").splitlines() == [
        "run 1, row a (line 1): failed, 0 attempts",
        "failed: bad_row: line 1: no prompt and no messages",
    ]


def test_a_row_of_a_template_shows_what_was_sent(desk: Desk) -> None:
    (desk.folder / "t.csv").write_text("id,town\nx,Rome\n")
    command = ("run", "t.csv", "--prompt", "Where is {{ town }}?", "--model", "m", "--base-url", desk.server.base_url)
    desk.run(command=command)
    said = shown(desk, "x").splitlines()
    assert "  town: Rome" in said
    assert "Where is Rome?" in said
    assert list(desk.asked) == ["Where is Rome?"]


def test_a_row_that_is_still_open(desk: Desk) -> None:
    desk.write([{"id": "a", "prompt": "one"}, {"id": "b", "prompt": "two"}])
    desk.run("--limit", "1")
    ended = run("show", "b", cwd=desk.folder)
    assert ended.code == 2
    assert ended.err == "runner: run 1 has nothing about a row 'b'; `runner export 1 -o -` lists the ids\n"


def test_words_that_name_no_row(desk: Desk) -> None:
    assert run("show", "a", cwd=desk.folder).code == 2
    desk.write([{"id": "a", "prompt": "one"}])
    desk.run()
    for words in ((), ("1", "a", "b"), ("7", "a"), ("1", "\x1b[31m")):
        ended = run("show", *words, cwd=desk.folder)
        assert ended.code == 2, words
        assert "Traceback" not in ended.err
        assert "\x1b" not in ended.err
    assert list(desk.folder.glob("*.db")) == [desk.store]


def test_an_id_that_is_the_text_none(desk: Desk) -> None:
    # as pandas writes what is missing
    desk.write([{"id": "None", "prompt": "one"}])
    desk.run()
    assert shown(desk, "None").startswith("run 1, row None (line 1): done")
    assert run("show", "a", cwd=desk.folder).code == 2
