"""The commands of docs/guides/cost.md work from its top to its bottom, and say what it says."""

import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from processes import Started, assert_clean, environment, run, simulator

GUIDE = (Path(__file__).parents[2] / "docs/guides/cost.md").read_text(encoding="utf-8")
SHOWN = re.findall(r"^    \$ runner (.*)\n\n?((?:    .*\n)*)", GUIDE, re.MULTILINE)
"""The commands that are shown with their output."""


def blocks(kind: str) -> list[str]:
    return re.findall(rf"^```{kind}\n(.*?)^```$", GUIDE, re.DOTALL | re.MULTILINE)


def shape(text: str) -> str:
    """Return a text without its numbers, which depend on the order in which requests arrive, and without how long things take."""
    return re.sub(r"[0-9][0-9,.]*", "#", re.sub(r" time  .*", " time", text))


def test_each_command_runs_in_its_order(tmp_path: Path) -> None:
    if (shell := shutil.which("sh")) is None:
        pytest.skip("the guide is for a shell")
    (made,) = blocks("sh")
    subprocess.run([shell, "-c", made.replace("python -", f"{shlex.quote(sys.executable)} -")], cwd=tmp_path, check=True)
    job, *_ = blocks("toml")
    (tmp_path / "job.toml").write_text(job)
    (words,) = re.findall(r"^    runner simulate --port 8411 (.*)$", GUIDE, re.MULTILINE)
    with simulator(*shlex.split(words), "--first-token-s", "0.01", "--chunk-s", "0") as server:
        env = {"OPENAI_BASE_URL": server.openai, "OPENAI_API_KEY": "none", "COLUMNS": "160"}
        estimated, sampled, budget = SHOWN
        ended = run(*shlex.split(estimated[0]), cwd=tmp_path, env=env)
        assert_clean(ended)
        # of sizes alone, each figure is as it is shown
        assert ended.out == re.sub("^    ", "", estimated[1], flags=re.MULTILINE)
        assert server.sent() == 0
        ended = run(*shlex.split(sampled[0]), cwd=tmp_path, env=env)
        assert ended.code == 0, ended
        assert shape(re.sub("^    ", "", sampled[1], flags=re.MULTILINE)).splitlines()[0] in shape(ended.out)
        assert (budget[0], server.sent() >= 50) == ("run job.toml --max-cost 0.15", True)
        ended = run(*shlex.split(budget[0].replace("0.15", "0.03")), cwd=tmp_path, env=env)
        assert ended.code == 5, ended
        assert "next: runner resume 1 --max-cost 0." in ended.out
        # the simulator bills the price of the list
        bill = float(server.invoice()["amount"])
        assert 0.02 < bill < 0.03
        program = next(one for one in blocks("python") if "max_cost" in one)
        with Started([sys.executable, "-c", program], cwd=tmp_path, env={**environment(), **env}) as process:
            ended = process.ended()
        assert ended.code == 0, ended
        assert "cost_perhaps" in ended.out
