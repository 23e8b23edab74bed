"""``runner mcp``: an agent estimates, starts, watches, mends and reads runs, and cannot spend more than the person allows."""

import csv
import json
import os
import runpy
import signal
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

import anyio
import json_schemas
import jsonschema_rs
import pytest
from agents import OverHttp, RefusedError, none_left, over_pipes, sessions
from billing import PRICES, Biller
from doc_blocks import ROOT
from processes import HANG_S, assert_clean, count, run, runner
from raw_server import RawServer, Received, Reply, in_thread, whole

pytestmark = pytest.mark.anyio

ROWS = 200
MOST = 10
"""Tokens of an answer, each of which has as many: with a request it costs up to some 0.0003 dollars."""


def fits(name: str, value: Any) -> None:
    """Check that a value has the schema of a command's JSON."""
    jsonschema_rs.validator_for(json.loads(json_schemas.text(name))).validate(value)


class Server:
    """A model server that bills, and refuses some prompts the first time."""

    def __init__(self) -> None:
        self.biller = Biller(faults={}, pause_s=0.02)
        self.refused: Counter[str] = Counter()

    def __call__(self, request: Received) -> Reply:
        prompt = request.json["messages"][-1]["content"]
        if "(refused once)" in prompt and not self.refused[prompt]:
            self.refused[prompt] += 1
            return whole("400 Bad Request", {"error": {"message": "this prompt is refused", "code": "bad_prompt"}})
        return self.biller(request)

    @property
    def billed(self) -> float:
        """Dollars."""
        return sum(self.biller.bills.values()) / 1e12


class Desk(NamedTuple):
    folder: Path
    server: Server
    url: str

    def job(self, name: str, rows: int = ROWS, **more: Any) -> str:
        """Write a file of rows with its job file, which is as generous as a file can be, and return the name of that."""
        lines = (
            {"id": f"r{one}", "prompt": f"Tell me about {name} {one}{' (refused once)' if one in (3, 7) else ''}"}
            for one in range(rows)
        )
        (self.folder / f"{name}.jsonl").write_text("".join(f"{json.dumps(line)}\n" for line in lines))
        settings = {"base_url": f"{self.url}/{name}/v1", "model": "m", "max_cost": 1000, "concurrency": 8, **more}
        text = "".join(f"{key} = {json.dumps(value)}\n" for key, value in settings.items())
        prices = "".join(f"{key} = {value}\n" for key, value in PRICES["m"].items())
        (self.folder / f"{name}.toml").write_text(
            f'input = "{name}.jsonl"\n{text}[params]\nmax_tokens = {MOST}\n[prices."m"]\n{prices}'
        )
        return f"{name}.toml"


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[Desk]:
    server = Server()
    folder = tmp_path.resolve()
    with in_thread(RawServer(server)) as listening, none_left(folder):
        yield Desk(folder, server, listening.origin)


async def test_an_agent_does_the_whole_way_and_the_books_have_it(desk: Desk) -> None:
    job = desk.job("a")
    async with over_pipes(desk.folder, "--max-cost", "5", "--trust", job) as agent:
        tools = {tool.name: tool for tool in (await agent.client.list_tools()).tools}
        paid = {name for name, tool in tools.items() if "COSTS MONEY" in (tool.description or "")}
        assert paid == {"submit", "retry", "continue", "requeue"}
        assert all(("COSTS MONEY" in str(tool.description)) != ("Free" in str(tool.description)) for tool in tools.values())
        estimate = (await agent("estimate", file=job))["estimate"]
        assert estimate["rows_left"] == ROWS
        assert 0 < estimate["cost"]["low"] < estimate["cost"]["high"] < 5
        assert desk.server.billed == 0

        begun = await agent("submit", file=job)
        number = begun["run"]["id"]
        assert begun["running"]
        assert estimate["cost"]["high"] < begun["max_cost"] < 5
        # the same again is the same run, here while it waits
        assert (await agent("pause", run=number))["done"]
        again = await agent("submit", file=job)
        assert (again["run"]["id"], again["running"]) == (number, True)
        assert (await agent("cancel", ids=["r190", "nobody"]))["rows"]["r190"] == "cancelled"
        assert (await agent("requeue", ids=["r190"]))["rows"]["r190"].startswith("requeued")
        assert (await agent("set", concurrency=6))["done"].startswith("concurrency 6")
        with pytest.raises(RefusedError, match="name at least one"):
            await agent("set")
        assert (await agent("continue"))["done"]
        ended = await agent.ended(number)
        assert (ended["run"]["done"], ended["run"]["failed"]) == (ROWS - 2, 2)
        done = [progress for progress, _, _ in agent.progress]
        assert done == sorted(done)
        assert agent.progress[-1] == (ROWS, ROWS, f"run {number}: {ROWS - 2} done, 2 failed of {ROWS}")

        causes = (await agent("errors", run=number))["causes"]
        (cause,) = [cause for cause in causes if cause["status"] == "failed"]
        assert (cause["count"], cause["ids"], cause["code"]) == (2, ["r3", "r7"], "bad_request")
        await agent("retry", run=number, classes=[cause["code"]])
        await agent.until(number, ROWS)
        assert (await agent.ended(number))["run"]["done"] == ROWS
        finished = await agent("submit", file=job)
        assert not finished["running"]

        ids, after = [], None
        while True:
            page = await agent("results", run=number, limit=30, max_bytes=8_000, **({"after": after} if after else {}))
            assert len(json.dumps(page["rows"], separators=(",", ":"))) <= 8_000
            ids += [row["id"] for row in page["rows"]]
            if (after := page["next"]) is None:
                break
        assert ids == [f"r{one}" for one in range(ROWS)]
        (row,) = (await agent("show", run=number, row="r3"))["answers"]
        assert [attempt["error_code"] for attempt in row["attempts"]] == ["bad_request", None]
        (file,) = (await agent("export", run=number, file="out.csv", columns=["id", "text"]))["files"]
        assert file == {"file": "out.csv", "format": "csv", "rows": ROWS, "manifest": None}
        assert len((desk.folder / "out.csv").read_text().splitlines()) == ROWS + 1

        # the same JSON as that of the commands; the client has held each answer to the schema of its tool
        status = await agent("status", run=number)
        books = status["books"]
        fits("status", {name: status[name] for name in ("run", "books", "time", "steered")})
        fits("estimate", estimate)
        fits("errors", causes)
        fits("show", row)
        fits("list", (await agent("runs"))["runs"])
        budget = await agent("budget")
        assert budget["used"] == pytest.approx(books["cost"] + books["cost_perhaps"])
        assert (budget["held"], budget["cap"]) == (0, 5)
        assert desk.server.billed <= budget["used"] < 5
    shown = run("status", "--json", cwd=desk.folder)
    assert json.loads(shown.out)["books"]["cost"] == books["cost"]
    assert (desk.folder / "mcp.err").read_text().count("\n") == 1


async def test_the_program_of_the_guide_agents_mcp_steers_mends_and_exports(
    desk: Desk, capsys: pytest.CaptureFixture[str]
) -> None:
    program: Any = runpy.run_path(str(ROOT / "docs/guides/agents-mcp/agent.py"))
    folder, ids = desk.folder, [f"r{one}" for one in range(300)]
    (folder / "rows.jsonl").write_text("".join(f"{json.dumps({'id': one, 'prompt': f'Say {one}.'})}\n" for one in ids))
    async with over_pipes(folder) as agent:
        with anyio.fail_after(HANG_S):
            written = await program["work"](program["Tools"](agent.client), "rows.jsonl", ids, {"provider": "simulator"})
    told = capsys.readouterr().out
    for line in (
        "estimate: 300 rows to send",
        "pause: paused",
        "set: concurrency 64",
        "cancel: r298 cancelled\ncancel: r299 cancelled\nrequeue: r299 requeued",
        "continue: goes on",
        "ended: 299 done, 1 failed\nerror: 1 x cancelled_by_user, r298\nretried: 300 done, 0 failed",
        "results: 300 rows, the last one r299\nexport: 300 rows in answers.csv",
    ):
        assert line in told, told
    with (folder / written).open(newline="") as file:
        assert [row["id"] for row in csv.DictReader(file) if row["status"] == "done"] == ids


async def test_sessions_together_stay_below_the_cap_whatever_files_say_and_whoever_is_killed(desk: Desk) -> None:
    jobs, cap = [desk.job(name, 60) for name in ("a", "b", "c")], 0.02
    trusted = [word for job in jobs for word in ("--trust", job)]
    async with over_pipes(desk.folder, "--max-cost", str(cap), *trusted) as agent:
        begun: dict[str, Any] = {}

        async def submit(job: str, **more: Any) -> None:
            try:
                begun[job] = await agent("submit", file=job, **more)
            except RefusedError as error:
                begun[job] = str(error)

        async with anyio.create_task_group() as group:
            group.start_soon(lambda: submit(jobs[0], max_cost=0.006))
            group.start_soon(lambda: submit(jobs[1], max_cost=0.006))
        # what is left is less than the estimate, and so is what it gets
        await submit(jobs[2], max_cost=1000.0)
        shares = [begun[job]["max_cost"] for job in jobs]
        assert shares[:2] == [0.006, 0.006]
        # a session that has ended meanwhile has given back what it did not use
        told = await agent("budget")
        assert shares[2] < 1
        assert told["used"] + told["held"] <= cap + 1e-9
        # those that are not done die in the middle
        await agent.until(begun[jobs[0]]["run"]["id"], 3)
        # what a session was given, no limit of its run can raise
        with suppress(RefusedError):
            await agent("set", run=begun[jobs[0]]["run"]["id"], max_cost=1000.0)
        before = await agent("budget")
        for process in sessions(desk.folder):
            os.kill(process, signal.SIGKILL)
        for job in jobs:
            await agent.ended(begun[job]["run"]["id"])
        after = await agent("budget")
        assert before["held"] > after["held"] == 0
        assert desk.server.billed <= after["used"] <= cap + 1e-9
    # another server, with other words in the environment: the same cap, and what the killed have left is sent within it
    env = {"RUNNER_MAX_COST": "1000", "RUNNER_MAX_COST_SESSION": "1000"}
    async with over_pipes(desk.folder, "--max-cost", str(cap), *trusted, env=env) as agent:
        assert (await agent("budget"))["used"] == pytest.approx(after["used"])
        codes = []
        for job in jobs:
            # all rows together cost more than the cap
            if (await agent("budget"))["left"]:
                told = await agent("submit", file=job)
                codes.append((await agent.ended(told["run"]["id"]))["run"]["stop_code"])
        assert "budget" in codes
        assert desk.server.billed <= (await agent("budget"))["used"] <= cap + 1e-9
    done = count(desk.folder / "runner.db", "items", "status = 'done'")
    assert 10 < done < 180


async def test_what_a_person_has_not_allowed_is_refused_in_one_sentence(desk: Desk) -> None:
    folder = desk.folder
    job = desk.job("a", 5)
    outside = folder.parent / f"{folder.name}-outside"
    outside.mkdir()
    (outside / "secret.jsonl").write_text('{"prompt": "a secret"}\n')
    (outside / "secret.png").write_bytes(b"\x89PNG\r\n\x1a\n" + bytes(40))
    (folder / "link.jsonl").symlink_to(outside / "secret.jsonl")
    (folder / "way").symlink_to(outside)
    (folder / "rows.jsonl").write_text('{"prompt": "hello"}\n')
    (folder / "pipe.toml").write_text(f'input = "../{outside.name}/secret.jsonl"\n')
    (folder / "pictures.jsonl").write_text('{"prompt": "look", "images": "way/secret.png"}\n')
    simulated = {"provider": "simulator"}
    env = {"OPENAI_API_KEY": "k", "OPENAI_BASE_URL": f"{desk.url}/r/v1"}
    async with over_pipes(folder, "--max-cost", "1", env=env) as agent:
        refused = [
            ({"file": "../x.jsonl"}, "outside of"),
            ({"file": str(outside / "secret.jsonl")}, "outside of"),
            ({"file": "link.jsonl", "settings": simulated}, "outside of"),
            ({"file": "way/*.jsonl", "settings": simulated}, "outside of"),
            ({"file": "pipe.toml", "settings": simulated}, "outside of"),
            ({"file": "-", "settings": simulated}, "belongs to the protocol"),
            ({"file": job}, f"starting it with the option --trust {folder / job}"),
            ({"file": "rows.jsonl", "settings": {"base_url": desk.url}}, "cannot be given in a call"),
            ({"file": "rows.jsonl", "settings": {"prices": {}}}, "cannot be given in a call"),
            ({"file": "rows.jsonl", "settings": {"max_cost": 9}}, "cannot be given in a call"),
            ({"file": "rows.jsonl", "settings": {"modle": "m"}}, "did you mean 'model'"),
            ({"file": "rows.jsonl", "settings": {"provider": "os.path"}}, "the provider of a call is"),
            ({"file": "rows.jsonl", "max_cost": -1}, "max_cost"),
            ({"file": "rows.jsonl", "max_costs": 1}, "did you mean 'max_cost'"),
            ({}, "file"),
            # a model without a price, at an address that is the person's word
            ({"file": "rows.jsonl", "settings": {"model": "m", "max_tokens": 5}}, '[prices."m"]'),
        ]  # fmt: skip
        for arguments, words in refused:
            with pytest.raises(RefusedError) as found:
                await agent("submit", **arguments)
            assert words in str(found.value), arguments
        assert (await agent("budget"))["left"] == 1
        told = await agent("submit", file="pictures.jsonl", settings=simulated)
        await agent.ended(told["run"]["id"])
        (row,) = (await agent("results", run=told["run"]["id"]))["rows"]
        assert row["error_code"] == "attachment"
        assert "secret.png" in row["error"]
        for name in ("../x.csv", "way/x.csv", "x.toml", ".x.csv", "runner.db.csv", "x", "rows.jsonl"):
            with pytest.raises(RefusedError):
                await agent("export", file=name)
        with pytest.raises(RefusedError, match="is the prompt file of run 1"):
            await agent("export", file="pictures.jsonl", overwrite=True)
    assert {path.name for path in outside.iterdir()} == {"secret.jsonl", "secret.png"}
    assert desk.server.billed == 0


async def test_over_http_only_who_has_the_token_comes_in_and_runs_outlive_clients_and_servers(desk: Desk) -> None:
    job = desk.job("a")
    options = ("--max-cost", "5", "--trust", job)
    async with over_pipes(desk.folder, *options) as agent:
        number = (await agent("submit", file=job))["run"]["id"]
        await agent("pause", run=number)
    # the client has left, and its server with it
    alive = sessions(desk.folder)
    assert len(alive) == 1
    with OverHttp(desk.folder, *options) as server:
        assert server.post().status_code == 200
        wrong = {
            "no token": (server.post(Authorization="").status_code, 401),
            "wrong token": (server.post(Authorization=f"Bearer {server.token}x").status_code, 401),
            "another origin": (server.post(Origin="http://evil.example").status_code, 403),
            "no origin of a sandbox": (server.post(Origin="null").status_code, 403),
            "another name": (server.post(Host="evil.example").status_code, 421),
        }
        assert {name: got for name, (got, _) in wrong.items()} == {name: due for name, (_, due) in wrong.items()}
        async with server.agent() as agent:
            assert (await agent("watch", run=number, seconds=0))["running"]
            server.process.killed()
    assert sessions(desk.folder) == alive
    async with over_pipes(desk.folder, *options) as agent:
        await agent("continue", run=number)
        ended = await agent.ended(number)
        assert (ended["run"]["done"], ended["run"]["failed"]) == (ROWS - 2, 2)
        assert (await agent("budget"))["used"] == pytest.approx(ended["cost"] + ended["cost_perhaps"])


def test_ctrl_c_ends_a_server_at_once_and_without_a_word_on_its_output(tmp_path: Path) -> None:
    with OverHttp(tmp_path) as http:
        http.process.signal(signal.SIGINT)
        ended = http.process.ended()
    reading, writing = os.pipe()
    with runner("mcp", cwd=tmp_path, stdin=reading) as process, os.fdopen(writing, "wb"):
        os.close(reading)
        process.until(lambda: "--max-cost is not given" in process.err, "the first line")
        process.signal(signal.SIGINT)
        other = process.ended()
    for one in (ended, other):
        assert (one.code, one.out) == (130, "")
        assert_clean(one)
