"""Whose settings asked prompts have, and what they may cost."""

from pathlib import Path
from typing import Any

import pytest

from runner.config.job import Job, load_job
from runner.errors import UsageError
from runner.origin import is_of_page, page_words
from runner.session.viewing import name_of, row_of, settings_of


def job(tmp_path: Path, **settings: Any) -> Job:
    (tmp_path / "a.jsonl").write_text("{}\n")
    return load_job(str(tmp_path / "a.jsonl"), {"model": "m", "base_url": "http://127.0.0.1:1/v1", **settings})


def test_nothing_is_asked_whose_cost_nothing_bounds(tmp_path: Path) -> None:
    public = {"base_url": "https://api.example.com/v1"}
    with pytest.raises(UsageError, match=r"no price is known for m; .*--max-cost-ask none"):
        settings_of(job(tmp_path, **public), plain=True, most=5.0)
    assert settings_of(job(tmp_path, **public), plain=True, most=None).max_cost_session is None
    assert settings_of(job(tmp_path), plain=True, most=5.0).max_cost_session is None
    priced = job(tmp_path, **public, prices={"m": {"input": 1.0, "output": 2.0}}, max_cost=0.01)
    found = settings_of(priced, plain=True, most=5.0)
    assert (found.max_cost, found.max_cost_session) == (None, 5.0)


def test_a_prompt_as_it_stands_has_no_template(tmp_path: Path) -> None:
    of_rows = job(tmp_path, prompt="Say {{ text }}", system="Be {{ 'brief' }}", workers=4, where="x > 1")
    plain = settings_of(of_rows, plain=True, most=None)
    assert (plain.prompt, plain.system, plain.workers, plain.where) == (None, "Be brief", 0, None)
    assert settings_of(of_rows, plain=False, most=None).prompt == "Say {{ text }}"
    with pytest.raises(UsageError, match="ask with a row"):
        settings_of(job(tmp_path, prompt="{{ text }}", system="About {{ text }}"), plain=True, most=None)


def test_what_a_prompt_may_not_have(tmp_path: Path) -> None:
    assert row_of(job(tmp_path), "a", {"prompt": "x"}, {"seed": 1}) == {"prompt": "x", "seed": 1, "id": "a"}
    with pytest.raises(UsageError, match="row_settings = false"):
        row_of(job(tmp_path, row_settings=False), "a", {"prompt": "x"}, {"seed": 1})
    with pytest.raises(UsageError, match="tools is no setting"):
        row_of(job(tmp_path), "a", {"prompt": "x"}, {"tools": []})
    with pytest.raises(UsageError, match="names the id"):
        row_of(job(tmp_path, prompt="{{ id }}"), "a", {"text": "x"}, {})
    with pytest.raises(UsageError, match="cannot name files"):
        row_of(job(tmp_path), "a", {"prompt": "x", "files": ["/etc/passwd"]}, {})


def test_the_names_of_their_runs() -> None:
    names = [name_of(None, plain=True), name_of(3, plain=False), name_of(3, plain=True, number=2)]
    assert names == ["page-job", "page-run-3-rows", "page-run-3-2"]
    for name in names:
        assert is_of_page(f"/x/r.db-asked-in-{name}.session")
    assert page_words("/x/r.db-asked-in-page-run-3-2.session").endswith("the settings of run 3")
    assert not is_of_page("/x/r.db-asked-in-page.session")
    assert not is_of_page("/x/r.db-asked-in-page-three.session")
