"""What becomes of rows by what their batches answer, over several sessions. The provider is in memory, the store is real."""

from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import Any

import pytest
from batching import Scripted, Session, items_of, refused, said, session
from msgspec import structs
from small_disks import fill, small_disk

from runner.batches import BatchCounts, Fault, Remote
from runner.engine.batch.outlook import Decision
from runner.engine.batch.parts import Standing
from runner.engine.retry import RetryPolicy
from runner.errors import ProviderError, StoreError
from runner.model import Attempt, Params
from runner.providers.informed import Rules
from runner.schema.answers import AnswerCheck
from runner.several import key_of

pytestmark = pytest.mark.anyio
Open = Callable[..., AbstractAsyncContextManager[Session]]
SCHEMA = {"type": "object", "properties": {"n": {"type": "integer"}}, "required": ["n"]}


def opened(folder: Path, provider: Scripted, count: int = 4, **more: Any) -> AbstractAsyncContextManager[Session]:
    folder.mkdir(exist_ok=True)
    params = more.pop("params", None)
    return session(folder, "http://provider", "openai", items_of(count, params=params), service=provider, **more)


def codes(one: Session) -> Counter[str | None]:
    return Counter(entry.error_code for entry in one.entries if isinstance(entry, Attempt))


async def test_an_answer_that_does_not_fit_is_asked_for_again_with_the_reason(tmp_path: Path) -> None:
    def answer(name: str, body: dict[str, Any]) -> dict[str, Any]:
        good = name != "row-1" or len(body["messages"]) > 1
        return said(name, '{"n": 1}' if good and name != "row-2" else "no JSON")

    provider = Scripted(answer)
    check = {"rules": Rules(AnswerCheck(SCHEMA))}
    async with opened(tmp_path, provider, informed=check, policy=RetryPolicy(repairs=2)) as one:
        assert (await one.run()).why == "done"
        assert {key: (found.status, found.attempts) for key, found in one.outcomes.items()} == {
            "row-0": ("done", 1), "row-1": ("done", 2), "row-2": ("failed", 3), "row-3": ("done", 1),
        }  # fmt: skip
        first, second, third = provider.asked
        assert [list(rows) for rows in (first, second, third)] == [
            ["row-0", "row-1", "row-2", "row-3"],
            ["row-1", "row-2"],
            ["row-2"],
        ]
        # as live: the row's own messages, the last answer, and what is wrong with it
        for rows in (second, third):
            asked, said_before, reason = rows["row-2"]["messages"]
            assert asked == first["row-2"]["messages"][0]
            assert said_before == {"role": "assistant", "content": "no JSON"}
            assert "cannot be used" in reason["content"]
        failed = one.outcomes["row-2"]
        assert (failed.error_code, failed.completion.text if failed.completion else None) == ("invalid_output", "no JSON")
        assert codes(one) == {"invalid_output": 3}
        assert await one.store.batches.reasks(["row-1", "row-2"]) == {}


async def test_attempts_count_over_sessions_and_repairs_are_kept_meanwhile(tmp_path: Path) -> None:
    def answer(name: str, body: dict[str, Any]) -> dict[str, Any]:
        if name == "row-1" and len(body["messages"]) == 1:
            return said(name, "no JSON")
        return said(name, '{"n": 1}') if name == "row-0" else refused(name, 500, "the server failed")

    provider = Scripted(answer)
    check = {"rules": Rules(AnswerCheck(SCHEMA))}
    for number in range(1, 5):
        policy = RetryPolicy(attempts=3, repairs=1)
        async with opened(tmp_path, provider, 2, informed=check, policy=policy, again=False) as one:
            left = await one.run()
            stored = (await one.store.settled(["row-1"]))["row-1"]
            assert stored.attempts == number
            # the first attempt was answered, so three more are not too many
            assert (left.why, stored.status) == (("live", None) if number < 4 else ("done", "failed"))
    assert [len(rows["row-1"]["messages"]) for rows in provider.asked] == [1, 3, 3, 3]


async def test_a_parameter_that_is_refused_is_left_out_of_the_next_file(tmp_path: Path) -> None:
    def answer(name: str, body: dict[str, Any]) -> dict[str, Any]:
        if "temperature" in body:
            message = "Unsupported parameter: 'temperature' is not supported with this model."
            return refused(name, 400, message, param="temperature", code="unsupported_parameter")
        return said(name, "yes")

    provider = Scripted(answer)
    async with opened(tmp_path, provider, params=Params(temperature=0.5, top_p=0.9, max_tokens=50)) as one:
        assert (await one.run()).why == "done"
        assert Counter(found.status for found in one.outcomes.values()) == {"done": 4}
        assert [all("temperature" in body for body in rows.values()) for rows in provider.asked] == [True, False]
        assert all(body["top_p"] == 0.9 and body["max_tokens"] == 50 for body in provider.asked[1].values())
        assert codes(one) == {"unsupported_parameter": 4}
        assert [note for note in one.notes if "temperature" in note] == [
            "m does not take temperature: it is left out from now on (--strict-params stops instead)"
        ]


async def test_a_made_up_seed_that_may_be_refused_is_tried_without(tmp_path: Path) -> None:
    def answer(name: str, body: dict[str, Any]) -> dict[str, Any]:
        return refused(name, 400, "Bad value.") if "seed" in body else said(name, "yes")

    provider = Scripted(answer)
    items = [structs.replace(item, key=key_of(item.key, 2)) for item in items_of(3)]
    async with session(tmp_path, "http://provider", "openai", items, service=provider) as one:
        assert (await one.run()).why == "done"
        assert Counter(found.status for found in one.outcomes.values()) == {"done": 3}
        assert [["seed" in body for body in rows.values()] for rows in provider.asked] == [[True] * 3, [False] * 3]


@pytest.mark.parametrize(
    ("status", "message", "code", "words"),
    [
        (401, "Incorrect API key provided.", "auth", "valid key"),
        (404, "The model `m` does not exist.", "not_found", "Correct model"),
        (429, "You exceeded your current quota, please check your plan and billing details.", "billing", "Add credit"),
    ],
)
async def test_what_stops_a_live_run_stops_this_one_but_loses_no_answer(
    status: int, message: str, code: str, words: str, tmp_path: Path
) -> None:
    error = {"code": "insufficient_quota"} if code == "billing" else {}
    provider = Scripted(
        lambda name, _: said(name, "yes") if name == "row-3" and code == "billing" else refused(name, status, message, **error)
    )
    async with opened(tmp_path, provider) as one:
        assert (await one.run()).why == "stopped"
        assert one.stop.error is not None
        assert (one.stop.error.code, words in (one.stop.reason or "")) == (code, True)
        assert [key for key, found in one.outcomes.items() if found.status == "done"] == (["row-3"] if code == "billing" else [])
        assert codes(one)[code] == (3 if code == "billing" else 4)
        # they are open, and the next session goes on with them
        assert await one.store.batches.batches() == []
    provider.answer = lambda name, _: said(name, "yes")
    async with opened(tmp_path, provider) as one:
        assert (await one.run()).why == "done"
        assert (await one.store.counts()).done == 4


async def test_rows_are_not_blamed_for_a_batch_that_is_refused_as_a_whole(tmp_path: Path) -> None:
    provider = Scripted(lambda name, _: refused(name, 403, "Forbidden."))
    async with opened(tmp_path, provider) as one:
        assert (await one.run()).why == "stopped"
        assert "every row of the batch was refused" in (one.stop.reason or "")
        assert one.outcomes == {}
    provider.answer = lambda name, _: refused(name, 403, "Forbidden.") if name == "row-2" else said(name, "yes")
    async with opened(tmp_path, provider) as one:
        assert (await one.run()).why == "done"
        assert one.outcomes["row-2"].error_code == "bad_request"


async def test_of_two_results_the_answer_counts_and_both_files_of_a_failed_batch_are_read(tmp_path: Path) -> None:
    provider = Scripted(lambda name, _: said(name, "yes"))
    provider.end = "failed"
    async with opened(tmp_path, provider, again=False) as one:
        create = provider.create

        async def twice(path: Path, upload_id: str | None, token: str) -> Any:
            remote = await create(path, upload_id, token)
            error = b'{"custom_id": "row-1", "response": null, "error": {"code": "server_error", "message": "no"}}\n'
            odd = b'{"custom_id": "row-2", "response": {"status_code": 0, "body": null}}\nno json\n{"custom_id": 5}\n'
            lines = provider.lines[token]
            provider.lines[token] = [error, odd, *(line for line in lines if b'"row-2"' not in line and b'"row-3"' not in line)]
            return remote

        provider.create = twice  # type: ignore[method-assign]
        assert (await one.run()).why == "live"
        assert set(one.outcomes) == {"row-0", "row-1"}
        lost = [(entry.key, entry.error_code, entry.sent) for entry in one.entries if isinstance(entry, Attempt)]
        assert lost == [("row-2", "batch_missing", True), ("row-3", "batch_missing", True)]
        assert provider.deleted == [f"file-{token}" for token in provider.lines]


async def test_a_batch_that_failed_for_the_queue_is_not_sent_again_with_what_it_has_answered(tmp_path: Path) -> None:
    provider = Scripted(lambda name, _: said(name, "yes") if name in ("row-0", "row-1") or len(provider.asked) > 1 else None)
    look = provider.look

    async def failed(remote_id: str) -> Remote:
        remote = await look(remote_id)
        if len(provider.asked) > 1:
            return remote
        full = Fault(line=None, code="batch_quota", message="Enqueued token limit reached")
        return structs.replace(remote, end="failed", counts=BatchCounts(total=4, done=2), faults=(full,))

    provider.look = failed  # type: ignore[method-assign]
    async with opened(tmp_path, provider) as one:
        assert (await one.run()).why == "done"
        assert [sorted(rows) for rows in provider.asked] == [["row-0", "row-1", "row-2", "row-3"], ["row-2", "row-3"]]
        assert {found.status for found in one.outcomes.values()} == {"done"}


@pytest.mark.parametrize("limit", ["lines", "bytes"])
async def test_files_are_as_large_as_the_provider_takes_and_no_larger(limit: str, tmp_path: Path) -> None:
    provider, sizes = Scripted(lambda name, _: said(name, "yes")), []
    create = provider.create

    async def noted(path: Path, upload_id: str | None, token: str) -> Remote:
        sizes.append(path.stat().st_size)  # noqa: ASYNC240 - a small file
        return await create(path, upload_id, token)

    provider.create = noted  # type: ignore[method-assign]
    async with opened(tmp_path / "one", provider, 1) as one:
        await one.run()
    # each line is as long as the first
    (line,) = sizes
    most = {"lines": 3} if limit == "lines" else {"bytes": 3 * line}
    provider.rules = structs.replace(provider.rules, **most)
    async with opened(tmp_path / "ten", provider, 10) as one:
        assert (await one.run()).why == "done"
        assert [len(rows) for rows in provider.asked[1:]] == [3, 3, 3, 1]
        assert len(one.outcomes) == 10


PAGE = b"<html>\n" + b"<p>sign in</p>\n" * 9


@pytest.mark.parametrize(
    "spoilt",
    [
        pytest.param(lambda lines: [PAGE], id="a page in their place"),
        pytest.param(lambda lines: [b'{"error": {"message": "overloaded"}}\n'], id="an error in their place"),
        pytest.param(lambda lines: [], id="none, though it has ended"),
        pytest.param(lambda lines: [lines[0], lines[1]] * 2, id="half of them twice"),
        pytest.param(lambda lines: [*lines[:3], lines[3][:-30]], id="cut off"),
        pytest.param(lambda lines: [*lines[:3], lines[3].replace(b"row-3", b"row-x")], id="one of somebody else"),
        pytest.param(None, id="deleted here before they are read"),
    ],
)
async def test_results_that_are_not_there_yet_are_waited_for_and_not_bought_again(
    spoilt: Callable[[list[bytes]], list[bytes]] | None, tmp_path: Path
) -> None:
    provider = Scripted(lambda name, _: said(name, "yes"))
    provider.end = "completed"
    async with opened(tmp_path, provider) as one:
        whole, times = provider.download, iter(range(2))

        async def download(source: str, path: Path) -> None:
            lines = provider.lines[source]
            if next(times, None) is not None and spoilt is not None:
                provider.lines[source] = spoilt(lines)
            await whole(source, path)
            provider.lines[source] = lines

        original, gone = provider.results, iter(range(2))

        def results(path: Path) -> Any:
            if spoilt is None and next(gone, None) is not None:
                path.unlink()
            return original(path)

        provider.download, provider.results = download, results  # type: ignore[method-assign]
        assert (await one.run()).why == "done"
        assert {key: (found.status, found.attempts) for key, found in one.outcomes.items()} == {
            f"row-{number}": ("done", 1) for number in range(4)
        }
        assert (len(provider.asked), codes(one)) == (1, {})


async def test_a_file_that_is_being_written_can_be_cancelled(tmp_path: Path) -> None:
    provider = Scripted(lambda name, _: said(name, "yes"))
    items = items_of(4)
    items[1] = structs.replace(items[1], request=structs.replace(items[1].request, model="other"))

    def until(standing: Standing) -> Decision:
        writing = tuple(batch.id for batch in standing.batches if batch.state == "writing")
        return Decision(piece_rows=2, submit=4, cancel=writing, wake_at=standing.now + 1)

    async with session(tmp_path, "http://provider", "openai", items, service=provider, again=False) as one:
        assert (await one.run(until=until)).why == "done"
        assert [list(rows) for rows in provider.asked] == [["row-0", "row-2"]]
        assert [item.key async for item in one.source()] == ["row-1", "row-3"]


async def test_a_session_that_detaches_does_not_leave_missing_results_to_the_next_for_ever(tmp_path: Path) -> None:
    provider = Scripted(lambda name, _: said(name, "yes") if name != "row-3" else None)
    async with opened(tmp_path, provider, again=False) as one:
        left = await one.run(detach=True)
        assert (left.why, left.batches, left.returned, codes(one)) == ("done", 0, 1, {"batch_missing": 1})


async def test_a_fetch_waits_for_missing_results_as_long_as_a_session_does(tmp_path: Path) -> None:
    provider = Scripted(lambda name, _: said(name, "yes") if name != "row-3" else None)
    look = provider.look

    async def working(remote_id: str) -> Remote:
        return Remote(id=remote_id, phase="working", token=remote_id)

    provider.look = working  # type: ignore[method-assign]
    async with opened(tmp_path, provider) as one:
        assert (await one.run(detach=True)).why == "waiting"
    provider.look = look  # type: ignore[method-assign]
    async with opened(tmp_path, provider) as one:
        await one.batches.recover()
        left = await one.batches.fetch()
        assert (left.why, left.returned, codes(one), len(provider.asked)) == ("done", 1, {"batch_missing": 1}, 1)


async def test_an_outage_is_waited_out_and_told_once(tmp_path: Path) -> None:
    provider = Scripted(lambda name, _: said(name, "yes"))
    look, failures = provider.look, iter(range(20))

    async def failing(remote_id: str) -> Remote:
        if next(failures, None) is not None:
            raise ProviderError("500: the server failed", code="server_error", verdict="retry", status=500)
        return await look(remote_id)

    provider.look = failing  # type: ignore[method-assign]
    async with opened(tmp_path, provider) as one:
        assert (await one.run()).why == "done"
        (note,) = one.notes
        assert note.startswith("the batch API has failed for ")
        assert note.endswith("(500: the server failed): it is asked again until it answers")
        assert len(provider.asked) == 1


async def test_answers_are_stored_though_the_errors_cannot_be_had(tmp_path: Path) -> None:
    provider = Scripted(lambda name, _: said(name, "yes") if name != "row-3" else None)
    look, download = provider.look, provider.download

    async def with_errors(remote_id: str) -> Remote:
        return structs.replace(await look(remote_id), results=("errors", remote_id))

    async def gone(source: str, path: Path) -> None:
        if source == "errors":
            raise ProviderError("No such File object: errors", code="batch_not_found", verdict="retry", status=404)
        await download(source, path)

    provider.look, provider.download = with_errors, gone  # type: ignore[method-assign]
    async with opened(tmp_path, provider) as one:
        assert (await one.run()).why == "stopped"
        assert set(one.outcomes) == {"row-0", "row-1", "row-2"}
        assert "has not had all results of batch 1" in (one.stop.reason or "")
        assert (one.batches.open[1].state, one.batches.open[1].waiting, len(provider.asked)) == ("ended", 1, 1)


@pytest.mark.parametrize("end", ["expired", "failed"])
async def test_answers_that_a_provider_counts_and_never_gives_are_booked_as_perhaps_billed(end: str, tmp_path: Path) -> None:
    provider = Scripted(lambda name, _: said(name, "yes") if name == "row-0" and end == "expired" else None)
    provider.end, provider.counts = end, BatchCounts(total=4, done=2)
    async with opened(tmp_path, provider, again=False) as one:
        assert (await one.run()).why == "live"
        lost = {(entry.error_code, entry.sent, entry.input_bound is None) for entry in one.entries if isinstance(entry, Attempt)}
        assert lost == {("batch_missing", True, False)}
        assert one.batches.came_open == (3 if end == "expired" else 4)


async def test_an_answer_that_tells_no_usage_is_booked_at_the_most_that_it_can_be(tmp_path: Path) -> None:
    provider = Scripted(lambda name, _: said(name, "yes", **({"usage": None} if name == "row-1" else {})))
    async with opened(tmp_path, provider, 2, params=Params(max_tokens=50)) as one:
        assert (await one.run()).why == "done"
        told, untold = (one.outcomes[name].attempt for name in ("row-0", "row-1"))
        assert told is not None
        assert untold is not None
        assert (told.input_bound, told.output_bound, told.tier, untold.tier) == (None, None, "batch", "batch")
        assert (untold.usage, untold.output_bound, (untold.input_bound or 0) > 10) == (None, 50, True)


async def test_a_row_that_has_changed_is_not_asked_about_its_old_answer(tmp_path: Path) -> None:
    provider = Scripted(lambda name, _: said(name, "no JSON"))
    check = {"rules": Rules(AnswerCheck(SCHEMA))}
    async with opened(tmp_path, provider, 1, informed=check, policy=RetryPolicy(repairs=1), again=False) as one:
        assert (await one.run()).returned == 1
        one.items = [structs.replace(one.items[0], fingerprint=1)]
        await one.run()
        assert [len(rows["row-0"]["messages"]) for rows in provider.asked] == [1, 1]
        # it has a repair of its own
        assert (await one.run()).returned == 0
        assert [len(rows["row-0"]["messages"]) for rows in provider.asked] == [1, 1, 3]


@pytest.fixture
def disk(tmp_path: Path) -> AsyncIterator[Path]:
    with small_disk(tmp_path / "small", "256k") as folder:
        yield folder  # type: ignore[misc]


async def test_a_full_disk_loses_nothing(tmp_path: Path, disk: Path) -> None:
    provider = Scripted(lambda name, _: said(name, "yes " * 50))
    files = disk / "batches"
    async with opened(tmp_path, provider, 3000, files=files) as one:
        with pytest.raises(
            StoreError, match=r"the files of batches in .* cannot be written: No space left on device, \d+ MiB are"
        ):
            await one.run()
        assert await one.store.batches.batches() == []
        assert list(files.glob("*")) == []
    async with opened(tmp_path, provider, 200, files=files) as one:
        await one.batches.recover()
        original = provider.download

        async def full(source: str, path: Path) -> None:
            fill(disk / "other")
            await original(source, path)

        provider.download = full  # type: ignore[method-assign]
        with pytest.raises(StoreError, match="No space left on device"):
            await one.batches.run(one.source)
        assert one.outcomes == {}
    (disk / "other").unlink()
    provider.download = original  # type: ignore[method-assign]
    async with opened(tmp_path, provider, 200, files=files) as one:
        assert (await one.run()).why == "done"
        assert (len(one.outcomes), len(provider.asked)) == (200, 1)
