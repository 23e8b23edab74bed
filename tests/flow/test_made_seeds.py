"""Further answers of a row go out with seeds of their own, which are no part of what the row asks."""

import json
from collections import defaultdict
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import anyio
import pytest
from desk import Asked, Desk, opened
from processes import assert_clean, count, rows, run
from processes import runner as started
from raw_server import HANG, Received, Reply, anthropic_answer, openai_answer, whole
from test_policy import bench

import runner
from runner.several import key_of, seed_of

ROWS = [{"id": "a", "prompt": "one"}, {"id": "b", "prompt": "two"}]
SECOND, THIRD = ({row["id"]: seed_of(key_of(row["id"], number)) for row in ROWS} for number in (2, 3))
NAMES = {"one": "a", "two": "b"}


class Seeded(Asked):
    """A server that remembers the bodies of the requests for each prompt, refuses what it is told, and answers none if silent."""

    def __init__(self) -> None:
        super().__init__()
        self.bodies = defaultdict[str, list[bytes]](list)
        self.refusal: dict[str, Any] | None = None
        self.silent, self.anthropic = False, False

    def __call__(self, request: Received) -> Reply:
        prompt = str(request.json["messages"][-1]["content"])
        self.bodies[prompt].append(request.body)
        if prompt in self.refused:
            return self.refused[prompt]
        if self.silent and "seed" in request.json:
            return Reply((HANG,))
        if self.refusal is not None and "seed" in request.json:
            return whole("400 Bad Request", self.refusal)
        self[prompt] += 1
        return (anthropic_answer if self.anthropic else openai_answer)(f"{self.total()}: {prompt}")

    def seeds(self) -> dict[str, list[int | None]]:
        """The seeds of the requests of each row, in any order."""
        found = {
            NAMES.get(prompt, prompt): [json.loads(body).get("seed") for body in self.bodies[prompt]] for prompt in self.bodies
        }
        return {row: sorted(seeds, key=lambda seed: seed or 0) for row, seeds in found.items()}


@pytest.fixture
def asked() -> Seeded:
    return Seeded()


@pytest.fixture
def desk(tmp_path: Path, asked: Seeded) -> Iterator[Desk]:
    with opened(tmp_path, asked, ROWS) as desk:
        yield desk


def shown(desk: Desk, number: int = 1) -> list[Any]:
    """The seeds in the requests of an export, in the order of the rows and their answers."""
    runner.export(desk.folder / "out.jsonl", db=desk.store, run_id=number, format="openai-batch")
    lines = [json.loads(line) for line in (desk.folder / "out.jsonl").read_text().splitlines()]
    assert [line.get("made_seed") for line in lines] == [line["request"]["body"].get("seed") for line in lines]
    return [line["request"]["body"].get("seed") for line in lines]


def in_order(*more: Mapping[str, Any]) -> list[Any]:
    return [seed for row in ROWS for seed in (None, *(each[row["id"]] for each in more))]


def expected(*more: Mapping[str, Any]) -> dict[str, list[Any]]:
    return {
        row["id"]: sorted((each[row["id"]] for each in ({row["id"]: None}, *more)), key=lambda seed: seed or 0) for row in ROWS
    }


@pytest.mark.parametrize("more", [{}, {"headers": {"x-team": "1"}}, {"max_tokens": 5, "max_tokens_total": 10_000}], ids=str)
def test_the_first_answer_has_none_and_each_other_one_its_own(desk: Desk, asked: Seeded, more: dict[str, Any]) -> None:
    runner.run(desk.prompts, **desk.job(3, **more))
    assert asked.seeds() == expected(SECOND, THIRD)
    assert len({*SECOND.values(), *THIRD.values()}) == 4
    assert shown(desk) == in_order(SECOND, THIRD)


def test_the_first_answer_is_sent_as_without_others(desk: Desk, asked: Seeded) -> None:
    runner.run(desk.prompts, **desk.job(None))
    alone = {prompt: bodies[0] for prompt, bodies in asked.bodies.items()}
    # what is bought stays, and only the others are sent
    more = runner.run(desk.prompts, **desk.job(2))
    assert (more.run, more.attempts_now, more.done) == (1, 2, 4)
    runner.run(desk.prompts, new=True, reuse=False, **desk.job(2, concurrency=1))
    assert {prompt: bodies[2] for prompt, bodies in asked.bodies.items()} == alone
    assert asked.bodies["one"][1] == asked.bodies["one"][3]


def test_a_killed_run_sends_the_same_again(desk: Desk, asked: Seeded) -> None:
    asked.silent = True
    with started(*desk.command, "--answers", "3", "--concurrency", "6", cwd=desk.folder) as process:
        process.until(
            lambda: count(desk.store, where="status = 'done'") == 2 and sum(map(len, asked.bodies.values())) == 6, "six requests"
        )
        process.killed()
    assert asked.seeds() == expected(SECOND, THIRD)
    before, asked.silent = {prompt: set(bodies) for prompt, bodies in asked.bodies.items()}, False
    asked.bodies.clear()
    assert_clean(run("resume", cwd=desk.folder))
    assert {prompt: {*bodies, min(before[prompt], key=len)} for prompt, bodies in asked.bodies.items()} == before
    assert (shown(desk), asked.total()) == (in_order(SECOND, THIRD), 6)


def test_a_retry_sends_the_same_again(desk: Desk, asked: Seeded) -> None:
    asked.refusal = {"error": {"message": "too odd", "code": "content_policy_violation"}}
    assert runner.run(desk.prompts, **desk.job(2)).failed == 2
    refused, asked.refusal = shown(desk), None
    before = {prompt: set(bodies) for prompt, bodies in asked.bodies.items()}
    assert runner.retry(db=desk.store).done == 4
    assert {prompt: set(bodies) for prompt, bodies in asked.bodies.items()} == before
    assert refused == shown(desk) == in_order(SECOND)


def test_what_is_shown_of_them(desk: Desk, asked: Seeded) -> None:
    unsent = run(*desk.command, "--answers", "3", "--dry-run", "2", cwd=desk.folder)
    assert "answers 2 to 3 are asked for in the same way, each with another seed where the server has seeds" in unsent.err
    unseeded = run(
        *desk.command, "--provider", "anthropic", "--max-tokens", "9", "--answers", "2", "--dry-run", "1", cwd=desk.folder
    )
    assert "answer 2 is asked for in the same way, without a seed of its own" in unseeded.err
    runner.run(desk.prompts, **desk.job(2))
    # what is printed is what is sent for the first answer
    assert {line.encode() for line in unsent.out.splitlines()} == {min(bodies, key=len) for bodies in asked.bodies.values()}
    story = json.loads(run("show", "a", "--json", cwd=desk.folder).out)
    assert [one["made_seed"] for one in story] == [None, SECOND["a"]]
    assert run("show", "a", cwd=desk.folder).out.count(f"\nwith a seed of its own: {SECOND['a']}\n") == 1


def test_a_stream_of_results_sends_them_too(desk: Desk, asked: Seeded) -> None:
    async def read() -> list[str | None]:
        async with runner.stream(desk.prompts, **desk.job(2)) as results:
            return [result.text async for result in results]

    assert len(anyio.run(read)) == 4
    assert asked.seeds() == expected(SECOND)


REFUSALS: list[dict[str, Any]] = [
    {"error": {"message": "Unrecognized request argument supplied: seed", "type": "invalid_request_error"}},
    {"detail": [{"type": "extra_forbidden", "loc": ["body", "seed"], "msg": "Extra inputs are not permitted", "input": 123}]},
    {"title": "Unprocessable Entity", "detail": "body -> seed\n  Extra inputs are not permitted (type=extra_forbidden)"},
    {"error": {"code": 400, "message": 'Invalid JSON payload received. Unknown name "seed": Cannot find field.'}},
    {"error": {"message": "seed must be between 0 and 65535", "type": "invalid_request_error"}},
    {"error": {"message": "Input should be less than or equal to 65535", "param": "seed", "code": "less_than_equal"}},
]
UNNAMED: dict[str, Any] = {"error": {"message": "Invalid request body", "type": "invalid_request_error"}}


@pytest.mark.parametrize("refusal", REFUSALS, ids=["openai", "azure", "nim", "gemini", "range", "field"])
def test_a_server_that_refuses_seeds_gets_none_and_no_row_fails(desk: Desk, asked: Seeded, refusal: dict[str, Any]) -> None:
    asked.refusal = refusal
    # nobody has asked for these seeds: --strict-params is about parameters of the user
    said = run(*desk.command, "--answers", "3", "--concurrency", "1", "--strict-params", cwd=desk.folder)
    assert (said.code, asked.total()) == (0, 6), said
    assert said.out.count("m does not take seed: further answers of a row are asked for without it") == 1
    # the first that had one, and all without
    assert asked.seeds() == {"a": [None, None, None, SECOND["a"]], "b": [None, None, None]}
    assert rows(desk.store, "SELECT DISTINCT made_seed FROM items") == [(None,)]
    assert shown(desk) == [None] * 6


def test_a_refusal_that_names_nothing_is_tried_without_the_seed(desk: Desk, asked: Seeded) -> None:
    asked.refusal = UNNAMED
    said = run(*desk.command, "--answers", "3", "--concurrency", "1", "--attempts", "1", cwd=desk.folder)
    assert (said.code, asked.total()) == (0, 6), said
    assert said.out.count("m does not take seed: further answers of a row are asked for without it") == 1
    # the first of each row at most, until one was answered without
    assert asked.seeds()["b"] == [None, None, None]
    # on the books, in the words of the server, and none of the one attempt that an answer has
    refused = rows(desk.store, "SELECT DISTINCT number, error_code, status FROM attempts WHERE error_code IS NOT NULL")
    assert refused == [(1, "bad_request", 400)]
    assert shown(desk) == [None] * 6


def test_a_prompt_about_seeds_teaches_nothing_by_itself(desk: Desk, asked: Seeded) -> None:
    # the server refuses the row and quotes it: the trial without the seed is refused too, so the other row keeps its seed
    asked.refused["plant a seed"] = whole("400 Bad Request", {"error": {"message": "Invalid request: plant a seed"}})
    desk.write([{"id": "p", "prompt": "plant a seed"}, ROWS[1]])
    ended = runner.run(desk.prompts, **desk.job(2, concurrency=1))
    seed = seed_of(key_of("p", 2))
    assert (ended.done, ended.failed, asked.seeds()) == (2, 2, {"plant a seed": [None, None, seed], "b": [None, SECOND["b"]]})
    # a retry begins with the seed again
    asked.bodies.clear()
    runner.retry(db=desk.store)
    assert asked.seeds()["plant a seed"] == [None, None, seed]


def test_a_seed_of_the_user_that_is_refused_stops_as_ever(desk: Desk, asked: Seeded) -> None:
    asked.refusal = REFUSALS[0]
    with pytest.raises(runner.RunStoppedError, match="m does not take seed"):
        runner.run(desk.prompts, **desk.job(2, seed=5, strict_params=True))


def test_anthropic_has_none(desk: Desk, asked: Seeded) -> None:
    asked.anthropic = True
    runner.run(desk.prompts, **desk.job(2, provider="anthropic", max_tokens=9))
    assert (asked.total(), asked.seeds()) == (4, {"a": [None, None], "b": [None, None]})
    assert rows(desk.store, "SELECT DISTINCT made_seed FROM items") == [(None,)]
    assert shown(desk) == [None] * 4


def test_what_the_user_says_of_seeds_counts(desk: Desk, asked: Seeded) -> None:
    own: list[dict[str, Any]] = [
        {"seed": 100},
        {"extra_body": {"random_seed": 7}},
        {"extra_body": {"seed": "x"}},
        {"extra_body": {"seed": None}},
    ]
    desk.write([{"id": str(number), "prompt": str(number), **more} for number, more in enumerate(own)])
    runner.run(desk.prompts, **desk.job(2))
    assert asked.seeds() == {"0": [100, 101], "1": [None, None], "2": ["x", "x"], "3": [None, None]}
    assert rows(desk.store, "SELECT DISTINCT made_seed FROM items") == [(None,)]


def test_a_copy_and_an_answer_that_is_taken_over_show_what_was_sent(desk: Desk, asked: Seeded) -> None:
    desk.write([{"id": one, "prompt": "one"} for one in "abc"])
    ended = runner.run(desk.prompts, dedupe=True, **desk.job(2))
    assert (ended.attempts_now, ended.shared, shown(desk)) == (2, 4, [None, SECOND["a"]] * 3)
    # another template asks the same: both answers are those of the other row, in either order, each with its seed
    desk.write([{"id": "z", "prompt": "one"}])
    new = runner.run(desk.prompts, prompt="{{ prompt }}", **desk.job(2))
    assert (new.run, new.reused, new.attempts_now) == (2, 2, 0)
    assert set(shown(desk, 2)) == {None, SECOND["a"]}


def test_a_seed_that_was_taken_over_is_not_sent_for_the_same_request(desk: Desk, asked: Seeded) -> None:
    desk.write([{"id": "q", "prompt": "one"}])
    runner.run(desk.prompts, **desk.job(2))
    x = desk.folder / "x.jsonl"
    x.write_text('{"id": "x", "prompt": "one"}\n')
    assert runner.run(x, **desk.job(2)).reused == 2
    bought = seed_of(key_of("q", 2))
    assert bought is not None
    assert set(shown(desk, 2)) == {None, bought}
    # what q would ask for, the run has under another key
    x.write_text('{"id": "x", "prompt": "one"}\n{"id": "q", "prompt": "one"}\n')
    asked.bodies.clear()
    assert runner.run(x, **desk.job(2)).attempts_now == 2
    assert asked.seeds() == {"a": [None, bought + 1]}
    assert sorted(seed for seed in shown(desk, 2) if seed) == [bought, bought + 1]
    # a session that goes on finds the same
    runner.run(x, **desk.job(3))
    assert len({seed for seed in shown(desk, 2) if seed}) == 4
    told = run("show", "2", "x", cwd=desk.folder).out
    assert "taken over from run 1, row q (answer 2)" in told
    assert "\ufdd0" not in told
    story = json.loads(run("show", "2", "x", "--json", cwd=desk.folder).out)
    found = {(taken["from_key"], taken["from_answer"]) for one in story if (taken := one["taken_from"]) is not None}
    assert found == {("q", 1), ("q", 2)}


def test_used_seeds_are_passed_over_to_the_end_and_from_the_beginning() -> None:
    first = seed_of(key_of("a", 2))
    assert first is not None
    assert seed_of(key_of("a", 2), [1, first, first + 1, first + 3]) == first + 2
    # the seed of this key is near the highest one
    high = seed_of(key_of("r173076", 2))
    assert high is not None
    assert high > 2**31 - 3_000
    assert seed_of(key_of("r173076", 2), range(high, 2**31 - 1)) == 1
    assert seed_of("a", [first]) is None


def test_the_seed_is_no_part_of_what_is_asked(desk: Desk, asked: Seeded) -> None:
    # two rows that ask the same have one answer each, without seeds; a row of a new run takes both
    desk.write([{"id": one, "prompt": "one"} for one in "ab"])
    runner.run(desk.prompts, **desk.job(None))
    desk.write([{"id": "z", "prompt": "one"}])
    new = runner.run(desk.prompts, prompt="{{ prompt }}", **desk.job(2))
    assert (new.reused, new.attempts_now, asked.total()) == (2, 0, 2)
    assert shown(desk, 2) == [None, None]


def test_rows_that_ask_the_same_are_not_answered_alike(desk: Desk, asked: Seeded) -> None:
    desk.write([{"prompt": "one"}, {"prompt": "one"}])
    runner.run(desk.prompts, **desk.job(3))
    assert len({seed for seed in asked.seeds()["a"] if seed is not None}) == 4


def test_a_row_with_a_picture_has_them_too(desk: Desk, asked: Seeded) -> None:
    (desk.folder / "a.png").write_bytes(b"\x89PNG\r\n\x1a\n" + bytes(50))
    desk.write([{"id": "a", "prompt": "look", "images": "a.png"}])
    runner.run(desk.prompts, **desk.job(2))
    (bodies,) = asked.bodies.values()
    assert {json.loads(body).get("seed") for body in bodies} == {None, SECOND["a"]}
    assert all(b"base64" in body for body in bodies)
    assert shown(desk) == [None, SECOND["a"]]


def test_a_key_has_the_same_seed_for_ever() -> None:
    """A store of today may be resumed with a later version."""
    assert [seed_of(key_of("a", number)) for number in (1, 2, 3)] == [None, 2_111_000_102, 981_778_608]
    assert all(0 < (seed_of(key_of(str(row), 2)) or 0) < 2**31 - 1 for row in range(1_000))
    # a file may have an id that is no valid Unicode
    assert seed_of(key_of("\ud800", 2)) is not None


BAD, GOOD = (openai_answer(f'{{"mood": "{mood}"}}') for mood in ("great", "good"))
NAMELESS = whole("400 Bad Request", {"error": {"message": "Invalid request", "type": "invalid_request_error"}})


@pytest.mark.parametrize(
    ("replies", "seeded", "messages"),
    [
        ([GOOD, NAMELESS, BAD, GOOD], [False, True, False, False], [1, 1, 1, 3]),
        ([GOOD, BAD, NAMELESS, GOOD], [False, True, True, False], [1, 1, 3, 3]),
    ],
    ids=["before", "during"],
)
def test_a_repair_goes_on_without_a_seed_that_is_refused(
    tmp_path: Path, replies: list[Reply], seeded: list[bool], messages: list[int]
) -> None:
    """The second answer does not fit, and its seed is refused before that or when it is asked for again."""
    with bench(tmp_path, replies, 1) as desk:
        summary = desk.run(fields="mood: good|bad", answers=2, concurrency=1)
        sent = [request.json for request in desk.server.requests]
    assert (summary.done, summary.failed, summary.attempts_now) == (2, 0, 4)
    assert ["seed" in one for one in sent] == seeded
    assert [len(one["messages"]) for one in sent] == messages
