"""``POST /api/stream``: one prompt, streamed, ended and paid as the books say."""

import asyncio
import socket
from pathlib import Path
from typing import Any

import pytest
from processes import count
from raw_server import FIN, RawServer, Received, Reply, delta, events, openai_answer, stream, whole
from streamed import serving, text_of, until

import runner
from runner.config.job import load_job
from runner.session.viewing import ROOM_CHARS
from runner.simulator import Behaviour, Simulator
from runner.store.reader import StoreReader
from runner.web.ask_limits import OPEN, Window

PRICES = {"m": {"input": 1.0, "output": 4.0}}


async def begun(store: Path, base_url: str, **settings: Any) -> None:
    """Have a run in the store, with one row, whose settings count."""
    settings = {"model": "m", "prices": PRICES, "max_tokens": 200, "rows": ["first"], **settings}
    await runner.arun(settings.pop("rows"), db=store, base_url=base_url, progress=False, **settings)


def spent(store: Path) -> float:
    """Return what all runs of a store have cost, or may have."""
    with StoreReader(store) as reader:
        found = [reader.money(run.id) for run in reader.runs()]
    assert not any(money.unpriced for money in found)
    return sum((money.spent + money.perhaps) / 10**12 for money in found)


@pytest.mark.parametrize("streams", [True, False])
@pytest.mark.parametrize("provider", ["openai", "anthropic"])
def test_one_shape_for_every_provider(tmp_path: Path, provider: str, streams: bool) -> None:
    async def work() -> None:
        store = tmp_path / "r.db"
        behaviour = Behaviour(first_token_s=0.01, chunk_s=0.001, reasoning_tokens=5)
        async with Simulator(behaviour) as simulator:
            await begun(
                store,
                simulator.base_url(provider),
                provider=provider,
                stream=streams,
                prompt="Say: {{ text }}",
                rows=[{"text": "x"}],
            )
            async with serving(store) as desk:
                by_prompt = await desk.ask(prompt="tell")
                messages = [{"role": "user", "content": "tell"}]
                by_messages = await desk.ask(messages=messages, params={"temperature": 0.5})
                by_row = await desk.ask(row={"text": "me"}, run=1)
                again = await desk.ask(prompt="tell")
                # both sessions, as a run would, have the limits of the endpoint together
                lanes = [held.prompts.views._lanes.of("m") for held in desk.asker._sessions.values()]
                await until(lambda: [lane.runs for lane in lanes] == [2, 2])
                # nothing is remembered of a prompt that has its answer
                assert not any(held.prompts.views._attempts.rows.ahead for held in desk.asker._sessions.values())
            for found in (by_prompt, by_messages, by_row, again):
                assert found[0][0] == "metadata"
                assert (found[0][1]["model"], found[0][1]["run"]) == ("m", 1)
                assert {name for name, _ in found[1:-1]} == {"metadata", "token"}
                name, done = found[-1]
                assert (name, done["text"], done["attempts"]) == ("done", text_of(found), 1)
                assert done["usage"]["output_tokens"] > 0 < done["cost"]
                assert done["finish_reason"] in ("stop", "end_turn")
            results = [one for run in (2, 3) for one in runner.results(run, db=store)]
            assert {one.prompt for one in results} == {"tell", "Say: me"}
            # each is asked anew, and paid
            assert len(results) == 4 == len({one.id for one in results})
            assert spent(store) == pytest.approx(float(simulator.invoice().amount))
            # a prompt beside a run leaves it the one that commands mean
            assert runner.status(db=store)[0].id == 1

    asyncio.run(work())


@pytest.mark.parametrize("how", ["delete", "leave", "before"])
def test_a_request_is_ended_with_its_stream(tmp_path: Path, how: str) -> None:
    async def work() -> None:
        store = tmp_path / "r.db"
        async with Simulator(Behaviour(first_token_s=0.01, chunk_s=0.02, fill_limit=True)) as simulator:
            await begun(store, simulator.base_url("openai"), max_tokens=5, concurrency=1)
            async with serving(store) as desk:

                async def one(stays: bool) -> list[Any]:
                    task, own = None, ""

                    def seen(name: str, data: dict[str, Any]) -> bool:
                        nonlocal task, own
                        own = data.get("id", own)
                        if how != "leave" and task is None and (name == "token" or how == "before"):
                            task = asyncio.create_task(desk.client.delete(f"/api/stream/{own}"))
                        return name == "token" and not stays

                    found = await desk.ask(seen, prompt="long", params={"max_tokens": 4000})
                    if task is not None:
                        assert (await task).json()["cancelled"] is True
                    return found

                held = (
                    asyncio.create_task(desk.ask(prompt="holds the slot", params={"max_tokens": 40})) if how == "before" else None
                )
                found = await one(stays=how != "leave")
                if held is not None:
                    await held
                await until(lambda: not desk.asker.streams)
                if how != "leave":
                    name, data = found[-1]
                    assert (name, data["code"], data["retry"]) == ("error", "cancelled_by_user", False)
                    gone = await desk.client.delete(f"/api/stream/{data['id']}")
                    assert gone.json() == {"id": data["id"], "cancelled": False}
                    never = await desk.client.delete("/api/stream/ask-0")
                    assert (never.status_code, never.json()["code"]) == (404, "no_stream")
                # the session goes on
                assert (await desk.ask(prompt="next"))[-1][0] == "done"
            endings = [line.ending for line in simulator.invoice(lines=True).lines]
            assert endings.count("abandoned") == (how != "before")
            failed = [one for one in runner.results(2, db=store) if one.status == "failed"]
            assert [one.error_code for one in failed] == ["cancelled_by_user"]
            assert "cancelled" in failed[0].error if how != "leave" else "gone" in failed[0].error
            # what the provider has made until then is not told: the books say the most that it can be
            assert float(simulator.invoice().amount) <= spent(store) + 1e-9

    asyncio.run(work())


def test_a_client_asks_no_more_than_its_share(tmp_path: Path) -> None:
    async def work() -> None:
        store = tmp_path / "r.db"
        hold = asyncio.Event()

        def answer(request: Received) -> Reply:
            return Reply((*([hold] if "hold" in str(request.json["messages"]) else []), *openai_answer("x").steps))

        async with RawServer(answer) as server:
            await begun(store, server.base_url)
            now = 0.0
            async with serving(store, how={"window": Window(OPEN + 2, 60.0, lambda: now)}) as desk:
                held = [asyncio.create_task(desk.ask(prompt="hold")) for _ in range(OPEN)]
                await until(lambda: len(desk.asker.streams) == OPEN)
                full = await desk.client.post("/api/stream", json={"prompt": "x"})
                assert (full.status_code, full.headers["retry-after"]) == (429, "1")
                assert str(OPEN) in full.json()["error"]
                hold.set()
                assert {(await one)[-1][0] for one in held} == {"done"}
                now = 20.0
                for _ in range(2):
                    assert (await desk.ask(prompt="x"))[-1][0] == "done"
                late = await desk.client.post("/api/stream", json={"prompt": "x"})
                assert (late.status_code, late.headers["retry-after"], late.json()["code"]) == (429, "40", "too_many")
                now = 60.0
                assert (await desk.ask(prompt="x"))[-1][0] == "done"
            assert len(server.requests) == 1 + OPEN + 3

    asyncio.run(work())


@pytest.mark.parametrize("reads", [True, False])
def test_who_does_not_read_holds_up_the_provider(tmp_path: Path, reads: bool) -> None:
    async def work() -> None:
        store = tmp_path / "r.db"
        word, parts = "word " * 8, 10_000
        padded = delta(word).replace(b'{"', b'{"pad":"' + b"x" * 4000 + b'","', 1)
        reply = stream(0.0, *([padded] * parts), *events("openai", "end"))

        async with RawServer(lambda request: openai_answer("x") if request.number == 1 else reply) as server:
            await begun(store, server.base_url, silence_s=1)
            async with serving(store, sndbuf=4096, how={"send_s": 60.0 if reads else 0.5}) as desk:
                sock = socket.socket()
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
                sock.connect(("127.0.0.1", desk.port))
                sock.setblocking(False)
                reader, writer = await asyncio.open_connection(sock=sock, limit=4096)
                body = b'{"prompt": "x"}'
                fields = {**desk.client.headers, "host": "127.0.0.1", "content-type": "application/json"}
                lines = [f"{name}: {value}\r\n" for name, value in {**fields, "content-length": str(len(body))}.items()]
                writer.write(f"POST /api/stream HTTP/1.1\r\n{''.join(lines)}\r\n".encode() + body)
                await until(lambda: desk.asker.streams)
                view = next(iter(desk.asker.streams.values()))._view
                await until(lambda: not view._free.is_set())
                # longer than the silence of a server may be
                await asyncio.sleep(1.5 if reads else 0)
                assert not server.requests[-1].played
                assert view._chars < ROOM_CHARS + (64 << 10)
                if reads:
                    got = bytearray()
                    while b"event: done" not in got[-4_000_000:]:
                        got += await reader.read(1 << 16)
                else:
                    await until(lambda: not desk.asker.streams)
                    await until(lambda: not server.in_flight)
                writer.close()
            (one,) = runner.results(2, db=store)
            if reads:
                assert one.text == word * parts + "end"
            else:
                assert (one.error_code, "gone" in (one.error or "")) == ("cancelled_by_user", True)

    asyncio.run(work())


def test_what_goes_wrong_is_told_with_what_to_do(tmp_path: Path) -> None:
    async def work() -> None:
        store = tmp_path / "r.db"
        some = (delta("Some te"), delta("xt"))
        picture = {"type": "image_url", "image_url": {"url": "s.png"}}
        replies: dict[str, list[Reply]] = {
            "dies": [Reply((*stream(0.0, *some).steps[:-1], FIN))],
            "busy": [whole(500, {"error": {"message": "no"}}), openai_answer("after all")],
            "no": [whole(400, {"error": {"message": "no", "type": "invalid_request_error"}})],
            "key": [whole(401, {"error": {"message": "Incorrect API key provided", "code": "invalid_api_key"}})],
        }

        def answer(request: Received) -> Reply:
            left = replies.get(str(request.json["messages"][-1]["content"]), [openai_answer("x")])
            return left.pop(0) if len(left) > 1 else left[0]

        async with RawServer(answer) as server:
            await begun(store, server.base_url)
            async with serving(store, most=1.0) as desk:
                before = len(server.requests)
                dies = await desk.ask(prompt="dies")
                assert text_of(dies) == "Some text"
                assert (dies[-1][0], dies[-1][1]["code"], dies[-1][1]["retry"]) == ("error", "cut", False)
                # nothing begins anew behind what was shown
                assert len(server.requests) == before + 1
                busy = await desk.ask(prompt="busy")
                assert (text_of(busy), busy[-1][0], busy[-1][1]["attempts"]) == ("after all", "done", 2)
                refused = (await desk.ask(prompt="no"))[-1][1]
                assert (refused["code"], "runner" in refused["todo"]) == ("bad_request", False)
                key = (await desk.ask(prompt="key"))[-1][1]
                assert key["code"] == "auth"
                assert key["todo"] == "Put a valid key into the environment of `runner web`, and start it again."
                # what would stop a run has ended one prompt
                assert (await desk.ask(prompt="x"))[-1][0] == "done"
                for body, words in (
                    ({}, "one of prompt"),
                    ({"prompt": "x", "row": {}}, "one of prompt"),
                    ({"prompt": "x", "modle": "m"}, "modle"),
                    ({"prompt": "x", "params": {"temprature": 1}}, "temprature"),
                    ({"prompt": "x", "run": 9}, "no run 9"),
                    ({"row": {"prompt": "x", "images": "secret.png"}}, "cannot name files"),
                    ({"messages": [{"role": "user", "content": [picture]}]}, "files"),
                ):
                    answered = await desk.client.post("/api/stream", json=body)
                    assert (answered.status_code, answered.json()["code"]) == (400, "usage"), body
                    assert words in answered.json()["error"], body
                assert (await desk.client.post("/api/stream", content=b"{}")).status_code == 415
                deep = b'{"row": {"prompt": "x", "own": %b}}' % (b"[" * 900 + b"]" * 900)
                for raw, words in ((b'{"prompt": "\\ud83d"}', "half a character"), (b'{"prompt"', "too early"), (deep, "nested")):
                    headers = {"Content-Type": "application/json"}
                    answered = await desk.client.post("/api/stream", content=raw, headers=headers)
                    assert (answered.status_code, words in answered.json()["error"]) == (400, True), answered.json()

    asyncio.run(work())


def test_a_cap_holds_over_all_prompts(tmp_path: Path) -> None:
    async def work() -> None:
        store = tmp_path / "r.db"
        async with Simulator(Behaviour(first_token_s=0, chunk_s=0, tokens=40)) as simulator:
            await begun(store, simulator.base_url("openai"), prompt="{{ text }}", rows=[{"text": "x"}])
            before = float(simulator.invoice().amount)
            # a request holds up to 200 tokens of output, which is 0.0008 dollars
            async with serving(store, most=0.002) as desk:
                ends = []
                while len(ends) < 40 and "budget" not in ends:
                    name, data = (await desk.ask(**({"prompt": "x"} if len(ends) % 2 else {"row": {"text": "x"}})))[-1]
                    ends.append(data.get("code", name))
                assert ends.count("done") >= 2
                assert ends[-1] == "budget"
                assert "--max-cost-ask" in data["todo"]
                assert desk.asker.spent is not None
                paid = float(simulator.invoice().amount) - before
                assert desk.asker.spent == pytest.approx(paid)
                assert paid <= 0.002
            # a new server goes on with the same cap, and so does one that sends as another run
            async with serving(store, most=0.002) as desk:
                for body in ({"prompt": "x"}, {"row": {"text": "x"}}):
                    assert (await desk.ask(**body))[-1][1].get("code") == "budget", body
                assert desk.asker.spent == pytest.approx(paid)
            async with serving(store, most=0.004) as desk:
                assert (await desk.ask(prompt="x"))[-1][0] == "done"
            assert spent(store) == pytest.approx(float(simulator.invoice().amount))

    asyncio.run(work())


def test_an_answer_with_a_schema(tmp_path: Path) -> None:
    async def work() -> None:
        store = tmp_path / "r.db"
        good, bad = '{"n": 1}', '{"n": "one"}'

        def answer(request: Received) -> Reply:
            text = str(request.json["messages"][0]["content"])
            return openai_answer(bad if "never" in text or ("twice" in text and len(request.json["messages"]) == 1) else good)

        schema = {"type": "object", "properties": {"n": {"type": "integer"}}, "required": ["n"], "additionalProperties": False}
        async with RawServer(answer) as server:
            await begun(store, server.base_url, schema=schema)
            async with serving(store) as desk:
                fits = await desk.ask(prompt="good")
                assert (fits[-1][0], text_of(fits)) == ("done", good)
                # the repairs of the run: the text starts over
                mended = await desk.ask(prompt="twice")
                assert (mended[-1][0], text_of(mended), mended[-1][1]["attempts"]) == ("done", good, 2)
                name, data = (await desk.ask(prompt="never"))[-1]
                assert (name, data["code"], data["retry"]) == ("error", "invalid_output", False)
        assert count(store, "attempts") == 1 + 1 + 2 + 2

    asyncio.run(work())


def test_the_settings_of_a_job_file_and_sessions_that_rest(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("runner.web.asking.IDLE_S", 0.05)
    monkeypatch.setenv("WRONG_KEY", "sk-wrong")
    monkeypatch.setenv("RIGHT_KEY", "sk-right")

    async def work() -> None:
        store = tmp_path / "r.db"
        async with Simulator(Behaviour(first_token_s=0, chunk_s=0, key="sk-right")) as simulator:
            (tmp_path / "a.jsonl").write_text('{"prompt": "x"}\n')
            job = load_job(
                str(tmp_path / "a.jsonl"),
                {"model": "m", "base_url": simulator.base_url("openai"), "api_key_env": "WRONG_KEY", "row_settings": False},
            )
            await begun(store, simulator.base_url("openai"), api_key_env="RIGHT_KEY")
            async with serving(store, job=job) as desk:
                for _ in range(2):
                    found = await desk.ask(prompt="x")
                    assert (found[0][1]["run"], found[-1][1]["code"], found[-1][1]["cost"]) == (None, "auth", 0)
                    await until(lambda: not desk.asker._sessions)
                monkeypatch.setenv("WRONG_KEY", "sk-right")
                done = (await desk.ask(prompt="x"))[-1][1]
                # no price is known of a model on this machine
                assert (done["finish_reason"], done["cost"]) == ("stop", None)
                assert (await desk.ask(prompt="x", run=1))[-1][1]["cost"] > 0
                own = await desk.client.post("/api/stream", json={"prompt": "x", "params": {"temperature": 1}})
                assert (own.status_code, "row_settings" in own.json()["error"]) == (400, True)
                monkeypatch.delenv("WRONG_KEY")
                await until(lambda: not desk.asker._sessions)
                missing = await desk.client.post("/api/stream", json={"prompt": "x"})
                assert (missing.status_code, "WRONG_KEY" in missing.json()["error"]) == (400, True)
            assert [(run.done, run.failed, run.active) for run in runner.runs(db=store)[1:]] == [(1, 2, False), (1, 0, False)]

    asyncio.run(work())
