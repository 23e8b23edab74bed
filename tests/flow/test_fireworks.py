"""The batch jobs of Fireworks: rows through the engine and the store, at a server that speaks its API as far as it is known."""

import json
import re
from collections import Counter
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
from batching import REQUESTS, Calls, Killed, Session, items_of, session
from msgspec import structs
from raw_server import RawServer, Received, Reply

from runner.model import Attempt, Params
from runner.providers.batch import rules
from runner.providers.batch.rules import vendor_of
from runner.store.checkpoint import RunStore

pytestmark = pytest.mark.anyio
VENDOR = vendor_of("openai", "https://api.fireworks.ai/inference/v1")


def reply(body: object, status: int = 200) -> Reply:
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    return Reply((f"HTTP/1.1 {status} X\r\ncontent-length: {len(data)}\r\n\r\n".encode() + data,))


@dataclass
class Fireworks:
    """Datasets and jobs.

    end: how a job ends; answered: of how many rows there is an answer; failed: of how many an error; repeated: each POST comes
    twice, and the status of the second is what is answered; hidden: how often the results are not to be found.
    """

    end: str = "COMPLETED"
    answered: int = 1_000
    failed: int = 0
    repeated: int | None = None
    hidden: int = 0
    accounts: tuple[str, ...] = ("accounts/me",)
    port: int = 0
    # the file of each dataset, and the datasets of jobs
    datasets: dict[str, bytes | None] = field(default_factory=dict)
    jobs: dict[str, dict[str, Any]] = field(default_factory=dict)
    looks: Counter[str] = field(default_factory=Counter)
    keys: list[str | None] = field(default_factory=list)

    def __call__(self, request: Received) -> Reply:
        parts = urlsplit(request.path)
        if parts.path.startswith("/signed/"):
            self.keys.append(request.headers.get("authorization"))
            return reply(self.datasets[parts.path.removeprefix("/signed/")] or b"")
        assert request.headers["authorization"] == "Bearer key-one"
        path = parts.path.removeprefix("/v1/")
        if path == "accounts":
            return reply({"accounts": [{"name": name} for name in self.accounts]})
        path = path.removeprefix("accounts/me/")
        if path == "datasets":
            self._made(request.json) if self.repeated else None
            return self._made(request.json)
        if (found := re.fullmatch(r"datasets/([^:/]+)(:\w+)?", path)) is not None:
            return self._dataset(request, found[1], found[2])
        if path == "batchInferenceJobs":
            name = parse_qs(parts.query)["batchInferenceJobId"][0]
            self._job(name, request.json) if self.repeated else None
            return self._job(name, request.json)
        job = self.jobs.get(path.removeprefix("batchInferenceJobs/"))
        return reply({"code": 5, "message": "resource not found"}, 404) if job is None else reply(self._looked(job))

    def _made(self, body: dict[str, Any]) -> Reply:
        assert int(body["dataset"]["exampleCount"]) > 0
        if body["datasetId"] in self.datasets:
            return reply({"code": 6, "message": "already exists"}, self.repeated or 409)
        self.datasets[body["datasetId"]] = None
        return reply({"name": f"accounts/me/datasets/{body['datasetId']}", "state": "UPLOADING"})

    def _dataset(self, request: Received, name: str, verb: str | None) -> Reply:
        if name not in self.datasets:
            return reply({"code": 5, "message": "resource not found"}, 404)
        if verb == ":upload":
            self.datasets[name] = request.body.split(b"\r\n\r\n", 1)[1].rpartition(b"\r\n--")[0]
            return reply({"id": name})
        if verb == ":getDownloadEndpoint":
            self.hidden -= 1
            if self.hidden >= 0:
                return reply({"code": 5, "message": "resource not found"}, 404)
            names = {"BIJOutputSet.jsonl": name, "error-data": f"{name}-errors"}
            return reply({"filenameToSignedUrls": {f"dataset/{name}/{file}": self._signed(of) for file, of in names.items()}})
        if request.method == "DELETE":
            del self.datasets[name]
            return reply({})
        return reply({"state": "READY" if self.datasets[name] is not None else "UPLOADING"})

    def _signed(self, name: str) -> str:
        # another host, to which no key goes
        return f"http://localhost:{self.port}/signed/{name}"

    def _job(self, name: str, body: dict[str, Any]) -> Reply:
        if name in self.jobs:
            return reply({"code": 6, "message": "already exists"}, self.repeated or 409)
        rows = [json.loads(line) for line in (self.datasets[body["inputDatasetId"].rpartition("/")[2]] or b"").splitlines()]
        assert all("model" not in row["body"] for row in rows)
        self.jobs[name] = {
            "name": f"accounts/me/batchInferenceJobs/{name}",
            "state": "JOB_STATE_VALIDATING",
            **body,
            "rows": rows,
        }
        return reply(self.jobs[name])

    def _looked(self, job: dict[str, Any]) -> dict[str, Any]:
        self.looks[job["name"]] += 1
        if self.looks[job["name"]] > 1 and not job["state"].endswith(self.end):
            self._end(job)
        return {name: value for name, value in job.items() if name != "rows"}

    def _end(self, job: dict[str, Any]) -> None:
        rows, out = job["rows"], job["outputDatasetId"].rpartition("/")[2]
        answered = rows[: self.answered]
        failed = rows[len(answered) :][: self.failed]
        job["state"] = f"JOB_STATE_{self.end}"
        if self.end == "FAILED":
            job["status"] = {"code": "INVALID_ARGUMENT", "message": "Dataset has a syntax error: invalid role"}
            return
        job["jobProgress"] = {
            "totalInputRequests": 1,
            "totalProcessedRequests": len(answered) + len(failed),
            "successfullyProcessedRequests": len(answered),
            "failedRequests": len(failed),
        }
        # in another order, and not in the shape of OpenAI
        self.datasets[out] = _lines({"custom_id": row["custom_id"], "response": said(row)} for row in reversed(answered))
        error = {"code": "invalid_request_error", "message": "too long"}
        self.datasets[f"{out}-errors"] = _lines({"custom_id": row["custom_id"], "error": error} for row in failed)


def _lines(rows: Iterable[dict[str, Any]]) -> bytes:
    return b"".join(json.dumps(row).encode() + b"\n" for row in rows)


def said(row: dict[str, Any]) -> dict[str, Any]:
    content = f"about {row['body']['messages'][-1]['content']}"
    choice = {"index": 0, "message": {"role": "assistant", "content": content}, "finish_reason": "stop"}
    usage = {"prompt_tokens": 7, "completion_tokens": 3, "total_tokens": 10}
    return {"id": f"chatcmpl-{row['custom_id']}", "object": "chat.completion", "model": "m", "choices": [choice], "usage": usage}


@pytest.fixture(autouse=True)
def _here(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rules, "VENDORS", (structs.replace(VENDOR, hosts=("127.0.0.1",)),))


@asynccontextmanager
async def serving(made: Fireworks) -> AsyncIterator[str]:
    """Yield the address under which live requests would go."""
    async with RawServer(made) as server:
        made.port = urlsplit(server.base_url).port or 0
        yield f"http://127.0.0.1:{made.port}/inference"


async def played(folder: Path, url: str, kill: Calls | None = None) -> Session:
    """Take six rows through one session, or to a kill."""
    async with session(folder, url, "openai", items_of(6, params=Params(max_tokens=50)), kill=kill) as one:
        try:
            left = await one.run()
        except* Killed:
            killed = True
        else:
            killed = False
        assert killed or (left.why, one.stop.requested) in (("done", False), ("stopped", True))
        return one


async def test_each_row_gets_its_answer_and_the_key_goes_to_no_other_host(tmp_path: Path) -> None:
    made = Fireworks()
    async with serving(made) as url:
        one = await played(tmp_path, url)
    texts = {key: found.completion.text for key, found in one.outcomes.items() if found.completion is not None}
    assert texts == {item.key: f"about {item.request.messages[-1]['content']}" for item in items_of(6)}
    (job,) = made.jobs.values()
    assert job["model"] == "m"
    assert made.keys == [None, None]
    # the requests are deleted there, the answers stay
    assert set(made.datasets) == {name for name in made.datasets if "-out" in name}
    assert {found.attempt.tier for found in one.outcomes.values() if found.attempt} == {"batch"}


async def test_a_kill_at_any_point_makes_no_second_job(tmp_path: Path) -> None:
    (tmp_path / "0").mkdir()
    calls = Calls()
    async with serving(Fireworks()) as url:
        await played(tmp_path / "0", url, calls)
    # before and after each request; what is committed between them is the same with every provider
    for point in (place for place, name in enumerate(calls.seen, 1) if name in REQUESTS):
        (folder := tmp_path / str(point)).mkdir()
        made = Fireworks()
        async with serving(made) as url:
            await played(folder, url, Calls(point))
            one = await played(folder, url)
        assert len(made.jobs) == 1, calls.seen[point - 1]
        async with RunStore.own(folder / "runner.db", 1) as store:
            found = await store.settled([item.key for item in items_of(6)])
        assert {row.status for row in found.values()} == {"done"}, (calls.seen[point - 1], one.notes)


async def test_what_an_expired_job_has_answered_counts_and_the_rest_is_sent_again(tmp_path: Path) -> None:
    made = Fireworks(end="EXPIRED", answered=4)
    async with serving(made) as url:
        one = await played(tmp_path, url)
    assert sorted(len(job["rows"]) for job in made.jobs.values()) == [2, 6]
    assert {found.status for found in one.outcomes.values()} == {"done"}
    assert Counter(entry.error_code for entry in one.entries if isinstance(entry, Attempt)) == {"batch_expired": 2}


@pytest.mark.parametrize(
    "made", [Fireworks(repeated=409), Fireworks(repeated=400), Fireworks(hidden=8)], ids=["409", "400", "hidden"]
)
async def test_a_job_that_is_there_already_and_results_that_are_not_there_yet_buy_nothing_twice(
    made: Fireworks, tmp_path: Path
) -> None:
    async with serving(made) as url:
        one = await played(tmp_path, url)
    assert [len(job["rows"]) for job in made.jobs.values()] == [6]
    assert [found.attempts for found in one.outcomes.values()] == [1] * 6, one.notes


async def test_errors_of_rows_are_read(tmp_path: Path) -> None:
    async with serving(Fireworks(answered=4, failed=2)) as url:
        one = await played(tmp_path, url)
    assert Counter(found.status for found in one.outcomes.values()) == {"done": 4, "failed": 2}


@pytest.mark.parametrize(
    ("made", "words"),
    [
        (Fireworks(end="FAILED"), "invalid role"),
        (Fireworks(accounts=("accounts/me", "accounts/team")), "several accounts"),
        (Fireworks(accounts=()), "no account"),
    ],
    ids=["failed", "several accounts", "no account"],
)
async def test_what_cannot_go_on_stops_the_run_with_the_reason(made: Fireworks, words: str, tmp_path: Path) -> None:
    async with serving(made) as url:
        one = await played(tmp_path, url)
    assert words in (one.stop.reason or ""), (one.notes, made)
    assert one.outcomes == {}


async def test_a_cancel_deletes_nothing_that_was_answered(tmp_path: Path) -> None:
    made = Fireworks(end="RUNNING")
    async with serving(made) as url, session(tmp_path, url, "openai", items_of(2)) as one:
        assert (await one.run(detach=True)).why == "waiting"
        await one.batches.cancel(list(one.batches.open))
        (batch,) = one.batches.open.values()
        assert (batch.state, len(made.jobs), VENDOR.rules.cancels) == ("cancelling", 1, False)
