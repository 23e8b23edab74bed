"""Batch runner for prompts: gets an answer from an LLM to every prompt of a file, without paying twice for a finished one.

Each public name is imported when it is first used, so that importing the package costs almost nothing.
"""

from runner.version import __version__

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from runner.api import check, delete, estimate, export, name, report, results, resume, retry, run, runs, status, tag, vacuum
    from runner.async_api import aestimate, aresume, aretry, arun
    from runner.config.keywords import JobSettings
    from runner.errors import RunLockedError, RunnerError, RunStoppedError, StoreError, UsageError
    from runner.event_types import (
        AttemptFailed,
        Dropped,
        Finished,
        Noted,
        Progress,
        RowFinished,
        Started,
        Stopping,
        Summary,
        Waiting,
    )
    from runner.model import Result, Run
    from runner.row_events import FirstToken, PartialValue, RowStarted, Token
    from runner.session.comparing import Comparison, compare
    from runner.session.estimating import Estimate
    from runner.session.one_by_one import BlockingSession, Session
    from runner.session.pieces import Answer
    from runner.session.results import Results, RunSummary
    from runner.session.sources import ArrowStream
    from runner.session.stopping import StopHandle
    from runner.session.stream import Stream, events, stream
    from runner.session.transforms import sentences, texts, values

_HOMES = {
    **dict.fromkeys(
        (
            *("check", "delete", "estimate", "export", "name", "report", "resume", "results", "retry", "run", "runs", "status"),
            *("tag", "vacuum"),
        ),
        "runner.api",
    ),
    **dict.fromkeys(("RunLockedError", "RunStoppedError", "RunnerError", "StoreError", "UsageError"), "runner.errors"),
    **dict.fromkeys(("Result", "Run"), "runner.model"),
    **dict.fromkeys(("FirstToken", "PartialValue", "RowStarted", "Token"), "runner.row_events"),
    "JobSettings": "runner.config.keywords",
    **dict.fromkeys(("Results", "RunSummary"), "runner.session.results"),
    "ArrowStream": "runner.session.sources",
    **dict.fromkeys(("Comparison", "compare"), "runner.session.comparing"),
    "Estimate": "runner.session.estimating",
    "StopHandle": "runner.session.stopping",
    **dict.fromkeys(("aestimate", "aresume", "aretry", "arun"), "runner.async_api"),
    **dict.fromkeys(("Stream", "events", "stream"), "runner.session.stream"),
    **dict.fromkeys(("BlockingSession", "Session"), "runner.session.one_by_one"),
    "Answer": "runner.session.pieces",
    **dict.fromkeys(("sentences", "texts", "values"), "runner.session.transforms"),
    **dict.fromkeys(
        (
            "AttemptFailed",
            "Dropped",
            "Finished",
            "Noted",
            "Progress",
            "RowFinished",
            "Started",
            "Stopping",
            "Summary",
            "Waiting",
        ),
        "runner.event_types",
    ),
}

__all__ = [
    "Answer",
    "ArrowStream",
    "AttemptFailed",
    "BlockingSession",
    "Comparison",
    "Dropped",
    "Estimate",
    "Finished",
    "FirstToken",
    "JobSettings",
    "Noted",
    "PartialValue",
    "Progress",
    "Result",
    "Results",
    "RowFinished",
    "RowStarted",
    "Run",
    "RunLockedError",
    "RunStoppedError",
    "RunSummary",
    "RunnerError",
    "Session",
    "Started",
    "StopHandle",
    "Stopping",
    "StoreError",
    "Stream",
    "Summary",
    "Token",
    "UsageError",
    "Waiting",
    "__version__",
    "aestimate",
    "aresume",
    "aretry",
    "arun",
    "check",
    "compare",
    "delete",
    "estimate",
    "events",
    "export",
    "name",
    "report",
    "results",
    "resume",
    "retry",
    "run",
    "runs",
    "sentences",
    "status",
    "stream",
    "tag",
    "texts",
    "vacuum",
    "values",
]


def __getattr__(name: str) -> "Any":
    from importlib import import_module

    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return sorted(__all__)
