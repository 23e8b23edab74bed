"""The process of a session that an agent has started: what it finds changed when it has read its input is not sent."""

import json
import os
from pathlib import Path
from typing import Any

import pytest
from billing import Biller
from raw_server import RawServer, in_thread

from runner.config.job import Job
from runner.integrations import mcp_session
from runner.integrations.mcp_cap import Cap
from runner.integrations.mcp_files import Root
from runner.integrations.mcp_guard import Human
from runner.integrations.mcp_launch import events_in
from runner.integrations.mcp_session import Order, Session


class Swapping(Root):
    """A folder in which the input becomes a link that leads outside, once it has been looked at and read."""

    checks = 0

    def check(self, job: Job) -> None:
        self.checks += 1
        if self.checks == 2:
            outside = self.path.parent / "outside.jsonl"
            job.input.rename(outside)
            job.input.symlink_to(outside)
        super().check(job)


@pytest.mark.parametrize(("kind", "sent"), [(Root, 3), (Swapping, 0)])
def test_an_input_that_became_a_link_while_it_was_read_is_not_sent(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: Any, sent: int
) -> None:
    folder, biller = tmp_path / "in", Biller(faults={}, pause_s=0)
    folder.mkdir()
    (folder / "rows.jsonl").write_text("".join(json.dumps({"prompt": f"hello {one}"}) + "\n" for one in range(3)))
    cap = Cap(folder / "runner.db", 1.0)
    grant, lock = cap.reserve(0.5, free=False)
    with in_thread(RawServer(biller)) as server:
        monkeypatch.setenv("OPENAI_BASE_URL", f"{server.origin}/r/v1")
        monkeypatch.setenv("RUNNER_PRICES", json.dumps({"m": {"input": 1, "output": 4, "cache_write": 1.25}}))
        order = Order(
            grant=grant.id,
            lock=lock,
            root=str(folder),
            db=str(folder / "runner.db"),
            human=Human(capped=True),
            share=grant.share,
            input="rows.jsonl",
            settings={"model": "m", "max_tokens": 5},
        )
        with cap.log_of(grant.id).open("wb") as log:
            code = mcp_session.ended(Session(order, log, kind(folder)), cap)
    os.close(lock)
    assert (code == 0, biller.requests["r"]) == (sent > 0, sent)
    events = [event["event"] for event in events_in(cap.log_of(grant.id))]
    assert events[0] == ("started" if sent else "error")
    assert (cap.state().used > 0, cap.state().held) == (sent > 0, 0)
