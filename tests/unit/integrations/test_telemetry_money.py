"""What telemetry says of money, of open requests and of its collector, and how long it is waited for."""

import pytest
from collecting import collector, values

from runner.event_types import Progress, Saved, Started
from runner.integrations import telemetry_names as names
from runner.integrations import telemetry_sdk
from runner.integrations.telemetry import END_AT_ONCE_S, END_S, Telemetry
from runner.model import Attempt, Usage
from runner.money import Price, Rates
from runner.pace import Pace

RATES = Rates(input=10**11, output=10**12, cached_input=0, cache_write=0, reasoning=10**12, cache_write_1h=0)


def attempt(key: str, status: int | None, **more: object) -> Attempt:
    usage, price = Usage(input_tokens=10, output_tokens=1, reasoning_tokens=0), Price(model="m", tier="standard", rates=RATES)
    of = {"key": key, "number": 1, "started_at": 1e9, "duration_s": 1.0, "model": "m", "status": status}
    return Attempt(**{**of, "usage": usage, "price": price, **more})  # type: ignore[arg-type]


def test_only_what_was_billed_costs_and_open_requests_are_those_of_the_session(monkeypatch: pytest.MonkeyPatch) -> None:
    told = (
        attempt("a", 200),
        attempt("b", 500, error_code="server_error"),
        attempt("c", None, error_code="dns", sent=False),
        attempt("d", 200, response_id="sk-0123456789abcdefghij"),
    )
    progress = Progress(
        rows=9,
        restored=0,
        restored_failed=0,
        done=0,
        failed=0,
        in_flight=5,
        output_tokens=0,
        elapsed_s=1.0,
        pace=Pace(at=1.0, lanes=()),
    )
    with collector() as kept:
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", kept.url)
        with Telemetry("openai") as one:
            one.tell(Started(run=7, input="p", rows=9, restored=0, notes=()))
            one.tell(Saved(outcomes=(), attempts=told))
            one.tell(progress)
            one._pipelines._metering.force_flush()
            assert [point.as_int for point in kept.metrics[names.IN_FLIGHT.name].gauge.data_points] == [5]
        assert [point.as_int for point in kept.metrics[names.IN_FLIGHT.name].gauge.data_points] == [0]
    costs = {values(span.attributes)[names.ROW]: values(span.attributes).get(names.COST) for span in kept.attempts}
    assert costs == {"a": 2.0, "b": None, "c": None, "d": 2.0}
    assert sum(point.as_double for point in kept.metrics[names.SPENT.name].sum.data_points) == 4.0
    assert not any(b"sk-0123" in body for body in kept.bodies)


def test_behind_an_error_the_collector_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    waits, close = list[float](), Telemetry.close
    monkeypatch.setenv("OTEL_SDK_DISABLED", "true")
    monkeypatch.setattr(Telemetry, "close", lambda one, within_s: (waits.append(within_s), close(one, within_s)))
    with Telemetry("openai"):
        pass
    with pytest.raises(KeyError), Telemetry("openai"):
        raise KeyError
    assert waits == [END_S, END_AT_ONCE_S]


def test_the_address_of_a_collector_is_told_without_what_may_be_secret() -> None:
    given = {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://user:word@127.0.0.1:9/path?key=word"}
    assert telemetry_sdk._collector(given) == "http://127.0.0.1:9"
