"""The results of a run as a program reads them: rows, lists, typed tables, and what a notebook shows of them."""

import re
from pathlib import Path
from typing import Any

import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
from msgspec import structs

import runner
from runner.exports import frames

EVIL = "<script>alert('x')</script>\x1b[31m\u202e<img src=x onerror=y>"
ROWS = [
    {"id": "a", "text": EVIL, "n": 1, "score": 0.5, "good": True, "tags": ["x"], "big": 2**70, "mixed": 1, "status": "new"},
    {"id": "b", "text": "two", "n": None, "score": 2, "good": None, "tags": None, "big": 1, "mixed": "one", "status": None},
    {"id": "c", "n": 3},
]
OWN = ["input_text", "n", "score", "good", "tags", "big", "mixed", "input_status"]


@pytest.fixture(scope="module")
def ended(tmp_path_factory: pytest.TempPathFactory) -> runner.RunSummary:
    """A run with two rows that are done, and a broken one: it has no ``text``, which the template names."""
    db = tmp_path_factory.mktemp("results") / "runner.db"
    return runner.run(ROWS, db=db, provider="simulator", prompt="Say {{ text }}", system=EVIL)


def test_rows_come_again_and_again_and_are_counted(ended: runner.RunSummary) -> None:
    results = ended.results()
    assert [result.id for result in results] == [result.id for result in results] == ["a", "b", "c"]
    assert (len(results), results.run, repr(results)) == (3, 1, "<Results of run 1: 3 rows>")
    assert repr(results._run).startswith("Run(1, "), "a notebook shows it, without its sixty settings"
    assert [next(results).id, next(results).id] == ["a", "b"]
    assert [result.id for result in runner.results(db=ended.store)] == ["a", "b", "c"]


def test_a_result_and_a_summary_print_themselves_in_one_line(ended: runner.RunSummary) -> None:
    good, _, broken = ended.results()
    assert re.fullmatch(r"Result\('a', done, '\[simulated answer\].{40,50}\.\.\.'\)", repr(good))
    assert re.fullmatch(r"Result\('c', failed, \"bad_row: .*\"\)", repr(broken))
    assert re.fullmatch(r"run 1 finished: 2 done, 1 failed of 3 rows in 0:0\d", str(ended))
    stopped = structs.replace(ended, stop_reason="why \x1b[31m")
    assert "\x1b" not in str(stopped)


def test_lists_have_the_columns_of_an_export(ended: runner.RunSummary, tmp_path: Path) -> None:
    runner.export(tmp_path / "a.csv", db=ended.store)
    header = (tmp_path / "a.csv").read_text().splitlines()[0].replace('"', "").split(",")
    first, second, third = ended.results().to_list()
    assert list(first) == list(second) == list(third) == header
    assert header[: len(OWN) + 3] == ["id", *OWN, "prompt", "text"]
    assert {name: first[name] for name in OWN} == {name: ROWS[0][name.removeprefix("input_")] for name in OWN}
    assert (third["n"], third["good"], third["error_code"]) == (3, None, "bad_row")


PANDAS = dict(zip(OWN, ["string", "Int64", "float64", "boolean", "object", "object", "object", "string"], strict=True))


def test_pandas_has_typed_columns(ended: runner.RunSummary) -> None:
    frame = ended.results().to_pandas()
    assert {name: str(frame.dtypes[name]) for name in OWN} == PANDAS
    ours = {
        "id": "string",
        "prompt": "string",
        "finish_reason": "string",
        "input_tokens": "Int64",
        "attempts": "Int64",
        "line": "Int64",
    }
    assert {name: str(frame.dtypes[name]) for name in ours} == ours
    # nothing tells what these hold
    assert (str(frame.dtypes["cached_tokens"]), str(frame.dtypes["duration_s"])) == ("Int64", "float64")
    assert list(frame["n"].isna()) == [False, True, False]
    assert (frame["tags"][0], frame["big"][0], frame["mixed"].tolist()[:2]) == (["x"], 2**70, [1, "one"])


def test_polars_and_arrow_have_them_too(ended: runner.RunSummary) -> None:
    frame, table = ended.results().to_polars(), ended.results().to_arrow()
    assert [frame.schema[name] for name in OWN] == [pl.String, pl.Int64, pl.Float64, pl.Boolean, *[pl.String] * 4]
    assert [str(table.schema.field(name).type) for name in OWN] == ["string", "int64", "double", "bool", *["string"] * 4]
    for column in (lambda name: frame[name].to_list(), lambda name: table[name].to_pylist()):
        assert column("n") == [1, None, 3]
        assert column("score") == [0.5, 2.0, None]
        assert column("tags") == ['["x"]', None, None]
        assert column("big") == [str(2**70), "1", None]
        assert column("mixed") == ["1", "one", None]
        assert column("cached_tokens") == [None] * 3
    assert frame.schema["cached_tokens"] == pl.Int64
    assert table.schema.field("error_code").type == pa.string()


@pytest.mark.parametrize("make", [frames.to_pandas, frames.to_polars, frames.to_arrow])
def test_no_rows_are_still_columns(make: Any) -> None:
    empty = make(frames.gathered(["id", "attempts", "own"], []))
    assert list(getattr(empty, "columns", None) if not isinstance(empty, pa.Table) else empty.column_names) == [
        "id",
        "attempts",
        "own",
    ]


def test_what_goes_out_as_a_table_comes_back(ended: runner.RunSummary, tmp_path: Path) -> None:
    for number, frame in enumerate((ended.results().to_pandas(), ended.results().to_polars(), ended.results().to_arrow())):
        again = runner.run(
            frame, db=tmp_path / f"{number}.db", provider="simulator", prompt="{{ input_text or '' }} {{ n }}", limit=1
        )
        (result,) = again.results()
        assert result.prompt == f"{EVIL} 1"


def test_a_missing_library_is_named(ended: runner.RunSummary, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "polars", None)
    with pytest.raises(runner.UsageError, match="pip install polars"):
        ended.results().to_polars()


def test_a_notebook_shows_foreign_text_as_text(ended: runner.RunSummary, tmp_path: Path) -> None:
    shown = ended.results()._repr_html_()
    assert "<script" not in shown
    assert "<img" not in shown
    assert "&lt;script&gt;" in shown
    assert not re.search("[\x1b\u202e]", shown)
    # nothing is loaded from elsewhere, and what is shown has an end
    assert not re.search(r"https?:|src=|href=|url\(", re.sub("&lt;.*?&gt;", "", shown))
    many = runner.run(
        ["x" * 5_000 + str(number) for number in range(30)], db=tmp_path / "many.db", provider="simulator", limit=25
    )
    shown = many.results()._repr_html_()
    assert shown.count("<tr>") == 21
    assert "the first 20 of 25 rows" in shown
    assert len(shown) < 40_000
    assert "25 done, 0 failed, 5 left" not in many._repr_html_()
    assert "25 of 30 done, as asked by --limit; 5 left" in many._repr_html_()


def test_a_notebook_shows_the_fields_of_answers(tmp_path: Path) -> None:
    settings: dict[str, Any] = {"provider": "simulator", "fields": "mood: good|bad, text: str"}
    end = runner.run(["a", "b"], db=tmp_path / "runner.db", **settings)
    shown = re.sub("<[^>]*>", "|", end.results()._repr_html_())
    assert "|prompt||text||mood||answer_text||status|" in shown
    assert re.search(r"\|(good|bad)\|", shown)
    assert "|fields of the answers||mood, text|" in re.sub("<[^>]*>", "|", end._repr_html_())


def test_a_short_cell_stays_in_one_line_and_a_long_one_keeps_some_width(ended: runner.RunSummary) -> None:
    of = {text: style for style, text in re.findall(r'<t[dh] style="([^"]*)">([^<]*)<', ended.results()._repr_html_())}
    for text in ("status", "done", "a"):
        assert "white-space: nowrap" in of[text]
        assert "anywhere" not in of[text]
    (long,) = (style for text, style in of.items() if text.startswith("Say &lt;script"))
    assert "overflow-wrap: anywhere" in long
    assert "min-width" in long


def test_a_deleted_run_has_no_results(tmp_path: Path) -> None:
    ended = runner.run(["a"], db=tmp_path / "runner.db", provider="simulator")
    runner.delete([1], db=tmp_path / "runner.db")
    with pytest.raises(runner.UsageError, match="there is no run"):
        ended.results()


def test_a_frame_of_pandas_is_one() -> None:
    assert isinstance(frames.to_pandas({"id": ["a"]}), pd.DataFrame)


def test_a_check_says_what_it_found_in_one_line(tmp_path: Path) -> None:
    (tmp_path / "p.jsonl").write_text('{"id": "a", "prompt": "x"}\n{"id": "a", "prompt": "y"}\nnone\n')
    shown = repr(runner.check(tmp_path / "p.jsonl"))
    assert re.fullmatch(r"<Check of p\.jsonl: 3 rows, 1 broken row, 1 duplicate id; .*>", shown), shown
    assert repr(runner.check(["a"], provider="simulator")) == "<Check of a list of 1 text in memory: 1 row>"
