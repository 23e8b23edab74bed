"""The page of ``runner web``: a real run, the real server, and a real browser that watches, steers and loses its connection."""

import random
import re
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from axe_playwright_python.sync_playwright import Axe
from browsing import chromium
from live_pages import Served, Tab, running
from processes import rows as stored
from reported import HOSTILE

from runner.web.app import static_files

WORDS = ("enough", "measure", "bridge", "café", "forest", "村", "often", "\U0001f600", "lake", "castle")
MOST_BYTES = 150_000
LINK = "document.querySelector('#link').textContent"
STATE = "document.querySelector('.glance .state')?.textContent"
OPEN = "[...document.querySelectorAll('.answer[data-state=open]')].filter((one) => one.querySelector('.flow').textContent.length > 20)"
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
        hosts = {host for host in re.findall(r"https?://([\w.]+)", text)} - {"www.w3.org"}
        assert not hosts, name
        assert not re.search(r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|eval\(|new Function", text), name
    page = found["index.html"].read_text()
    assert not re.search(r"<script(?![^>]* src=)|<style| style=| on\w+=", page)


def test_a_lost_server_leaves_no_gap_and_no_double_and_seven_tabs_have_one_stream(browser: Any, tmp_path: Path) -> None:
    rows = long_rows(40)
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
        web.end()
        for tab in tabs:
            tab.wait(f"{LINK} === 'connection lost'")
        assert first.page.inner_text("#alert").startswith("The connection to the web server is lost.")
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
        assert [said for tab in tabs for said in tab.said if "ERR_CONNECTION_REFUSED" not in said] == []


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


def test_hostile_answers_ids_and_names_run_nothing_and_every_view_can_be_used_by_all(browser: Any, tmp_path: Path) -> None:
    nasty = (
        *HOSTILE,
        "w" * 30_000,
        "\u202e" * 50 + "\u0301" * 500,
        "style='position:fixed;inset:0'",
        '{"a": "<img src=x onerror=window.hurt=1>"}',
    )
    rows = [{"id": f"{text[:200]}{row}", "prompt": f"{text} {text}", text[:40]: text[:99]} for row, text in enumerate(nasty * 2)]
    folder = tmp_path / "<img src=x onerror=window.hurt=1>"
    folder.mkdir()
    with (
        running(folder, rows, "--concurrency", "4", "--name", "<b onclick=window.hurt=1>x", speed={"echo": True, "chunk_s": 0.3}),
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


def assert_accessible(tab: Tab) -> None:
    found = Axe().run(tab.page).response["violations"]
    assert [(one["id"], [node["target"] for node in one["nodes"]][:3]) for one in found] == []


__all__ = ["stored"]
