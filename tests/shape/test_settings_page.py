"""``docs/reference/settings.md`` tells of every setting what the code says: made anew, its table is the same."""

import re
from pathlib import Path

from settings_page import BEGIN, END, PAGE, PART, table

from runner.config.job import load_job
from runner.config.settings import SETTINGS


def test_the_table_is_what_the_code_says() -> None:
    page = PAGE.read_text(encoding="utf-8")
    assert (page.count(BEGIN), page.count(END)) == (1, 1)
    assert page == PART.written(page), "`make pages` writes the table"


def test_every_setting_has_a_row() -> None:
    rows = table().splitlines()[2:]
    assert len(rows) == len(SETTINGS) > 20
    for setting, row in zip(SETTINGS, rows, strict=True):
        assert row.startswith(f"| `{setting.key}`<br>`{setting.option}`<br>`{setting.variable}` | ")
        # as many cells as the head has, whatever is in the help
        assert row.replace(r"\|", "").count("|") == 6


def test_the_table_shows_bounds_defaults_and_what_makes_another_run() -> None:
    rows = {line.split("`")[1]: line for line in table().splitlines()[2:]}
    assert "| `auto` or a whole number, 1 or more | `auto` | no |" in rows["concurrency"]
    assert "above 0 | `10` | no |" in rows["timeouts.connect_s"]
    assert "| number, above 0.0001 |  | no |" in rows["rpm"]
    assert "| text |  | yes |" in rows["model"]
    assert "| `full` or `normal` | `full` | no |" in rows["durability"]


def test_the_job_file_of_the_page_is_one(tmp_path: Path) -> None:
    (text,) = re.findall(r"```toml\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)
    (tmp_path / "prompts.jsonl").touch()
    (tmp_path / "job.toml").write_text(text, encoding="utf-8")
    job = load_job(tmp_path / "job.toml", {}, {})
    unset = {name for name, source in job.sources.items() if source in ("default", "not set")}
    # a job has one template, one schema, its endpoints and its end in one way, and serves limits or joins those of others
    assert unset == {
        *("join", "within"),
        *("input_tpm", "output_tpm", "money_codes", "messages", "prompt_file", "prices", "fields", "endpoints", "fallback_on"),
    }
