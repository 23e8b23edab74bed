"""The format of OpenAI's batch results: what an export holds, and what results are as an input, ours and those of others."""

import base64
import json
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from desk import Asked, Desk
from processes import count, run, runner
from raw_server import (
    DONE,
    HANG,
    MESSAGE_START,
    MESSAGE_STOP,
    RawServer,
    Received,
    Reply,
    in_thread,
    message_delta,
    named,
    openai_answer,
    sse,
    stream,
    whole,
)

import runner as package
from runner.exports.formats.openai_batch import custom_id

FAULTY = whole("400 Bad Request", {"error": {"message": "too odd", "type": "invalid_request_error"}})
PNG = base64.b64decode("iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg==")
CALL = {"id": "t1", "type": "function", "function": {"name": "look", "arguments": '{"x": 1}'}}
USAGE = {"prompt_tokens": 9, "completion_tokens": 5, "completion_tokens_details": {"reasoning_tokens": 2}}
# what the model says in each dialect, as one answer: (text, tool call, refusal)
OPENAI: dict[str, tuple[dict[str, Any], str]] = {
    "text": ({"content": "Hé\u2028", "reasoning_content": "hm"}, "length"),
    "call": ({"content": None, "tool_calls": [{"index": 0, **CALL}]}, "tool_calls"),
    "refused": ({"content": None, "refusal": "No."}, "stop"),
}
ANTHROPIC: dict[str, tuple[list[dict[str, Any]], str]] = {
    "text": ([{"type": "thinking", "thinking": "hm", "signature": "s"}, {"type": "text", "text": "Hé\u2028"}], "max_tokens"),
    "call": ([{"type": "tool_use", "id": "t1", "name": "look", "input": {"x": 1}}], "tool_use"),
    "refused": ([{"type": "text", "text": "No."}], "refusal"),
}


class Echo(Asked):
    """A server that echoes the last message."""

    def __call__(self, request: Received) -> Reply:
        prompt = request.json["messages"][-1]["content"]
        self[prompt] += 1
        return self.refused.get(prompt) or openai_answer(f"echo {prompt}")


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[Desk]:
    asked = Echo()
    with in_thread(RawServer(asked)) as server:
        desk = Desk(tmp_path, server, asked)
        desk.write([{"id": f"r{number}", "prompt": f"p{number}", "topic": number} for number in range(4)])
        yield desk


def ask(desk: Desk, source: str | Path | None = None, **more: Any) -> package.Summary:
    given = {"model": "m", "base_url": desk.server.base_url, **more}
    return package.run(source or desk.prompts, db=desk.store, **given)


def exported(desk: Desk, run_id: int | None = None, name: str = "answers.jsonl", **flags: Any) -> list[dict[str, Any]]:
    """Export a run, and return its lines."""
    output = desk.folder / name
    package.export(output, run_id=run_id, db=desk.store, format="openai-batch", **flags)
    return [json.loads(line) for line in output.read_bytes().splitlines()]


def contents(lines: list[dict[str, Any]]) -> list[str | None]:
    """Read answers as scripts do."""
    return [line["response"]["body"]["choices"][0]["message"]["content"] for line in lines]


def prompts_of(desk: Desk) -> list[str]:
    return sorted(request.json["messages"][-1]["content"] for request in desk.server.requests)


def refused(desk: Desk, *arguments: str) -> str:
    ended = run(*arguments, cwd=desk.folder)
    assert (ended.code, ended.out, ended.err.count("\n")) == (2, "", 1), ended
    return ended.err


# -- what is exported


def openai_reply(kind: str, *, streamed: bool) -> Reply:
    message, reason = OPENAI[kind]
    usage = {**USAGE, "prompt_tokens_details": {"cached_tokens": 4}}
    choice = {"index": 0, "delta" if streamed else "message": {"role": "assistant", **message}, "finish_reason": reason}
    body = {"id": "c-1", "model": "m-1", "choices": [choice], "usage": usage}
    return stream(sse(body), DONE) if streamed else whole("200 OK", body)


def anthropic_reply(kind: str, *, streamed: bool) -> Reply:
    content, reason = ANTHROPIC[kind]
    if not streamed:
        usage = {"input_tokens": 5, "cache_read_input_tokens": 4, "output_tokens": 5}
        return whole(
            "200 OK", {"id": "m-1", "type": "message", "model": "m-1", "content": content, "stop_reason": reason, "usage": usage}
        )
    begun = [named("content_block_start", index=at, content_block=block) for at, block in enumerate(content)]
    ended = [named("content_block_stop", index=at) for at in range(len(content))]
    return stream(
        MESSAGE_START, *(one for pair in zip(begun, ended, strict=True) for one in pair), message_delta(reason), MESSAGE_STOP
    )


@pytest.mark.parametrize("streamed", [True, False], ids=["streamed", "whole"])
@pytest.mark.parametrize("dialect", ["openai", "anthropic"])
def test_an_answer_is_a_chat_completion_in_either_dialect(tmp_path: Path, dialect: str, streamed: bool) -> None:
    replies = {"openai": openai_reply, "anthropic": anthropic_reply}[dialect]

    def reply(request: Received) -> Reply:
        return replies(request.json["messages"][-1]["content"], streamed=streamed)

    with in_thread(RawServer(reply)) as server:
        desk = Desk(tmp_path, server, Asked())
        desk.write([{"id": kind, "prompt": kind} for kind in OPENAI])
        url = server.base_url.removesuffix("/v1") if dialect == "anthropic" else server.base_url
        given: dict[str, Any] = {"provider": dialect, "stream": streamed, "system": "Be brief.", "temperature": 0.5}
        assert ask(desk, base_url=url, **given).done == 3
    lines = {line["custom_id"]: line for line in exported(desk)}
    assert [list(line) for line in lines.values()] == [["id", "custom_id", "response", "error", "request", "fields"]] * 3
    assert len({line["id"] for line in lines.values()}) == 3
    bodies = {name: line["response"]["body"] for name, line in lines.items()}
    choices = {name: body["choices"][0] for name, body in bodies.items()}
    said = {name: choice["message"]["content"] for name, choice in choices.items()}
    assert said == {"text": "Hé\u2028", "call": None, "refused": "No." if dialect == "anthropic" else None}
    assert choices["text"]["message"]["reasoning"] == "hm"
    assert choices["refused"]["message"]["refusal"] == (None if dialect == "anthropic" else "No.")
    (call,) = choices["call"]["message"]["tool_calls"]
    assert (call["id"], call["type"], call["function"]["name"]) == ("t1", "function", "look")
    assert json.loads(call["function"]["arguments"]) == {"x": 1}
    reasons = [choices[name]["finish_reason"] for name in OPENAI]
    assert reasons == ["length", "tool_calls", "content_filter" if dialect == "anthropic" else "stop"]
    assert choices["text"].get("native_finish_reason") == ("max_tokens" if dialect == "anthropic" else None)
    body = bodies["text"]
    assert (body["object"], body["model"], body["id"]) == ("chat.completion", "m-1", "c-1" if dialect == "openai" else "m-1")
    assert body["created"] > 1_700_000_000
    assert body["usage"]["total_tokens"] == body["usage"]["prompt_tokens"] + body["usage"]["completion_tokens"]
    if dialect == "openai":
        assert body["usage"] == {**USAGE, "prompt_tokens_details": {"cached_tokens": 4}, "total_tokens": 14}
    messages = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "text"}]
    asked = {"model": "m", "temperature": 0.5, "messages": messages}
    assert lines["text"]["request"] == {"method": "POST", "url": "/v1/chat/completions", "body": asked}


def test_a_failed_row_has_no_answer_and_its_error_has_a_code(desk: Desk) -> None:
    desk.asked.refused = {"p1": FAULTY, "p2": whole("200 OK", {"choices": []})}
    with desk.prompts.open("a") as file:
        file.write('{"id": "e", "prompt": ""}\nnot JSON\n{"id": "t", "prompt": "x", "temperature": "hot"}\n')
    ask(desk, attempts=1)
    lines = exported(desk)
    errors = [line["error"] and line["error"]["code"] for line in lines]
    assert errors == [None, "bad_request", "malformed_stream", None, "bad_row", "bad_row", "bad_row"]
    assert contents([lines[0], lines[3]]) == ["echo p0", "echo p3"]
    refusal = lines[1]["response"]
    assert (refusal["status_code"], refusal["body"]["error"]["code"]) == (400, "bad_request")
    assert "too odd" in refusal["body"]["error"]["message"]
    # a 200 without an answer is none
    assert [lines[number]["response"] for number in (2, 4, 5)] == [None] * 3
    assert [line["request"] is None for line in lines] == [False] * 4 + [True] * 3


def test_tokens_that_are_known_in_part_are_no_usage(desk: Desk) -> None:
    choice = {"index": 0, "message": {"role": "assistant", "content": "some"}, "finish_reason": "stop"}
    desk.asked.refused = {
        f"p{at}": whole("200 OK", {"choices": [choice], "usage": usage})
        for at, usage in enumerate([{"prompt_tokens": 9}, {"completion_tokens": 9}, {"prompt_tokens": 9, "completion_tokens": 0}])
    }
    ask(desk, stream=False, limit=3)
    told = {"prompt_tokens": 9, "completion_tokens": 0, "total_tokens": 9}
    assert [line["response"]["body"]["usage"] for line in exported(desk)] == [None, None, told]


def test_several_answers_copies_and_answers_of_another_run(desk: Desk) -> None:
    desk.write([{"id": "a", "prompt": "p"}, {"id": "b", "prompt": "p"}, {"id": "a#2", "prompt": "q"}])
    ask(desk, answers=2, dedupe=True)
    lines = exported(desk)
    assert [line["custom_id"] for line in lines] == ["a", "a#2", "b", "b#2", "a#2#1", "a#2#2"]
    assert [line["answer_number"] for line in lines] == [1, 2] * 3
    assert contents(lines) == ["echo p"] * 4 + ["echo q"] * 2
    # what is bought once is counted once
    assert [line["response"]["body"]["usage"] is None for line in lines] == [False, False, True, True, False, False]
    assert all(line["response"]["body"]["created"] > 1_700_000_000 for line in lines)
    assert [line["response"]["body"]["model"] for line in lines][2:4] == ["m", "m"]
    desk.write([{"id": "x", "prompt": "p", "new": True}])
    assert ask(desk).reused == 1
    (taken,) = exported(desk)
    assert taken["response"]["body"]["id"] == lines[0]["response"]["body"]["id"]
    assert taken["response"]["body"]["created"] == lines[0]["response"]["body"]["created"]
    assert (taken["custom_id"], taken["fields"]) == ("x", {"new": True})


def test_no_two_answers_have_the_same_custom_id() -> None:
    ids = ["a", "a#1", "a#2", "a#02", "a#1#1", "a#", 7, "7#2", "#1", "é"]
    named = [custom_id(id_, number) for id_ in ids for number in range(1, 13)]
    assert len(set(named)) == len(named)
    assert (custom_id(7, None), custom_id("a#2", None), custom_id("a", 1)) == ("7", "a#2", "a")


def test_a_request_that_was_sent_with_other_settings_is_told_as_it_was_sent(desk: Desk) -> None:
    desk.asked.refused = {"p1": FAULTY}
    ask(desk, max_tokens=9)
    desk.asked.refused = {}
    package.retry(1, db=desk.store, model="other", max_tokens=50)
    bodies = [line["request"]["body"] for line in exported(desk)]
    assert [(body["model"], body["max_tokens"]) for body in bodies] == [("m", 9), ("other", 50), ("m", 9), ("m", 9)]
    assert [line["request"] for line in exported(desk, prompt=False)] == [None] * 4


def test_the_request_that_is_told_is_the_one_that_was_sent(desk: Desk) -> None:
    rows = [{"prompt": "p0"}, {"prompt": "p1", "extra_body": {"top_k": 4}}, {"prompt": "p2", "params": {"temperature": 0.1}}]
    desk.write([{"id": f"r{number}", **row} for number, row in enumerate(rows)])
    ask(desk, tier="flex", extra_body={"top_k": 3}, temperature=0.5, system="Be brief.", stream=False)
    bodies = [{name: value for name, value in request.json.items() if name != "stream"} for request in desk.server.requests]
    sent = sorted(bodies, key=lambda body: str(body["messages"]))
    assert [line["request"]["body"] for line in exported(desk)] == sent
    assert [(body["service_tier"], body["top_k"], body["temperature"]) for body in sent] == [
        ("flex", 3, 0.5),
        ("flex", 4, 0.5),
        ("flex", 3, 0.1),
    ]


def test_what_was_not_kept_is_not_told_and_columns_are_chosen(desk: Desk) -> None:
    ask(desk, keep_rows=False)
    assert [(line["request"], line["fields"]) for line in exported(desk)] == [(None, {"topic": number}) for number in range(4)]
    assert "the results of a batch without their requests" in refused(desk, "check", "answers.jsonl")
    desk.write([{"id": "a", "text": "x", "other": 1}, {"id": "b", "text": "y", "other": 2}])
    ask(desk, prompt="Say {{ text }}", columns="other")
    lines = exported(desk)
    assert [line["fields"] for line in lines] == [{"other": 1}, {"other": 2}]
    assert lines[1]["request"]["body"]["messages"] == [{"role": "user", "content": "Say y"}]


def test_the_command_names_the_format_and_no_ending_does(desk: Desk) -> None:
    ask(desk)
    said = desk.run(command=("export", "-o", "out.jsonl", "--format", "openai-batch"))
    assert "4 of 4 rows written" in said
    assert "custom_id" in (desk.folder / "out.jsonl").read_text()
    assert "choose csv, jsonl, md, messages, openai-batch, parquet, sqlite or xlsx with --format" in refused(
        desk, "export", "-o", "out.openai_batch"
    )
    assert "name it .csv, .jsonl, .md, .parquet, .sqlite or .xlsx" in refused(
        desk, "run", "prompts.jsonl", "--model", "m", "-o", "out.openai_batch"
    )


# -- our export as an input


def test_our_export_asks_the_same_again(desk: Desk) -> None:
    desk.write(
        [
            {"id": "a", "prompt": "p", "temperature": 0, "answer": "known", "topic": "t"},
            {"id": "b", "messages": [{"role": "user", "content": "x"}, {"role": "assistant", "content": "y"}], "model": "own"},
            {"id": "c", "prompt": "q", "system": "Mine.", "extra_body": {"top_k": 3}},
        ]
    )
    ask(desk, system="Ours.", max_tokens=9, stop="END")
    first = sorted((request.json for request in desk.server.requests), key=str)
    exported(desk)
    desk.server.requests.clear()
    assert ask(desk, desk.folder / "answers.jsonl", reuse=False).done == 3
    assert sorted(({**request.json} for request in desk.server.requests), key=str) == sorted(
        ({**body, "model": "m"} for body in first), key=str
    )
    # and without what it asked for beside its messages
    desk.server.requests.clear()
    assert ask(desk, desk.folder / "answers.jsonl", row_settings=False, new=True).done == 3
    assert {name for request in desk.server.requests for name in request.json} == {
        "model",
        "messages",
        "stream",
        "stream_options",
    }
    fields = [row.metadata for row in package.results(db=desk.store)]
    assert fields[0] == {"temperature": 0, "topic": "t", "answer": "echo p", "answer_2": "known"}
    # with the same model nothing is bought again, and with another one everything is asked of it
    desk.write([{"id": "a", "prompt": "p"}])
    ask(desk, new=True)
    exported(desk, name="again.jsonl")
    desk.server.requests.clear()
    assert (ask(desk, desk.folder / "again.jsonl").reused, desk.server.requests) == (1, [])
    assert ask(desk, desk.folder / "again.jsonl", model="other").done == 1
    assert [request.json["model"] for request in desk.server.requests] == ["other"]


def test_our_export_is_judged_and_rows_without_an_answer_are_broken(desk: Desk) -> None:
    desk.asked.refused = {"p1": FAULTY}
    ask(desk, system="Be a poet.", max_tokens=9)
    exported(desk)
    desk.server.requests.clear()
    judge = "{{ prompt }} {{ topic }}: {{ answer }}"
    summary = ask(desk, desk.folder / "answers.jsonl", prompt=judge)
    assert (summary.done, summary.failed) == (3, 1)
    assert prompts_of(desk) == ["p0 0: echo p0", "p2 2: echo p2", "p3 3: echo p3"]
    # what was said to the other model is not said to the judge
    assert all(len(request.json["messages"]) == 1 and "max_tokens" not in request.json for request in desk.server.requests)
    (broken,) = [row for row in package.results(db=desk.store) if row.status == "failed"]
    assert (broken.id, broken.error) == ("r1", "line 2: no field 'answer', which the template names")
    assert ask(desk, desk.folder / "answers.jsonl", prompt=judge, where="answer is defined", new=True).rows == 3
    # what failed is asked again
    desk.asked.refused = {}
    desk.server.requests.clear()
    assert ask(desk, desk.folder / "answers.jsonl", where="error_code == 'bad_request'").done == 1
    assert prompts_of(desk) == ["p1"]


def test_pictures_go_along_again_but_not_to_a_judge(desk: Desk) -> None:
    (desk.folder / "p.png").write_bytes(PNG)
    data = f"data:image/png;base64,{base64.b64encode(PNG).decode()}"
    picture = {"type": "image_url", "image_url": {"url": data}}
    parts = [{"type": "text", "text": "look"}, picture]
    desk.write([{"id": "a", "prompt": "see", "images": "p.png"}, {"id": "b", "messages": [{"role": "user", "content": parts}]}])
    desk.server.answers = openai_answer("seen")
    ask(desk)
    # which one goes out first is not settled: a file has to be read
    first = sorted(json.dumps(request.json["messages"]) for request in desk.server.requests)
    assert all(data in messages for messages in first)
    lines = exported(desk)
    assert lines[0]["request"]["body"]["messages"] == [{"role": "user", "content": "see"}]
    desk.server.requests.clear()
    ask(desk, desk.folder / "answers.jsonl", reuse=False)
    assert sorted(json.dumps(request.json["messages"]) for request in desk.server.requests) == first
    desk.server.requests.clear()
    ask(desk, desk.folder / "answers.jsonl", prompt="{{ answer }} {{ images | default('-') }}")
    assert prompts_of(desk) == ["seen -", "seen p.png"]
    ask(desk, desk.folder / "answers.jsonl", prompt="{{ answer }}", images="images", where="id == 'a'")
    assert data in json.dumps(desk.server.requests[-1].json)


def test_several_answers_are_rows_of_their_own_as_in_run_n(desk: Desk) -> None:
    ask(desk, limit=1, answers=2)
    exported(desk)
    desk.server.requests.clear()
    ask(desk, desk.folder / "answers.jsonl", prompt="{{ id }} {{ answer_number }} {{ answer }}")
    from_file = prompts_of(desk)
    desk.server.requests.clear()
    ask(desk, "run:1", prompt="{{ id }} {{ answer_number }} {{ answer }}!")
    assert [f"{prompt}!" for prompt in from_file] == prompts_of(desk) == ["r0 1 echo p0!", "r0#2 2 echo p0!"]


def test_a_killed_run_of_results_goes_on_and_pays_for_nothing_twice(desk: Desk) -> None:
    ask(desk)
    exported(desk)
    desk.asked.clear()
    desk.asked.refused = {"echo p2?": Reply((HANG,))}
    words = ("run", "answers.jsonl", "--prompt", "{{ answer }}?", "--model", "m", "--base-url", desk.server.base_url)
    with runner(*words, "--concurrency", "1", cwd=desk.folder) as process:
        process.until(lambda: count(desk.store) == 6, "two answers more")
        process.signal(signal.SIGKILL)
        process.ended()
    desk.asked.refused = {}
    assert "run 2 finished: 4 done" in desk.run(command=words)
    assert [desk.asked[f"echo p{number}?"] for number in (0, 1, 3)] == [1, 1, 1]
    assert contents(exported(desk, 2, "judged.jsonl")) == [f"echo echo p{number}?" for number in range(4)]


def test_what_is_ours_is_left_out_of_a_pattern_and_requests_are_not_replaced(desk: Desk) -> None:
    ask(desk)
    exported(desk)
    said = desk.run(command=("check", "*.jsonl", "--provider", "simulator"))
    assert "left out, as files of runner's own: answers.jsonl (an export)" in said
    request = {"custom_id": "1", "body": {"messages": [{"role": "user", "content": "one"}]}}
    (desk.folder / "batch.jsonl").write_text(f"{json.dumps(request)}\n")
    assert "batch.jsonl holds prompts" in refused(desk, "export", "-o", "batch.jsonl", "--format", "openai-batch")
    # an earlier export is replaced
    assert len(exported(desk)) == 4


# -- the results of others


def test_the_results_of_others_have_an_answer(desk: Desk) -> None:
    def completed(**message: Any) -> dict[str, Any]:
        return {"status_code": 200, "request_id": "r", "body": {"choices": [{"index": 0, "message": message}]}}

    output = [{"type": "reasoning"}, {"type": "message", "content": [{"type": "output_text", "text": "of Responses"}]}]
    succeeded = {
        "type": "succeeded",
        "message": {"content": [{"type": "text", "text": "of "}, {"type": "text", "text": "Claude"}]},
    }
    refusal = {"status_code": 400, "body": {"error": {"code": None, "type": "invalid_request_error", "message": "too long"}}}
    lines = [
        {"id": "b1", "custom_id": "1", "response": completed(content="Größe\n"), "error": None},
        {"id": "b2", "custom_id": "2", "response": completed(content=None, tool_calls=[CALL]), "error": None},
        {"id": "b3", "custom_id": "3", "response": {"status_code": 200, "body": {"output": output}}, "error": None},
        {"custom_id": "4", "result": succeeded},
        {"custom_id": "5", "response": None, "error": {"code": "batch_expired", "message": "too late"}},
        {"custom_id": "6", "response": refusal, "error": None},
        {"custom_id": "7", "result": {"type": "errored", "error": {"type": "error", "error": {"type": "x", "message": "y"}}}},
        {"custom_id": "8", "result": {"type": "expired"}},
        {"custom_id": "9", "response": {"status_code": 200, "body": {"choices": "?"}}, "error": None},
        {"custom_id": "A", "response": {**completed(content="half"), "status_code": 500}, "error": None},
    ]
    path = desk.folder / "batch_output.jsonl"
    path.write_text("".join(f"{json.dumps(line)}\n" for line in lines))
    assert "asks about each answer" in refused(desk, "run", path.name, "--model", "m")
    told = "{{ id }}: {{ answer | default('none') }} {{ error_code | default('-') }} {{ error | default('-') }}|"
    ask(desk, path, prompt=told)
    assert prompts_of(desk) == [
        "1: Größe\n - -|",
        "2:  - -|",
        "3: of Responses - -|",
        "4: of Claude - -|",
        "5: none batch_expired too late|",
        "6: none invalid_request_error too long|",
        "7: none x y|",
        "8: none expired -|",
        "9: none - -|",
        "A: none 500 -|",
    ]
