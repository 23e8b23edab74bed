"""States of lanes and events of progress that several tests show."""

from typing import Any

from runner.event_types import Progress
from runner.pace import LaneState, Pace

PAUSED = "paused for 45 s more (429, asked by the server)"
RETRYING = "3 rows on attempt 4 of 5"


def lane(model: str = "gpt-5-mini", **more: Any) -> LaneState:
    return LaneState(**{"model": model, "slots": 48, "ceiling": 256, "in_flight": 41, **more})


def at(*lanes: LaneState, retrying: str | None = None, **more: Any) -> Progress:
    fields = {"rows": 1000, "restored": 100, "done": 12, "failed": 0, "in_flight": 7, "output_tokens": 12_340, "elapsed_s": 10.0}
    fields["tokens_per_s"] = fields["output_tokens"] / 10
    return Progress(**{**fields, **more}, pace=Pace(at=1e9, lanes=lanes, retrying=retrying))
