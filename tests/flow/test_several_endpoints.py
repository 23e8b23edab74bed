"""Whole runs with several endpoints: where rows go, what a bad endpoint does to the others, and what is kept of it."""

import csv
import json
import signal
import threading
from collections import Counter
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from processes import rows, run, runner, simulator, until, write_prompts
from raw_server import Received, Reply, free_port, whole
from several import CONTENT, CUT, FORBIDDEN, FULL, UNAUTHORIZED, answer, desk

import runner as api
from runner.errors import RunStoppedError, UsageError

DIALECTS = ("openai", "anthropic")


@pytest.mark.parametrize("dialect", DIALECTS)
def test_rows_go_to_all_endpoints_and_each_says_which_one_answered(tmp_path: Path, dialect: str) -> None:
    with desk(tmp_path, answer(dialect, "from one"), answer(dialect, "from two")) as one:
        summary = one.run(provider=dialect)
        assert (summary.done, summary.failed) == (20, 0)
        assert min(one.asked()) > 0
        assert sum(one.asked()) == 20
        names = [url.removesuffix("/v1") if dialect == "anthropic" else url for url in one.urls]
        api.export(tmp_path / "a.csv", db=one.store, manifest=True)
        table = list(csv.DictReader((tmp_path / "a.csv").read_text().splitlines()))
        told = {row["text"]: row["endpoint"] for row in table}
        assert [told["from one"].startswith(names[0]), told["from two"].startswith(names[1])] == [True, True]
        manifest = json.loads((tmp_path / "a.csv.manifest.json").read_text())
        assert manifest["settings"]["base_url"] == one.urls
        assert "endpoint" in manifest["export"]["columns"]
        shown = run("show", "1", "row-0", "--db", "r.db", cwd=tmp_path).out
        assert any(f"at {name}" in shown for name in names)


def test_one_endpoint_has_no_such_column(tmp_path: Path) -> None:
    with desk(tmp_path, answer(), number=2) as one:
        one.run(base_url=one.urls[0])
        api.export(tmp_path / "a.csv", db=one.store)
        assert "endpoint" not in (tmp_path / "a.csv").read_text().splitlines()[0].replace('"', "").split(",")
        assert one.attempts() == {(None, None): 2}


def test_a_server_that_is_not_there_fails_no_row_and_holds_none(tmp_path: Path) -> None:
    with desk(tmp_path, answer()) as one:
        dead = f"http://127.0.0.1:{free_port()}/v1"
        summary = one.run(base_url=[dead, *one.urls], attempts=1)
        assert (summary.done, summary.failed) == (20, 0)
        assert one.attempts()[one.urls[0], None] == 20
        # after a few of them only probes go there
        assert 0 < one.attempts()[dead, "connect"] <= 12


def test_an_endpoint_that_breaks_every_answer_off_fails_no_row(tmp_path: Path) -> None:
    with desk(tmp_path, CUT, answer(), number=40) as one:
        summary = one.run(attempts=3)
        assert (summary.done, summary.failed) == (40, 0)


@pytest.mark.parametrize("dialect", DIALECTS)
def test_an_endpoint_with_a_wrong_key_is_left_out_with_one_sentence(tmp_path: Path, dialect: str) -> None:
    with desk(tmp_path, UNAUTHORIZED, answer(dialect)) as one:
        summary = one.run(provider=dialect)
        assert (summary.done, summary.failed) == (20, 0)
        said = [note for note in one.notes if "left out" in note]
        assert len(said) == 1
        assert "Incorrect API key" in said[0]
        assert said[0].endswith("the run goes on with 1 endpoint")
        # what was open then, and no request more
        assert one.asked()[0] <= 4


def test_when_all_endpoints_are_left_out_the_run_stops_as_with_one(tmp_path: Path) -> None:
    with desk(tmp_path, UNAUTHORIZED, UNAUTHORIZED) as one:
        with pytest.raises(RunStoppedError) as caught:
            one.run()
        assert caught.value.code == "auth"
        assert sum(one.asked()) <= 8
        assert rows(one.store, "SELECT count(*) FROM items") == [(0,)]


def test_what_one_endpoint_refuses_is_asked_of_another_before_it_is_believed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # without a key, a refusal before the first answer would be for want of one
    monkeypatch.setenv("OPENAI_API_KEY", "sk-0123456789")

    def bad(request: Received) -> Reply:
        return FORBIDDEN if "number 3." in request.body.decode() else answer()

    with desk(tmp_path, FORBIDDEN, bad, number=12) as one:
        summary = one.run()
        # the row that both refuse fails; what only one refuses does not
        assert (summary.done, summary.failed) == (11, 1)
        assert rows(one.store, "SELECT key FROM items WHERE status = 'failed'") == [("row-3",)]


def test_rows_that_all_endpoints_refuse_fail_at_the_end_of_a_run_too(tmp_path: Path) -> None:
    def bad(request: Received) -> Reply:
        last = any(f"number {one}." in request.body.decode() for one in range(8, 12))
        return whole("400 Bad Request", {"error": {"message": "no"}}) if last else answer()

    with desk(tmp_path, bad, bad, number=12) as one:
        summary = one.run()
        assert (summary.done, summary.failed) == (8, 4)
        # each has the word of both
        assert Counter(error for _, error in one.attempts().elements())["bad_request"] == 8


def test_a_busy_endpoint_confirms_a_refusal_all_the_same(tmp_path: Path) -> None:
    def first(request: Received) -> Reply:
        return whole("400 Bad Request", {"error": {"message": "no"}}) if "0." in request.body.decode() else answer()

    slow = Reply((0.3, *answer().steps))
    with desk(tmp_path, first, slow, number=41) as one:
        summary = one.run(concurrency=2)
        assert (summary.done, summary.failed) == (41, 0)


@pytest.mark.parametrize("dialect", DIALECTS)
def test_content_that_one_refuses_goes_to_the_fallback_if_that_is_wanted(tmp_path: Path, dialect: str) -> None:
    def own(request: Received) -> Reply:
        return CONTENT if "number 3." in request.body.decode() else answer(dialect)

    tables = [{}, {"model": "big", "fallback": True, "prices": {"input": 1, "output": 1}}]
    with desk(tmp_path, own, answer(dialect, "from afar"), number=6) as one:
        endpoints = [{"base_url": url, **table} for url, table in zip(one.urls, tables, strict=True)]
        wanted = one.run(endpoints=endpoints, provider=dialect, fallback_on="content_policy")
        assert (wanted.done, wanted.failed) == (6, 0)
        assert [request.json["model"] for request in one.servers[1].requests] == ["big"]
        assert rows(one.store, "SELECT key, text FROM items WHERE text = 'from afar'") == [("row-3", "from afar")]
        # each endpoint has its own prices
        told = rows(one.store, "SELECT a.endpoint, p.model, p.input FROM attempts a JOIN prices p ON p.id = a.price_id")
        assert {(price, model) for _, model, price in told} == {(None, "m"), (1_000_000, "big")}
        # the fallback is another endpoint, and not another attempt; whatever refusals of rows count as
        once = one.run(endpoints=endpoints, provider=dialect, fallback_on="content_policy", attempts=1, patience_s=0, new=True)
        assert (once.done, once.failed, one.asked()[1]) == (6, 0, 2)
        without = one.run(endpoints=endpoints, provider=dialect, fallback_on="outage", new=True)
        assert (without.done, without.failed, one.asked()[1]) == (5, 1, 2)


def test_an_endpoint_that_refuses_the_content_of_all_rows_stops_no_run_while_the_fallback_answers(
    tmp_path: Path,
) -> None:
    with desk(tmp_path, CONTENT, answer(), number=45) as one:
        endpoints = [{"base_url": one.urls[0]}, {"base_url": one.urls[1], "fallback": True}]
        for reasons in ("content_policy", ["content_policy", "outage"]):
            summary = one.run(endpoints=endpoints, fallback_on=reasons, new=True)
            assert (summary.done, summary.failed) == (45, 0)
        assert (one.asked(), one.notes) == ([90, 90], [])
    with desk(tmp_path, CONTENT, CONTENT, number=45) as one:
        endpoints = [{"base_url": one.urls[0]}, {"base_url": one.urls[1], "fallback": True}]
        with pytest.raises(RunStoppedError, match="prompt was refused"):
            one.run(endpoints=endpoints, fallback_on="content_policy", new=True)


@pytest.mark.parametrize(("bad", "reason"), [(FULL, "rate_limited"), (UNAUTHORIZED, "outage"), (CUT, "outage")])
def test_a_fallback_gets_rows_while_the_others_can_take_none(tmp_path: Path, bad: Reply, reason: str) -> None:
    with desk(tmp_path, bad, answer(), number=12) as one:
        endpoints = [{"base_url": one.urls[0]}, {"base_url": one.urls[1], "fallback": True}]
        summary = one.run(endpoints=endpoints, fallback_on=[reason])
        assert (summary.done, summary.failed) == (12, 0)
        assert one.attempts()[one.urls[1], None] == 12


def test_a_fallback_gets_nothing_while_the_others_answer(tmp_path: Path) -> None:
    with desk(tmp_path, answer(), answer()) as one:
        endpoints = [{"base_url": one.urls[0]}, {"base_url": one.urls[1], "fallback": True}]
        one.run(endpoints=endpoints, fallback_on=["outage", "rate_limited", "content_policy"])
        assert one.asked() == [20, 0]


def test_weights_divide_the_rows(tmp_path: Path) -> None:
    with desk(tmp_path, answer(), answer(), number=80) as one:
        one.run(endpoints=[{"base_url": one.urls[0], "weight": 3}, {"base_url": one.urls[1], "weight": 1}], concurrency=200)
        assert one.asked()[0] == pytest.approx(60, abs=12)


def test_several_keys_are_accounts_of_their_own_and_none_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    keys = {f"KEY_{name}": f"sk-canary-{name}-0123456789" for name in "ABC"}
    for name, key in keys.items():
        monkeypatch.setenv(name, key)

    def by_key(request: Received) -> Reply:
        # the account A has no requests left
        return FULL if "canary-A" in request.headers["authorization"] else answer()

    with desk(tmp_path, by_key) as one:
        summary = one.run(base_url=one.urls[0], api_key_env=[*keys])
        assert (summary.done, summary.failed) == (20, 0)
        used = Counter(request.headers["authorization"].split("-")[2] for request in one.servers[0].requests)
        assert used["A"] <= 4
        assert min(used["B"], used["C"]) > 0
        assert {name for name, code in one.attempts() if code is None} == {f"{one.urls[0]} (KEY_B)", f"{one.urls[0]} (KEY_C)"}
        everything = b"".join(path.read_bytes() for path in tmp_path.iterdir() if path.is_file())
        assert b"canary" not in everything
        assert not any("canary" in note for note in one.notes)


def test_a_list_in_a_file_is_followed_while_the_run_goes(tmp_path: Path) -> None:
    listed, ready = tmp_path / "fleet.txt", threading.Event()

    def first(_: Received) -> Reply:
        return answer() if not ready.is_set() else CUT

    with desk(tmp_path, first, answer("openai", "from the second"), number=60) as one:
        listed.write_text(f"# nodes\n{one.urls[0]}  # the first\n\n")
        started = runner(
            *("run", "prompts.jsonl", "--model", "m", "--db", "r.db", "--base-url", "file:fleet.txt", "--concurrency", "1"),
            *("--rpm", "120"),
            cwd=tmp_path,
        )
        with started as process:
            process.until(lambda: one.asked()[0] > 2, "the first answers")
            listed.write_text("no address\n")
            process.until(lambda: "the endpoints stay as they were" in process.out, "the note about the list")
            listed.write_text(f"{one.urls[1]}\n")
            process.until(lambda: "is no longer in the list" in process.out, "the note about the endpoint that has gone")
            before = one.asked()[0]
            process.until(lambda: one.asked()[1] > 2, "answers of the new endpoint")
            assert one.asked()[0] <= before + 1
            process.killed()
        # a run stays what it is, whatever is in its list; and goes on after a kill
        ended = run("resume", "1", "--db", "r.db", "--rpm", "60000", "--concurrency", "4", cwd=tmp_path)
        assert ended.code == 0, ended.err
        assert rows(one.store, "SELECT status, count(*) FROM items GROUP BY 1") == [("done", 60)]
        assert len({key for (key,) in rows(one.store, "SELECT DISTINCT item_key FROM attempts WHERE error_code IS NULL")}) == 60


def test_a_run_goes_on_with_other_endpoints_and_buys_nothing_twice(tmp_path: Path) -> None:
    with desk(tmp_path, answer(), answer(), answer(), number=10) as one:
        api.run(one.prompts, db=one.store, model="m", base_url=one.urls[:1], limit=4)
        # one server, then it and another, then two others
        two = one.run(base_url=one.urls[:2], limit=7)
        assert (two.run, two.done_now) == (1, 3)
        rest = one.run(base_url=one.urls[1:])
        assert (rest.run, rest.done_now, rest.done) == (1, 3, 10)
        assert sum(one.asked()) == 10
        with pytest.raises(UsageError, match="has answers to these rows from"):
            one.run(base_url="http://127.0.0.1:9/v1")


def test_a_budget_counts_by_the_dearest_endpoint_that_a_row_may_reach(tmp_path: Path) -> None:
    with desk(tmp_path, answer(), answer(), number=50) as one:
        endpoints = [
            {"base_url": one.urls[0], "prices": {"input": 0, "output": 0}},
            {"base_url": one.urls[1], "weight": 9, "prices": {"input": 1000, "output": 1000}},
        ]
        with pytest.raises(RunStoppedError) as caught:
            one.run(endpoints=endpoints, max_cost=0.2, max_tokens=10)
        assert caught.value.code == "budget"
        ((spent,),) = rows(one.store, "SELECT cost FROM spend")
        assert 0 < spent <= 0.2


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"base_url": ["http://127.0.0.1:1/v1", "http://127.0.0.1:1/v1"]}, "twice; leave one out"),
        ({"base_url": ["http://127.0.0.1:1/v1", "nonsense"]}, "is not a valid URL"),
        ({"base_url": ["http://127.0.0.1:1/v1", " "]}, "has a text that is empty"),
        ({"base_url": "file:absent.txt"}, "cannot be read: No such file"),
        ({"base_url": "file:empty.txt"}, "has no base URL in it"),
        ({"base_url": "file:nested.txt"}, "names another list"),
        ({"base_url": "srv://"}, "must be followed by a name"),
        ({"endpoints": [{"base_url": "http://127.0.0.1:1", "modle": "x"}]}, "did you mean model"),
        ({"endpoints": [{"base_url": "http://127.0.0.1:1", "zzz": "x"}]}, "unknown key 'zzz'.*it may have base_url, api_key_env"),
        ({"endpoints": [{"api_key_env": ["A", ""]}]}, "a list of them, or empty for no key"),
        (
            {"endpoints": [{"api_key_env": ""}]},
            "api_key_env is empty, so that no key is sent, and https://api.openai.com/v1 needs one",
        ),
        ({"base_url": ["http://127.0.0.1:1/v1", "http://127.0.0.1:2/v1"], "api_key_env": ["A", ""]}, "has a text that is empty"),
        ({"endpoints": [{"weight": 0}]}, "weight of .* must be a number above 0"),
        ({"endpoints": [{"weight": True}]}, "weight of .* must be a number above 0"),
        ({"endpoints": [{"fallback": True}]}, "is a fallback; leave fallback out of one"),
        ({"endpoints": [{"fallback": "yes"}]}, "must be true or false"),
        ({"endpoints": [{"prices": {"inptu": 1}}]}, "did you mean"),
        ({"endpoints": [{}, {}]}, "is given twice"),
        ({"endpoints": [{}], "base_url": "http://127.0.0.1:1/v1"}, "exclude each other"),
        ({"fallback_on": "outrage"}, "fallback_on must be some of outage"),
        ({"api_key_env": ["A", "A"]}, "names a variable twice"),
    ],
)
def test_what_cannot_be_used_is_refused_in_one_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, settings: dict[str, Any], says: str
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "empty.txt").write_text("# nothing\n")
    (tmp_path / "nested.txt").write_text("file:other.txt\n")
    write_prompts(tmp_path / "prompts.jsonl", range(1))
    with pytest.raises(UsageError, match=says) as caught:
        api.run("prompts.jsonl", model="m", **settings)
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "runner.db").exists()


def test_a_job_file_alone_sends_no_key_to_any_of_its_endpoints(tmp_path: Path) -> None:
    write_prompts(tmp_path / "prompts.jsonl", range(1))
    table = '[[endpoints]]\nbase_url = "http://127.0.0.1:1/v1"\n[[endpoints]]\nbase_url = "http://192.0.2.1/v1"\n'
    (tmp_path / "prompts.toml").write_text(f'model = "m"\n{table}api_key_env = "CANARY"\n')
    env = {"CANARY": "sk-canary-0123456789", "XDG_CONFIG_HOME": str(tmp_path / "c"), "OPENAI_API_KEY": "sk-x-0123456789"}
    ended = run("run", "prompts.jsonl", cwd=tmp_path, env=env)
    assert ended.code == 2
    assert "wants to send CANARY to http://192.0.2.1, and you have not allowed that" in ended.err


def test_a_default_key_is_asked_about_for_a_table_without_one_and_an_empty_name_sends_none(tmp_path: Path) -> None:
    write_prompts(tmp_path / "prompts.jsonl", range(4))
    env = {"XDG_CONFIG_HOME": str(tmp_path / "c"), "OPENAI_API_KEY": "sk-canary-0123456789"}
    job = tmp_path / "prompts.toml"
    job.write_text(
        'model = "m"\n[[endpoints]]\nbase_url = "http://127.0.0.1:1/v1"\n[[endpoints]]\nbase_url = "http://192.0.2.1/v1"\n'
    )
    ended = run("run", "prompts.jsonl", cwd=tmp_path, env=env)
    assert ended.code == 2
    assert "wants to send OPENAI_API_KEY to http://192.0.2.1, and you have not allowed that" in ended.err
    with desk(tmp_path, answer(), answer(), number=4) as one:
        first, second = one.urls
        job.write_text(
            f'model = "m"\n[[endpoints]]\nbase_url = "{first}"\napi_key_env = ""\n[[endpoints]]\nbase_url = "{second}"\n'
        )
        ended = run("run", "prompts.jsonl", "--concurrency", "1", "--db", "r.db", cwd=tmp_path, env=env)
        assert ended.code == 0, ended.err
        keys = [{request.headers.get("authorization") for request in server.requests} for server in one.servers]
        assert keys == [{None}, {"Bearer sk-canary-0123456789"}]
        # and for all of a list, or for one
        job.unlink()
        for urls in (one.urls, one.urls[:1]):
            for server in one.servers:
                server.requests.clear()
            given = [word for url in urls for word in ("--base-url", url)]
            words = ("run", "prompts.jsonl", "--model", "m", "--db", "r.db", "--new", "--api-key-env", "", *given)
            ended = run(*words, cwd=tmp_path, env=env)
            assert ended.code == 0, ended.err
            assert sum(one.asked()) == 4
            assert {request.headers.get("authorization") for server in one.servers for request in server.requests} == {None}


def test_an_endpoint_that_never_answers_holds_no_row_at_the_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("runner.engine.limits.fleet.GIVEN_UP_S", 0.5)
    with desk(tmp_path, Reply((600.0,)), answer(), number=40) as one:
        summary = one.run(attempts=1)
        assert (summary.done, summary.failed) == (40, 0)
        # what was open there then, and each row once
        assert one.attempts() == {(one.urls[1], None): 40, (one.urls[0], "timeout_first_byte"): 4}
        ((said,),) = rows(one.store, "SELECT DISTINCT error FROM attempts WHERE error_code IS NOT NULL")
        assert "other endpoints answered: the request was given up" in said


def test_what_each_endpoint_has_done_is_told(tmp_path: Path) -> None:
    tables = [{"prices": {"input": 0, "output": 0}}, {"prices": {"input": 100, "output": 100}}]
    with desk(tmp_path, CUT, answer(), number=12) as one:
        endpoints = [{"base_url": url, **table} for url, table in zip(one.urls, tables, strict=True)]
        summary = one.run(endpoints=endpoints)
        assert [(told.endpoint, told.answers) for told in summary.endpoints] == [(one.urls[1], 12), (one.urls[0], 0)]
        good, bad = summary.endpoints
        assert (good.attempts, good.failed_attempts, bad.answers) == (12, 0, 0)
        assert bad.failed_attempts == bad.attempts == one.asked()[0]
        assert (good.cost or 0) > 0
        assert (bad.p50_s, bad.output_tokens, good.p50_s is not None) == (None, None, True)
        books = json.loads(run("status", "1", "--json", "--db", "r.db", cwd=tmp_path).out)["books"]
        assert [told["endpoint"] for told in books["endpoints"]] == [one.urls[1], one.urls[0]]
        shown = run("status", "1", "--db", "r.db", cwd=tmp_path).out
        assert f"  endpoints     {one.urls[1]}: 12 answers, " in shown
        assert f"{one.urls[0]}: 0 answers, {bad.attempts} failed attempts" in shown
        api.report(tmp_path / "r.html", run_ids=[1], db=one.store)
        assert "Requests, tokens and money by endpoint" in (tmp_path / "r.html").read_text()
        # nothing is said of a run with one endpoint
        alone = one.run(base_url=one.urls[1], new=True)
        assert alone.endpoints == ()
        assert "endpoints" not in run("status", "2", "--db", "r.db", cwd=tmp_path).out


def test_a_server_that_dies_and_comes_back_gets_rows_again(tmp_path: Path) -> None:
    port = free_port()
    slow = ("--first-token-s", "0.02", "--chunk-s", "0.002", "--tokens", "6")
    # more than can be answered while this waits for anything: the run is stopped
    write_prompts(tmp_path / "prompts.jsonl", range(40_000))
    with ExitStack() as stack:
        one = stack.enter_context(simulator(*slow))
        command = ("run", "prompts.jsonl", "--model", "m", "--db", "r.db", "--concurrency", "2")
        urls = [one.base_url("openai"), f"http://127.0.0.1:{port}/v1"]
        store = tmp_path / "r.db"

        def second() -> list[int]:
            return [number for (number,) in rows(store, "SELECT id FROM attempts WHERE endpoint = ? AND status = 200", urls[1])]

        def serving() -> Any:
            return stack.enter_context(runner("simulate", "--port", str(port), *slow, cwd=tmp_path))

        server = serving()
        until(lambda: "Ctrl-C" in server.out, "the second server")
        process = stack.enter_context(runner(*command, "--base-url", urls[0], "--base-url", urls[1], cwd=tmp_path))
        process.until(lambda: len(second()) > 5, "answers of the second server")
        server.killed()
        before = len(second())
        again = serving()
        until(lambda: "Ctrl-C" in again.out, "the server that is back")
        process.until(lambda: len(second()) > before + 5, "answers of the server that is back")
        process.signal(signal.SIGINT)
        assert process.ended().code == 130
    assert rows(store, "SELECT DISTINCT status FROM items") == [("done",)]
