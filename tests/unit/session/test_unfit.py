"""What run and check refuse, where an input is several files or has files beside its prompts."""

from pathlib import Path

import pytest

from runner.config.job import load_job
from runner.errors import UsageError
from runner.inputs import scan
from runner.inputs.options import ReadOptions
from runner.origin import joined
from runner.session import unfit
from runner.session.opening import open_input, options_of
from runner.store.result_rows import result_of


def two_files(folder: Path) -> Path:
    (folder / "a.csv").write_text("text\nhi\n")
    (folder / "b.csv").write_text("text,lang\nho,de\n")
    return joined([folder / "a.csv", folder / "b.csv"])


def test_a_field_that_only_the_second_file_has_is_a_field(tmp_path: Path) -> None:
    both = two_files(tmp_path)
    asked = frozenset({"text"})
    (row,) = open_input(both, ReadOptions(asked=asked, where="lang == 'de'")).read()
    assert row.fields == {"text": "ho", "lang": "de"}
    with pytest.raises(UsageError, match="where names the field 'lnag', which no row has"):
        list(open_input(both, ReadOptions(asked=asked, where="lnag == 'de'")).read())


@pytest.mark.parametrize(
    ("row", "same"),
    [('{"id": "a"}', True), ('{"images": ["a.png"]}', False), ('{"system": "Be brief."}', False), ('{"images": []}', True)],
)
def test_rows_with_files_or_a_system_text_do_not_ask_the_same(tmp_path: Path, row: str, same: bool) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_text(row + "\n")
    job = load_job(path, {"prompt": "What is this?"})
    prompts = open_input(path, options_of(job))
    assert unfit.asks_the_same(job, prompts, scan.scan(prompts)) is same
    # as an earlier session of the same bytes leaves it
    assert unfit.asks_the_same(job, prompts, scan.Scan(rows=1, repeated=scan.scan(prompts).repeated)) is same


def test_an_id_that_is_null_is_none() -> None:
    rest = (None, "a", "done", *(None,) * 14)
    result = result_of(("row-1", '{"id":null,"x":1}', *rest), lambda fields: str(fields))
    assert (result.id, result.metadata, result.prompt) == ("row-1", {"x": 1}, "{'id': None, 'x': 1}")
