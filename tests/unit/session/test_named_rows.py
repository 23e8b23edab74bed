"""Rows that a person names in a running session, against the books: what goes out again, as which attempt, and what does not."""

import asyncio
import threading
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from filling import broken, done, failed, filled
from msgspec import structs
from webbing import until

from runner.config.job import load_job
from runner.control.messages import Cancel, Pause, Set
from runner.engine.giving_up import GivingUp
from runner.engine.limits import Lanes
from runner.engine.limits.budget import Budget, Pot
from runner.engine.stop import Stop
from runner.inputs.keys import base_key, fingerprint
from runner.inputs.prompts import make_item
from runner.inputs.same_requests import find
from runner.model import Item, Outcome, Row
from runner.session import wiring
from runner.session.limit_steering import LimitSteering
from runner.session.opening import open_input, template_of
from runner.session.row_steering import CANCELLED_ROW, REQUEUED, Found, RowSteering
from runner.session.sending_once import SendingOnce
from runner.session.steering import Steering
from runner.store.checkpoint import RunStore
from runner.store.reader import StoreReader
from runner.store.steered import steered_of

pytestmark = pytest.mark.anyio


def rows_of(*prompts: str) -> dict[str, Row]:
    """Return rows by their ids, a, b, c and so on."""
    names = "abcdefgh"
    return {
        names[at]: Row(line=at + 1, fields={"id": names[at], "prompt": text} if text else None, fault=None if text else "no JSON")
        for at, text in enumerate(prompts)
    }


class Input:
    """Where the rows come from, with what was sent again."""

    answers = 1

    def __init__(self, folder: Path, rows: Mapping[str, Row]) -> None:
        (folder / "p.jsonl").write_text("{}\n")
        self.rows = rows
        self.template = template_of(load_job(str(folder / "p.jsonl"), {"model": "m"}))
        self.sent: list[Item] = []

    def find(self, words: Collection[str], until: float) -> Found:
        return Found({word: (word, self.rows[word]) for word in words if word in self.rows})

    def item(self, key: str, row: Row) -> Item | Outcome:
        return make_item(row, key, self.template)

    def refusal(self, item: Item) -> str | None:
        return "no" if item.key == "d" else None

    def goes_again(self, key: str) -> bool:
        return any(one.key == key for one in self.sent)

    def send(self, items: Sequence[Item]) -> None:
        self.sent += items


async def test_what_is_sent_again_is_the_next_attempt_of_a_row_that_asks_the_same(tmp_path: Path) -> None:
    input_ = Input(tmp_path, rows_of("the same", "another now", "", "refused", "answered"))
    outcomes = [
        structs.replace(failed(key, row.line), fingerprint=fingerprint(row)) for key, row in input_.rows.items() if key in "abd"
    ]
    outcomes[1] = structs.replace(outcomes[1], fingerprint=1)
    async with RunStore.own(filled_in(tmp_path, *outcomes, broken("c", 3), done("e", 5)), 1) as store:
        steering = RowSteering(GivingUp(), store, input_)
        said = await steering.requeue(["a", "b", "c", "d", "e", "f"], lambda: None)
        assert [(item.key, item.attempts_before) for item in input_.sent] == [("a", 5)]
        assert said["a"] == REQUEUED
        assert [said[key].partition(" ")[0] for key in "bcdef"] == ["its", "its", "no", "it", "the"]
        assert "its prompt has changed in the file since it failed" in said["b"]
        assert "its line is broken" in said["c"]
        # and not once more while it is on its way
        assert await steering.requeue(["a"], lambda: None) == {"a": "it is being sent already"}
        assert len(input_.sent) == 1


async def test_two_who_ask_at_the_same_time_send_each_row_once(tmp_path: Path) -> None:
    input_ = Input(tmp_path, rows_of("one", "two"))
    outcomes = [structs.replace(failed(key, row.line), fingerprint=fingerprint(row)) for key, row in input_.rows.items()]
    async with RunStore.own(filled_in(tmp_path, *outcomes), 1) as store:
        steering = RowSteering(GivingUp(), store, input_)
        said = await asyncio.gather(*(steering.requeue(ids, lambda: None) for ids in (["a", "b"], ["b", "a"], ["a", "b"])))
    assert sorted(item.key for item in input_.sent) == ["a", "b"]
    assert sum(phrase == REQUEUED for one in said for phrase in one.values()) == 2


async def test_what_is_said_of_a_row_that_is_given_up_is_what_the_books_have_of_it(tmp_path: Path) -> None:
    input_, rows, ended = Input(tmp_path, rows_of("one", "two")), GivingUp(), list[str]()
    async with RunStore.own(filled_in(tmp_path), 1) as store:
        steering = RowSteering(rows, store, input_)
        for key in "ab":
            item = input_.item(key, input_.rows[key])
            no: Any = SimpleNamespace(item=item, give_up=lambda key=key: ended.append(key))
            rows.begin(no)
        asked = asyncio.create_task(steering.cancel(["a", "b"]))
        await until(lambda: {*ended} == {"a", "b"})
        # the answer to one of them has come in this moment
        await store.save([done("a", 1), failed("b", 2)])
        for _ in range(20):
            await asyncio.sleep(0.001)
        assert not asked.done()
        for key in "ab":
            rows.settled(key)
        assert await asked == {"a": "its answer has come meanwhile", "b": CANCELLED_ROW}


def filled_in(folder: Path, *outcomes: Outcome) -> Path:
    """As ``filled``, where an event loop runs."""
    thread = threading.Thread(target=filled, args=(folder / "r.db", *outcomes))
    thread.start()
    thread.join()
    return folder / "r.db"


async def test_rows_that_are_given_up_are_looked_up_all_of_them(tmp_path: Path) -> None:
    keys = [f"k{number}" for number in range(1_100)]
    async with RunStore.own(filled_in(tmp_path, *(done(key, at) for at, key in enumerate(keys, 1))), 1) as store:
        steering = RowSteering(GivingUp(), store, Input(tmp_path, {}))
        said = await steering.cancel([*keys, "k5000"])
    assert {said[key] for key in keys} == {"it is done already"}
    assert said["k5000"] != CANCELLED_ROW


def test_a_change_of_one_limit_leaves_the_others_as_they_were_set(tmp_path: Path) -> None:
    (tmp_path / "p.jsonl").write_text("{}\n")
    job = load_job(str(tmp_path / "p.jsonl"), {"model": "m", "concurrency": 2, "rpm": 10.0})
    limits, _ = wiring.limits(job)
    lanes = Lanes(limits)
    lane = lanes.of("m")
    steering = LimitSteering(job, lanes)
    for change in (Set(rpm=600.0), Set(tpm=7000.0), Set(concurrency=5)):
        steering.set(change, 1, "r.db")
    state = lane.state()
    assert (dict(state.limits), state.slots) == ({"rpm": 600.0, "tpm": 7000.0}, 5)


def test_a_row_with_the_request_of_others_is_sent_again_for_all_of_them_or_not_at_all(tmp_path: Path) -> None:
    (tmp_path / "p.jsonl").write_text("".join(f'{{"id": "{name}", "prompt": "same"}}\n' for name in "abc"))
    job = load_job(str(tmp_path / "p.jsonl"), {"model": "m", "dedupe": True})
    prompts, template = open_input(job.input), template_of(job)
    same = find(prompts, template, limit=None, answers=1)
    assert same is not None
    no: Any = None
    once = SendingOnce(no, same, no)
    items = [make_item(row, base_key(row)[0], template) for row in prompts.read()]
    first, other = (one for one in items[:2] if isinstance(one, Item))
    assert once.refusal(first) is None
    once.goes(first)
    # it is out for all
    assert once.refusal(other) == "another row with the same request is being sent"
    assert list(same.sent) == [1]
    same.states[0] = 12
    assert "has its outcome already" in (once.refusal(other) or "")


def test_a_limit_of_the_run_counts_what_the_run_had_cost_before_its_session() -> None:
    budget = Budget([Pot("max_cost_session", "cost", 100, used=4, held=1)], lambda _: None)
    budget.change_limit("max_cost", 20, before=7)
    assert [(pot.setting, pot.limit, pot.used, pot.held) for pot in budget.pots][1:] == [("max_cost", 20, 11, 1)]
    # once more, it is that one which changes
    budget.change_limit("max_cost", 30, before=7)
    assert [(pot.limit, pot.used) for pot in budget.pots] == [(100, 4), (30, 11)]


def test_a_row_that_was_sent_again_does_not_come_from_the_input_too(tmp_path: Path) -> None:
    rows, input_ = GivingUp(), Input(tmp_path, rows_of("one", "two"))
    (again, same, other) = (input_.item(key, input_.rows[key]) for key in "aab")
    assert isinstance(again, Item)
    assert isinstance(same, Item)
    assert isinstance(other, Item)
    rows.give_up_ahead("a")
    rows.send_again(again)
    assert [rows.comes_twice(item) for item in (again, same, other)] == [False, True, False]
    assert not rows.is_given_up("a")


async def test_a_session_ends_when_what_was_asked_of_it_is_answered_and_takes_nothing_after_that(tmp_path: Path) -> None:
    (tmp_path / "p.jsonl").write_text("{}\n")
    job = load_job(str(tmp_path / "p.jsonl"), {"model": "m"})
    looked, free = asyncio.Event(), asyncio.Event()

    class Slow(RowSteering):
        async def cancel(self, ids: Sequence[str]) -> dict[str, str]:
            looked.set()
            await free.wait()
            return dict.fromkeys(ids, CANCELLED_ROW)

    async with RunStore.own(filled_in(tmp_path, failed("a", 1)), 1) as store:
        steering = Steering(job, Lanes(wiring.limits(job)[0]), Stop(), store, lambda _: None)
        steering.rows = Slow(GivingUp(), store, None)
        asked = asyncio.create_task(steering.answer(Cancel(ids=("a",)), "page"))
        await looked.wait()
        ending = asyncio.create_task(steering.finish())
        await asyncio.sleep(0)
        assert (await steering.answer(Pause(), "page")).error == "run 1 is about to end"
        assert not ending.done()
        free.set()
        await ending
        assert (await asked).done == "cancelled 1 row (a)"
    with StoreReader(tmp_path / "r.db") as reader:
        assert [(one.command, one.by) for one in steered_of(reader.fetch, 1)] == [("cancel", "page")]
