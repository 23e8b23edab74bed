"""The routes: what they answer is what the commands print, and what their document says."""

import json
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any
from urllib.parse import quote

import httpx
import jsonschema
import pytest
from click.testing import CliRunner
from filling import broken, done, failed, filled
from starlette.routing import Route
from webbing import BEARER, JSON, TOKEN, Page, served

from runner.cli.commands import cli
from runner.control.messages import Ask, Cancel, Pause, Requeue, Set, encode
from runner.errors import UsageError
from runner.model import Usage
from runner.session import ids
from runner.store.lock import RunLock
from runner.web import app
from runner.web.ask_routes import AskRoutes
from runner.web.asking import Asker
from runner.web.listening import PORT, listen, warning
from runner.web.openapi import document
from runner.web.replies import ApiError
from runner.web.retrying import spelled, together
from runner.web.rows import MOST_ROWS

DOCUMENT = document()
METHODS = ("get", "post")


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    rows = [
        done(
            "a", 1, usage=Usage(input_tokens=3, output_tokens=4), text="x" * 1000, metadata={"topic": "one", "prompt": "Say it."}
        ),
        failed("b/2 ü", 2),
        broken("c", 3),
        done("d", 4, text="short", metadata={"topic": "two"}),
    ]
    folder = tmp_path_factory.mktemp("routes")
    (folder / "p.jsonl").write_text('{"id": "a", "prompt": "Say it."}\n')
    filled(folder / "runner.db", *rows)
    with closing(sqlite3.connect(folder / "runner.db")) as store, store:
        store.execute(
            "INSERT INTO prices (id, run_id, model, tier, input, cached_input, cache_write, cache_write_1h, output, reasoning)"
            " VALUES (9, 1, 'n', 'standard', 1000000, 1000000, 1000000, 1000000, 2000000, 2000000)"
        )
        store.execute("UPDATE attempts SET price_id = 9 WHERE error_code IS NULL")
    return folder / "runner.db"


@pytest.fixture(scope="module")
def page(store: Path) -> Iterator[Page]:
    with served(store) as page:
        yield page


@pytest.fixture
def client(page: Page) -> Iterator[httpx.Client]:
    with page.client() as client:
        yield client


def printed(store: Path, *words: str) -> Any:
    done = CliRunner().invoke(cli, [*words, "--db", str(store), "--json"])
    assert done.exit_code == 0, done.output
    return json.loads(done.output)


def fits(answer: httpx.Response, path: str, method: str = "get") -> Any:
    """Return the JSON of an answer, which must be as the document says."""
    operation = DOCUMENT["paths"][path][method]
    told = operation["responses"][str(answer.status_code)]
    told = DOCUMENT["components"]["responses"]["Error"] if "$ref" in told else told
    schema = told["content"]["application/json"]["schema"]
    jsonschema.Draft202012Validator({**schema, "components": DOCUMENT["components"]}).validate(answer.json())
    return answer.json()


def test_the_document_has_each_route_and_no_other() -> None:
    every = [*app._routes(), *AskRoutes(Asker(Path("none.db"))).routes]
    routes = [one for one in every if isinstance(one, Route) and one.path != "/" and not one.path.startswith("/static")]
    has = {
        (one.path.replace(":run}", "}").replace(":path}", "}"), method.lower()) for one in routes for method in one.methods or ()
    }
    told = {(path, method) for path, of in DOCUMENT["paths"].items() for method in of}
    assert {(path, method) for path, method in has if method != "head"} == told
    for path, method in told:
        names = {one["name"] for one in DOCUMENT["paths"][path][method]["parameters"] if one["in"] == "path"}
        assert names == {part[1:-1] for part in path.split("/") if part.startswith("{")}


def test_runs_a_run_a_row_and_errors_are_as_the_commands_print_them(client: httpx.Client, store: Path) -> None:
    money = {name: printed(store, "status")["books"][name] for name in ("cost", "cost_perhaps")}
    assert money["cost"] == pytest.approx(11e-6)
    assert fits(client.get("/api/runs"), "/api/runs") == [{**one, **money} for one in printed(store, "list")]
    assert fits(client.get("/api/runs/1"), "/api/runs/{run}") == printed(store, "status")
    for key in ("a", "b/2 ü", "c"):
        path = f"/api/runs/1/rows/{quote(key, safe='')}"
        assert fits(client.get(path), "/api/runs/{run}/rows/{row}") == printed(store, "show", key)
    # of a row, its attempts and the rows of a page, what it costs is the same; an attempt that was not priced has no cost
    shown = {key: printed(store, "show", key) for key in ("a", "b/2 ü", "c")}
    assert {one["id"]: one["cost"] for one in client.get("/api/runs/1/rows").json()["rows"]} == {
        **{key: of["cost"] for key, of in shown.items()},
        "d": 0.0,
    }
    assert [(one["cost"], one["cost_perhaps"]) for of in shown.values() for one in of["attempts"]] == [(11e-6, 0.0), (None, None)]
    assert [of["cost"] for of in shown.values()] == [11e-6, None, 0.0]
    errors = fits(client.get("/api/runs/1/errors"), "/api/runs/{run}/errors")
    assert errors == [
        {**one, "command": with_store}
        for one, with_store in zip(printed(store, "errors"), (each["command"] for each in errors), strict=True)
    ]
    assert client.get("/openapi.json").json() == json.loads(json.dumps(DOCUMENT))


def test_refusals_are_as_the_document_says(page: Page, client: httpx.Client) -> None:
    for query in ("limit=0", "after=x", "order=x", "nothing=1"):
        assert fits(client.get(f"/api/runs/1/rows?{query}"), "/api/runs/{run}/rows")["code"] == "query"
    for path, method in (("/api/runs", "get"), ("/api/runs/{run}/pause", "post"), ("/api/stream", "post")):
        for headers, status in (({"Host": "x.org"}, 421), ({"Origin": "http://x.org"}, 403), ({"Authorization": "x"}, 401)):
            answer = client.request(method, path.format(run=1), headers=headers)
            assert (answer.status_code, bool(fits(answer, path, method)["error"])) == (status, True)
    parameters = DOCUMENT["paths"]["/metrics"]["get"]["parameters"]
    answer = httpx.get(f"{page.url}/metrics", params={one["name"]: TOKEN for one in parameters})
    assert (answer.status_code, answer.text[:9]) == (200, "# HELP ru")


def test_figures_history_and_metrics(client: httpx.Client) -> None:
    figures = fits(client.get("/api/runs/1/figures"), "/api/runs/{run}/figures")
    assert sum(one["answers"] for one in figures["slices"]) == 2
    assert sum(one["failed"] for one in figures["slices"]) == 1
    assert {one["first_token_p50_s"] for one in figures["slices"]} - {None} == {0.25}
    assert fits(client.get("/api/runs/1/history"), "/api/runs/{run}/history") == []
    text = client.get("/metrics").text
    assert 'runner_run_rows{run="1",status="done"} 2\n' in text
    assert 'runner_run_failed_rows{run="1",code="cut"} 1\n' in text
    for line in text.splitlines():
        assert line.startswith(("# HELP runner_", "# TYPE runner_")) or float(line.rpartition(" ")[2]) >= 0


def test_rows_come_in_pages_with_long_texts_cut(client: httpx.Client) -> None:
    def page_of(**query: Any) -> Any:
        return fits(client.get("/api/runs/1/rows", params=query), "/api/runs/{run}/rows")

    whole = page_of()
    assert [row["id"] for row in whole["rows"]] == ["a", "b/2 ü", "c", "d"]
    assert (whole["rows"][0]["text"], whole["rows"][0]["text_chars"]) == (f"{'x' * 300}…", 1000)
    assert (whole["rows"][0]["fields"], whole["rows"][0]["prompt"]) == ({"topic": "one"}, "Say it.")
    assert page_of(chars=2000)["rows"][0]["text"] == "x" * 1000
    seen, after = list[str](), ""
    while True:
        part = page_of(limit=1, order="-input", after=after)
        seen += [row["id"] for row in part["rows"]]
        if part["next"] is None:
            break
        after = part["next"]
    assert seen == ["d", "c", "b/2 ü", "a"]
    assert [row["id"] for row in page_of(status="failed")["rows"]] == ["b/2 ü", "c"]
    while not (found := page_of(**{"field.topic": "two"}))["index"]["complete"]:
        pass
    assert [row["id"] for row in found["rows"]] == ["d"]
    assert [row["id"] for row in client.get("/api/runs/1/rows?code=cut&code=bad_row").json()["rows"]] == ["b/2 ü", "c"]
    assert [row["id"] for row in page_of(q="sho")["rows"]] == ["d"]


@pytest.mark.parametrize(
    "query",
    ["after=1", "after=a.b.c", "limit=0", f"limit={MOST_ROWS + 1}", "limit=x", "status=gone", "order=up", "page=3", "chars=-1"],
)
def test_a_query_that_means_nothing_is_refused(client: httpx.Client, query: str) -> None:
    answer = client.get(f"/api/runs/1/rows?{query}")
    assert (answer.status_code, answer.json()["code"]) == (400, "query")


@pytest.mark.parametrize(
    ("path", "status", "code"),
    [
        ("/api/runs/2", 404, "no_run"), ("/api/runs/99999999999999999999", 404, "no_run"), ("/api/runs/0/rows", 404, "no_run"),
        ("/api/runs/x", 404, "no_route"), ("/api/runs/1/rows/nobody", 404, "no_row"), ("/api/runs/", 404, "no_route"),
        ("/api/runs/2/events", 404, "no_run"), ("/nothing", 404, "no_route"),
    ],
)  # fmt: skip
def test_what_is_not_there_is_said(client: httpx.Client, path: str, status: int, code: str) -> None:
    answer = client.get(path)
    assert (answer.status_code, answer.json()["code"]) == (status, code)


def test_ids_of_a_retry_name_the_rows_that_were_foreseen_and_no_others(tmp_path: Path) -> None:
    # as lines of text these would be the rows b and d, a heading, a table, and an object
    hostile = ["b\nd", "id", "x,id", '{"id": "d"}', " a ", "e\u2028f", "ü", "a (answer 2)"]
    for first in range(len(hostile)):
        told = [*hostile[first:], *hostile[:first]]
        (tmp_path / "told").write_bytes(spelled(told))
        assert ids.read(str(tmp_path / "told")) == told


def test_classes_that_need_different_options_get_all_of_them_unless_one_does_harm() -> None:
    room, time_ = ("--max-tokens", "200"), ("--attempt-s", "60")
    assert together({()}, 1) == together(set(), 1) == ()
    assert together({room, (), time_}, 1) == (*time_, *room)
    assert together({("--tier", "default")}, 1) == ("--tier", "default")
    with pytest.raises(ApiError, match="class by class, with the commands of `runner errors 1`"):
        together({room, ("--tier", "default")}, 1)


def test_a_number_that_is_too_long_is_no_run(page: Page, client: httpx.Client) -> None:
    for path in ("", "/rows", "/events"):
        answer = client.get(f"/api/runs/{'9' * 5000}{path}")
        assert (answer.status_code, answer.json()["code"]) == (404, "no_route")


def test_a_limit_that_no_frame_can_hold_is_refused_in_a_sentence() -> None:
    with pytest.raises(UsageError, match="too large"):
        encode(Ask(number=1, request=Set(concurrency=10**20), by="page"))
    with pytest.raises(UsageError, match="UTF-8"):
        encode(Ask(number=1, request=Cancel(ids=("\udcff",)), by="terminal"))


def test_a_retry_says_what_it_sends_before_it_is_confirmed(client: httpx.Client) -> None:
    path = "/api/runs/{run}/retry"
    told = fits(client.post("/api/runs/1/retry", json={"class": "cut"}), path, "post")
    assert (told["started"], told["rows"], told["done"]) == (False, 1, "")
    assert "sends 1 row of run 1 again" in told["sentence"]
    refused = fits(client.post("/api/runs/1/retry", json={"class": "nonsense"}), path, "post")
    assert "nonsense" in refused["error"]
    unknown = client.post("/api/runs/1/retry", json={"confirm": True, "ids": ["nobody"]})
    assert unknown.status_code == 400
    assert "nobody" in unknown.json()["error"]
    both = client.post("/api/runs/1/retry", json={"class": "cut", "ids": ["a"]})
    assert (both.status_code, both.json()["code"]) == (400, "body")


def test_what_is_left_is_said_before_it_is_sent(client: httpx.Client, store: Path) -> None:
    path, own = "/api/runs/{run}/resume", "/api/runs/1/resume"
    told = fits(client.post(own), path, "post")
    assert (told["started"], told["rows"], told["cost"]) == (False, None, None)
    assert "nobody has counted them" in told["sentence"]
    with closing(sqlite3.connect(store)) as driver, driver:
        driver.execute("UPDATE runs SET rows = 6")
    try:
        told = fits(client.post(own, json={"confirm": False}), path, "post")
        assert (told["rows"], told["sentence"][:32]) == (2, "sends 2 rows of run 1 that are l")
        assert told["cost"] == pytest.approx(2 * 11e-6 / 2)
        with closing(sqlite3.connect(store)) as driver, driver:
            driver.execute("UPDATE runs SET rows = 4")
        told = fits(client.post(own), path, "post")
        assert (told["rows"], told["sentence"]) == (0, "run 1 has no row left to send")
        refused = client.post(own, json={"confirm": True})
        assert (refused.status_code, refused.json()["code"]) == (409, "refused")
        lock = RunLock(store, 1)
        assert lock.acquire()
        try:
            assert fits(client.post(own), path, "post")["code"] == "running"
        finally:
            lock.release()
    finally:
        with closing(sqlite3.connect(store)) as driver, driver:
            driver.execute("UPDATE runs SET rows = NULL")


def test_sessions_are_asked_for_what_the_routes_name(store: Path, page: Page) -> None:
    import asyncio

    from webbing import session_of

    async def main() -> list[Any]:
        async with session_of(store, 1) as session, httpx.AsyncClient(base_url=page.url, headers={**BEARER, **JSON}) as client:
            for what, body in (
                ("pause", None),
                ("cancel", {"ids": ["a", 7, 1.5]}),
                ("requeue", {"ids": ["b"]}),
                ("set", {"rpm": 5, "tpm": None, "max_cost": 1.5}),
            ):
                answer = await client.post(f"/api/runs/1/{what}", json=body)
                assert fits(answer, f"/api/runs/{{run}}/{what}", "post")["done"].endswith("by api")
            return session.asked  # type: ignore[attr-defined]

    found = [asked for asked, _ in asyncio.run(main())]
    assert found == [Pause(), Cancel(ids=("a", "7", "1.5")), Requeue(ids=("b",)), Set(rpm=5.0, tpm="none", max_cost=1.5)]
    with page.client() as client:
        told = fits(client.post("/api/runs/1/stop"), "/api/runs/{run}/stop", "post")
    assert "is not running" in told["error"]


def test_a_store_that_is_not_there_yet_has_no_runs(tmp_path: Path) -> None:
    with served(tmp_path / "later.db") as page, page.client() as client:
        assert client.get("/api/runs").json() == []
        assert client.get("/api/runs/1").status_code == 404
        assert "runner_info" in client.get("/metrics").text
        filled(tmp_path / "later.db", done("a", 1))
        assert client.get("/api/runs/1/rows").json()["rows"][0]["id"] == "a"


def test_the_usual_port_is_taken_or_one_of_the_next() -> None:
    with listen("127.0.0.1", None).end as one, listen("127.0.0.1", None).end as other:
        ports = [end.getsockname()[1] for end in (one, other)]
        assert PORT <= ports[0] < ports[1] < PORT + 50
    assert warning("127.0.0.1") is None
    assert "not encrypted" in (warning("0.0.0.0") or "")
