"""What providers say of a batch: instants, states, counts, files and faults."""

from datetime import UTC, datetime
from typing import Any

import pytest

from runner.batches import BatchCounts, Fault
from runner.providers.batch.remotes import anthropic_remote, http_date, instant, openai_remote
from runner.providers.batch.rules import ANTHROPIC, STATES, vendor_of

OPENAI = vendor_of("openai", "https://api.openai.com/v1").rules
AT = 1_796_000_000.0
DAY = 86_400


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (1_796_000_000, AT),
        (1_796_000_000_000, AT),
        ("1796000000", AT),
        ("2026-11-30T00:53:20Z", AT),
        ("2026-11-30T00:53:20.250000+00:00", AT + 0.25),
        ("2026-11-30T06:23:20+05:30", AT),
        ("2026-11-29T19:53:20-05:00", AT),
        ("2026-11-30T00:53:20", AT),
        (None, None),
        (0, None),
        (True, None),
        ("soon", None),
        ("", None),
        ({}, None),
        (float("nan"), None),
        (1e300, None),
    ],
)
def test_instants(value: Any, expected: float | None) -> None:
    assert instant(value) == expected


def test_the_date_of_a_server() -> None:
    assert http_date("Mon, 30 Nov 2026 00:53:20 GMT") == AT
    assert http_date("yesterday") is None
    assert http_date(None) is None


@pytest.mark.parametrize("word", sorted(STATES))
def test_every_word_for_a_state_is_read_in_any_case(word: str) -> None:
    for own in (word, word.upper()):
        remote = openai_remote({"id": "b", "status": own}, OPENAI)
        assert remote is not None
        assert (remote.phase, remote.end, remote.word) == (*STATES[word], own)


def test_a_word_that_nobody_knows_is_not_the_end() -> None:
    remote = openai_remote({"id": "b", "status": "pondering", "output_file_id": "f"}, OPENAI)
    assert remote is not None
    assert (remote.phase, remote.end, remote.results) == ("working", None, ())


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        ({"output_file_id": "out", "error_file_id": "err"}, ("out", "err")),
        # completed with only a file of errors; empty texts are no files; Mistral's names
        ({"output_file_id": None, "error_file_id": "err"}, ("err",)),
        ({"output_file_id": "out", "error_file_id": ""}, ("out",)),
        ({"output_file": "out", "error_file": "err"}, ("out", "err")),
        ({"output_file_id": "one", "error_file_id": "one"}, ("one",)),
        ({}, ()),
    ],
)
@pytest.mark.parametrize("status", ["completed", "expired", "cancelled", "failed"])
def test_results_of_a_batch_that_has_ended_somehow(files: dict[str, Any], expected: tuple[str, ...], status: str) -> None:
    remote = openai_remote({"id": "b", "status": status, f"{status}_at": 1_796_000_000, **files}, OPENAI)
    assert remote is not None
    assert (remote.results, remote.ended_at, remote.kept_until) == (expected, AT, AT + 30 * DAY)


def test_a_whole_batch_of_openai() -> None:
    batch = {
        "id": "batch_1",
        "status": "failed",
        "created_at": 1_796_000_000,
        "failed_at": 1_796_000_060,
        "expires_at": 1_796_086_400,
        "metadata": {"runner": "token", "own": "x"},
        "request_counts": {"total": 3, "completed": 1, "failed": 2},
        "errors": {
            "object": "list",
            "data": [
                {"code": "invalid_json_line", "line": 2, "message": "This line is not parseable", "param": None},
                {"code": "token_limit_exceeded", "line": None, "message": "Enqueued token limit reached"},
                {"message": "the number of Enqueued tokens has surpassed the limit"},
                "odd",
            ],
        },
    }
    remote = openai_remote(batch, OPENAI)
    assert remote is not None
    assert (remote.token, remote.expires_at, remote.ended_at) == ("token", AT + DAY, AT + 60)
    assert remote.counts == BatchCounts(total=3, done=1, failed=2)
    assert remote.faults == (
        Fault(line=2, code="invalid_json_line", message="This line is not parseable"),
        Fault(line=None, code="batch_quota", message="Enqueued token limit reached"),
        Fault(line=None, code="batch_quota", message="the number of Enqueued tokens has surpassed the limit"),
        Fault(line=None, code="", message="odd"),
    )


def test_a_job_of_mistral_and_one_of_together() -> None:
    mistral = openai_remote(
        {"id": "j", "status": "TIMEOUT_EXCEEDED", "total_requests": 9, "succeeded_requests": 4, "failed_requests": 1,
         "completed_at": 1_796_000_000, "output_file": "o", "errors": [{"message": "x", "count": 2}]},
        vendor_of("openai", "https://api.mistral.ai/v1").rules,
    )  # fmt: skip
    assert mistral is not None
    assert (mistral.end, mistral.counts, mistral.results) == ("expired", BatchCounts(total=9, done=4, failed=1), ("o",))
    assert (mistral.ended_at, mistral.kept_until) == (AT, AT + DAY)
    together = openai_remote(
        {"id": "j", "status": "FAILED", "error": "Failed to calculate tokens", "job_deadline": "2026-11-30T00:53:20Z"},
        vendor_of("openai", "https://api.together.xyz/v1").rules,
    )
    assert together is not None
    assert (together.end, together.expires_at, together.kept_until) == ("failed", AT, None)
    assert together.faults == (Fault(line=None, code="", message="Failed to calculate tokens"),)


@pytest.mark.parametrize(
    ("counts", "cancelled", "end"),
    [
        ({"succeeded": 3}, False, "completed"),
        ({"errored": 3}, False, "completed"),
        ({"succeeded": 2, "expired": 1}, False, "expired"),
        ({"succeeded": 2, "canceled": 1}, True, "cancelled"),
        # a cancel that came too late
        ({"succeeded": 3}, True, "completed"),
    ],
)
def test_how_a_batch_of_anthropic_has_ended(counts: dict[str, int], cancelled: bool, end: str) -> None:
    batch = {
        "id": "msgbatch_1",
        "processing_status": "ended",
        "created_at": "2026-11-30T00:53:20Z",
        "ended_at": "2026-11-30T01:53:20Z",
        "expires_at": "2026-12-01T00:53:20Z",
        "cancel_initiated_at": "2026-11-30T01:00:00Z" if cancelled else None,
        "request_counts": counts,
        "results_url": "https://elsewhere.example/v1/messages/batches/msgbatch_1/results",
    }
    remote = anthropic_remote(batch, ANTHROPIC.rules)
    assert remote is not None
    assert (remote.end, remote.counts.total, remote.kept_until) == (end, 3, AT + 29 * DAY)
    assert remote.results == ("msgbatch_1",)
    archived = anthropic_remote({**batch, "archived_at": "2026-12-30T00:00:00Z"}, ANTHROPIC.rules)
    assert archived is not None
    assert (archived.results, archived.kept_until) == ((), datetime(2026, 12, 30, tzinfo=UTC).timestamp())


@pytest.mark.parametrize("value", [None, [], "x", {}, {"id": 7}, {"error": {"message": "x"}}])
def test_what_is_no_batch(value: Any) -> None:
    assert openai_remote(value, OPENAI) is None
    assert anthropic_remote(value, ANTHROPIC.rules) is None
