"""A request is the same however it is written: by the job or the row, as a prompt or as messages, beside it or in ``params``."""

import json
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

import pytest
from desk import Asked, Desk
from raw_server import RawServer, Received, Reply, anthropic_answer, in_thread, openai_answer, whole

import runner

REFUSED = whole("400 Bad Request", {"error": {"message": "too odd", "type": "invalid_request_error"}})
SYSTEM = {"role": "system", "content": "S"}
USER = {"role": "user", "content": "one"}


class Written(NamedTuple):
    """A way to write a request: a row, and settings of the job."""

    row: dict[str, Any]
    job: Mapping[str, Any] = MappingProxyType({})


WAYS = {
    "row system": Written({"prompt": "one", "system": "S"}),
    "job system": Written({"prompt": "one"}, {"system": "S"}),
    "messages": Written({"messages": [SYSTEM, USER]}),
    "beside": Written({"prompt": "one", "temperature": 0.5, "max_tokens": 9}),
    "params": Written({"messages": [USER], "params": {"temperature": 0.5, "max_tokens": 9}}),
    "job params": Written({"prompt": "one"}, {"temperature": 0.5, "max_tokens": 9}),
    "template": Written({"text": "one", "temperature": 0.5}, {"max_tokens": 9, "prompt": "{{ text }}"}),
    "template, job": Written({"text": "one"}, {"temperature": 0.5, "max_tokens": 9, "prompt": "{{ text }}"}),
    "batch": Written({"custom_id": "1", "body": {"max_tokens": 9, "temperature": 0.5, "model": "m", "messages": [USER]}}),
    "extra": Written({"prompt": "one", "extra_body": {"top_k": 3, "temperature": 0, "a": 1}}),
    "job extra": Written({"prompt": "one"}, {"temperature": 0, "extra_body": {"a": 1, "top_k": 3}}),
    "row model": Written({"prompt": "one"}, {"model": "n"}),
    "model": Written({"prompt": "one", "model": "n"}),
    "no": Written({"prompt": "one"}),
    "plain data": Written({"prompt": "one", "temperature": 0.5, "max_tokens": 9}, {"row_settings": False}),
    "parts": Written({"messages": [{"role": "user", "content": [{"type": "text", "text": "one"}]}]}),
    "last": Written({"messages": [USER, SYSTEM]}),
    "number": Written({"prompt": "one"}, {"max_tokens": 4096}),
}


class Place(Desk):
    """A folder, and a server of one of the dialects, no two of whose answers are alike."""

    dialect = "openai"

    @property
    def address(self) -> dict[str, Any]:
        base_url = self.server.base_url
        return {"provider": self.dialect, "base_url": base_url.removesuffix("/v1") if self.dialect == "anthropic" else base_url}

    def put(self, rows: list[dict[str, Any]], name: str) -> Path:
        path = self.folder / name
        path.write_text("".join(f"{json.dumps(row)}\n" for row in rows))
        return path

    def ask(self, rows: list[dict[str, Any]] | Path, name: str = "rows.jsonl", **given: Any) -> runner.Summary:
        path = rows if isinstance(rows, Path) else self.put(rows, name)
        return runner.run(path, **{"db": self.store, "model": "m", **self.address, **given})

    def export(self) -> Path:
        path = self.folder / "export.jsonl"
        runner.export(path, db=self.store, format="openai-batch")
        return path

    @property
    def sent(self) -> int:
        return len(self.server.requests)


def answers(answer: Callable[[str], Reply]) -> Callable[[Received], Reply]:
    given = Asked()

    def reply(request: Received) -> Reply:
        given["n"] += 1
        refused = request.json["messages"][-1]["content"] == "odd" and "max_tokens" not in request.json
        return REFUSED if refused else answer(f"answer {given['n']}")

    return reply


@pytest.fixture(params=["openai", "anthropic"])
def place(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Place]:
    reply = answers(openai_answer if request.param == "openai" else anthropic_answer)
    with in_thread(RawServer(reply)) as server:
        place = Place(tmp_path, server, Asked())
        place.dialect = request.param
        yield place


def test_an_answer_is_taken_over_just_if_the_request_is_the_same_however_it_is_written(place: Place) -> None:
    bought = []
    for name, way in WAYS.items():
        assert place.ask([way.row], f"{name}.jsonl", new=True, **way.job).done == 1
        bought.append(place.server.requests[-1].json)
    for name, way in WAYS.items():
        # enough rows for all answers there are
        rows = [{"n": n, **way.row} for n in range(len(WAYS))]
        if "custom_id" in way.row:
            rows = [{**row, "custom_id": str(row.pop("n"))} for row in rows]
        path = place.put(rows, "again.jsonl")
        foreseen = runner.estimate(path, db=place.store, **{"model": "m", **place.address, **way.job})
        wanted = bought[list(WAYS).index(name)]
        assert foreseen.reused == {run: 1 for run, body in enumerate(bought, 1) if body == wanted}, name


@pytest.mark.parametrize(
    ("rows", "job"),
    [
        ([{"prompt": "one"}], {"max_tokens": 50}),
        ([{"prompt": "one"}], {"system": "Be brief.", "temperature": 0}),
        ([{"prompt": "one", "system": "Mine.", "temperature": 0, "seed": 4}], {"stop": ["END"]}),
        ([{"prompt": "one", "extra_body": {"top_k": 3}}, {"prompt": "two"}], {}),
        ([{"text": "one"}, {"text": "two"}], {"prompt": "Say {{ text }}", "max_tokens": 5, "system": "S"}),
        ([{"custom_id": "x", "body": {"model": "m", "messages": [SYSTEM, USER], "max_tokens": 5, "temperature": 1}}], {}),
        ([{"custom_id": "x", "body": {"model": "m", "messages": [USER]}}], {}),
        ([{"prompt": "one"}, {"prompt": "two", "top_p": 0.1}], {"answers": 2, "seed": 7, "max_tokens": 5}),
        ([{"prompt": "one"}, {"prompt": "two"}], {"answers": 3}),
        ([{"prompt": "one"}], {"tier": "auto"}),
    ],
    ids=["max_tokens", "system", "row settings", "extra_body", "template", "batch", "batch, plain", "answers", "made-up", "tier"],
)
def test_our_export_that_is_asked_again_costs_nothing(place: Place, rows: list[dict[str, Any]], job: dict[str, Any]) -> None:
    first = place.ask(rows, **job)
    before, bought = sorted(str(one.text) for one in runner.results(db=place.store)), place.sent
    assert bought == first.done
    path = place.export()
    assert sum(runner.estimate(path, db=place.store, model="m", **place.address).reused.values()) == first.done
    end = place.ask(path)
    assert (end.reused, end.attempts_now, place.sent) == (first.done, 0, bought)
    # each answer stands beside its own row
    assert sorted(str(one.text) for one in runner.results(db=place.store)) == before


def test_one_answer_is_for_one_row_however_it_is_written(place: Place) -> None:
    assert place.ask([{"prompt": "one"}], temperature=0.5).done == 1
    rows = [{"prompt": "one", "temperature": 0.5}, {"messages": [USER], "params": {"temperature": 0.5}}]
    end = place.ask(rows, "two.jsonl")
    assert (end.reused, end.done_now, place.sent) == (1, 1, 2)
    # in three writings, and with more rows that ask something else, of which none is looked at twice
    rows = [{"prompt": f"other {n}", "temperature": 0.5} for n in range(60)] + [{**row, "n": 1} for row in [*rows, *rows]]
    end = place.ask(rows, "three.jsonl")
    assert (end.reused, end.done_now, place.sent) == (2, 62, 64)
    assert len({one.text for one in runner.results(db=place.store)}) == len(rows)


@pytest.mark.parametrize("given", [{"dedupe": True}, {"where": "n == 1"}, {"limit": 1}], ids=str)
def test_with_a_part_of_the_rows_and_with_dedupe(place: Place, given: dict[str, Any]) -> None:
    place.ask([{"prompt": "one"}], system="S")
    rows = [{"n": 1, "messages": [SYSTEM, USER]}, {"n": 2, "prompt": "one", "system": "S"}]
    first = place.ask(rows, "two.jsonl", **given)
    assert (first.reused, first.attempts_now) == (1, 1 if "dedupe" in given else 0)
    place.ask(rows, "two.jsonl")
    assert place.sent == 2


def test_an_answer_of_a_retry_counts_for_what_the_retry_asked(place: Place) -> None:
    if place.dialect == "anthropic":
        # it always has max_tokens, so nothing is refused here
        return
    place.ask([{"prompt": "odd"}, {"prompt": "one"}])
    runner.retry(1, db=place.store, max_tokens=7)
    rows = [{"prompt": "odd", "max_tokens": 7}, {"prompt": "one", "max_tokens": 7}, {"messages": [USER]}]
    end = place.ask(rows, "two.jsonl")
    assert (end.reused, [one.reused_from for one in runner.results(db=place.store)]) == (2, [1, None, 1])


def test_a_picture_at_a_url_is_part_of_the_request_and_a_file_is_not_known(place: Place) -> None:
    (place.folder / "a.png").write_bytes(b"\x89PNG\r\n\x1a\n" + bytes(50))
    url = "https://example.org/a.png"
    place.ask([{"prompt": "one", "images": url}, {"prompt": "one", "images": "a.png"}], max_tokens=5)
    sent, done = place.sent, runner.status(db=place.store)[0].done
    rows = [{"prompt": "one", "pictures": url, "max_tokens": 5}, {"prompt": "one", "pictures": "a.png", "max_tokens": 5}]
    end = place.ask(rows, "two.jsonl", images="pictures")
    assert (end.reused, place.sent - sent) == (1, done - 1)
