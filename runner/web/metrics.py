"""The state of all runs as Prometheus reads it."""

from collections.abc import Iterable, Mapping
from functools import partial
from pathlib import Path
from typing import Any, TypeAlias

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from runner import api
from runner.model import Run
from runner.money import PICO
from runner.store.reader import StoreReader
from runner.version import __version__
from runner.web.reads import reads_of

TYPE = "text/plain; version=0.0.4; charset=utf-8"
MOST_RUNS = 100
"""Runs that are told, the newest ones."""
Sample: TypeAlias = tuple[Mapping[str, str], float]
_HELP = {
    "runner_info": ("gauge", "The version of the program; always 1."),
    "runner_web_viewers": ("gauge", "Streams of events that are open."),
    "runner_web_sessions_followed": ("gauge", "Running sessions to which this server is connected."),
    "runner_run_active": ("gauge", "1 while a process works on the run."),
    "runner_run_rows": ("gauge", "Rows of the run by status; left are those without an outcome."),
    "runner_run_failed_rows": ("gauge", "Failed rows of the run by error code."),
    "runner_run_cost_dollars": ("counter", "What the run has cost as far as it is known; for runs that are active."),
    "runner_run_in_flight": ("gauge", "Requests that are open, by model."),
    "runner_run_slots": ("gauge", "Requests that may be open, by model."),
    "runner_run_left_seconds": ("gauge", "About how long the run still takes."),
}


async def metrics(request: Request) -> Response:
    """Answer with the figures of the newest runs."""
    reads, hub = reads_of(request), request.app.state.hub
    samples: dict[str, list[Sample]] = {name: [] for name in _HELP}
    samples["runner_info"].append(({"version": __version__}, 1))
    samples["runner_web_viewers"].append(({}, hub.watched))
    samples["runner_web_sessions_followed"].append(({}, len(hub.followed)))
    if reads.is_there:
        for run in (await reads.kept("runs", lambda: api.runs(db=reads.store)))[-MOST_RUNS:]:
            _of_run(run, samples)
            if run.active:
                cost = await reads.kept(("cost", run.id), partial(_cost, reads.store, run.id))
                samples["runner_run_cost_dollars"] += [({"run": str(run.id)}, cost)] if cost is not None else []
    return Response("".join(_lines(samples)), 200, {"Cache-Control": "no-store"}, TYPE)


def _cost(store: Path, run: int) -> float | None:
    with StoreReader(store) as reader:
        money = reader.money(run)
    return money.spent / PICO if money.priced else None


def _of_run(run: Run, samples: Mapping[str, list[Sample]]) -> None:
    of = {"run": str(run.id)}
    named = {**of, "name": run.name} if run.name else of
    samples["runner_run_active"].append((named, int(run.active)))
    samples["runner_run_rows"] += [({**of, "status": "done"}, run.done), ({**of, "status": "failed"}, run.failed)]
    if run.rows is not None:
        left = max(0, run.rows * run.answers - run.done - run.failed)
        samples["runner_run_rows"].append(({**of, "status": "left"}, left))
    samples["runner_run_failed_rows"] += [({**of, "code": code}, count) for code, count in run.causes.items()]
    if run.pace is None:
        return
    for lane in run.pace.lanes:
        model = {**of, "model": lane.model or ""}
        samples["runner_run_in_flight"].append((model, lane.in_flight))
        samples["runner_run_slots"].append((model, lane.slots))
    if run.pace.left_s is not None:
        samples["runner_run_left_seconds"].append((of, run.pace.left_s))


def _lines(samples: Mapping[str, list[Sample]]) -> Iterable[str]:
    for name, of_name in samples.items():
        kind, about = _HELP[name]
        if of_name:
            yield f"# HELP {name} {about}\n# TYPE {name} {kind}\n"
        for labels, value in of_name:
            inside = ",".join(f'{key}="{_escaped(text)}"' for key, text in labels.items())
            yield f"{name}{{{inside}}} {_number(value)}\n" if inside else f"{name} {_number(value)}\n"


def _escaped(text: str) -> str:
    return text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")


def _number(value: Any) -> str:
    return msgspec.json.encode(value).decode()
