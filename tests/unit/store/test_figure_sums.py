"""The figures of a report, compared with what is counted here from the same attempts, one by one."""

import json
import math
import sqlite3
from collections import Counter
from contextlib import closing
from pathlib import Path

import pytest
from reported import BEGIN, HOSTILE, PAUSE_S, RATES, SCHEMA, attempts_of, entries, stored

from runner.answer_shape import fields_of
from runner.figures import QUANTILES, Figures, Spread
from runner.model import Attempt, Entry, Outcome
from runner.store.figure_sums import figures_of
from runner.store.reader import StoreReader

ROWS = 400


def figures(path: Path, **more: object) -> Figures:
    with StoreReader(path) as reader, reader.snapshot():
        codes = ("rate_limited", "server_error", "truncated")
        return figures_of(reader.fetch, 1, 1, fields_of(SCHEMA), codes, **{"priced": True, **more})  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def saved() -> list[Entry]:
    return entries(ROWS)


@pytest.fixture(scope="module")
def found(saved: list[Entry], tmp_path_factory: pytest.TempPathFactory) -> Figures:
    return figures(stored(tmp_path_factory.mktemp("store") / "runner.db", saved))


def answered(saved: list[Entry]) -> list[Attempt]:
    return [one for one in attempts_of(saved) if one.error_code is None]


def three(value: float) -> float:
    return float(f"{value:.2e}")


def is_spread_of(spread: Spread | None, values: list[float]) -> None:
    assert spread is not None
    ranked = sorted(map(three, values))
    assert spread.count == len(values)
    assert spread.mean == pytest.approx(sum(values) / len(values))
    wanted = {share: ranked[max(1, math.ceil(share / 100 * len(ranked))) - 1] for share in (0, *QUANTILES, 100)}
    assert dict(spread.quantiles) == wanted
    assert len(spread.bars) <= 60
    for bar in spread.bars:
        assert bar.number == sum(bar.low <= value < bar.high for value in ranked)
    assert sum(bar.number for bar in spread.bars) == len(values)
    assert [bar.high for bar in spread.bars[:-1]] == [bar.low for bar in spread.bars[1:]]


def test_times_and_tokens_are_spread_as_those_of_the_answers(found: Figures, saved: list[Entry]) -> None:
    good = answered(saved)
    is_spread_of(found.whole_answer, [one.duration_s for one in good])
    is_spread_of(found.first_token, [one.time_to_first_token_s or 0.0 for one in good])
    is_spread_of(found.input_tokens, [float(one.usage.input_tokens or 0) for one in good if one.usage])
    is_spread_of(found.output_tokens, [float(one.usage.output_tokens or 0) for one in good if one.usage])
    between = [
        (one.duration_s - (one.time_to_first_token_s or 0.0)) / ((one.usage.output_tokens or 0) - 1)
        for one in good
        if one.usage and (one.usage.output_tokens or 0) > 1
    ]
    is_spread_of(found.between_tokens, between)


def test_each_attempt_counts_in_one_slice_of_the_time(found: Figures, saved: list[Entry]) -> None:
    course, every = found.course, attempts_of(saved)
    assert course is not None
    kinds = Counter("answers" if one.error_code is None else "refused" if one.status == 429 else "failed" for one in every)
    for kind, number in kinds.items():
        assert sum(getattr(one, kind) for one in course.slices) == number
    for one in course.slices:
        inside = [each for each in every if one.begin <= each.started_at + each.duration_s < one.begin + course.width]
        assert one.answers == sum(each.error_code is None for each in inside)
        assert one.output_tokens == sum(each.usage.output_tokens or 0 for each in inside if each.usage)


def test_requests_in_flight_are_the_mean_of_a_slice(found: Figures, saved: list[Entry]) -> None:
    course = found.course
    assert course is not None
    for one in course.slices:
        end = one.begin + course.width
        open_s = sum(
            max(0.0, min(end, each.started_at + each.duration_s) - max(one.begin, each.started_at)) for each in attempts_of(saved)
        )
        assert one.in_flight == pytest.approx(open_s / course.width, abs=1e-4)


def test_a_long_pause_is_left_out(found: Figures) -> None:
    course = found.course
    assert course is not None
    first, second = course.periods
    assert first.begin <= BEGIN < first.begin + course.width
    assert second.begin <= BEGIN + PAUSE_S + ROWS // 2 * 0.25 < second.begin + course.width
    assert course.slices[second.first].begin == second.begin
    assert len(course.slices) < 100


def test_money_by_cause_is_that_of_the_attempts(found: Figures, saved: list[Entry]) -> None:
    every = attempts_of(saved)
    assert found.causes[0].code is None
    for cause in found.causes:
        of = [one for one in every if one.error_code == cause.code]
        assert (cause.attempts, cause.unpriced, cause.unlimited) == (len(of), 0, 0)
        spent = sum(
            (one.usage.input_tokens or 0) * RATES.input + (one.usage.output_tokens or 0) * RATES.output for one in of if one.usage
        )
        assert (cause.cost or 0.0) == pytest.approx(spent / 1e12)
        cut = sum(one.status == 200 and one.usage is None for one in of)
        assert (cause.perhaps or 0.0) == pytest.approx(cut * (100 * RATES.input + 200 * RATES.output) / 1e12)
    assert found.course is not None
    assert sum(one.cost for one in found.course.slices) == pytest.approx(sum(cause.cost or 0.0 for cause in found.causes))


def test_the_slowest_and_the_dearest_come_first(found: Figures, saved: list[Entry]) -> None:
    good = sorted(answered(saved), key=lambda one: -one.duration_s)
    assert [row.key for row in found.slowest] == [one.key for one in good[:10]]
    costs = Counter[str]()
    for one in answered(saved):
        assert one.usage
        costs[one.key] += (one.usage.input_tokens or 0) * RATES.input + (one.usage.output_tokens or 0) * RATES.output
    assert [row.cost for row in found.dearest] == pytest.approx([cost / 1e12 for _, cost in costs.most_common(10)])


def test_fields_are_counted_by_their_values(found: Figures, saved: list[Entry]) -> None:
    texts = [json.loads(one.completion.text) for one in saved if isinstance(one, Outcome) and one.completion]
    fields = {field.name: field for field in found.answers.fields}
    assert list(fields) == [name for name in SCHEMA["properties"] if '"' not in name]
    moods = Counter(text["mood"] for text in texts)
    assert {json.loads(value): count for value, count in fields["mood"].values} == moods
    assert (fields["sure"].missing, {value for value, _ in fields["sure"].values}) == (
        sum(text["sure"] is None for text in texts),
        {"true", "false"},
    )
    is_spread_of(fields["stars"].spread, [float(text["stars"]) for text in texts])
    is_spread_of(fields["share"].spread, [text["share"] for text in texts])
    reason = fields["reason"]
    assert (reason.is_length, reason.values) == (True, [])
    # a text of SQLite ends at a NUL for ``length``
    is_spread_of(reason.spread, [float(len(text["reason"].split("\0")[0])) for text in texts])
    assert fields[HOSTILE[1]].kind == "other"
    assert found.answers.notes == {
        "fenced": sum(bool(one.completion.notes) for one in saved if isinstance(one, Outcome) and one.completion)
    }


def test_examples_are_the_first_rows_of_their_cause(found: Figures, saved: list[Entry]) -> None:
    failed = [one for one in saved if isinstance(one, Outcome) and one.status == "failed"]
    for code, rows in found.examples.items():
        assert [row.key for row in rows] == [one.key for one in failed if one.error_code == code][:3]


def test_a_run_without_attempts_has_no_figures(tmp_path: Path) -> None:
    none = figures(stored(tmp_path / "runner.db", []))
    assert (none.course, none.causes, none.whole_answer, none.slowest, none.answers.characters) == (None, [], None, [], None)
    assert [field.values for field in none.answers.fields if field.values] == []


def test_one_attempt_is_enough(tmp_path: Path) -> None:
    one = next(entry for entry in entries(20) if isinstance(entry, Outcome) and entry.status == "done")
    found = figures(stored(tmp_path / "runner.db", [one]))
    assert found.course is not None
    assert len(found.course.slices) <= 80
    assert found.whole_answer is not None
    assert found.whole_answer.count == 1


@pytest.mark.parametrize("ended", [None, BEGIN + 300.0])
def test_a_course_goes_on_as_long_as_requests_are_open(tmp_path: Path, ended: float | None) -> None:
    one = next(entry for entry in entries(20) if isinstance(entry, Outcome) and entry.status == "done")
    assert one.attempt is not None
    path = stored(tmp_path / "runner.db", [one])
    last = one.attempt.started_at + one.attempt.duration_s
    # nothing was in flight at first; from 200 s on, something was until the process was killed
    moments = json.dumps([[100.0, 1.0, 5.0], [200.0, 0.0, 5.0], [250.0, 2.0, 5.0], [300.0, 2.0, 5.0]])
    with closing(sqlite3.connect(path)) as connection, connection:
        values = (BEGIN, BEGIN + 300.0, ended, moments)
        names = "run_id, began_at, noted_at, ended_at, time, timeline"
        connection.execute(f"INSERT INTO sessions ({names}) VALUES (1, ?, ?, ?, '{{}}', ?)", values)
    course = figures(path).course
    assert course is not None
    assert course.periods[-1].end == (last if ended else BEGIN + 300.0)
    assert course.worked_s == pytest.approx(one.attempt.duration_s + (0.0 if ended else 50.0))


def test_an_answer_that_is_no_json_is_one_without_the_field(tmp_path: Path) -> None:
    path = stored(tmp_path / "runner.db", entries(20))
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("UPDATE items SET text = '{broken' WHERE status = 'done'")
    found = figures(path)
    assert all(not field.values and field.missing for field in found.answers.fields)
