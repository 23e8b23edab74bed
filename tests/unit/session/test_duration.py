"""How long the rest of a run takes: by the tightest limit per minute, or by the requests that may be open at once."""

from pathlib import Path
from typing import Any

import pytest

from runner.config.job import Job, load_job
from runner.prices.interval import Interval
from runner.prices.sample import Lane
from runner.session.duration import duration
from runner.session.rest import Rest, Use


def exactly(number: float) -> Interval:
    return Interval(low=number, mid=number, high=number)


def given(folder: Path, **settings: Any) -> Job:
    (folder / "p.jsonl").write_text('{"prompt": "a"}\n')
    return load_job(folder / "p.jsonl", {"model": "m", **settings}, {})


USE = Use(models=("m",), requests=exactly(100), input=exactly(3_000), output=exactly(500))
REST = Rest(basis="sizes", left=100, learned=0, uses=(USE,), input=USE.input, output=USE.output)


@pytest.mark.parametrize(
    ("limits", "reported", "seconds", "by"),
    [
        ({"rpm": 50}, {}, 120, "rpm"),
        ({"rpm": 50}, {"rpm": 10.0}, 600, "rpm"),
        ({"rpm": 10}, {"rpm": 50.0}, 600, "rpm"),
        ({}, {"tpm": 700.0}, 300, "tpm"),
        ({"input_tpm": 1_000, "output_tpm": 100}, {}, 300, "output_tpm"),
        ({"input_tpm": 500, "output_tpm": 100}, {}, 360, "input_tpm"),
        ({}, {"rpm": 0.0}, None, None),
    ],
)
def test_the_tightest_limit_of_the_job_or_the_server_sets_the_pace(
    tmp_path: Path, limits: dict[str, Any], reported: dict[str, float], seconds: float | None, by: str | None
) -> None:
    found = duration(REST, given(tmp_path, **limits), {"m": Lane(slots=4, limits=reported)})
    assert found == (None if seconds is None else exactly(seconds), by)
