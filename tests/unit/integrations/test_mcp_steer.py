"""What an agent may do with a session that a person has started."""

import json
import os
from pathlib import Path
from typing import Any

import pytest
from pydantic import TypeAdapter

import runner
from runner.errors import NotRunningError, RunnerError, UsageError
from runner.integrations.mcp_cap import Cap
from runner.integrations.mcp_files import Root
from runner.integrations.mcp_guard import Human
from runner.integrations.mcp_steer import Steering
from runner.integrations.mcp_tools import Named, Tools
from runner.store.lock import RunLock


def test_what_a_person_spends_is_not_in_the_cap_so_an_agent_cannot_have_more_sent(tmp_path: Path) -> None:
    (tmp_path / "rows.jsonl").write_text(json.dumps({"prompt": "hello"}) + "\n")
    store = tmp_path / "runner.db"
    runner.run(str(tmp_path / "rows.jsonl"), provider="simulator", db=store, progress=False)
    steering = Steering(Tools(Root(tmp_path), store, Cap(store, 1.0), Human(capped=True)))
    lock = RunLock(store, 1)
    assert lock.acquire()
    try:
        for call in (
            lambda: steering.set(run=1, rpm=1000.0),
            lambda: steering.set(run=1, max_cost=5.0),
            lambda: steering.requeue(["row-1"], run=1),
        ):
            with pytest.raises(UsageError, match="a person has started the session that works on run 1"):
                call()
    finally:
        lock.release()
    with pytest.raises(NotRunningError, match=r"run 1 .* is finished"):
        steering.pause(1)


def test_what_keeps_the_account_is_no_place_for_an_export(tmp_path: Path) -> None:
    (tmp_path / "rows.jsonl").write_text(json.dumps({"prompt": "hello"}) + "\n")
    store = tmp_path / "runner.db"
    runner.run(str(tmp_path / "rows.jsonl"), provider="simulator", db=store, progress=False)
    tools = Tools(Root(tmp_path), store, Cap(store, 1.0), Human(capped=True))
    grant, lock = tools.cap.reserve(0.5, free=False)
    os.close(lock)
    log = tools.cap.log_of(grant.id)
    log.write_text("said")
    for name in (log.name, "new.csv"):
        with pytest.raises(RunnerError, match=r"belongs to the store runner\.db"):
            tools.export(f"{tools.cap.folder.name}/{name}", overwrite=True)
    assert log.read_text() == "said"


@pytest.mark.parametrize(("given", "meant"), [("12", 12), (12, 12), ("nightly", "nightly"), ("1.5", "1.5"), (None, None)])
def test_a_client_may_give_the_number_of_a_run_as_a_string(given: Any, meant: Any) -> None:
    assert TypeAdapter(Named).validate_python(given) == meant
