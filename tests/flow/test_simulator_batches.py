"""The simulator's batch APIs of both vendors over real sockets: a whole batch, its cost, and each thing that can go wrong."""

import asyncio
import json
from datetime import datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import httpx
import pytest
from simulated_batches import (
    CHAT,
    KEY,
    MESSAGES,
    OTHER_KEY,
    anthropic_batch,
    asked,
    client,
    compact,
    content,
    create,
    ended,
    line,
    lines,
    messages_body,
    openai_batch,
    polled,
    simulated,
    upload,
)
from simulating import datas, text_of

from runner.simulator import Line, Simulator

pytestmark = pytest.mark.anyio

N = 20


def ids(results: list[Any]) -> list[str]:
    return [one["custom_id"] for one in results]


def rows(*numbers: int) -> list[str]:
    return [f"row-{number}" for number in numbers or range(N)]


def inside(folder: Path) -> list[Path]:
    return list(folder.iterdir())


def invoiced(server: Simulator) -> list[Line]:
    found = server.invoice(lines=True).lines
    assert isinstance(found, list)
    return found


async def live(http: httpx.AsyncClient, number: int) -> tuple[str, dict[str, Any]]:
    """Ask a request of the batches live, in a stream; return the text and the usage."""
    streamed = {**asked(number), "stream": True, "stream_options": {"include_usage": True}}
    answer = (await http.post(CHAT, content=compact(streamed))).content
    return text_of(answer), datas(answer)[-2]["usage"]


async def test_a_batch_of_openai_has_the_answers_of_the_live_path_at_half_the_price() -> None:
    async with simulated() as server, client(server) as http:
        batch = await openai_batch(http, lines(N), metadata={"token": "t"})
        assert (batch["status"], batch["metadata"], batch["output_file_id"]) == ("validating", {"token": "t"}, None)
        done = await ended(http, batch)
        results = await content(http, done)
        inside = Decimal(server.invoice().amount)
        said = [await live(http, number) for number in range(N)]
        after = server.invoice()
    assert (done["status"], done["error_file_id"], done["errors"]) == ("completed", None, None)
    assert done["request_counts"] == {"total": N, "completed": N, "failed": 0}
    stamps = [done[f"{name}_at"] for name in ("created", "in_progress", "finalizing", "completed")]
    assert all(isinstance(one, int) for one in stamps)
    assert stamps == sorted(stamps)
    assert done["expires_at"] == done["created_at"] + 86_400
    assert all(done[f"{name}_at"] is None for name in ("failed", "expired", "cancelling", "cancelled"))
    assert ids(results) == rows()
    bodies = [one["response"]["body"] for one in results]
    assert all(one["response"]["status_code"] == 200 and one["error"] is None for one in results)
    # the second draw for the same body is another one: it was answered before
    assert [body["usage"]["prompt_tokens"] for body in bodies] == [usage["prompt_tokens"] for _, usage in said]
    assert {one.tier for one in invoiced(server)[:N]} == {"batch"}
    used = [sum(getattr(one, name) for one in invoiced(server)[:N]) for name in ("fresh_tokens", "output_tokens")]
    assert inside == (used[0] * 1 + used[1] * 4) / Decimal(2 * 10**6)
    assert (after.requests, after.doubled, after.reported_twice) == (2 * N, N, N)
    assert server.stats()["batches"] == 1
    assert (server.stats()["batch_requests"], server.stats()["batch_answers"], server.stats()["requests"]) == (N, N, N)
    # a fresh simulator with the same seed says live what this one said in a batch
    async with simulated() as other, client(other) as http:
        first = [await live(http, number) for number in range(3)]
    texts = [(body["choices"][0]["message"]["content"], body["usage"]) for body in bodies[:3]]
    assert texts == first


async def test_a_batch_of_anthropic_has_the_answers_of_the_live_path() -> None:
    async with simulated() as server, client(server) as http:
        batch = await anthropic_batch(http, N)
        assert batch["request_counts"] == {"processing": N, "succeeded": 0, "errored": 0, "canceled": 0, "expired": 0}
        assert (batch["processing_status"], batch["ended_at"], batch["results_url"]) == ("in_progress", None, None)
        done = await ended(http, batch)
        results = await content(http, done)
        deleted = await http.delete(f"{MESSAGES}/{batch['id']}")
        gone = await http.get(done["results_url"])
    assert gone.status_code == 404
    assert deleted.json() == {"id": batch["id"], "type": "message_batch_deleted"}
    assert done["request_counts"] == {"processing": 0, "succeeded": N, "errored": 0, "canceled": 0, "expired": 0}
    assert datetime.fromisoformat(done["expires_at"]) - datetime.fromisoformat(done["created_at"]) == timedelta(days=1)
    assert ids(results) == rows()
    message = results[3]["result"]["message"]
    assert message["usage"].pop("service_tier") == "batch"
    async with simulated() as other, client(other) as http:
        answer = (await http.post("/v1/messages", content=compact({**asked(3), "stream": True}))).content
    assert message["content"][0]["text"] == text_of(answer)
    usage = {**datas(answer)[0]["message"]["usage"], **datas(answer)[-2]["usage"]}
    assert message["usage"] == usage


async def test_files_and_batches_are_listed_in_pages_and_belong_to_a_key() -> None:
    async with simulated() as server, client(server) as http, client(server, OTHER_KEY) as stranger:
        made = [await openai_batch(http, lines(1)) for _ in range(3)]
        newest = [one["id"] for one in reversed(made)]
        first = (await http.get("/v1/batches", params={"limit": 2})).json()
        rest = (await http.get("/v1/batches", params={"limit": 2, "after": first["last_id"]})).json()
        done = await ended(http, made[0])
        files = (await http.get("/v1/files", params={"purpose": "batch", "limit": 2})).json()
        outputs = (await http.get("/v1/files", params={"purpose": "batch_output"})).json()["data"]
        messages = [(await anthropic_batch(http, 1))["id"] for _ in range(3)]
        page = (await http.get(MESSAGES, params={"limit": 2})).json()
        behind = (await http.get(MESSAGES, params={"after_id": page["last_id"]})).json()
        before = (await http.get(MESSAGES, params={"before_id": messages[0], "limit": 1})).json()
        empty = (await stranger.get("/v1/batches")).json()
        paths = [f"/v1/files/{outputs[0]['id']}/content", f"/v1/batches/{made[0]['id']}", f"{MESSAGES}/{messages[0]}"]
        strange = [(await stranger.get(path)).status_code for path in paths]
        refused = await create(stranger, made[0]["input_file_id"])
        deleted = (await http.delete(f"/v1/files/{made[0]['input_file_id']}")).json()
        missing = await http.get(f"/v1/files/{made[0]['input_file_id']}")
    assert ([one["id"] for one in first["data"]], first["has_more"]) == (newest[:2], True)
    assert ([one["id"] for one in rest["data"]], rest["has_more"]) == (newest[2:], False)
    assert [one["id"] for one in files["data"]] == [one["input_file_id"] for one in reversed(made)][:2]
    assert files["has_more"]
    assert files["data"][0]["bytes"] == len(lines(1))
    assert done["output_file_id"] in [one["id"] for one in outputs]
    assert [one["id"] for one in page["data"]] == messages[:0:-1]
    assert ([one["id"] for one in behind["data"]], behind["has_more"]) == (messages[:1], False)
    assert ([one["id"] for one in before["data"]], before["has_more"]) == (messages[1:2], True)
    assert (empty["data"], strange, refused.status_code) == ([], [404, 404, 404], 404)
    assert deleted == {"id": made[0]["input_file_id"], "object": "file", "deleted": True}
    assert missing.json()["error"]["message"] == f"No such File object: {made[0]['input_file_id']}"


async def test_requests_expire_and_fail_and_only_answers_are_billed() -> None:
    async with simulated(batch_expire=0.3, batch_fail=0.3, batch_fail_status=500) as server, client(server) as http:
        done = await ended(http, await openai_batch(http, lines(N)))
        answers, errors = await content(http, done), await content(http, done, "error")
        billed = server.invoice().requests
        messages = await ended(http, await anthropic_batch(http, N))
        results = await content(http, messages)
    expired = [one for one in errors if one["response"] is None]
    refused = [one["response"] for one in errors if one["response"] is not None]
    assert (done["status"], done["completed_at"]) == ("expired", None)
    assert {one["error"]["code"] for one in expired} == {"batch_expired"}
    assert {one["status_code"] for one in refused} == {500}
    assert refused[0]["body"]["error"]["type"] == "server_error"
    assert sorted(ids(answers) + ids(errors)) == sorted(rows())
    assert len(answers) == billed
    counts = messages["request_counts"]
    kinds = [one["result"]["type"] for one in results]
    assert all(counts[kind] == kinds.count(kind) > 0 for kind in ("succeeded", "errored", "expired"))
    assert next(one["result"]["error"]["error"]["type"] for one in results if one["result"]["type"] == "errored") == "api_error"
    assert server.invoice().requests == billed + counts["succeeded"]


async def test_a_batch_may_complete_with_an_error_file_alone() -> None:
    async with simulated(batch_fail=1.0) as server, client(server) as http:
        done = await ended(http, await openai_batch(http, lines(3)))
        errors = await content(http, done, "error")
    assert (done["status"], done["output_file_id"], len(errors)) == ("completed", None, 3)
    assert server.invoice().requests == 0


async def test_results_are_missing_twice_odd_unasked_and_in_any_order() -> None:
    shares = {"batch_missing": 0.2, "batch_twice": 0.2, "batch_odd": 0.2, "batch_unasked": 0.2, "batch_shuffle": True}
    async with simulated(**shares) as server, client(server) as http:
        done = await ended(http, await openai_batch(http, lines(4 * N)))
        results = await content(http, done)
        statement = server.invoice()
        other = await content(http, await ended(http, await anthropic_batch(http, 4 * N)))
    for found in (results, other):
        names = ids(found)
        known = [name for name in names if name.startswith("row-")]
        assert known != sorted(known, key=lambda name: int(name[4:]))
        assert len(known) > len(set(known))
        assert set(known) < set(rows(*range(4 * N)))
        assert any(name.startswith("unasked-") for name in names)
    odd = [one["response"] for one in results if one["response"] is None or one["response"]["body"] is None]
    assert None in odd
    assert {one["status_code"] for one in odd if one is not None} == {0, 200}
    assert any(one["result"] is None for one in other)
    assert any(one["result"] == {"type": "succeeded"} for one in other)
    # what does not come is billed all the same
    assert statement.requests == 4 * N
    unreported = 4 * N - len(
        {one["custom_id"] for one in results if one["response"] and one["response"]["body"]} & set(rows(*range(4 * N)))
    )
    assert sum(not one.reported for one in invoiced(server)[: 4 * N]) == unreported > 0


async def test_a_batch_fails_after_its_file_was_accepted_with_line_numbers() -> None:
    wrong = b"".join(
        [
            line(0),
            b"{no json\n",
            line(2, custom_id=None),
            line(0),
            line(4, body={**asked(4), "model": "other"}),
            line(5, url="/v1/x"),
        ]
    )
    async with simulated() as server, client(server) as http:
        done = await ended(http, await openai_batch(http, wrong))
        empty = await ended(http, await openai_batch(http, b"\n"))
    found = [(one["line"], one["code"]) for one in done["errors"]["data"]]
    assert done["status"] == "failed"
    assert found == [
        (2, "invalid_json_line"),
        (3, "missing_required_parameter"),
        (4, "duplicate_custom_id"),
        (5, "mismatched_model"),
        (6, "mismatched_endpoint"),
    ]
    assert done["request_counts"]["total"] == 0
    assert [one["code"] for one in empty["errors"]["data"]] == ["empty_file"]
    assert server.invoice().requests == 0


async def test_the_first_batches_may_be_refused_and_their_file_used_again() -> None:
    async with simulated(batch_refuse=1) as server, client(server) as http:
        batch = await openai_batch(http, lines(3))
        first = await ended(http, batch)
        again = await ended(http, (await create(http, batch["input_file_id"])).json())
        refused = await http.post(MESSAGES, content=messages_body(1))
        taken = await http.post(MESSAGES, content=messages_body(1))
    assert (first["status"], [one["line"] for one in first["errors"]["data"]]) == ("failed", [1, 3])
    assert again["status"] == "completed"
    assert (refused.status_code, taken.status_code) == (400, 200)


async def test_a_batch_is_not_found_at_first_nor_between_polls_and_the_service_is_away() -> None:
    async with simulated(batch_404=2, batch_404_every=4, batch_delay_s=60) as server, client(server) as http:
        path = f"/v1/batches/{(await openai_batch(http, lines(1)))['id']}"
        looks = [(await http.get(path)).status_code for _ in range(8)]
    assert looks == [404, 404, 200, 404, 200, 200, 200, 404]
    async with simulated(batch_503_every=2, batch_unlisted_s=60) as server, client(server) as http:
        assert [(await http.get("/v1/batches")).status_code for _ in range(3)] == [200, 503, 200]
        assert (await upload(http, lines(1))).status_code == 503
        file_id = (await upload(http, lines(1))).json()["id"]
        assert (await create(http, file_id)).status_code == 503
        assert (await create(http, file_id)).status_code == 200
        assert (await http.get("/v1/batches")).status_code == 503
        assert (await http.get("/v1/batches")).json()["data"] == []


async def test_answers_to_uploads_and_creations_are_lost_or_late_but_their_work_is_done() -> None:
    async with simulated(batch_lost=1, batch_lost_uploads=1, batch_create_s=30) as server, client(server) as http:
        with pytest.raises(httpx.TransportError):
            await upload(http, lines(1))
        (found,) = (await http.get("/v1/files")).json()["data"]
        creating = asyncio.ensure_future(create(http, found["id"], metadata={"token": "t"}))
        made = (await polled(http, "/v1/batches", lambda found: bool(found.json()["data"]))).json()["data"]
        assert [one["metadata"] for one in made] == [{"token": "t"}]
        assert not creating.done()
        creating.cancel()
        await asyncio.wait({creating})
    async with simulated(batch_lost=1) as server, client(server) as http:
        with pytest.raises(httpx.TransportError):
            await anthropic_batch(http, 2)
        (batch,) = (await http.get(MESSAGES)).json()["data"]
        assert (await ended(http, batch))["request_counts"]["succeeded"] == 2


async def test_the_queue_holds_so_many_tokens() -> None:
    tokens = len(lines(5)) // 4 + 1
    async with simulated(batch_queue_tokens=tokens, batch_delay_s=60) as server, client(server) as http:
        await openai_batch(http, lines(5))
        second = await ended(http, await openai_batch(http, lines(5)))
        await anthropic_batch(http, 5)
        refused = await http.post(MESSAGES, content=messages_body(9))
    assert second["status"] == "failed"
    (fault,) = second["errors"]["data"]
    assert (fault["code"], fault["line"]) == ("token_limit_exceeded", None)
    assert fault["message"].startswith("Enqueued token limit reached")
    assert (refused.status_code, refused.json()["error"]["type"]) == (429, "rate_limit_error")
    async with (
        simulated(batch_queue_tokens=tokens, batch_queue_full="refuse", batch_delay_s=60) as server,
        client(server) as http,
    ):
        first = await openai_batch(http, lines(5))
        refused = await create(http, first["input_file_id"])
        await http.post(f"/v1/batches/{first['id']}/cancel")
        await ended(http, first)
        taken = await create(http, first["input_file_id"])
    assert (refused.status_code, refused.json()["error"]["code"], taken.status_code) == (429, "token_limit_exceeded", 200)


async def test_a_batch_takes_so_many_lines_and_bytes() -> None:
    async with simulated(batch_lines=2) as server, client(server) as http:
        done = await ended(http, await openai_batch(http, lines(3)))
        refused = await http.post(MESSAGES, content=messages_body(3))
    assert (done["status"], done["errors"]["data"][0]["code"]) == ("failed", "too_many_requests")
    assert refused.status_code == 400
    async with simulated(batch_bytes=100) as server, client(server) as http:
        assert (await upload(http, lines(3))).status_code == 413
        assert (await http.post(MESSAGES, content=messages_body(3))).status_code == 413
        assert (await http.get("/v1/files")).json()["data"] == []


@pytest.mark.parametrize("gzip", [False, True])
async def test_a_download_breaks_off_and_goes_on(gzip: bool) -> None:
    async with simulated(batch_break_bytes=3000, batch_breaks=2, batch_gzip=gzip, tokens=60) as server, client(server) as http:
        done = await ended(http, await openai_batch(http, lines(N)))
        path = f"/v1/files/{done['output_file_id']}/content"
        size = (await http.get(f"/v1/files/{done['output_file_id']}")).json()["bytes"]
        got, tags, statuses = b"", [], []
        coding = {"accept-encoding": "gzip" if gzip else "identity"}
        while len(got) < size:
            headers = {**coding, **({"range": f"bytes={len(got)}-"} if got else {})}
            async with http.stream("GET", path, headers=headers) as response:
                statuses.append((response.status_code, response.headers.get("content-encoding")))
                tags.append(response.headers["etag"])
                try:
                    async for chunk in response.aiter_bytes():
                        got += chunk
                except httpx.RemoteProtocolError:
                    continue
                except httpx.ReadError:
                    continue
        changed = await http.get(path, headers={"range": "bytes=5-", "if-range": '"other"', "accept-encoding": "identity"})
        beyond = await http.get(path, headers={"range": f"bytes={size}-"})
    assert ids([json.loads(one) for one in got.splitlines()]) == rows()
    assert statuses[0] == (200, "gzip" if gzip else None)
    assert set(statuses[1:]) == {(206, None)}
    assert len(statuses) == 3
    assert {tag.removeprefix("W/") for tag in tags} == {tags[-1]}
    assert (changed.status_code, changed.content, beyond.status_code) == (200, got, 416)


async def test_a_cancelled_batch_keeps_what_was_answered_or_the_cancel_comes_too_late() -> None:
    async with simulated(batch_delay_s=60, batch_cancel_done=0.25, batch_cancel_s=0.05) as server, client(server) as http:
        batch = await openai_batch(http, lines(N))
        cancelled = (await http.post(f"/v1/batches/{batch['id']}/cancel")).json()
        done = await ended(http, batch)
        answers, errors = await content(http, done), await content(http, done, "error")
        again = await http.post(f"/v1/batches/{batch['id']}/cancel")
        billed = server.invoice().requests
        batch = await anthropic_batch(http, N)
        canceling = (await http.post(f"{MESSAGES}/{batch['id']}/cancel")).json()
        kinds = [one["result"]["type"] for one in await content(http, await ended(http, batch))]
    assert (cancelled["status"], done["status"], again.status_code) == ("cancelling", "cancelled", 409)
    assert done["cancelled_at"] >= done["cancelling_at"] == cancelled["cancelling_at"]
    assert (ids(answers), ids(errors)) == (rows(*range(5)), rows(*range(5, N)))
    assert {one["error"]["code"] for one in errors} == {"batch_cancelled"}
    assert billed == done["request_counts"]["completed"] == 5
    assert canceling["processing_status"] == "canceling"
    assert canceling["cancel_initiated_at"]
    assert kinds == ["succeeded"] * 5 + ["canceled"] * 15
    async with simulated(batch_delay_s=60, batch_cancel_done=1) as server, client(server) as http:
        batch = await openai_batch(http, lines(3))
        await http.post(f"/v1/batches/{batch['id']}/cancel")
        done = await ended(http, batch)
    assert (done["status"], done["request_counts"]["completed"], done["cancelled_at"]) == ("completed", 3, None)


async def test_a_batch_expires_with_the_answers_it_has() -> None:
    async with simulated(batch_delay_s=1000, batch_window_s=0.05) as server, client(server) as http:
        done = await ended(http, await openai_batch(http, lines(3)))
        errors = await content(http, done, "error")
    assert (done["status"], done["output_file_id"], ids(errors)) == ("expired", None, rows(0, 1, 2))
    assert server.invoice().requests == 0


async def test_results_are_kept_for_a_time_and_instants_may_have_an_offset() -> None:
    async with simulated(batch_kept_s=0.05, batch_utc_offset_min=330) as server, client(server) as http:
        batch, other = await openai_batch(http, lines(1)), await anthropic_batch(http, 1)
        done, messages = await ended(http, batch), await ended(http, other)
        for path in (f"/v1/files/{done['output_file_id']}/content", f"{MESSAGES}/{other['id']}/results"):
            await polled(http, path, lambda found: found.status_code == 404)
        archived = (await http.get(f"{MESSAGES}/{other['id']}")).json()
    assert archived["archived_at"].endswith("+05:30")
    assert archived["results_url"] is None
    utc = datetime.fromisoformat(messages["expires_at"])
    assert utc.utcoffset() == timedelta(hours=5, minutes=30)
    assert abs(utc.timestamp() - done["expires_at"]) < 60


async def test_invalid_requests_are_refused_in_the_words_of_the_vendor() -> None:
    def requests(*custom_ids: str) -> bytes:
        return compact({"requests": [{"custom_id": name, "params": asked(1)} for name in custom_ids]})

    async with simulated(key="k1") as server, client(server) as http, client(server, OTHER_KEY) as stranger:
        file_id = (await upload(http, lines(1))).json()["id"]
        assert (await upload(http, lines(1), purpose="fine-tune")).status_code == 400
        assert (await http.post("/v1/files", content=b"x")).status_code == 400
        wrong: list[dict[str, Any]] = [
            {"endpoint": "/v1/embeddings"},
            {"completion_window": "1h"},
            {"input_file_id": None},
            {"metadata": {"a": "x" * 513}},
        ]
        for fields in wrong:
            response = await create(http, file_id, **fields)
            assert (response.status_code, response.json()["error"]["param"]) == (400, next(iter(fields)))
        assert (await create(http, "file-none")).status_code == 404
        for sent in (b"", b"{", b'{"requests":[]}', requests("a b"), requests("a" * 65), requests("a", "a"), requests("")):
            response = await http.post(MESSAGES, content=sent)
            assert (response.status_code, response.json()["type"]) == (400, "error")
        assert (await http.post(MESSAGES, content=requests("a"), headers={"anthropic-version": ""})).status_code == 200
        assert [(await stranger.get(path)).status_code for path in ("/v1/files", "/v1/batches", MESSAGES)] == [401] * 3
        assert (await http.put("/v1/batches")).status_code == 404
        assert (await http.get("/v1/batches", params={"limit": 0})).status_code == 400
        assert (await http.get("/v1/batches", params={"after": "x"})).status_code == 400
        server.outage(503)
        assert (await http.get("/v1/files")).status_code == 503
        server.outage(None)
        # a request that its dialect refuses is a result with an error
        done = await ended(http, await openai_batch(http, line(0, body={"model": "m", "messages": []})))
        (error,) = await content(http, done, "error")
        assert (error["response"]["status_code"], error["response"]["body"]["error"]["code"]) == (400, "empty_array")


async def test_the_files_of_a_simulator_are_gone_when_it_ends(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    async with simulated(batch_delay_s=60, batch_cancel_done=1) as server, client(server) as http:
        await openai_batch(http, lines(3))
        late = await anthropic_batch(http, 3)
        assert (await http.get(f"{MESSAGES}/{late['id']}/results")).status_code == 404
        assert (await http.get(f"{MESSAGES}/{late['id']}")).json()["processing_status"] == "in_progress"
        (folder,) = inside(tmp_path)
        assert len(inside(folder)) >= 2
    assert inside(tmp_path) == []
    assert KEY["x-api-key"] not in repr(server)
