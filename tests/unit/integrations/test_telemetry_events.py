"""What telemetry makes of events: each attempt once, nothing that cannot be sent, and never more than so much at a time."""

import threading
from collections.abc import Iterator

import pytest
from collecting import Collector, collector, values

from runner.errors import UsageError
from runner.event_types import Saved, Started
from runner.integrations import telemetry
from runner.integrations import telemetry_names as names
from runner.integrations.telemetry import Telemetry
from runner.model import Attempt, Completion, Outcome
from runner.several import key_of

STARTED = Started(run=7, input="p.jsonl", rows=3, restored=0, notes=())


@pytest.fixture
def kept(monkeypatch: pytest.MonkeyPatch) -> Iterator[Collector]:
    with collector() as kept:
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", kept.url)
        yield kept


def attempt(key: str, number: int = 1, **given: object) -> Attempt:
    return Attempt(**{"key": key, "number": number, "started_at": 1e9, "duration_s": 2.0, "model": "m", **given})


def outcome(last: Attempt, **given: object) -> Outcome:
    done = Completion(text="t", finish_reason="stop")
    of = {"key": last.key, "position": 1, "status": "done", "metadata": {}, "fingerprint": 0, "completion": done, "attempt": last}
    return Outcome(**{**of, **given})


def told(*events: Saved, **given: object) -> list[str]:
    notes: list[str] = []
    with Telemetry("openai", note=notes.append, **given) as one:
        for event in (STARTED, *events):
            one.tell(event)
    return notes


def test_an_attempt_that_was_booked_before_its_outcome_is_told_once(kept: Collector) -> None:
    failed = attempt("a", error_code="http_500", error="words of the server")
    late = outcome(failed, status="failed", completion=None, error_code="http_500", booked=True)
    assert told(Saved(outcomes=(), attempts=(failed,)), Saved(outcomes=(late, outcome(attempt("b"))))) == []
    assert sorted(values(span.attributes)[names.ROW] for span in kept.attempts) == ["a", "b"]
    assert all(b"words of the server" not in body for body in kept.bodies)
    rows = {values(point.attributes)[names.OUTCOME]: point.as_int for point in kept.metrics[names.OUTCOMES.name].sum.data_points}
    assert rows == {"failed": 1, "done": 1}


def test_what_others_have_chosen_is_fit_to_send(kept: Collector) -> None:
    odd = attempt(
        key_of("x\ud800", 2), served_model="m\udfff", response_id="sk-0123456789abcdefghijklmnop", endpoint="e", started_at=5.5
    )
    notes = told(Saved(outcomes=(outcome(odd),)), base_url="https://user:word@llm.example/v1?key=word")
    assert notes == []
    (span,) = kept.attempts
    of = values(span.attributes)
    assert (of[names.ROW], of[names.ANSWER_NUMBER], of[names.RESPONSE_MODEL], of[names.ENDPOINT]) == ("x?", 2, "m?", "e")
    assert (of[names.ADDRESS], of[names.PORT]) == ("llm.example", 443)
    assert (span.start_time_unix_nano, span.end_time_unix_nano) == (5_500_000_000, 7_500_000_000)
    assert all(b"sk-0123" not in body and b"word" not in body for body in kept.bodies)


def test_models_without_end_are_told_together(kept: Collector) -> None:
    told(Saved(outcomes=tuple(outcome(attempt(str(row), model=f"m{row}")) for row in range(700))))
    points = kept.metrics[names.DURATION.name].histogram.data_points
    assert (len(points), sum(point.count for point in points)) == (501, 700)
    (rest,) = (point for point in points if names.OVERFLOW in values(point.attributes))
    assert rest.count == 200
    assert len(kept.attempts) == 700


def test_what_comes_faster_than_it_is_taken_is_left_out_and_counted(kept: Collector, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(telemetry, "MOST_WAITING", 10)
    notes: list[str] = []
    entered, go = threading.Event(), threading.Event()
    with Telemetry("openai", note=notes.append) as one:
        begin = one._attempts.begin

        def slow(event: Started) -> None:
            entered.set()
            assert go.wait(60)
            begin(event)

        monkeypatch.setattr(one._attempts, "begin", slow)
        one.tell(STARTED)
        assert entered.wait(60)
        for row in range(30):
            one.tell(Saved(outcomes=(outcome(attempt(str(row))),)))
        go.set()
    assert len(kept.attempts) == 10
    # the rows are counted all the same
    assert [point.as_int for point in kept.metrics[names.OUTCOMES.name].sum.data_points] == [30]
    assert ["20 spans were left out" in note for note in notes] == [True]


def test_what_is_told_after_a_fault_of_telemetry_waits_nowhere(kept: Collector, monkeypatch: pytest.MonkeyPatch) -> None:
    with Telemetry("openai", note=lambda _: None) as one:
        monkeypatch.setattr(one._attempts, "begin", None)
        one.tell(STARTED)
        one._thread.join(60)
        for row in range(3):
            one.tell(Saved(outcomes=(outcome(attempt(str(row))),)))
        assert (one._queue.qsize(), one._left_out) == (0, 3)


def test_one_signal_alone(kept: Collector, monkeypatch: pytest.MonkeyPatch) -> None:
    event = Saved(outcomes=(outcome(attempt("a")),))
    monkeypatch.setenv("OTEL_TRACES_EXPORTER", "none")
    assert (told(event), kept.spans, bool(kept.metrics)) == ([], [], True)
    # a note names where those are sent that are sent
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_METRICS_ENDPOINT", f"{kept.url}/v1/metrics")
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "http://127.0.0.1:1")
    with Telemetry("openai") as one:
        assert one._pipelines.collector == kept.url
    monkeypatch.delenv("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT")
    kept.metrics.clear()
    monkeypatch.setenv("OTEL_TRACES_EXPORTER", "otlp")
    monkeypatch.setenv("OTEL_METRICS_EXPORTER", "none")
    assert (told(event), len(kept.spans), kept.metrics) == ([], 2, {})
    kept.spans.clear()
    monkeypatch.setenv("OTEL_SDK_DISABLED", "true")
    assert (told(event), kept.spans, kept.metrics) == ([], [], {})


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc"),
        ("OTEL_TRACES_EXPORTER", "console"),
        ("OTEL_EXPORTER_OTLP_ENDPOINT", "localhost:4318"),
        ("OTEL_EXPORTER_OTLP_TIMEOUT", "soon"),
        ("OTEL_BSP_MAX_QUEUE_SIZE", "0"),
    ],
)
def test_a_variable_that_cannot_be_meant_is_refused(name: str, value: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(name, value)
    with pytest.raises(UsageError, match=name):
        Telemetry("openai")
