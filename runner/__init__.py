"""Batch runner for prompts: gets an answer from an LLM to every prompt of a file, without paying twice for a finished one.

Each public name is imported when it is first used, so that importing the package costs almost nothing.
"""

from runner.version import __version__

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from runner.api import check, delete, export, results, resume, retry, run, runs, status
    from runner.config.keywords import JobSettings
    from runner.errors import RunLockedError, RunnerError, RunStoppedError, StoreError, UsageError
    from runner.event_types import Summary
    from runner.model import Result, Run
    from runner.session.results import Results, RunSummary
    from runner.session.sources import ArrowStream
    from runner.session.stopping import StopHandle

_HOMES = {
    **dict.fromkeys(("check", "delete", "export", "resume", "results", "retry", "run", "runs", "status"), "runner.api"),
    **dict.fromkeys(("RunLockedError", "RunStoppedError", "RunnerError", "StoreError", "UsageError"), "runner.errors"),
    **dict.fromkeys(("Result", "Run"), "runner.model"),
    "JobSettings": "runner.config.keywords",
    **dict.fromkeys(("Results", "RunSummary"), "runner.session.results"),
    "ArrowStream": "runner.session.sources",
    "StopHandle": "runner.session.stopping",
    "Summary": "runner.event_types",
}

__all__ = [
    "ArrowStream",
    "JobSettings",
    "Result",
    "Results",
    "Run",
    "RunLockedError",
    "RunStoppedError",
    "RunSummary",
    "RunnerError",
    "StopHandle",
    "StoreError",
    "Summary",
    "UsageError",
    "__version__",
    "check",
    "delete",
    "export",
    "results",
    "resume",
    "retry",
    "run",
    "runs",
    "status",
]


def __getattr__(name: str) -> "Any":
    from importlib import import_module

    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return sorted(__all__)
