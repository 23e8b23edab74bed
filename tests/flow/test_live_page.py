"""The page of ``runner web``: a real run, the real server, and a real browser that watches, steers and loses its connection."""

import json
import os
import random
import re
import signal
import sqlite3
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from axe_playwright_python.sync_playwright import Axe
from browsing import chromium
from filling import broken, done, failed, filled
from live_pages import HANG_S, Served, Tab, running
from processes import rows as stored
from processes import until
from reported import HOSTILE
from webbing import TOKEN, served

from runner.model import Usage
from runner.web.app import static_files

WORDS = ("enough", "measure", "bridge", "café", "forest", "村", "often", "\U0001f600", "lake", "castle")
MOST_BYTES = 150_000
LINK = "document.querySelector('#link').textContent"
STATE = "document.querySelector('.glance .state')?.textContent"
OPEN = "[...document.querySelectorAll('.answer[data-state=open]:has(.flow:not(:empty))')]"
"""The answers of which something has come."""
VIEWS = ("", "/rows", "/errors", "/history")


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with chromium() as found:
        yield found


def long_rows(number: int, words: int = 200) -> list[dict[str, Any]]:
    draw = random.Random(number)
    return [{"id": f"r{row}", "prompt": " ".join(draw.choices(WORDS, k=words))} for row in range(number)]


def test_the_page_is_small_and_names_no_other_host() -> None:
    found = static_files()
    assert sum(file.stat().st_size for file in found.values()) <= MOST_BYTES
    for name, file in found.items():
        text = file.read_text()
        hosts = set(re.findall(r"https?://([\w.]+)", text)) - {"www.w3.org"}
        assert not hosts, name
        assert not re.search(r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|eval\(|new Function", text), name
    page = found["index.html"].read_text()
    assert not re.search(r"<script(?![^>]* src=)|<style| style=| on\w+=", page)


def test_a_lost_server_leaves_no_gap_and_no_double_and_seven_tabs_have_one_stream(browser: Any, tmp_path: Path) -> None:
    # the run goes on until the block is left
    rows = long_rows(2_000)
    prompts = {row["id"]: row["prompt"] for row in rows}
    with (
        running(tmp_path, rows, "--concurrency", "6") as run,
        Served(tmp_path) as web,
        closing(browser.new_context()) as context,
    ):
        tabs = [Tab(context, f"{web.url}#/runs/1")]
        tabs += [Tab(context, f"{web.base}#/runs/1") for _ in range(6)]
        for tab in tabs:
            tab.wait(f"{OPEN}.length > 0")
            # the shared worker has the stream, and no tab one of its own
            assert not [url for url in tab.asked if "events" in url]
        first = tabs[0]
        before = first.texts()
        assert "runner_web_viewers 1" in first.page.evaluate("fetch('/metrics').then((answer) => answer.text())")
        web.end()
        for tab in tabs:
            tab.wait(f"{LINK} === 'connection lost'")
        assert first.page.inner_text("#alert").startswith("The connection to the web server is lost.")
        # what was known is still shown, and a button says why it does nothing
        assert first.page.inner_text(".glance .state") == "running"
        first.page.click("button:text-is('Pause')")
        first.wait("document.querySelector('.toast.bad')?.textContent.includes('The web server does not answer')")
        web.start()
        first.wait(f"{LINK} === 'live'")
        assert first.page.is_hidden("#alert")
        # what was under way goes on, and what is shown is what the model has said so far: its prompt
        _ = [tab.wait(f"{OPEN}.length > 0") for tab in tabs]
        seen = 0
        for _ in range(20):
            texts = first.texts()
            assert [row for row, text in texts.items() if not prompts[row].startswith(text)] == []
            seen += sum(len(text) > len(before.get(row, "")) for row, text in texts.items())
            first.page.wait_for_timeout(100)
        assert seen
        assert run.alive
        # a request that the killed server had not yet read is reset
        lost = re.compile("ERR_CONNECTION_(REFUSED|RESET)")
        assert [said for tab in tabs for said in tab.said if not lost.search(said)] == []
        # another server at the same port, such as that of another store: who opens its address has access, older tabs open or not
        web.end()
        (tmp_path / "runner.db.web-token").unlink()
        web.start()
        first.wait(f"{LINK} === 'no access'")
        again = Tab(context, f"{web.url}#/runs/1")
        _ = [tab.wait(f"{LINK} === 'live' && {OPEN}.length > 0") for tab in (again, first)]


def test_without_shared_workers_one_tab_has_the_stream_and_another_takes_over(browser: Any, tmp_path: Path) -> None:
    with (
        running(tmp_path, long_rows(30), "--concurrency", "4"),
        Served(tmp_path) as web,
        closing(browser.new_context()) as context,
    ):
        context.add_init_script("delete window.SharedWorker")
        tabs = [Tab(context, f"{web.url}#/runs/1")]
        tabs += [Tab(context, f"{web.base}#/runs/1") for _ in range(2)]
        for tab in tabs:
            tab.wait(f"{OPEN}.length > 0")
        leading = [tab for tab in tabs if any("/api/events" in url for url in tab.asked)]
        assert len(leading) == 1
        leading[0].page.close()
        rest = [tab for tab in tabs if tab is not leading[0]]
        before = [tab.texts() for tab in rest]
        for tab, texts in zip(rest, before, strict=True):
            while not any(len(text) > len(texts.get(row, "")) for row, text in tab.texts().items()):
                tab.page.wait_for_timeout(50)
        assert sum(any("/api/events" in url for url in tab.asked) for tab in rest) == 1
        assert [said for tab in rest for said in tab.said] == []


def test_a_run_is_watched_and_steered(browser: Any, tmp_path: Path) -> None:
    rows = long_rows(30)
    with (
        running(tmp_path, rows, "--concurrency", "4") as run,
        Served(tmp_path) as web,
        closing(browser.new_context(timezone_id="Asia/Tokyo")) as context,
    ):
        tab = Tab(context, web.url)
        page = tab.page
        # from the list of runs, by keyboard alone
        tab.wait("document.querySelector('tbody .state')?.textContent === 'running'")
        page.focus("tbody th a")
        page.keyboard.press("Enter")
        row = tab.wait(f"(window.card = {OPEN}[0])?.querySelector('.id').textContent")
        card = "window.card"
        length = page.evaluate(f"{card}.querySelector('.answer-foot .soft').textContent")
        tab.wait(f"{card}.querySelector('.answer-foot .soft').textContent !== {length!r}")
        # Stop gives the row up, and it is not given to another one while it has the focus
        page.focus(f'[aria-label="Stop row {row}"]')
        page.keyboard.press("Enter")
        tab.wait(f"{card}.dataset.state === 'failed'")
        assert page.evaluate(f"{card}.querySelector('.answer-foot .soft').textContent") == "cancelled"
        assert page.evaluate("document.activeElement.textContent") == "Retry"
        tab.wait("document.querySelectorAll('.toast').length > 0")
        until(
            lambda: stored(tmp_path / "runner.db", "SELECT error_code FROM items WHERE key = ?", row) == [("cancelled_by_user",)],
            "the books",
            HANG_S,
        )
        # Retry sends it again
        page.click(f'[aria-label="Retry row {row}"]')
        tab.wait(
            f"{STATE} === 'running' && [...document.querySelectorAll('.toast p')].some((one) => one.textContent.includes('1'))"
        )
        # Pause and Continue
        page.click("button:text-is('Pause')")
        tab.wait(f"{STATE} === 'paused'")
        assert "Paused" in page.inner_text(".why")
        page.click("button:text-is('Continue')")
        tab.wait(f"{STATE} === 'running'")
        # a limit, in a dialog with the keyboard
        page.click("button:text-is('Limits…')")
        page.keyboard.type("2")
        page.keyboard.press("Enter")
        tab.wait("document.querySelector('dialog.ask') === null")
        tab.wait("document.querySelectorAll('.tile')[2].textContent.endsWith('of 2')")
        # what was done is told, as it is stored
        page.click("nav >> text=History")
        tab.wait("document.querySelectorAll('.history li').length >= 5")
        said = page.inner_text(".history")
        assert "by this page" in said
        at = page.get_attribute(".history time", "datetime")
        shown = page.inner_text(".history time >> nth=0")
        assert at is not None
        assert int(shown[-8:-6]) == (int(at[11:13]) + 9) % 24
        # a row whole has an address of its own, and Escape leads back
        page.click("nav >> text=Rows")
        tab.wait("document.querySelectorAll('.rows tbody tr').length > 0")
        page.select_option("#status", "done")
        page.fill("#q", "castle")
        tab.wait("document.querySelector('.rows tbody th a')?.href.includes('q=castle')")
        first = page.inner_text(".rows tbody th a >> nth=0")
        page.click(".rows tbody th a >> nth=0")
        tab.wait("document.querySelector('dialog[open] article') !== null")
        assert f"row={first}" in page.url
        prompt = next(one["prompt"] for one in rows if one["id"] == first)
        assert prompt in (page.text_content("dialog .long >> nth=0") or "")
        page.keyboard.press("Escape")
        tab.wait("document.querySelector('dialog[open]') === null && !location.hash.includes('row=')")
        # Stop asks first
        page.click("button:text-is('Stop…')")
        page.click("dialog >> text=Stop the run")
        assert run.ended().code == 130
        tab.wait(f"{STATE} === 'interrupted'")
        page.click("nav >> text=Overview")
        tab.wait("document.querySelectorAll('.curve').length > 3")
        tab.wait("document.querySelectorAll('.answer[data-state=open]').length === 0")
        # the colours are remembered, in other tabs too
        assert page.get_attribute("#theme", "aria-pressed") == "false"
        page.click("#theme")
        page.reload()
        other = Tab(context, f"{web.base}#/")
        for one in (tab, other):
            assert one.page.evaluate("document.documentElement.dataset.theme") == "dark"
            assert one.page.get_attribute("#theme", "aria-pressed") == "true"
        # what is left is sent by a process of its own, after its number and price were said; then that is killed
        page.click("button:text-is('Resume…')")
        left = stored(tmp_path / "runner.db", "SELECT 30 - count(*) FROM items")[0][0]
        tab.wait("document.querySelector('dialog.ask')")
        assert page.inner_text("dialog.ask h2") == "Resume this run?"
        assert f"sends {left} rows of run 1 that are left; what that costs is not known" in page.inner_text("dialog.ask p")
        page.keyboard.press("Escape")
        tab.wait("document.querySelector('dialog.ask') === null")
        assert page.evaluate("document.activeElement.textContent") == "Resume…"
        page.keyboard.press("Enter")
        page.click("dialog button:text-is('Resume')")
        process = int(tab.wait("/in process (\\d+)/.exec(document.querySelector('.toast')?.textContent ?? '')?.[1]"))
        try:
            tab.wait(f"{STATE} === 'running' && {OPEN}.length > 0")
        finally:
            os.kill(process, signal.SIGKILL)
        tab.wait(f"{STATE} === 'process gone'")
        assert "has ended without a word" in page.inner_text(".reason")
        tab.wait("document.querySelectorAll('.answer[data-state=open]').length === 0")
        other.wait("document.querySelector('tbody .state').textContent === 'process gone'")
        page.reload()
        tab.wait(f"{STATE} === 'interrupted'")
        assert page.is_visible("button:text-is('Resume…')")
        assert [*tab.said, *other.said] == []


def test_a_finished_run_says_what_a_retry_sends_and_a_store_that_is_deleted_is_missed(browser: Any, tmp_path: Path) -> None:
    rows = [done("a", 1, usage=Usage(input_tokens=3, output_tokens=4)), failed("b", 2), failed("c", 3), broken("d", 4)]
    with ThreadPoolExecutor() as pool:
        # the browser has the event loop of this thread
        store = pool.submit(filled, tmp_path / "runner.db", *rows).result()
    (tmp_path / "p.jsonl").write_text("")
    with closing(sqlite3.connect(store)) as driver, driver:
        driver.execute("UPDATE runs SET rows = 4, finished_at = created_at + 9")
        driver.execute("UPDATE prices SET input = 1e6, cached_input = 1e6, cache_write = 1e6, cache_write_1h = 1e6")
        driver.execute("UPDATE prices SET output = 1e6, reasoning = 1e6")
        driver.execute("UPDATE items SET error = 'proxy: it hung up' WHERE key = 'c'")
    with served(store) as web, closing(browser.new_context()) as context:
        tab = Tab(context, f"{web.url}/?token={TOKEN}#/")
        page = tab.page
        tab.wait("document.querySelector('tbody .state')?.textContent === 'finished'")
        assert page.inner_text("[data-name=cost]") == "$0.000007"
        page.click("tbody th a")
        tab.wait(f"{STATE} === 'finished'")
        assert not page.query_selector("button:text-is('Resume…')")
        page.click("button:text-is('Retry failed…')")
        tab.wait("document.querySelector('dialog.ask')")
        assert page.inner_text("dialog.ask h2") == "Send 3 rows again?"
        assert page.inner_text("dialog.ask p").startswith("It sends 3 rows of run 1 again; about $0.000021")
        page.click("dialog >> text=Cancel")
        tab.wait("document.querySelector('dialog.ask') === null")
        # of two causes with one code, each sends its own rows
        page.click("nav >> text=Errors")
        tab.wait("document.querySelectorAll('.cause').length === 3")
        page.click("button:text-is('Retry these…') >> nth=0")
        tab.wait("document.querySelector('dialog.ask h2')?.textContent === 'Send 1 row again?'")
        page.keyboard.press("Escape")
        # a row, and what each of its attempts has cost
        page.goto(f"{web.url}/#/runs/1/rows?row=a")
        tab.wait("document.querySelector('dialog[open] article')")
        assert [page.inner_text(f"dialog {at}") for at in (".facts div:nth-child(6) dd", "td:last-child")] == ["$0.000007"] * 2
        store.unlink()
        page.goto(f"{web.url}/#/runs/1/rows")
        page.reload()
        tab.wait("document.querySelector('.problem:not([hidden])')?.textContent === 'There is no run 1.'")
        page.goto(f"{web.url}/#/")
        tab.wait("document.querySelector('.empty')?.textContent.startsWith('There is no run in this store yet.')")
        assert [said for said in tab.said if "404" not in said] == []


def test_hostile_answers_ids_and_names_run_nothing_and_every_view_can_be_used_by_all(browser: Any, tmp_path: Path) -> None:
    nasty = (
        *HOSTILE,
        "w" * 30_000,
        "\u202e" * 50 + "\u0301" * 500,
        "style='position:fixed;inset:0'",
        '{"a": "<img src=x onerror=window.hurt=1>"}',
    )
    rows = [
        {"id": f"{text[:200]}{row}", "prompt": f"{text} {'<b> ' * 300}", text[:40]: text[:99]}
        for row, text in enumerate(nasty * 2)
    ]
    folder = tmp_path / "<img src=x onerror=window.hurt=1>"
    folder.mkdir()
    with (
        running(folder, rows, "--concurrency", "4", "--model", HOSTILE[1], speed={"echo": True, "chunk_s": 0.3}),
        Served(folder) as web,
    ):
        with closing(browser.new_context(viewport={"width": 360, "height": 800})) as context:
            tab = Tab(context, f"{web.url}#/runs/1")
            tab.wait(f"{OPEN}.length > 2")
            for view in VIEWS:
                tab.page.goto(f"{web.base}#/runs/1{view}")
                tab.page.wait_for_timeout(500)
                assert_harmless(tab)
            tab.page.goto(f"{web.base}#/")
            tab.wait("document.querySelectorAll('tbody tr').length > 0")
            assert_harmless(tab)
            tab.page.goto(f"{web.base}#/runs/1")
            tab.page.click(".answer .id >> nth=0")
            tab.wait("document.querySelector('dialog[open] .growing')?.textContent.length > 20")
            assert_harmless(tab)
            assert tab.said == []
        for scheme in ("light", "dark"):
            # the policy of the page forbids the script of the tool as well
            with closing(browser.new_context(color_scheme=scheme, bypass_csp=True)) as context:
                tab = Tab(context, web.url)
                for view in ("#/", *(f"#/runs/1{view}" for view in VIEWS)):
                    tab.page.goto(f"{web.base}{view}")
                    tab.page.wait_for_timeout(500)
                    assert_accessible(tab)


def assert_harmless(tab: Tab) -> None:
    assert tab.page.evaluate("window.hurt") is None
    assert (
        tab.page.evaluate(
            "document.querySelectorAll('img, iframe, object, embed, base, b b, [onclick], [onerror], [style*=fixed]').length"
        )
        == 0
    )
    assert "\u202e" not in tab.page.content()
    assert tab.page.evaluate("document.documentElement.scrollWidth") <= 360
    # no part of a run is off the edge
    assert tab.page.evaluate("[...document.querySelectorAll('.tabs')].every((one) => one.scrollWidth <= one.clientWidth)")


def assert_accessible(tab: Tab) -> None:
    found = Axe().run(tab.page).response["violations"]
    assert [(one["id"], [node["target"] for node in one["nodes"]][:3]) for one in found] == []


READ = """async (stream) => {
    const { EventDecoder } = await import("/static/runner-stream.js");
    const bytes = new TextEncoder().encode(stream);
    return [1, 2, 3, 7, 1000].map((size) => {
        const parser = new EventDecoder();
        const starts = Array.from({ length: Math.ceil(bytes.length / size) }, (_, at) => at * size);
        return starts.flatMap((at) => parser.push(bytes.slice(at, at + size))).map(({ id, event, data }) => [id, event, data]);
    });
}"""
"""Read a stream in pieces of so many bytes."""
BEGIN = """async (text) => {
    const { partial } = await import("/static/partial.js");
    const plain = (one) => {
        if (one instanceof Map) return Object.fromEntries([...one].map(([name, of]) => [name, plain(of)]));
        return Array.isArray(one) ? one.map(plain) : one ?? null;
    };
    const begins = Array.from({ length: text.length }, (_, at) => text.slice(0, at + 1));
    return begins.map((begin) => JSON.stringify(plain(partial(begin)?.value)));
}"""
"""Read each beginning of a text as JSON."""
FLOOD = """async () => {
    const { take, lives } = await import("/static/app.js");
    const of = { attempt: 1, answer_number: 1, model: "m", line: 1, since: Date.now() / 1000, kind: "text" };
    const answers = Array.from({ length: 1000 }, (_, at) => ({ ...of, id: `x${at}` }));
    const next = () => new Promise((done) => requestAnimationFrame(done));
    take({ kind: "open", run: 1, data: { answers } });
    for (let round = 0; round < 20; round++) {
        const pieces = answers.map(({ id }) => ({ ...of, id, at: round * 10, text: "wörd 😀 abc" }));
        take({ kind: "text", run: 1, data: { pieces } });
        await next();
    }
    const long = lives.get(1).answers.get("1 x3");
    for (let round = 0; round < 50; round++) {
        const piece = { ...of, id: "x3", at: long.text.length, text: "y".repeat(20000) };
        take({ kind: "text", run: 1, data: { pieces: [piece] } });
    }
    await next();
    const elements = document.querySelectorAll("*").length;
    return [long.text.length, lives.get(1).open, elements, document.body.innerText.length];
}"""
"""Open a thousand answers that grow, one of them to a megabyte."""

ENDED = """async (finished) => {
    const { facts } = await import("/static/facts.js");
    const stored = { rows: 10, answers: 1, done: 3, failed: 0, active: true };
    const { state, done, failed, left } = facts(stored, null, { known: true, finished });
    return [state, done, failed, left];
}"""
"""What is shown of a run of which the store said less than its session did with its last word."""
BESIDE = """async (books) => {
    const { besideCost, facts } = await import("/static/facts.js");
    return books.map((one) => besideCost(facts({ finished_at: 1, rows: 1, answers: 1 }, one, null)));
}"""
"""What stands beside the cost of runs that are over. books: of each."""


def test_streams_and_unfinished_json_are_read_and_a_thousand_answers_are_few_elements(browser: Any, tmp_path: Path) -> None:
    value = {"a": [1, 2.5, {"b": 'x\n"\U0001f600é\\'}], "c": None, "d": True, "e": ""}
    whole, escaped = json.dumps(value, ensure_ascii=False), json.dumps(value)
    stream = f"id: 1-2\r\nevent: a\r\ndata: {whole}\r\ndata: y\r\n\r\n: ping\n\nid: 1-3\ndata: z\n\n"
    with (
        running(tmp_path, long_rows(8, words=600), "--concurrency", "2"),
        Served(tmp_path) as web,
        closing(browser.new_context()) as context,
    ):
        tab = Tab(context, f"{web.url}#/runs/1")
        tab.wait(f"{OPEN}.length > 0")
        assert tab.page.evaluate(READ, stream) == [[["1-2", "a", f"{whole}\ny"], ["1-3", "message", "z"]]] * 5
        for text in (whole, escaped):
            begins = tab.page.evaluate(BEGIN, text)
            # what is known only grows, no half of a character is ever shown, and the end is what JSON says
            assert json.loads(begins[-1]) == value
            assert "\\ud" not in "".join(begins)
            sizes = [len(json.loads(begin).get("a") or []) for begin in begins]
            assert sizes == sorted(sizes)
        books = [{"cost": 1.0, "cost_perhaps": more} for more in (None, 0.25, 0.0)] + [{"cost": None, "cost_perhaps": None}]
        beside = ["perhaps more: answers had no limit", "perhaps $0.25 more", "", "no price is known"]
        assert tab.page.evaluate(BESIDE, books) == beside
        assert tab.page.evaluate(ENDED, {"finished": True, "done": 9, "failed": 1}) == ["finished", 9, 1, 0]
        length, opened, elements, characters = tab.page.evaluate(FLOOD)
        assert length == 20 * 10 + 50 * 20_000
        assert opened > 1000
        # a page of a run with its charts is some 500 elements, and what is seen of an answer is its end
        assert elements < 1000
        assert characters < 30_000
        assert tab.said == []
        # a document without timers and requests of its own
        tab.page.goto(f"{web.base}static/sse.js")
        assert_streams_come_back(tab)
        assert_a_session_is_added_up(tab)


SOURCE = """async (replies) => {
    const { Source } = await import("/static/sse.js");
    const { Hub } = await import("/static/hub.js");
    const real = [globalThis.fetch, globalThis.setTimeout];
    const stream = (text) => new Response(new ReadableStream({
        start: (to) => { to.enqueue(new TextEncoder().encode(text)); to.close(); },
    }));
    const never = (signal) => new Response(new ReadableStream({
        start: (to) => signal.addEventListener("abort", () => to.error(new Error("silent"))),
    }));
    const run = async (begin) => {
        const left = [...replies], asked = [], waits = [], links = [];
        globalThis.setTimeout = (act, ms) => {
            // the silence after which a connection counts as dead
            if (ms > 10000 && left[0] !== "silent") return 0;
            waits.push(ms);
            return real[1].call(globalThis, act, 0);
        };
        globalThis.fetch = async (url, { headers, signal }) => {
            asked.push(headers["Last-Event-ID"] ?? null);
            const reply = left.shift();
            if (reply === "gone") throw new TypeError("no network");
            if (reply === "silent") return never(signal);
            return typeof reply === "number" ? new Response("", { status: reply }) : stream(reply);
        };
        await new Promise((done) => begin((link) => { links.push(link.state); if (link.state === "refused") done(); }));
        return [asked, waits, links, left.length];
    };
    try {
        let told = [];
        const source = await run((linked) => new Source("/x", "proof", (event) => told.push(event.data), linked));
        const hub = await run((linked) => new Hub("/x", "proof").join(({ link }) => link && linked(link)));
        return { source, told, asked: hub[0] };
    } finally { [globalThis.fetch, globalThis.setTimeout] = real; }
}"""
"""Read a stream whose server answers so: with events, a status, nothing ever ("silent"), or not at all ("gone")."""
LIVE = """async () => {
    const { Live, Grown } = await import("/static/live.js");
    const { Hub } = await import("/static/hub.js");
    const { facts } = await import("/static/facts.js");
    const text = new Grown();
    const pieces = [[0, "a\N{GRINNING FACE}b"], [3, "c"], [5, "late"], [2, "x"], [0, "new"]];
    const added = pieces.map(([at, piece]) => [text.add(at, piece), text.text]);
    const live = new Live(1), of = { id: "a", answer_number: 1, attempt: 1 };
    const piece = (attempt, at, words) => ({ ...of, attempt, at, kind: "text", text: words });
    const answer = () => [live.answers.get("1 a").text.text, live.open, live.answers.size];
    const seen = [];
    live.take("state", { session: 1, notes: ["n"], answers: [] });
    live.take("open", { answers: [of] });
    live.take("text", { pieces: [piece(1, 0, "one")] });
    live.take("open", { answers: [{ ...of, attempt: 2 }] });
    // what comes late of an attempt that is over
    live.take("text", { pieces: [piece(1, 3, "old"), piece(2, 0, "two")] });
    live.take("closed", { answers: [of] });
    seen.push(answer());
    live.take("closed", { answers: [{ ...of, attempt: 2 }] });
    seen.push(live.take("text", { pieces: [piece(2, 9, "behind its end")] }), answer());
    live.answers.get("1 a").closed.at -= 60000;
    live.forget();
    seen.push(live.answers.size);
    live.take("note", { note: "m" });
    live.take("progress", { pace: { at: 5 }, in_flight: 2 });
    live.take("state", { session: 1, notes: ["n", "m"], answers: [] });
    seen.push([live.notes, live.samples]);
    live.take("state", { session: 2, notes: [], answers: [] });
    seen.push([live.notes, live.samples]);
    const { done, failed, left } = facts({ rows: 5, answers: 2, done: 3, failed: 2, finished_at: null }, null, undefined);
    return { added, seen, rows: [done, failed, left] };
}"""
"""Add up the frames of a session, and count the rows of a run of which only the store tells."""


def assert_streams_come_back(tab: Tab) -> None:
    """A stream comes back after 1, 2, 4, 8, 8 s, and after 1 s again once something has come; behind what was taken."""

    def event(kind: str, own: str = "", **data: Any) -> str:
        return f"{f'id: {own}' if own else ': ping'}\nevent: {kind}\ndata: {json.dumps(data)}\n\n"

    state = event("state", "1-1-5", run=1, session=1, answers=[])
    gap = event("text", "1-1-7", run=1, pieces=[]) + event("open", run=1, answers=[{"id": "a", "attempt": 1}])
    missing = event("text", "1-1-9", run=1, pieces=[{"id": "a", "attempt": 1, "kind": "text", "at": 3, "text": "x"}])
    replies = [*["gone"] * 5, 500, state, "gone", "silent", state + gap, "gone", gap + missing, "gone", state, 401, "left"]
    found = tab.page.evaluate(SOURCE, replies)
    asked, waits, links, left = found["source"]
    assert asked == [*[None] * 7, *["1-1-5"] * 3, *["1-1-7"] * 2, *["1-1-9"] * 2, "1-1-5"]
    assert waits == [1000, 2000, 4000, 8000, 8000, 8000, 1000, 2000, 45000, 4000, 1000, 2000, 1000, 2000, 1000]
    assert (links[0], links[-1], left) == ("connecting", "refused", 1)
    assert links.count("open") == 5
    # where something is missing, the one stream of all tabs begins anew
    assert found["asked"][11:] == ["1-1-7", None, None, "1-1-5"]


def assert_a_session_is_added_up(tab: Tab) -> None:
    found = tab.page.evaluate(LIVE)
    texts = [[True, "a\U0001f600b"], [True, "a\U0001f600bc"], [False, "a\U0001f600bc"], [True, "a\U0001f600x"], [True, "new"]]
    assert found["added"] == texts
    assert found["seen"] == [["two", 1, 1], True, ["two", 0, 1], 0, [["n", "m"], [[5, 2]]], [[], []]]
    assert found["rows"] == [3, 2, 5]
