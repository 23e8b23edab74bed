"""The client module for pages, the example of its guide, and the box of the live page, in a real Chromium."""

import asyncio
import hashlib
import importlib.util
import json
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any

import pytest
import uvicorn
from axe_playwright_python.sync_playwright import Axe
from browsing import chromium
from live_pages import Tab
from processes import HANG_S
from raw_server import FIN, RawServer, Received, Reply, delta, events, openai_answer, stream, whole
from streamed import Desk, in_thread, serving, until

import runner
from runner.web.uvicorn_internals import Server

ROOT = Path(__file__).parents[2]
GUIDE = ROOT / "docs" / "guides" / "stream-in-a-page"
REACT = ROOT / "tests" / "vendored" / "react"
IMPORT = "(await import('/static/runner-stream.js'))"


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with chromium() as found:
        yield found


def slowly(text: str) -> Reply:
    """Return an answer that comes word by word."""
    pieces = [part for word in text.split(" ") for part in (delta(f"{word} "), 0.02)]
    return stream(*pieces, *events("openai"))


def answer(request: Received) -> Reply:
    asked = str(request.json["messages"][-1]["content"])
    if asked == "long":
        return slowly(" ".join(f"word{number}\n" for number in range(400)))
    if asked == "refused":
        return whole(400, {"error": {"message": "not <b>so</b>", "type": "invalid_request_error"}})
    if asked == "dies":
        return Reply((*stream(delta("Some text")).steps[:-1], FIN))
    return openai_answer("Short <i>answer</i> \U0001f600 here")


@asynccontextmanager
async def served(store: Path) -> AsyncIterator[tuple[Desk, RawServer]]:
    async with RawServer(answer) as server:
        prices = {"m": {"input": 1.0, "output": 4.0}}
        await runner.arun(["x"], db=store, base_url=server.base_url, model="m", prices=prices, max_tokens=500, progress=False)
        async with serving(store) as desk:
            yield desk, server


@contextmanager
def opened(browser: Any, url: str) -> Iterator[Tab]:
    context = browser.new_context(viewport={"width": 1280, "height": 900})
    try:
        yield Tab(context, url)
    finally:
        context.close()


def test_the_module_and_the_box_of_the_page(tmp_path: Path, browser: Any) -> None:
    with in_thread(served(tmp_path / "r.db")) as (desk, server), opened(browser, desk.url) as tab:
        page = tab.page
        # a document without timers and requests of its own
        page.goto(f"{desk.url.partition('?')[0]}static/runner-stream.js")
        _splits(page)
        _tries(page)
        _leaves(page)
        before = len(server.requests)
        told = page.evaluate(
            f"""async () => {{
              const {{ stream, reduce, IDLE }} = {IMPORT};
              const seen = [];
              let state = IDLE;
              for await (const event of stream({{ prompt: "short" }})) {{ seen.push(event); state = reduce(state, event); }}
              return {{ seen, state }};
            }}"""
        )
        assert [one["type"] for one in told["seen"]][-1] == "done"
        assert told["state"]["text"] == "Short <i>answer</i> \U0001f600 here" == told["seen"][-1]["text"]
        # one that is left ends its request, and what was shown is not asked anew
        dies = page.evaluate(
            f"""async () => {{
              const {{ stream }} = {IMPORT};
              for await (const event of stream({{ prompt: "long" }})) if (event.type === "token") break;
              const seen = [];
              for await (const event of stream({{ prompt: "dies" }})) seen.push(event);
              return seen.at(-1);
            }}"""
        )
        assert (dies["code"], dies["retry"]) == ("cut", False)
        assert len(server.requests) == before + 3
        page.goto(desk.url.partition("?")[0])
        # that document had no icon
        tab.said.clear()
        _box(tab, server)
        assert tab.said == []


def _splits(page: Any) -> None:
    """The decoder gives the same events for each split of the bytes."""
    lines = [
        "\ufeff: a comment", "event: token", 'data: {"a":"\u00e9\u4e16\U0001f600\u2028"}', "id: 7", "", "data", "data: two",
        "data:  three", "", ": ping", "", "event: x", "", "id: a\0b", "retry: 5", "unknown: x", "data:y", "", "data: unfinished",
    ]  # fmt: skip
    wanted = [
        ["token", '{"a":"\u00e9\u4e16\U0001f600\u2028"}', "7"],
        ["message", "\ntwo\n three", "7"],
        ["message", "y", "7"],
    ]
    bodies = [list(end.join(lines).encode()) for end in ("\n", "\r\n", "\r")]
    found = page.evaluate(
        f"""async (bodies) => {{
          const {{ EventDecoder }} = {IMPORT};
          const seen = new Set();
          const read = (parts) => {{
            const decoder = new EventDecoder();
            const events = parts.flatMap((part) => decoder.push(new Uint8Array(part)));
            seen.add(JSON.stringify(events.map(({{ event, data, id }}) => [event, data, id])));
          }};
          for (const body of bodies) {{
            read(body.map((byte) => [byte]));
            for (let at = 0; at <= body.length; at++)
              for (const next of [at, at + 1, at + 2, body.length])
                read([body.slice(0, at), body.slice(at, next), body.slice(next)]);
          }}
          return [...seen];
        }}""",
        bodies,
    )
    assert [json.loads(one) for one in found] == [wanted]


def _tries(page: Any) -> None:
    """What may be over the next time is asked once more, after 1, 2, 4 s; nothing behind what was shown, unless wanted."""
    found = page.evaluate(
        f"""async () => {{
          const {{ stream, WAITS_S }} = {IMPORT};
          const real = [globalThis.fetch, globalThis.setTimeout];
          const text = (name, data) => `event: ${{name}}\\ndata: ${{JSON.stringify(data)}}\\n\\n`;
          const later = {{ status: 429, headers: {{ "Retry-After": "3" }} }};
          const busy = () => new Response('{{"error":"later","code":"too_many"}}', later);
          const gone = () => {{ throw new TypeError("no network"); }};
          const half = () => new Response(text("token", {{ kind: "text", text: "a", at: 0, attempt: 1 }}));
          const good = () => new Response(text("done", {{ text: "a" }}));
          const no = () => new Response('{{"error":"no","code":"usage"}}', {{ status: 400 }});
          const run = async (replies, options) => {{
            let left = [...replies], waits = [];
            globalThis.fetch = async () => left.shift()();
            globalThis.setTimeout = (act, ms) => {{ waits.push(ms / 1000); return real[1].call(globalThis, act, 0); }};
            const last = [];
            for await (const {{ type, code }} of stream({{ prompt: "x" }}, options)) last.push(type === "error" ? code : type);
            return [waits, last, left.length];
          }};
          try {{
            return [
              WAITS_S,
              await run([gone, busy, gone, good]),
              await run([gone, gone, gone, gone]),
              await run([no, good]),
              await run([half, good]),
              await run([half, good], {{ retryShown: true }}),
            ];
          }} finally {{ [globalThis.fetch, globalThis.setTimeout] = real; }}
        }}"""
    )
    again = ["retry"] * 3
    assert found == [
        [1, 2, 4],
        [[1, 3, 4], [*again, "done"], 0],
        [[1, 2, 4], [*again, "network"], 0],
        [[], ["usage"], 1],
        [[], ["token", "network"], 1],
        [[1], ["token", "retry", "done"], 0],
    ]


def _leaves(page: Any) -> None:
    """Who leaves an answer ends its request also where a proxy keeps the connection; a line without an end takes no memory."""
    found = page.evaluate(
        f"""async () => {{
          const {{ stream, EventDecoder, reduce, IDLE }} = {IMPORT};
          const real = globalThis.fetch, asked = [];
          const said = JSON.stringify({{ id: "ask-1", kind: "text", text: "a", at: 0 }});
          const text = (name, id) => `event: ${{name}}\\nid: ${{id}}\\ndata: ${{said}}\\n\\n`;
          globalThis.fetch = async (url, {{ method }}) => {{
            asked.push([method, url]);
            return new Response(text("metadata", "ask-1-1") + text("token", "ask-1-2"));
          }};
          try {{
            for await (const event of stream({{ prompt: "x" }}, {{ waits: [] }})) if (event.type === "token") break;
          }} finally {{ globalThis.fetch = real; }}
          const decoder = new EventDecoder(), part = new Uint8Array(1 << 20).fill(97);
          let taken = 0;
          try {{ for (; taken < 20; taken++) decoder.push(part); }} catch {{ /* it is too long */ }}
          // the model begins anew behind the first character
          const pieces = [[0, "ab\U0001f600"], [3, "c"], [1, "x"], [2, "y"]];
          const told = pieces.map(([at, text]) => ({{ type: "token", kind: "text", at, text }}));
          return [asked, taken, told.reduce(reduce, IDLE).text];
        }}"""
    )
    assert found == [[["POST", "/api/stream"], ["DELETE", "/api/stream/ask-1"]], 8, "axy"]


def _soon(page: Any, condition: Callable[[], bool]) -> None:
    """Wait until something is so, while the browser goes on."""
    for _ in range(int(HANG_S * 50)):
        if condition():
            return
        page.wait_for_timeout(20)
    raise AssertionError("it did not happen")


def _box(tab: Tab, server: RawServer) -> None:
    """The box on the page of a run: an answer that grows, Stop, Retry, what went wrong, and nobody is shut out."""
    page = tab.page
    page.evaluate("location.hash = '#/runs/1/ask'")
    prompt = page.get_by_label("Ask one prompt with the settings of this run")
    prompt.fill("long")
    prompt.press("Control+Enter")
    tab.wait("document.querySelector('.ask-text[aria-live]')?.textContent.includes('word20')")
    assert page.get_by_role("img", name="The model is writing").is_visible()
    assert Axe().run(page).response["violations"] == []
    page.get_by_role("button", name="Stop").click()
    tab.wait("document.querySelector('.ask-answer').textContent.includes('stopped')")
    text = page.locator(".ask-text[aria-live]")
    assert "word399" not in text.inner_text()
    assert page.get_by_role("button", name="Retry").is_visible()
    prompt.fill("refused")
    page.get_by_role("button", name="Ask", exact=True).click()
    tab.wait("document.querySelector('.problem[role=alert]:not([hidden])')")
    assert "not <b>so</b>" in page.locator(".problem[role=alert]").inner_text()
    prompt.fill("short")
    page.get_by_role("button", name="Ask", exact=True).click()
    tab.wait("document.querySelector('.ask-answer .ask-foot').textContent.includes('3 tokens \u00b7 $')")
    assert text.inner_text() == "Short <i>answer</i> \U0001f600 here"
    assert "3 tokens" in page.locator(".ask-answer").inner_text()
    before = len(server.requests)
    page.get_by_role("button", name="Retry").click()
    _soon(page, lambda: len(server.requests) == before + 1)
    tab.wait("document.querySelector('.ask-answer .typing').hidden")


@asynccontextmanager
async def example(desk: Desk) -> AsyncIterator[str]:
    """Serve the folder of the guide by its own backend."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RUNNER_URL", desk.url.partition("/?")[0])
        patch.setenv("RUNNER_TOKEN", desk.url.partition("token=")[2])
        spec = importlib.util.spec_from_file_location("backend", GUIDE / "backend.py")
        assert spec is not None
        assert spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        server = Server(uvicorn.Config(module.app, port=0, log_config=None, timeout_graceful_shutdown=1))
        task = asyncio.create_task(server.serve())
        try:
            await until(lambda: server.started)
            yield f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}/"
        finally:
            server.should_exit = True
            await task


@asynccontextmanager
async def both(store: Path) -> AsyncIterator[tuple[str, RawServer]]:
    async with served(store) as (desk, server), example(desk) as url:
        yield url, server


def _react(route: Any) -> None:
    """Answer with what the test has of React, as ES modules."""
    name = "react-dom" if "react-dom" in route.request.url else "react"
    text = (REACT / f"{name}.production.min.js").read_text()
    if name == "react-dom":
        text = f"import 'https://esm.sh/react@18.3.1';\n{text}\nexport const {{ createRoot }} = self.ReactDOM;"
    else:
        names = "createElement, useCallback, useEffect, useLayoutEffect, useRef, useState"
        text += f"\nexport const {{ {names} }} = self.React;"
    route.fulfill(body=text, content_type="text/javascript", headers={"Access-Control-Allow-Origin": "*"})


def test_the_example_of_the_guide(tmp_path: Path, browser: Any) -> None:
    for line in (REACT / "SHA256SUMS").read_text().splitlines():
        digest, name = line.split()
        assert hashlib.sha256((REACT / name).read_bytes()).hexdigest() == digest
    with in_thread(both(tmp_path / "r.db")) as (url, server):
        context = browser.new_context(viewport={"width": 800, "height": 700})
        context.route("https://esm.sh/**", _react)
        tab = Tab(context, url)
        page = tab.page
        prompt = page.get_by_label("Prompt")
        prompt.fill("long")
        page.get_by_role("button", name="Ask").click()
        box = ".message .text"
        tab.wait(f"document.querySelector('{box} p')?.textContent.includes('word40')")
        # it is at its end, until the reader scrolls up
        place = f"document.querySelector('{box}')"
        tab.wait(f"{place}.scrollHeight - {place}.scrollTop - {place}.clientHeight < 40")
        page.evaluate(f"document.querySelector('{box}').scrollTop = 0")
        seen = page.evaluate(f"document.querySelector('{box} p').textContent.length")
        tab.wait(f"document.querySelector('{box} p').textContent.length > {seen + 100}")
        assert page.evaluate(f"document.querySelector('{box}').scrollTop") == 0
        assert page.get_by_role("img", name="The model is writing").is_visible()
        page.get_by_role("button", name="Stop").click()
        page.get_by_role("alert").get_by_text("cancelled").wait_for()
        tab.wait("true")
        prompt.fill("short")
        page.get_by_role("button", name="Ask").click()
        page.get_by_text("Short <i>answer</i> \U0001f600 here").wait_for()
        page.get_by_role("status").get_by_text("3 tokens, $").wait_for()
        before = len(server.requests)
        page.get_by_role("button", name="Retry").click()
        _soon(page, lambda: len(server.requests) == before + 1)
        page.get_by_text("3 tokens").wait_for()
        assert Axe().run(page).response["violations"] == []
        assert [one for one in tab.said if "favicon" not in one and "404" not in one] == []
        context.close()
