"""``-o FILE`` of run, resume and retry: the results are in the file at the end, whatever has ended the session."""

import csv
import json
import signal
from pathlib import Path

import pytest
from desk import Desk
from processes import assert_clean, run, runner
from raw_server import whole

WRONG_KEY = whole("401 Unauthorized", {"error": {"message": "Incorrect API key provided", "code": "invalid_api_key"}})


def texts(path: Path) -> list[str]:
    with path.open(newline="") as file:
        return [row["text"] for row in csv.DictReader(file)]


def test_the_results_are_in_the_file_at_the_end(desk: Desk) -> None:
    said = desk.run("-o", "answers.csv")
    assert texts(desk.folder / "answers.csv") == [f"echo prompt {one}" for one in range(12)]
    assert said.endswith("\nrun 1: 12 of 12 rows written to answers.csv\n")
    # what has been done is not advised
    assert "runner export" not in said
    first = (desk.folder / "answers.csv").read_bytes()
    assert run("export", "-o", "again.csv", cwd=desk.folder).code == 0
    assert (desk.folder / "again.csv").read_bytes() == first
    # a run that is finished writes it too
    (desk.folder / "answers.csv").unlink()
    desk.run("-o", "answers.csv", "--quiet")
    assert (desk.folder / "answers.csv").read_bytes() == first
    assert desk.asked.total() == 12


def test_resume_and_retry_write_it_too(desk: Desk) -> None:
    desk.asked.refused["prompt 3"] = whole("422 Unprocessable Entity", {"error": {"message": "no"}})
    assert "written to a.jsonl" in desk.run("--limit", "5", "-o", "a.jsonl", code=1)
    assert len((desk.folder / "a.jsonl").read_text().splitlines()) == 5
    desk.run("-o", "b.csv", command=("resume", "1"), code=1)
    assert len(texts(desk.folder / "b.csv")) == 12
    desk.asked.refused.clear()
    desk.run("-o", "c.csv", command=("retry", "1"))
    assert "" not in texts(desk.folder / "c.csv")


def test_ctrl_c_writes_what_there_is(desk: Desk) -> None:
    def answer(request: object) -> object:
        if desk.asked.total() == 5:
            process.signal(signal.SIGINT)
        return desk.asked(request)  # type: ignore[arg-type]

    desk.server.answers = answer  # type: ignore[assignment]
    with runner(*desk.command, "--concurrency", "1", "-o", "answers.csv", cwd=desk.folder) as process:
        ended = process.ended()
    assert_clean(ended)
    assert ended.code == 130
    written = texts(desk.folder / "answers.csv")
    assert written == [f"echo prompt {one}" for one in range(len(written))]
    assert 5 <= len(written) < 12


def test_an_error_that_stops_the_run_writes_what_there_is(desk: Desk) -> None:
    desk.asked.refused |= {f"prompt {one}": WRONG_KEY for one in range(6, 12)}
    ended = run(*desk.command, "--concurrency", "1", "-o", "answers.csv", cwd=desk.folder)
    assert ended.code == 3
    assert texts(desk.folder / "answers.csv") == [f"echo prompt {one}" for one in range(6)]


@pytest.mark.parametrize(
    ("output", "words"),
    [
        ("prompts.jsonl", "prompts.jsonl is the prompt file; name another file"),
        (
            "runner.db",
            "cannot tell the format of runner.db from its ending; name it .csv, .jsonl, .md, .parquet, .sqlite or .xlsx",
        ),
        ("absent/a.csv", "absent/a.csv cannot be written: its folder does not exist"),
        ("a.xyz", "cannot tell the format of a.xyz from its ending"),
        ("-", "use `runner export -o -` afterwards"),
        ("other.jsonl", "other.jsonl holds prompts, which the export would replace"),
    ],
)
def test_what_cannot_be_written_is_refused_before_anything_is_sent(desk: Desk, output: str, words: str) -> None:
    (desk.folder / "other.jsonl").write_text('{"prompt": "x"}\n')
    ended = run(*desk.command, "-o", output, cwd=desk.folder)
    assert (ended.code, ended.out, desk.asked.total(), desk.store.exists()) == (2, "", 0, False)
    assert words in ended.err


def test_json_output_holds_nothing_but_events(desk: Desk) -> None:
    ended = run(*desk.command, "--json", "-o", "answers.csv", cwd=desk.folder)
    assert (ended.code, ended.err) == (0, "")
    assert all(line.startswith("{") for line in ended.out.splitlines())
    assert len(texts(desk.folder / "answers.csv")) == 12


def test_rows_that_are_not_kept_have_no_prompt(desk: Desk) -> None:
    (desk.folder / "t.csv").write_text("id,town,land\nx,Rome,Italy\n")
    template = ("--prompt", "Where is {{ town }}? {{ row.land or '' }}", "--columns", "town")
    at = ("--model", "m", "--base-url", desk.server.base_url)
    desk.run(command=("run", "t.csv", *template, *at, "--no-keep-rows", "-o", "without.csv"))
    desk.run(command=("run", "t.csv", *template, *at, "--new", "-o", "with.csv"))
    assert list(desk.asked) == ["Where is Rome? Italy"]
    tables = [(desk.folder / name).read_text().splitlines() for name in ("without.csv", "with.csv")]
    prompts = [next(csv.DictReader(table))["prompt"] for table in tables]
    assert prompts == ["", "Where is Rome? Italy"]
    assert "(the store has not kept it)" in run("show", "1", "x", cwd=desk.folder).out


def test_a_system_text_that_would_not_be_sent_is_refused(desk: Desk) -> None:
    (desk.folder / "t.csv").write_text("id,town\nx,Rome\n")
    messages = json.dumps([{"role": "system", "content": "Be brief."}, {"role": "user", "content": "{{ town }}"}])
    ended = run("run", "t.csv", "--messages", messages, "--system", "Be long.", "--provider", "simulator", cwd=desk.folder)
    assert ended.code == 2
    assert "so system (option --system) would not be sent" in ended.err
