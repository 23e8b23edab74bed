"""Workers whose run has several endpoints: where their requests go, with which key, and what a loss of either costs."""

import csv
import os
import re
import signal
import sys
from collections import Counter
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from processes import assert_clean, count, rows, run, runner, until, write_prompts
from raw_server import RawServer, Received, Reply, free_port, in_thread
from several import CONTENT, CUT, UNAUTHORIZED, answer, desk
from test_workers import alive, workers_of
from test_workers_elsewhere import place_of

import runner as api
from runner.errors import RunStoppedError

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="the processes are found in /proc")

SLOW = ("--first-token-s", "0.05", "--chunk-s", "0.005", "--tokens", "6")
JOB = """
model = "m"
concurrency = 3
workers = 2

[headers]
X-Desk = "${THE_DESK}"

[[endpoints]]
base_url = "%s"
api_key_env = "KEY_A"

[[endpoints]]
base_url = "%s"
api_key_env = "KEY_B"
model = "other"
"""
KEYS = {"KEY_A": "sk-canary-a-0123456789", "KEY_B": "sk-canary-b-0123456789", "THE_DESK": "canary-of-the-header"}


def after(seconds: float, one: Reply) -> Reply:
    return Reply((seconds, *one.steps))


@pytest.mark.parametrize("dialect", ["openai", "anthropic"])
def test_each_endpoint_is_asked_with_its_key_and_model_and_the_export_says_who_answered(tmp_path: Path, dialect: str) -> None:
    with desk(tmp_path, after(0.02, answer(dialect, "from one")), after(0.02, answer(dialect, "from two"))) as one:
        (tmp_path / "prompts.toml").write_text(f'provider = "{dialect}"\n' + JOB % tuple(one.urls))
        with runner("run", "prompts.jsonl", "--db", "r.db", "--trust", "-o", "a.csv", cwd=tmp_path, env=KEYS) as process:
            process.until(lambda: workers_of(process), "a worker")
            lines = b"".join(Path(f"/proc/{pid}/cmdline").read_bytes() for pid in workers_of(process))
            ended = process.ended()
        assert_clean(ended)
        assert (ended.code, sum(one.asked())) == (0, 20), ended
        header = "authorization" if dialect == "openai" else "x-api-key"
        seen = [
            {(request.headers[header].rpartition(" ")[2], request.json["model"]) for request in server.requests}
            for server in one.servers
        ]
        assert seen == [{(KEYS["KEY_A"], "m")}, {(KEYS["KEY_B"], "other")}]
        assert {request.headers["x-desk"] for server in one.servers for request in server.requests} == {KEYS["THE_DESK"]}
        names = [url.removesuffix("/v1") if dialect == "anthropic" else url for url in one.urls]
        table = csv.DictReader((tmp_path / "a.csv").read_text().splitlines())
        told = {row["text"]: row["endpoint"] for row in table}
        assert [told["from one"].startswith(names[0]), told["from two"].startswith(names[1])] == [True, True]
        everything = b"".join(path.read_bytes() for path in tmp_path.iterdir() if path.is_file())
        assert b"canary" not in everything + lines + ended.out.encode() + ended.err.encode()


def test_a_worker_that_is_killed_costs_what_was_out_at_either_endpoint(tmp_path: Path) -> None:
    slow = after(0.1, answer())
    with desk(tmp_path, slow, slow, number=120) as one:
        urls = [word for url in one.urls for word in ("--base-url", url)]
        command = ("run", "prompts.jsonl", "--model", "m", "--db", "r.db", "--concurrency", "4", "--workers", "2", "--json")
        with runner(*command, *urls, cwd=tmp_path) as process:
            process.until(lambda: '"live":2' in process.out and count(one.store) > 8, "answers of two workers")
            os.kill(workers_of(process)[0], signal.SIGKILL)
            ended = process.ended()
        assert_clean(ended)
        lost = count(one.store, "attempts", "error_code = 'worker_lost'")
        assert (ended.code, count(one.store, where="status = 'done'")) == (0, 120), ended
        assert count(one.store, "attempts") == 120 + lost
        assert lost <= 8
        # no endpoint is blamed for it
        assert 'outage_s":0.0' in ended.out
        assert not re.search(r'"outage_s":(?!0\.0)', ended.out)
        assert {url for (url,) in rows(one.store, "SELECT DISTINCT endpoint FROM attempts")} == set(one.urls)


def test_a_server_that_dies_and_comes_back_gets_rows_of_workers_again(tmp_path: Path) -> None:
    port = free_port()
    write_prompts(tmp_path / "prompts.jsonl", range(300))
    store = tmp_path / "r.db"
    with ExitStack() as stack:
        one = stack.enter_context(in_thread(RawServer(after(0.03, answer()))))
        urls = [one.base_url, f"http://127.0.0.1:{port}/v1"]
        command = ("run", "prompts.jsonl", "--model", "m", "--db", "r.db", "--concurrency", "2", "--workers", "2")

        def answered() -> int:
            return len(rows(store, "SELECT id FROM attempts WHERE endpoint = ? AND status = 200", urls[1]))

        def serving() -> Any:
            return runner("simulate", "--port", str(port), *SLOW, cwd=tmp_path)

        with serving() as server:
            until(lambda: "Ctrl-C" in server.out, "the second server")
            process = stack.enter_context(runner(*command, "--base-url", urls[0], "--base-url", urls[1], cwd=tmp_path))
            process.until(lambda: answered() > 3, "answers of the second server")
            server.killed()
        process.until(lambda: count(store, "attempts", "error_code = 'connect'"), "the outage")
        before = answered()
        with serving():
            process.until(lambda: answered() > before + 2, "answers of the server that is back")
            ended = process.ended()
    assert (ended.code, count(store, where="status = 'done'")) == (0, 300), ended


def test_what_one_endpoint_does_not_take_goes_from_a_worker_to_the_fallback(tmp_path: Path) -> None:
    def own(request: Received) -> Reply:
        return CONTENT if "number 3." in request.body.decode() else answer()

    with desk(tmp_path, own, answer("openai", "from afar"), CUT, number=6) as one:
        endpoints = [{"base_url": one.urls[0]}, {"base_url": one.urls[1], "model": "big", "fallback": True}]
        wanted = one.run(endpoints=endpoints, fallback_on=["content_policy"], workers=1)
        assert (wanted.done, wanted.failed) == (6, 0)
        assert [request.json["model"] for request in one.servers[1].requests] == ["big"]
        # and one that breaks every answer off
        endpoints[0] = {"base_url": one.urls[2]}
        again = one.run(endpoints=endpoints, fallback_on="outage", workers=1, new=True)
        assert (again.done, again.failed, one.asked()[1]) == (6, 0, 7)


def test_an_endpoint_with_a_wrong_key_is_left_out_once_and_several_keys_are_accounts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in "ABC":
        monkeypatch.setenv(f"KEY_{name}", f"sk-canary-{name}-0123456789")

    def by_key(request: Received) -> Reply:
        return UNAUTHORIZED if "canary-A" in request.headers["authorization"] else answer()

    with desk(tmp_path, by_key) as one:
        summary = one.run(base_url=one.urls[0], api_key_env=["KEY_A", "KEY_B", "KEY_C"], workers=2)
        assert (summary.done, summary.failed) == (20, 0)
        used = Counter(request.headers["authorization"].split("-")[2] for request in one.servers[0].requests)
        assert used["A"] <= 4
        assert min(used["B"], used["C"]) > 0
        assert len([note for note in one.notes if "(KEY_A) is left out" in note]) == 1
        everything = b"".join(path.read_bytes() for path in tmp_path.iterdir() if path.is_file())
        assert b"canary" not in everything + "".join(one.notes).encode()


def test_an_endpoint_that_comes_into_the_list_gets_rows_of_workers_that_are_there(tmp_path: Path) -> None:
    with desk(tmp_path, answer(), answer("openai", "from the second"), number=60) as one:
        (tmp_path / "fleet.txt").write_text(f"{one.urls[0]}\n")
        command = ("run", "prompts.jsonl", "--model", "m", "--db", "r.db", "--base-url", "file:fleet.txt", "--rpm", "120")
        with runner(*command, "--concurrency", "1", "--workers", "2", cwd=tmp_path) as process:
            process.until(lambda: one.asked()[0] > 2, "the first answers")
            (tmp_path / "fleet.txt").write_text(f"{one.urls[1]}\n")
            process.until(lambda: one.asked()[1] > 2, "answers of the new endpoint")
            assert "is no longer in the list" in process.out
            process.killed()
        assert count(one.store, "attempts", "error_code IS NOT NULL") == 0


def test_workers_of_other_machines_need_each_key_and_are_told_in_one_sentence(tmp_path: Path) -> None:
    with desk(tmp_path, answer("openai", "from one"), answer("openai", "from two")) as one:
        (tmp_path / "prompts.toml").write_text((JOB % tuple(one.urls)).replace("workers = 2", "workers = 0"))
        command = ("run", "prompts.jsonl", "--db", "r.db", "--trust", "--listen", "127.0.0.1")
        with runner(*command, cwd=tmp_path, env=KEYS) as process:
            place, file = place_of(process, tmp_path)
            join = ("worker", "--connect", place, "--token-file", str(file))
            lacks = run(*join, cwd=tmp_path, env={name: value for name, value in KEYS.items() if name != "KEY_B"})
            away = run(*join, "--base-url", one.urls[0], cwd=tmp_path, env=KEYS)
            with runner(*join, cwd=tmp_path, env=KEYS) as worker:
                ended, last = process.ended(), worker.ended()
        assert_clean(ended)
        assert (ended.code, last.code, sum(one.asked())) == (0, 0, 20), (ended, last)
        assert min(one.asked()) > 0
        assert (lacks.code, lacks.err.count("\n"), "KEY_B is not set in the environment of the worker" in lacks.err) == (
            1,
            1,
            True,
        )
        assert (away.code, away.err.count("\n"), "the run has several endpoints" in away.err) == (1, 1, True), away


def test_a_run_without_a_worker_blames_no_endpoint(tmp_path: Path) -> None:
    """The workers end again and again, so that none is left."""
    with desk(tmp_path, after(0.3, answer()), after(0.3, answer()), number=400) as one:
        urls = [word for url in one.urls for word in ("--base-url", url)]
        command = ("run", "prompts.jsonl", "--model", "m", "--db", "r.db", "--concurrency", "2", "--workers", "1")
        with runner(*command, *urls, cwd=tmp_path) as process:
            for _ in range(4):
                process.until(lambda: workers_of(process) and alive(workers_of(process)[-1]), "a worker")
                asked = sum(one.asked())
                process.until(lambda before=asked: sum(one.asked()) > before, "a request")  # type: ignore[misc]
                for pid in workers_of(process):
                    os.kill(pid, signal.SIGKILL)
                    until(lambda gone=pid: not alive(gone), "the end of the worker")  # type: ignore[misc]
            ended = process.ended()
    assert ended.code == 3, ended
    assert "no worker is left" in ended.err
    assert "left out" not in ended.out + ended.err


def test_a_session_hears_pieces_from_each_endpoint(tmp_path: Path) -> None:
    with desk(tmp_path, answer("openai", "from one"), answer("openai", "from two")) as one:
        with api.Session(db=one.store, model="m", base_url=one.urls, workers=1) as session:
            texts = {"".join(piece.text for piece in session.stream(f"story {number}")) for number in range(8)}
        assert texts <= {"from one", "from two"}


def test_all_endpoints_with_a_wrong_key_stop_the_run_as_without_workers(tmp_path: Path) -> None:
    with desk(tmp_path, UNAUTHORIZED, UNAUTHORIZED) as one:
        with pytest.raises(RunStoppedError) as caught:
            one.run(workers=1)
        assert caught.value.code == "auth"


def test_workers_that_an_engine_places_send_to_each_endpoint(tmp_path: Path) -> None:
    with desk(tmp_path, after(0.02, answer()), after(0.02, answer())) as one:
        summary = one.run(workers=2, engine="local")
        assert (summary.done, summary.failed, sum(one.asked())) == (20, 0, 20)
        assert min(one.asked()) > 0
