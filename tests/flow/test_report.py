"""``runner report``: one page, written by the real command and opened in a real browser."""

import json
import re
import shutil
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from axe_playwright_python.sync_playwright import Axe
from browsing import Opened, chromium
from msgspec import structs
from processes import run
from reported import HOSTILE, SETTINGS, entries, stored

import runner as api
from runner import event_types
from runner.model import Outcome, Usage
from runner.session import called

ROWS = 200
MOST_BYTES = 300_000


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store with two runs: one in which all went on, and one over the same rows with another model."""
    path = tmp_path_factory.mktemp("store") / "runner.db"
    stored(path, entries(ROWS))
    return stored(path, entries(ROWS, seed=1), {**SETTINGS, "model": "other"}, rows=ROWS + 50)


@pytest.fixture(scope="module")
def one(store: Path) -> Path:
    path = store.parent / "one.html"
    assert api.report(path, run_ids=[1], db=store) == [1]
    return path


@pytest.fixture(scope="module")
def both(store: Path) -> Path:
    path = store.parent / "both.html"
    assert api.report(path, run_ids=[1, 2], db=store) == [1, 2]
    return path


@pytest.fixture(scope="module")
def lone(store: Path) -> Path:
    """A page of a run with one row."""
    db, path = store.parent / "lone.db", store.parent / "lone.html"
    stored(db, [next(one for one in entries(9) if isinstance(one, Outcome) and one.status == "done")])
    api.report(path, db=db)
    return path


@pytest.fixture(scope="module")
def cut(store: Path) -> Path:
    """A page of a run with one row, that failed with a code of many letters, a long word and an option in its advice."""
    db, path = store.parent / "cut.db", store.parent / "cut.html"
    one = next(one for one in entries(99) if isinstance(one, Outcome) and one.error_code == "truncated")
    assert one.attempt is not None
    why = {"error_code": "unsupported_parameter", "error": "y" * 250}
    stored(db, [structs.replace(one, **why, attempt=structs.replace(one.attempt, **why))])
    api.report(path, db=db)
    return path


@pytest.fixture(scope="module")
def browser(one: Path, both: Path, lone: Path, cut: Path) -> Iterator[Any]:
    # the pages come first: no other event loop can run in this thread as long as the browser is driven from it
    with chromium() as found:
        yield found


def test_the_command_writes_the_newest_run_to_report_html(store: Path, tmp_path: Path) -> None:
    ended = run("report", "--db", str(store), cwd=tmp_path)
    assert (ended.code, ended.err) == (0, "")
    assert ended.out == "the report of run 2 is in report.html\n"
    assert "<title>Report of run 2: p.jsonl</title>" in (tmp_path / "report.html").read_text()


def test_the_command_writes_to_standard_output(store: Path, tmp_path: Path) -> None:
    ended = run("report", "1", "2", "-o", "-", "--db", str(store), cwd=tmp_path)
    assert (ended.code, ended.err) == (0, "")
    assert ended.out.startswith("<!DOCTYPE html>")
    assert ended.out.rstrip().endswith("</html>")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        (("3",), "there is no run 3"),
        (("1", "1"), "a run is named twice"),
        (("-o", "runner.db"), "belongs to the store"),
        (("-o", "kept.jsonl"), "which the export would replace"),
        (("-o", "missing/report.html"), "its folder does not exist"),
        (("nothing.csv",), "is none of these"),
    ],
)
def test_what_no_report_can_be_is_refused(store: Path, words: tuple[str, ...], reason: str) -> None:
    kept = store.parent / "kept.jsonl"
    kept.write_text('{"prompt": "a"}\n')
    ended = run("report", *words, cwd=store.parent)
    assert (ended.code, ended.out) == (2, "")
    assert reason in ended.err
    assert kept.read_text() == '{"prompt": "a"}\n'


def test_a_report_of_a_store_without_runs_is_refused(tmp_path: Path) -> None:
    ended = run("report", cwd=tmp_path)
    assert ended.code == 2
    assert "there is no store" in ended.err
    assert not list(tmp_path.iterdir())


def test_a_page_of_200_rows_is_small(one: Path) -> None:
    assert one.stat().st_size < MOST_BYTES


def test_a_page_has_no_key_and_no_folder_of_this_machine(both: Path) -> None:
    text = both.read_text()
    assert "not-a-real-key" not in text
    assert "somebody" not in text
    assert str(both.parent) not in text


def test_figures_in_a_page_are_those_of_status(store: Path, one: Path, both: Path) -> None:
    told, totals = api.status(1, db=store)
    text = one.read_text()
    (cost, perhaps) = re.findall(
        r"cost +(\$[\d.]+)[;,].*?perhaps up to (\$[\d.]+) more", run("status", "1", cwd=store.parent).out
    )[0]
    assert re.search(rf"requests in [\d.a-z ]+, for \{cost}, perhaps up to \{perhaps} more\.</p>", text)
    assert f'<b>{cost}</b><span class="soft">perhaps up to {perhaps} more</span>' in text
    assert f'perhaps more</th><td class="number">{perhaps}</td>' in both.read_text()
    assert f"{told.done:,} of {ROWS} rows done, {told.failed:,} failed, with {totals.attempts:,} requests" in text
    for code, count in told.causes.items():
        assert re.search(rf'<span class="code">{code}</span></th><td [^>]*class="number"[^>]*>{count:,}</td>', text)


@pytest.mark.parametrize(
    ("reason", "state", "told"),
    [
        ("no connection to http://127.0.0.1:9/v1 (Connection refused)", "interrupted", True),
        ("stopped by Ctrl-C", "interrupted", True),
        # parts of addresses are no folders
        ("404: unknown path /v1/v1/messages; it answers POST /v1/messages", "interrupted", True),
        (event_types.LIMITED, "limited", True),
        (None, "interrupted", False),
    ],
)
def test_why_a_run_stopped_is_said_in_the_words_of_status(tmp_path: Path, reason: str | None, state: str, told: bool) -> None:
    db, page = stored(tmp_path / "runner.db", entries(4), rows=9), tmp_path / "report.html"
    with closing(sqlite3.connect(db)) as connection, connection:
        connection.execute("UPDATE runs SET stop_reason = ?", (reason,))
    api.report(page, db=db)
    words = run("status", cwd=tmp_path).out
    text = page.read_text()
    assert f"run 1: {state}\n" in words
    assert re.search(rf'<span class="state fill-\w+">{state}</span>', text)
    assert ("Stopped: " in text) == ("  stopped  " in words) == told
    if reason is not None:
        sentence = reason.removeprefix("stopped ")
        assert f"Stopped: {sentence}\n" in re.sub("<[^>]+>", "", text)
        assert f"  stopped       {sentence}\n" in words


def test_commands_of_a_report_name_its_run_and_no_folder(tmp_path: Path) -> None:
    db, page = stored(tmp_path / "other.db", entries(40), rows=50), tmp_path / "report.html"
    with closing(sqlite3.connect(db)) as connection, connection:
        reason = "the budget of 1 is reached: continue with `runner run '/home/some body/p.jsonl' --max-cost 2`."
        connection.execute("UPDATE runs SET stop_reason = ?, input = '/home/some body/p.jsonl'", (reason,))
    api.report(page, db=db)
    text = re.sub("</?span[^>]*>", "", page.read_text())
    assert "<code>runner run &#39;p.jsonl&#39; --max-cost 2</code>" in text
    assert "<code>runner retry 1 --db other.db</code>" in text
    assert "some body" not in text


def test_what_to_do_about_failures_has_the_commands_of_errors(tmp_path: Path) -> None:
    db, page = stored(tmp_path / "other.db", entries(60)), tmp_path / "report.html"
    api.report(page, db=db)
    commands = re.findall(r"command +(runner retry .+)", run("errors", "--db", "other.db", cwd=tmp_path).out)
    assert len(commands) == 3
    text = re.sub("</?span[^>]*>", "", page.read_text())
    assert all(f"To send them again: <code>{command}</code>." in text for command in commands)


@pytest.mark.parametrize(("elapsed_s", "requests"), [(9.0, 60), (11.0, 49), (11.0, 60)])
def test_a_ledger_is_shown_where_status_shows_it(tmp_path: Path, elapsed_s: float, requests: int) -> None:
    db, page = stored(tmp_path / "runner.db", entries(4)), tmp_path / "report.html"
    time = {"answering_s": 50.0, "total_s": 50.0, "causes": {"answering": 50.0}, "elapsed_s": elapsed_s, "requests": requests}
    with closing(sqlite3.connect(db)) as connection, connection:
        names = "run_id, began_at, noted_at, ended_at, time, timeline"
        connection.execute(f"INSERT INTO sessions ({names}) VALUES (1, 1.0, 2.0, 2.0, ?, '[]')", (json.dumps(time),))
    api.report(page, db=db)
    shown = elapsed_s == 11 and requests == 60
    assert ("100 % answering" in run("status", cwd=tmp_path).out) == shown
    assert ("what a slot did" in page.read_text()) == shown
    assert ("Shares of less than 10 seconds or 50 requests are chance" in page.read_text()) != shown


def test_two_runs_say_how_far_they_agree(store: Path, both: Path) -> None:
    found = api.compare(1, 2, db=store)
    told = (
        f"{found.rows} rows in common, {found.same + found.changed} answered by both; {found.same} of these answers are the same."
    )
    assert told in both.read_text()
    assert found.fields["mood"].same > 0
    assert f'<span class="code">mood</span></th><td class="number">{found.fields["mood"].same}</td>' in both.read_text()


def test_runs_side_by_side_are_told_apart_by_their_names_and_by_what_differs(tmp_path: Path) -> None:
    db, page, long = tmp_path / "runner.db", tmp_path / "report.html", "Judge this review with care. " * 20
    for number, prompt in enumerate((f"{long}Be brief.", f"{long}Be kind.", f"{long}Be kind.")):
        stored(db, entries(3), {**SETTINGS, "model": "m", "prompt": prompt, "max_tokens": 60 if number < 2 else 90})
    called.name(2, "pilot", db=db)
    called.tag(2, ["lang=de"], db=db)
    api.report(page, run_ids=["pilot", 1, 3], db=db)
    text = page.read_text()
    table = text.partition("<caption>The runs side by side")[2].partition("</table>")[0]
    found = re.findall(r'<tr><th scope="row"><span class="code">(\w+)</span></th>(.*?)</tr>', table)
    values = {name: re.findall('<span class="code">([^<]*)</span>', row) for name, row in found}
    assert values["max_tokens"] == ["60", "60", "90"]
    # where texts begin alike, the part in which they differ is shown
    assert [one[-9:] for one in values["prompt"]] == [" Be kind.", "Be brief.", " Be kind."]
    assert '<th scope="col" class="number">run 2, pilot</th>' in table
    assert "<span>run 2, <b>pilot</b></span>" in text
    assert '<span class="code">lang=de</span>' in text
    assert text.count("<h3>Run 2, pilot: m</h3>") == text.count("<h3>Run 1: m, prompt ") >= 8
    assert "<title>Report of runs 2 (pilot) and 1 and 3: p.jsonl</title>" in text


def test_charts_of_the_same_measure_have_one_scale_and_say_when_it_is_logarithmic(store: Path, tmp_path: Path) -> None:
    usage = Usage(input_tokens=20, output_tokens=5)
    quick = [
        structs.replace(one, attempt=structs.replace(one.attempt, duration_s=0.42, time_to_first_token_s=0.4, usage=usage))
        for one in entries(30, seed=2)
        if isinstance(one, Outcome) and one.status == "done" and one.attempt is not None
    ]
    db = shutil.copy(store, tmp_path / "runner.db")
    stored(db, [*quick])
    for numbers in ([3], [1, 3]):
        api.report(tmp_path / "report.html", run_ids=numbers, db=db)
        text = (tmp_path / "report.html").read_text()
        (data,) = re.findall(r'id="figures">(.*?)</script>', text, re.DOTALL)
        charts = json.loads(data)["charts"]
        for measure in ("first", "between", "whole", "input", "output"):
            assert len({tuple(charts[f"{measure}-{place}"]["edges"]) for place in range(len(numbers))}) == 1
        titles = re.findall(r"<h4>([^<]+)</h4>\s*<p [^>]*>[^<]*The axis is logarithmic", text)
        assert titles.count("Time from token to token") == (0 if len(numbers) == 1 else 2)


def test_no_script_and_no_request_but_those_of_the_page(browser: Any, both: Path) -> None:
    with Opened(browser, both) as opened:
        page = opened.page
        assert (opened.said, opened.asked) == ([], [both.as_uri()])
        # every text that is hostile is shown as it is
        assert page.evaluate("window.hurt") is None
        assert page.evaluate("document.querySelectorAll('img, iframe, object, embed, base, form').length") == 0
        assert page.evaluate("document.querySelectorAll('script').length") == 3
        shown = page.inner_text("body")
        assert HOSTILE[0] in shown
        assert HOSTILE[3] in shown
        assert "\u202e" not in page.content()
        # nothing that a script tries gets out
        blocked = page.evaluate("fetch('https://models.test/').then(() => 'sent', () => 'blocked')")
        assert blocked == "blocked"
        assert any("Content Security Policy" in said for said in opened.said)


def test_every_chart_is_drawn_and_has_a_table(browser: Any, both: Path) -> None:
    with Opened(browser, both) as opened:
        charts = opened.page.query_selector_all("[data-chart]")
        assert len(charts) >= 2 * 9
        for chart in charts:
            assert chart.query_selector("canvas") is not None
            assert chart.query_selector("details table tbody tr") is not None
            assert chart.query_selector("details table caption") is not None
        # what is drawn: some points of the canvas have a colour
        painted = """() => [...document.querySelectorAll('.plot canvas')].every((canvas) =>
            canvas.getContext('2d').getImageData(0, 0, canvas.width, canvas.height).data.some((value) => value !== 0))"""
        assert opened.page.evaluate(painted)


def test_a_chart_is_read_with_the_keyboard(browser: Any, one: Path) -> None:
    with Opened(browser, one) as opened:
        page = opened.page
        # the first stop of the page is the link to its content
        page.keyboard.press("Tab")
        assert page.evaluate("document.activeElement.className") == "skip"
        plot = page.locator("[data-chart=ended-0] .plot")
        plot.focus()
        readout = page.locator("[data-chart=ended-0] .readout")
        page.keyboard.press("Home")
        first = readout.inner_text()
        page.keyboard.press("ArrowRight")
        second = readout.inner_text()
        # as the table has it, of which no two rows have the same time
        times = page.locator("[data-chart=ended-0] time").all_text_contents()
        assert first.startswith(f"{times[0]}: answers ")
        assert second.startswith(f"{times[1]}: answers ")
        assert len(set(times)) == len(times)
        assert first != second
        page.keyboard.press("Escape")
        assert readout.inner_text() == ""


def test_no_width_makes_a_page_scroll_sideways(browser: Any, one: Path, both: Path) -> None:
    for file in (one, both):
        with Opened(browser, file, viewport={"width": 320, "height": 800}) as opened:
            for width in (320, 390, 800, 1600):
                opened.page.set_viewport_size({"width": width, "height": 800})
                assert opened.page.evaluate("document.documentElement.scrollWidth") <= width


def test_light_and_dark_follow_the_reader(browser: Any, one: Path) -> None:
    background = "getComputedStyle(document.body).backgroundColor"
    with Opened(browser, one, color_scheme="light") as opened:
        light = opened.page.evaluate(background)
        assert _bars_are_painted(opened.page)
        opened.page.click("#theme")
        switched = opened.page.evaluate(background)
        assert _bars_are_painted(opened.page)
    with Opened(browser, one, color_scheme="dark") as opened:
        dark = opened.page.evaluate(background)
        assert opened.page.get_attribute("#theme", "aria-pressed") == "true"
    assert light != dark
    assert switched == dark


def _bars_are_painted(page: Any) -> bool:
    """Return True if a chart of bars has the colour that bars of answers have now."""
    return bool(
        page.evaluate(
            """() => {
                const canvas = document.querySelector("[data-chart=ended-0] canvas");
                const wanted = getComputedStyle(document.documentElement).getPropertyValue("--done").trim();
                const { data } = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height);
                const hex = (at) => `#${[0, 1, 2].map((part) => data[at + part].toString(16).padStart(2, "0")).join("")}`;
                for (let at = 0; at < data.length; at += 4) if (data[at + 3] === 255 && hex(at) === wanted) return true;
                return false;
            }"""
        )
    )


def test_times_are_those_of_the_reader_and_of_utc(browser: Any, one: Path) -> None:
    with Opened(browser, one, timezone_id="Asia/Tokyo", locale="en-US") as opened:
        first = opened.page.locator("time").first
        at = first.get_attribute("datetime")
        assert at is not None
        local = first.inner_text()
        opened.page.click("#zone")
        universal = first.inner_text()
    assert universal == at[:19].replace("T", " ") + " UTC"
    assert local.endswith("GMT+9")
    assert local[:16] != universal[:16]


def test_tables_need_no_script(browser: Any, one: Path) -> None:
    with Opened(browser, one, java_script_enabled=False) as opened:
        page = opened.page
        assert page.locator("#latency table").last.is_visible()
        page.locator("[data-chart=ended-0] summary").click()
        assert page.locator("[data-chart=ended-0] table").is_visible()
        assert not page.locator("[data-chart=ended-0] .plot").is_visible()
        assert not page.locator(".switches").is_visible()
        # each card says why there is nothing else in it
        charts = page.locator("[data-chart]")
        assert charts.count() >= 9
        assert all("The chart needs JavaScript" in text for text in charts.all_inner_texts())


def test_a_page_has_no_faults_that_axe_finds(browser: Any, one: Path, both: Path) -> None:
    for file, scheme in ((one, "light"), (both, "dark")):
        # the policy of the page forbids the script of the tool as well
        with Opened(browser, file, color_scheme=scheme, bypass_csp=True) as opened:
            opened.page.locator("summary").first.click()
            found = Axe().run(opened.page).response["violations"]
        assert [(one["id"], [node["target"] for node in one["nodes"]][:3]) for one in found] == []


def test_runs_side_by_side_fit_a_phone(browser: Any, both: Path) -> None:
    with Opened(browser, both, viewport={"width": 360, "height": 800}) as opened:
        assert _too_wide(opened.page, "#side > .card") == []


def _too_wide(page: Any, within: str) -> list[str]:
    """Return the tables of which a part is out of sight."""
    found: list[str] = page.evaluate(
        f"[...document.querySelectorAll('{within} .scroll')]"
        ".filter((one) => one.scrollWidth > one.clientWidth).map((one) => one.ariaLabel)"
    )
    return found


def test_sentences_of_a_table_stand_below_its_figures_on_a_phone(browser: Any, one: Path) -> None:
    with Opened(browser, one, viewport={"width": 390, "height": 844}) as opened:
        page = opened.page
        heights = page.evaluate(
            "[...document.querySelectorAll('#ledger tbody tr, #failures tbody tr')].map((row) => row.offsetHeight)"
        )
        widths = page.evaluate("[...document.querySelectorAll('.told td.text')].map((cell) => cell.offsetWidth)")
        assert _too_wide(page, "#ledger") == _too_wide(page, "#failures") == []
        assert heights
        assert min(width for width in widths if width) > 300


def test_a_bar_reaches_the_line_of_its_only_value(browser: Any, lone: Path) -> None:
    with Opened(browser, lone) as opened:
        bar, line = opened.page.evaluate(
            """() => {
                const canvas = document.querySelector("[data-chart=whole-0] canvas");
                const style = getComputedStyle(document.documentElement);
                const { data } = canvas.getContext("2d").getImageData(0, 30, canvas.width, 140);
                const hex = (at) => `#${[0, 1, 2].map((part) => data[at + part].toString(16).padStart(2, "0")).join("")}`;
                const places = (name) => {
                    const wanted = style.getPropertyValue(`--${name}`).trim(), found = [];
                    for (let at = 0; at < data.length; at += 4)
                        if (data[at + 3] === 255 && hex(at) === wanted) found.push((at / 4) % canvas.width);
                    return [Math.min(...found), Math.max(...found)];
                };
                return [places("four"), places("ink")];
            }"""
        )
        assert bar[0] - 4 <= line[0] <= line[1] <= bar[1] + 4
        assert bar[1] - bar[0] < 200


def test_print_is_light_and_complete(browser: Any, one: Path, both: Path) -> None:
    for file in (one, both):
        # the width of a sheet of paper, without its margins
        with Opened(browser, file, viewport={"width": 700, "height": 1000}) as opened:
            page = opened.page
            page.emulate_media(media="print")
            page.evaluate("dispatchEvent(new Event('beforeprint'))")
            assert _too_wide(page, "main") == []
            assert page.locator("#settings table").first.is_visible()
            shares = page.evaluate(
                "[...document.querySelectorAll('.plot canvas')].map((one) => one.offsetWidth / one.closest('.card').offsetWidth)"
            )
            assert 0.85 < min(shares) <= max(shares) < 1
            page.evaluate("dispatchEvent(new Event('afterprint'))")
            page.emulate_media(media="screen")
            assert not page.locator("#settings table").first.is_visible()
    with Opened(browser, one, color_scheme="dark") as opened:
        opened.page.emulate_media(media="print")
        opened.page.evaluate("dispatchEvent(new Event('beforeprint'))")
        assert opened.page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
        assert not opened.page.locator("nav").is_visible()
        assert opened.page.locator("#failures table").first.is_visible()


def test_codes_and_options_stay_whole_and_a_long_word_does_not_push_others_out_of_sight(browser: Any, cut: Path) -> None:
    with Opened(browser, cut) as opened:
        page = opened.page
        assert _too_wide(page, "main") == []
        page.set_viewport_size({"width": 700, "height": 1000})
        page.emulate_media(media="print")
        page.evaluate("dispatchEvent(new Event('beforeprint'))")
        assert _too_wide(page, "main") == []
        # each word with the number of lines on which it is
        lines = """[...document.querySelectorAll('#failures th .code, #failures code')].flatMap((one) => {
            const texts = document.createTreeWalker(one, NodeFilter.SHOW_TEXT), found = [];
            for (let text = texts.nextNode(); text; text = texts.nextNode())
                for (const word of text.data.matchAll(/[^ ]+/g)) {
                    const range = document.createRange();
                    range.setStart(text, word.index);
                    range.setEnd(text, word.index + word[0].length);
                    found.push([word[0], new Set([...range.getClientRects()].map((rect) => rect.top)).size]);
                }
            return found;
        })"""
        for width in (700, 400):
            page.set_viewport_size({"width": width, "height": 1000})
            found = page.evaluate(lines)
            assert {"unsupported_parameter", "--no-strict-params"} < {word for word, _ in found}
            assert [word for word, number in found if number > 1] == []


def test_colours_of_legends_stay_where_colours_are_forced(browser: Any, one: Path) -> None:
    with Opened(browser, one, forced_colors="active") as opened:
        colours = (
            "[...document.querySelectorAll('[data-chart=tokens-0] .dot')].map((one) => getComputedStyle(one).backgroundColor)"
        )
        assert len(set(opened.page.evaluate(colours))) == 2


def test_the_policy_allows_two_scripts_and_nothing_else(one: Path) -> None:
    (policy,) = re.findall(r'http-equiv="Content-Security-Policy" content="([^"]+)"', one.read_text())
    parts = dict(part.split(" ", 1) for part in policy.replace("&#39;", "'").split("; "))
    assert parts["default-src"] == "'none'"
    assert [len(parts[name].split()) for name in ("script-src", "style-src")] == [2, 2]
    assert "unsafe" not in policy
    assert "http" not in policy


def test_the_data_of_a_page_is_json(one: Path) -> None:
    (data,) = re.findall(r'<script type="application/json" id="figures">(.*?)</script>', one.read_text(), re.DOTALL)
    assert {"axes", "charts"} == set(json.loads(data))
