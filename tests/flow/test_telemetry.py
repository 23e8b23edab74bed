"""OpenTelemetry is told of each attempt of a real run; a collector that does not take it costs the run nothing."""

import json
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from collecting import Collector, collector, values
from processes import Simulated, environment, rows, run, simulator

import runner
from runner.integrations import telemetry_names as names
from runner.integrations.telemetry import Telemetry

SECRET = "sk-telemetry-secret-0123456789abcdef"
MARK = "a zebra in the prompt"
FAULTS = ("--fault", "500=0.3", "--fault", "truncate=0.2", "--fault", "length=0.2")


def prompts(folder: Path, number: int) -> Path:
    path = folder / "prompts.jsonl"
    path.write_text("".join(json.dumps({"id": f"r{row}", "prompt": f"{MARK} {row}"}) + "\n" for row in range(number)))
    return path


@pytest.fixture(autouse=True)
def _no_variables_of_ours(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("OTEL_SERVICE_NAME", "OTEL_RESOURCE_ATTRIBUTES", "OTEL_SDK_DISABLED"):
        monkeypatch.delenv(name, raising=False)


def told(store: Path, base_url: str, source: Path, **settings: Any) -> list[str]:
    """Run rows with telemetry; return what was noted of it."""
    notes: list[str] = []
    with Telemetry("openai", base_url=base_url, note=notes.append) as telemetry:
        summary = runner.run(source, db=store, base_url=base_url, observe=telemetry.tell, progress=False, **settings)
    assert summary.left == 0
    return notes


def points(kept: Collector, metric: names.Metric) -> list[Any]:
    sent = kept.metrics[metric.name]
    assert (sent.unit, sent.description) == (metric.unit, metric.description)
    found = list(getattr(sent, {"counter": "sum"}.get(metric.kind, metric.kind)).data_points)
    assert all(values(point.attributes).keys() <= set(metric.attributes) for point in found)
    return found


def test_spans_and_figures_are_those_of_the_books(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", SECRET)
    with collector() as kept, simulator("--first-token-s", "0", "--chunk-s", "0", *FAULTS) as server:
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", kept.url)
        prices = {"m": {"input": 1.0, "output": 2.0}}
        source = prompts(tmp_path, 40)
        assert told(tmp_path / "r.db", server.openai, source, model="m", attempts=2, prices=prices, concurrency=40) == []
        port = int(server.openai.rpartition(":")[2].partition("/")[0])
    query = "SELECT item_key, number, error_code, status, input_tokens, output_tokens, started_at, duration_s FROM attempts"
    booked = rows(tmp_path / "r.db", query)
    spans = [(span, values(span.attributes)) for span in kept.attempts]

    def key(of: dict[str, Any]) -> tuple[Any, ...]:
        wanted = (names.ROW, names.ATTEMPT, names.ERROR, names.HTTP_STATUS, names.INPUT_TOKENS, names.OUTPUT_TOKENS)
        return tuple(of.get(name) for name in wanted)

    # every attempt of the books, failed ones too, once, and no other
    assert Counter(key(of) for _, of in spans) == Counter(row[:6] for row in booked)
    assert len(booked) > 40
    assert {code for *_, code in (row[:3] for row in booked)} > {None}
    times = {(row[0], row[1]): (row[6], row[7]) for row in booked}
    for span, of in spans:
        begun, took = times[of[names.ROW], of[names.ATTEMPT]]
        assert abs(span.start_time_unix_nano - begun * 1e9) < 1e4
        assert abs(span.end_time_unix_nano - span.start_time_unix_nano - took * 1e9) < 1e4
        assert (span.name, span.kind, span.parent_span_id) == ("chat m", span.SPAN_KIND_CLIENT, kept.session.span_id)
        assert span.trace_id == kept.session.trace_id
        assert (span.status.code == span.status.STATUS_CODE_ERROR) == (names.ERROR in of)
        assert (of[names.ADDRESS], of[names.PORT], of[names.RUN], of[names.PROVIDER]) == ("127.0.0.1", port, 1, "openai")
        assert of.keys() <= set(names.ATTEMPT_ATTRIBUTES)
    assert {reason for _, of in spans for reason in of.get(names.FINISH_REASONS, [])} == {"stop", "length"}
    ends = dict(rows(tmp_path / "r.db", "SELECT status, count(*) FROM items GROUP BY status"))
    session = values(kept.session.attributes)
    assert session == {names.RUN: 1, names.ROWS: 40, names.DONE: ends["done"], names.FAILED: ends.get("failed", 0)}

    # the same in sums
    tokens = {values(point.attributes)[names.TOKEN_TYPE]: 0.0 for point in points(kept, names.TOKEN_USAGE)}
    for point in points(kept, names.TOKEN_USAGE):
        tokens[values(point.attributes)[names.TOKEN_TYPE]] += point.sum
    assert tokens == {"input": sum(row[4] or 0 for row in booked), "output": sum(row[5] or 0 for row in booked)}
    assert sum(point.count for point in points(kept, names.DURATION)) == len(booked)
    assert sum(point.sum for point in points(kept, names.DURATION)) == pytest.approx(sum(row[7] for row in booked))
    assert sum(point.count for point in points(kept, names.TIME_TO_FIRST_CHUNK)) > 0
    outcomes = Counter[str]()
    for point in points(kept, names.OUTCOMES):
        outcomes[values(point.attributes)[names.OUTCOME]] += point.as_int
    assert outcomes == Counter(ends)
    assert [point.as_int for point in points(kept, names.IN_FLIGHT)] == [0]
    spent = sum(point.as_double for point in points(kept, names.SPENT))
    assert spent == pytest.approx(runner.status(db=tmp_path / "r.db")[1].cost)
    assert {metric.name for metric in names.METRICS} == kept.metrics.keys()
    assert (kept.schemas, kept.resource["service.name"]) == ({names.SCHEMA_URL}, "runner")

    # no text of a prompt or an answer, and no key
    answers = rows(tmp_path / "r.db", "SELECT text FROM items WHERE text IS NOT NULL")
    assert len(answers) == ends["done"]
    for body in kept.bodies:
        assert b"zebra" not in body
        assert SECRET.encode() not in body
        assert not any(text.encode() in body for (text,) in answers)


@pytest.mark.parametrize(
    ("trouble", "said"),
    [("hangs", "did not take what was left in 0.3 s"), ("500", "reach its collector at"), ("absent", "reach its collector at")],
)
def test_a_collector_in_trouble_costs_the_run_nothing(
    trouble: str, said: str, server: Simulated, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    notes: list[str] = []
    with collector(500, hangs=trouble == "hangs") as kept:
        # nobody listens at the port of the discard service
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:9" if trouble == "absent" else kept.url)
        # what is tried again comes to its end within the test
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_TIMEOUT", "1")
        monkeypatch.setenv("OTEL_BSP_SCHEDULE_DELAY", "10")
        telemetry = Telemetry("openai", note=notes.append)
        summary = runner.run(
            prompts(tmp_path, 40), db=tmp_path / "r.db", model="m", base_url=server.openai, observe=telemetry.tell, progress=False
        )
        assert (summary.finished, summary.done) == (True, 40)
        telemetry.close(0.3 if trouble == "hangs" else 30)
        assert kept.asked.is_set() == (trouble != "absent")
    (note,) = notes
    assert said in note
    assert "127.0.0.1" in note


def test_the_command_tells_of_the_same_run(server: Simulated, folder: Path) -> None:
    with collector() as kept:
        env = {"OTEL_EXPORTER_OTLP_ENDPOINT": kept.url, "OTEL_SERVICE_NAME": "mine"}
        given = ("run", "prompts.jsonl", "--model", "m", "--base-url", server.openai, "--json")
        first = run(*given, "--telemetry", "--limit", "4", cwd=folder, env=env)
        assert first.code in (0, 1)
        assert (len(kept.attempts), kept.resource["service.name"]) == (4, "mine")
        # it is no other run without it
        rest = run(*given, cwd=folder, env=env)
        assert (rest.code, len(kept.spans)) == (0, 5)
    finished = json.loads(rest.out.splitlines()[-1])
    assert (finished["run"], finished["skipped"], finished["done_now"]) == (1, 4, 6)


def test_a_missing_collector_is_one_line_of_the_command(server: Simulated, folder: Path) -> None:
    env = {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:9", "OTEL_EXPORTER_OTLP_TIMEOUT": "1"}
    ended = run("run", "prompts.jsonl", "--model", "m", "--base-url", server.openai, "--telemetry", cwd=folder, env=env)
    assert ended.code == 0
    assert (ended.out + ended.err).count("telemetry") == 1
    assert "collector at http://127.0.0.1:9" in ended.out + ended.err


def test_without_the_extra_nothing_is_sent(folder: Path) -> None:
    code = "import sys; sys.modules['opentelemetry'] = None; from runner.cli.main import main; main()"
    given = ("run", "prompts.jsonl", "--model", "m", "--base-url", "http://127.0.0.1:9", "--telemetry")
    ended = subprocess.run(
        [sys.executable, "-c", code, *given], cwd=folder, env=environment(), capture_output=True, text=True, check=False
    )
    assert ended.returncode == 2
    assert ended.stderr == ("runner: telemetry needs libraries that are not installed: `pip install 'prompt-runner[otel]'`\n")
    assert not (folder / "runner.db").exists()
