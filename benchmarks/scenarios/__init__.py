"""The scenarios by name, in the order of the table."""

from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

from benchmarks.scenarios import broken, hopeless, hostile, known, outage, told, unknown
from benchmarks.scenarios.bench import Bench
from benchmarks.table import Figure

Scenario = Callable[[Path, Bench], Coroutine[Any, Any, list[Figure]]]

SCENARIOS: dict[str, Scenario] = {
    "rpm": known.requests,
    "tpm": known.tokens,
    "ceiling-hinted": unknown.hinted,
    "ceiling-silent": unknown.silent,
    "told-openai": told.openai,
    "told-anthropic": told.anthropic,
    "hopeless": hopeless.measure,
    "outage-503": outage.unavailable,
    "outage-529": outage.overloaded,
    "outage-refused": outage.refused,
    "broken": broken.measure,
    "hostile": hostile.measure,
}

__all__ = ["SCENARIOS", "Bench"]
