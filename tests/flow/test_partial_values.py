"""The JSON of an answer with a schema is told while it comes: as text or as arguments of a tool, in a loop and in a session."""

import asyncio
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from calling import ended
from processes import write_prompts
from raw_server import RawServer, Received, Reply, events, in_thread, openai_answer, stream

import runner

FIELDS = "mood: good|bad, why: str"
PIECES = ('{"mood": "go', 'od", "why": "it', " is", '"}')
VALUES = [{"mood": "go"}, {"mood": "good", "why": "it"}, {"mood": "good", "why": "it is"}]
DIALECTS = pytest.mark.parametrize("dialect", ["openai", "anthropic"])
MODES = pytest.mark.parametrize("mode", ["response_format", "tool"])


def reply(dialect: str, mode: str, *pieces: str) -> Reply:
    """Return an answer whose pieces come one by one."""
    if mode == "tool":
        return paused(ended(dialect, *pieces))
    return paused(stream(*events(dialect, *pieces)))


def paused(whole: Reply) -> Reply:
    """Return a reply with a moment between its pieces, so that they are read one by one."""
    steps: list[Any] = []
    for step in whole.steps:
        steps += [step, 0.02]
    return Reply(tuple(steps))


async def heard(path: Path, server: RawServer, **settings: Any) -> list[Any]:
    given = {"db": path / "r.db", "model": "m", "base_url": server.base_url, **settings}
    return [event async for event in runner.events(path / "p.jsonl", **given)]


@DIALECTS
@MODES
def test_values_are_told_as_they_grow_and_end_with_the_answer(tmp_path: Path, dialect: str, mode: str) -> None:
    write_prompts(tmp_path / "p.jsonl", range(1))
    with in_thread(RawServer(reply(dialect, mode, *PIECES))) as server:
        found = asyncio.run(heard(tmp_path, server, provider=dialect, fields=FIELDS, schema_mode=mode))
    told = [event.value for event in found if isinstance(event, runner.PartialValue)]
    # a slow reader has only the newest
    assert told == [value for value in VALUES if value in told]
    assert told[-1] == VALUES[-1]
    (last,) = (event.result for event in found if isinstance(event, runner.RowFinished))
    assert last.text == "".join(PIECES)
    order = [type(event).__name__ for event in found]
    assert order.index("RowStarted") < order.index("PartialValue") < order.index("RowFinished")


def test_without_a_schema_no_value_is_told(tmp_path: Path) -> None:
    write_prompts(tmp_path / "p.jsonl", range(1))
    with in_thread(RawServer(reply("openai", "response_format", *PIECES))) as server:
        found = asyncio.run(heard(tmp_path, server))
    assert not [event for event in found if isinstance(event, runner.PartialValue)]


@MODES
def test_the_generator_of_values_has_them_too(tmp_path: Path, mode: str) -> None:
    write_prompts(tmp_path / "p.jsonl", range(1))

    async def values(server: RawServer) -> list[Any]:
        given: dict[str, Any] = {"db": tmp_path / "r.db", "model": "m", "base_url": server.base_url, "schema_mode": mode}
        walk = runner.events(tmp_path / "p.jsonl", fields=FIELDS, **given)
        return [value async for _, value in runner.values(walk)]

    with in_thread(RawServer(reply("openai", mode, *PIECES))) as server:
        told = asyncio.run(values(server))
    assert told[-1] == VALUES[-1]
    assert all(one != other for one, other in pairwise(told))


def test_secrets_are_in_no_value(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "secret-1234567890")
    write_prompts(tmp_path / "p.jsonl", range(1))
    with in_thread(RawServer(reply("openai", "tool", '{"mood": "good", "why": "secret-', "1234567", '890!"}'))) as server:
        found = asyncio.run(heard(tmp_path, server, fields=FIELDS, schema_mode="tool"))
    told = [event.value for event in found if isinstance(event, runner.PartialValue)]
    assert told[-1]["why"] == "[redacted]!"
    assert "secret-1" not in str(told)


@MODES
def test_a_session_tells_the_values_of_an_answer(tmp_path: Path, mode: str) -> None:
    given: dict[str, Any] = {"db": tmp_path / "r.db", "model": "m", "fields": FIELDS, "schema_mode": mode}

    async def ask(server: RawServer) -> list[Any]:
        async with runner.Session(base_url=server.base_url, **given) as session:
            return [value async for value in session.stream("a").values()]

    with in_thread(RawServer(reply("openai", mode, *PIECES))) as server:
        told = asyncio.run(ask(server))
        assert (told == [value for value in VALUES if value in told], told[-1]) == (True, VALUES[-1])
        with runner.Session(base_url=server.base_url, **given) as session:
            answer = session.stream("a")
            # the store has it
            assert list(answer.values()) == [VALUES[-1]]
            assert answer.result is not None
            assert answer.result.text == "".join(PIECES)
            assert list(session.stream("b").values())[-1] == VALUES[-1]
        assert len(server.requests) == 2


def test_pieces_of_several_answers_have_their_numbers(tmp_path: Path) -> None:
    write_prompts(tmp_path / "p.jsonl", range(1))

    def answer(request: Received) -> Reply:
        return openai_answer(f'{{"mood": "good", "why": "{request.number}"}}')

    with in_thread(RawServer(answer)) as server:
        found = asyncio.run(heard(tmp_path, server, fields=FIELDS, answers=2))
    for kind in (runner.Token, runner.PartialValue):
        assert {event.answer_number for event in found if isinstance(event, kind)} == {1, 2}
