"""What users are told of limits that are shared."""

from pathlib import Path

import pytest
from sharing import Run, ended
from simulating import until

from runner.engine.limits.headers import Seen
from runner.sharing.party import Notes

pytestmark = pytest.mark.anyio


async def test_a_limit_that_the_user_of_another_run_has_set_is_told(runtime: Path) -> None:
    one = Run(runtime, per_minute={"rpm": 600.0})
    await one.with_others(0)
    other = Run(runtime, per_minute={"rpm": 6.0})
    async with ended(one, other):
        await other.with_others(2)
        third = Run(runtime)
        async with ended(third):
            what = "a limit of 6 requests a minute holds for all runs that share it"
            for run in (one, third):
                note = f"{what}: {other.name} set it; --no-share keeps this run apart"
                await until(lambda run=run, note=note: note in run.notes)  # type: ignore[misc]
            assert len(one.notes) == len(third.notes) == 2
            # its own user knows
            assert len(other.notes) == 1
            assert (one.lane.borrowed, third.lane.borrowed, other.lane.borrowed) == ({"rpm"}, {"rpm"}, set())


async def test_a_limit_that_the_server_holds_lower_is_none_of_another_user(runtime: Path) -> None:
    one = Run(runtime, per_minute={"rpm": 600.0})
    await one.with_others(0)
    one.lane.own_rates.learn("rpm", Seen(limit=60))
    other = Run(runtime)
    async with ended(one, other):
        await until(lambda: other.lane.state().limits.get("rpm") == 60)
        assert len(other.notes) == 1


async def test_sharing_is_told_once_however_many_runs_come(runtime: Path) -> None:
    one = Run(runtime)
    await one.with_others(0)
    async with ended(one):
        for _ in range(3):
            other = Run(runtime)
            async with ended(other):
                await one.with_others(2)
                await other.with_others(2)
            await one.with_others(0)
        assert len(one.notes) == 1


async def test_a_run_of_the_same_process_is_called_so(runtime: Path) -> None:
    one = Run(runtime, name="the run of process 1")
    await one.with_others(0)
    other = Run(runtime, name="the run of process 1")
    async with ended(one, other):
        await one.with_others(2)
        await other.with_others(2)
        words = "limits are shared with another run of this process: it has the same endpoint, model and key"
        assert one.notes == other.notes == [words]


def test_all_lanes_of_a_session_tell_a_sentence_once() -> None:
    told: list[str] = []
    notes = Notes(told.append)
    for about in (None, None, "x", "x"):
        notes.once("so it is", about)
    notes.once("it is otherwise", "x")
    assert told == ["so it is", "so it is"]
