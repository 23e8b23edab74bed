"""What messages about money advise: the command is run as printed, does what it says, and costs no more than that."""

import json
import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from advised import advised
from billing import PRICES, Biller
from msgspec import structs
from processes import count, rows, run
from raw_server import RawServer, Received, Reply, in_thread, whole
from test_budgets import MOST, PROMPT, Desk

import runner
from runner.config.job import load_job
from runner.session.again import anew
from runner.session.spelling import Raised, raised

M, OTHER = PRICES["m"], {"input": 2, "output": 8}


class Server(Biller):
    """Bills what it answers. ``trouble`` is answered instead, as long as it is set."""

    trouble: Reply | None = None

    def __call__(self, request: Received) -> Reply:
        return self.trouble or super().__call__(request)


@pytest.fixture
def server() -> Server:
    return Server(faults={})


@pytest.fixture
def desk(tmp_path: Path, server: Server) -> Iterator[Desk]:
    with in_thread(RawServer(server)) as raw:
        desk = Desk(tmp_path, raw, server)
        desk.write(12)
        yield desk


def told(desk: Desk) -> list[str]:
    """Return the words of the command in the stop reason, which are the same in ``status`` and in JSON."""
    state = json.loads(desk.command("status", "--json", "--db", "my store.db")[0])["run"]
    said, _ = desk.command("status", "--db", "my store.db")
    assert state["stop_reason"] in said
    (words,) = re.findall(r"`runner ([^`]*)`", state["stop_reason"])
    assert words.endswith("--db 'my store.db'")
    return shlex.split(words)


def done(desk: Desk) -> int:
    return count(desk.folder / "my store.db", where="status = 'done'")


def failing(desk: Desk, *options: str) -> None:
    """Run the file with all rows failing: each answer is cut off at its limit."""
    desk.run("--finish-fail", "length", "--attempts", "1", "--db", "my store.db", *options, code=1)
    desk.biller.requests.clear()


FAILED = ("--finish-fail", "content_filter")


@pytest.mark.parametrize(
    ("limit", "low"), [(("--max-cost", "0.0024"), 0.0024), (("--max-tokens-total", "2100"), 2100)], ids=["dollars", "tokens"]
)
def test_a_retry_that_reaches_its_budget_is_resumed_with_its_rows_and_settings(
    desk: Desk, limit: tuple[str, str], low: float
) -> None:
    failing(desk)
    chosen = ("--where", "id != 'row-3'", "--tier", "default", "--max-tokens", "11")
    out, err = desk.command("retry", "1", *FAILED, *chosen, *limit, "-o", "my answers.csv", "--db", "my store.db", code=5)
    sent = desk.biller.requests["r"]
    assert 0 < sent < 11
    words = told(desk)
    assert words[:2] == ["resume", "1"]
    # its rows and settings are in the store
    assert {*chosen}.isdisjoint(words)
    assert "my answers.csv" in words
    assert float(words[words.index(limit[0]) + 1]) > low
    assert f"`runner {shlex.join(words)}`" in err
    (first, *_) = advised(out)
    assert [*first.arguments] == words
    # what status advises has no file: a store may come from somebody else
    (stored, *_) = advised(desk.command("status", "--db", "my store.db")[0])
    assert [*stored.arguments] == [word for word in words if word not in ("--output", "my answers.csv")]
    desk.command(*words, code=1)
    assert (done(desk), desk.biller.requests["r"]) == (11, 11)
    assert (desk.folder / "my answers.csv").read_text().count("done") == 11


def test_the_next_session_of_a_retry_with_a_budget_of_its_own_is_resumed(desk: Desk) -> None:
    failing(desk)
    limits = ("--max-cost-session", "0.0004", "--max-cost", "0.0026")
    _, err = desk.command("retry", "1", *FAILED, *limits, "--db", "my store.db", code=5)
    assert "The next session may spend as much again: `runner resume 1 --db 'my store.db'`." in err
    sent = desk.biller.requests["r"]
    desk.command(*told(desk), code=5)
    assert sent < desk.biller.requests["r"] <= 2 * sent
    assert done(desk) == desk.biller.requests["r"]


def test_a_budget_of_rows_that_a_resume_chose_goes_on_with_these_rows(desk: Desk) -> None:
    desk.run("--limit", "1", "--db", "my store.db")
    chosen = ("--where", "id in ('row-4', 'row-5', 'row-6', 'row-7', 'row-8')")
    out, _ = desk.command("resume", "1", *chosen, "--max-cost", "0.0004", "--db", "my store.db", code=5)
    words = told(desk)
    assert words[:4] == ["resume", "1", *chosen]
    assert [*advised(out)[0].arguments] == words
    desk.command(*words)
    assert (done(desk), desk.biller.requests["r"]) == (6, 6)


def test_a_budget_of_the_first_rows_goes_on_with_the_first_rows(desk: Desk) -> None:
    out, _ = desk.run("--limit", "6", "--max-cost", "0.0004", "--header", "X-A: ${HOME}", "--db", "my store.db", code=5)
    words = told(desk)
    assert words[0] == "run"
    (one,) = advised(out)
    assert ([*one.arguments], one.rows) == (words, 6 - desk.biller.requests["r"])
    (stored,) = advised(desk.command("status", "--db", "my store.db")[0])
    assert stored.arguments[:3] == ("resume", "1", "--max-cost")
    desk.command(*words)
    assert (done(desk), desk.biller.requests["r"]) == (6, 6)


def test_no_secret_is_spelt_by_a_command(desk: Desk) -> None:
    _, err = desk.run("--limit", "6", "--max-cost", "0.0004", "--header", "X-Key: hunter2", code=5)
    assert re.search(r"to finish: the same command with --max-cost [0-9.]+\.", err)
    assert "hunter2" not in err


def test_a_new_run_is_advised_without_the_address_and_the_secrets_that_a_job_file_has_named(tmp_path: Path) -> None:
    (tmp_path / "p.jsonl").write_text('{"prompt": "a"}\n')
    headers = {"X-Key": "${TOKEN}"}
    given = {"model": "m", "base_url": "https://h.example/v1", "api_key_env": "K", "headers": headers, "max_cost": 2.0}
    job = load_job(tmp_path / "p.jsonl", given, {})
    users = anew(job, tmp_path / "s.db")
    assert "--base-url https://h.example/v1 --api-key-env K --header 'X-Key: ${TOKEN}' --max-cost 2.0" in users
    theirs = structs.replace(job, unvouched=frozenset(("base_url", "api_key_env", "headers")))
    assert "--model m --base-url URL --max-cost 2.0" in anew(theirs, tmp_path / "s.db")


@pytest.mark.parametrize(
    ("words", "found"),
    [
        ("retry --max-tokens 9 --max-cost 2", Raised(("--max-tokens", "9", "--max-cost", "2"), retries=True)),
        ("resume --base-url http://h/ --max-cost 2", Raised(("--max-cost", "2"))),
        ("retry 3 --output ~/.profile --header a:b --max-cost '$(x)'", Raised(("--max-cost", "'$(x)'"), retries=True)),
        ("run /etc/x --api-key-env K --max-cost 2", Raised(("--max-cost", "2"), in_part=True)),
        ("retry --max-cost '2", Raised((), retries=True)),
    ],
)
def test_what_a_store_says_leads_nowhere_else(words: str, found: Raised) -> None:
    assert raised(f"the budget of $1.00 (--max-cost) is reached: Raise it to $2.00 to finish: `runner {words}`.") == found
    assert raised(f"something else: `runner {words}`.") == Raised()


def test_python_and_events_have_complete_commands(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    out, _ = desk.run("--max-cost", "0.0004", "--json", "--db", "my store.db", code=5)
    events = {event["event"]: event for event in map(json.loads, out.splitlines())}
    reason = events["finished"]["stop_reason"]
    assert events["stopping"]["reason"] == reason
    assert [f"`runner {shlex.join(told(desk))}`"] == re.findall(r"`.*`", reason)
    monkeypatch.chdir(desk.folder)
    assert runner.status(db="my store.db")[0].stop_reason == reason == runner.runs(db="my store.db")[0].stop_reason
    seen: list[Any] = []
    with pytest.raises(runner.RunStoppedError) as caught:
        runner.resume(db="my store.db", observe=seen.append)
    said = str(caught.value)
    assert re.search(r"`runner resume 1 --max-cost [0-9.]+ --db '?/", said)
    (end,) = [event.summary for event in seen if isinstance(event, runner.Finished)]
    assert end.stop_reason == said
    (command,) = re.findall(r"`runner ([^`]*)`", said)
    desk.command(*shlex.split(command))
    assert done(desk) == 12


def test_prices_that_are_advised_join_those_of_the_run(desk: Desk) -> None:
    models = ["m", "m", "b's", "b's", "c", None]
    lines = [{"id": str(at), "prompt": "x", **({"model": model} if model else {})} for at, model in enumerate(models)]
    (desk.folder / "p.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    desk.run("--max-cost", "1", "--db", "my store.db", code=1)
    assert desk.biller.requests["r"] == 3
    for left in (1, 0):
        advised_first, *_ = re.findall(r"`runner (retry [^`]*)`", desk.command("errors", "--db", "my store.db")[0])
        desk.command(*shlex.split(advised_first.replace("X", "2").replace("Y", "8")), code=left)
    assert (done(desk), desk.biller.requests["r"]) == (6, 6)
    kept = json.loads(rows(desk.folder / "my store.db", "SELECT settings FROM runs")[0][0])["prices"]
    assert kept == {**PRICES, "b's": OTHER, "c": OTHER}


def test_a_price_beside_the_list(desk: Desk) -> None:
    _, err = desk.run("--max-cost", "1", "--prices", "list", priced=False, code=2)
    assert "none is known for m: the list does not have it, so state it beside the list" in err
    (value,) = re.findall(r"--prices '([^']*)'", err)
    prices = value.replace("X", "1").replace("Y", "4")
    (desk.folder / "p.jsonl").write_text('{"prompt": "x"}\n{"prompt": "x", "model": "gpt-5-mini"}\n')
    desk.run("--max-cost", "1", "--prices", prices, priced=False)
    assert desk.biller.requests["r"] == 2
    # the run keeps the list, whatever is stated later
    desk.command("retry", "1", "--prices", '{"n": {"input": 1, "output": 1}}')
    kept = json.loads(rows(desk.store, "SELECT settings FROM runs")[0][0])["prices"]
    assert kept == {"list": True, "m": {"input": 1, "output": 4}, "n": {"input": 1, "output": 1}}


def test_a_price_that_begins_later(desk: Desk) -> None:
    later = json.dumps({"m": {**M, "from": "2999-01-01"}})
    _, err = desk.run("--max-cost", "1", "--prices", later, priced=False, code=2)
    assert "the stated price of m holds only from 2999-01-01 on: leave out its from" in err
    desk.run("--prices", later, priced=False)
    said, _ = desk.command("status")
    assert "cost          unknown: the stated price of m holds only from 2999-01-01 on; without its from" in said
    # as advised, also now that the run is finished
    sent = desk.biller.requests["r"]
    desk.run()
    books = json.loads(desk.command("status", "--json")[0])["books"]
    assert (books["cost"], desk.biller.requests["r"]) == (pytest.approx(desk.billed), sent)


NO_KEY = whole("401 Unauthorized", {"error": {"message": "Incorrect API key", "code": "invalid_api_key"}})


@pytest.mark.parametrize("trouble", [NO_KEY, None], ids=["wrong key", "budget"])
def test_a_sample_that_fails_is_repeated_as_a_sample(desk: Desk, server: Server, trouble: Reply | None) -> None:
    desk.write(40)
    server.trouble = trouble
    words = ["estimate", "p.jsonl", "--sample", "10", "--model", "m", "--base-url", desk.url, "--max-tokens", str(MOST)]
    limit = [] if trouble is not None else ["--max-cost", "0.0004"]
    ended = run(*words, *limit, "--prices", json.dumps(PRICES), "--db", "my store.db", cwd=desk.folder)
    assert ended.code == (3 if trouble is not None else 5), ended
    assert not re.search("runner (resume|retry)", ended.err)
    command = told(desk)
    assert f"`runner {shlex.join(command)}`" in ended.err
    server.trouble = None
    said, _ = desk.command(*command)
    assert "40 rows, 30 left to send" in said
    assert (done(desk), desk.biller.requests["r"]) == (10, 10)


def test_rows_of_a_program_are_in_no_command(desk: Desk, server: Server) -> None:
    server.trouble = NO_KEY
    texts = [f"x{at}" for at in range(20)]
    given: dict[str, Any] = {"db": desk.store, "model": "m", "base_url": desk.url, "prices": PRICES, "max_tokens": MOST}
    with pytest.raises(runner.RunStoppedError, match=r"then run the same command again\.$"):
        runner.estimate(texts, sample=10, progress=False, **given)
    assert (runner.status(db=desk.store)[0].stop_reason or "").endswith("then run the same command again.")
    server.trouble = None
    with pytest.raises(runner.RunStoppedError, match=r"to finish: the same command with --max-cost [0-9.]+\.$"):
        runner.run([f"{PROMPT} {at}" for at in range(9)], limit=6, max_cost=0.0004, progress=False, **given)


def test_requests_that_several_rows_make_are_counted_once(desk: Desk) -> None:
    lines = [{"id": str(at), "prompt": f"x{at % 6}"} for at in range(18)]
    (desk.folder / "p.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    out, _ = desk.run("--dedupe", "--max-cost", "0.0003", "--db", "my store.db", "--concurrency", "1", code=5)
    sent, left = desk.biller.requests["r"], 18 - done(desk)
    assert 0 < sent < 6
    assert f"(sends {6 - sent} requests for the other {left} rows)" in out
    # status does not read the input
    (desk.folder / "p.jsonl").rename(desk.folder / "q.jsonl")
    assert f"sends {6 - sent} requests for the other {left} rows)" in desk.command("status", "--db", "my store.db")[0]
    (desk.folder / "q.jsonl").rename(desk.folder / "p.jsonl")
    command = told(desk)
    desk.command(*command)
    assert (done(desk), desk.biller.requests["r"]) == (18, 6)
    # enough, and at most what the last request may cost more
    assert desk.billed <= float(command[-3]) < 2 * desk.billed


def test_failed_requests_that_several_rows_make_are_counted_once(desk: Desk) -> None:
    lines = [{"id": str(at), "prompt": f"x{at % 2}"} for at in range(7)]
    (desk.folder / "p.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    out, _ = desk.run("--dedupe", "--limit", "5", "--finish-fail", "length", "--attempts", "1", code=1)
    sent = desk.biller.requests["r"]
    found = re.search(r"runner (retry 1 --max-tokens \d+)\s+\(sends (\d) requests for 5 failed rows again\)", out)
    assert found is not None, out
    desk.command("retry", "1", *FAILED, code=0)
    assert desk.biller.requests["r"] == sent + int(found[2])


@pytest.mark.parametrize("words", [("resume", "1", "--max-tokens", "4"), ("retry", "1", "--prompt", "a b {{ prompt }}")])
def test_a_new_run_that_is_advised_has_the_server_and_the_budget_of_the_run(desk: Desk, words: tuple[str, ...]) -> None:
    desk.run("--limit", "2", "--max-cost", "0.0005", "--db", "my store.db")
    _, err = desk.command(*words, "--db", "my store.db", code=2)
    (command,) = re.findall(r"`runner (run [^`]*)`", err)
    spent = desk.billed
    desk.command(*shlex.split(command), code=5)
    assert spent < desk.billed <= spent + 0.0005
    assert runner.status(2, db=desk.folder / "my store.db")[0].stop_code == "budget"


def test_a_resume_is_told_of_a_price_that_a_resume_reads(desk: Desk) -> None:
    desk.run("--limit", "2", priced=False)
    _, err = desk.command("resume", "1", "--max-cost", "1", code=2)
    (value,) = re.findall(r"state it: --prices '([^']*)'", err)
    desk.command("resume", "1", "--max-cost", "1", "--prices", value.replace("X", "1").replace("Y", "4"))
    assert count(desk.store, where="status = 'done'") == 12


def test_changed_rows_that_a_budget_stopped_are_sent_as_changed_rows(desk: Desk) -> None:
    desk.run()
    (desk.folder / "p.jsonl").write_text((desk.folder / "p.jsonl").read_text().replace("Tell me", "Tell us"))
    desk.biller.requests.clear()
    limit = f"{desk.billed + 0.0004:.6f}"
    out, _ = desk.run("--accept-changes", "--max-cost", limit, code=5)
    sent = desk.biller.requests["r"]
    (one, _) = advised(out)
    assert one.arguments[:4] == ("resume", "1", "--accept-changes", "--max-cost")
    desk.command(*one.arguments)
    assert 0 < sent < desk.biller.requests["r"] == 12
