"""What coding agents read is true: the commands of the skill run in order, their JSON has the keys, and links lead somewhere."""

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import doc_files
import pytest
from processes import QUICK, Ended, Simulated, environment, run, simulator
from shown_commands import ROOT, Shown, commands

from runner.config.settings import SETTINGS
from runner.remedies import ADVICE

SKILL = "docs/agents/SKILL.md"
PAGE = (ROOT / SKILL).read_text(encoding="utf-8")
LLMS = (ROOT / "llms.txt").read_text(encoding="utf-8")
KEYS = re.findall(r"^\| `(runner [^`]*--json)` \| (.*) \|$", PAGE, re.MULTILINE)


class Sitting:
    """A folder with a table, and a server that cuts some answers."""

    def __init__(self, folder: Path, server: Simulated) -> None:
        (folder / "reviews.csv").write_text(doc_files.reviews(), encoding="utf-8")
        self.folder = folder
        self.env = {"OPENAI_BASE_URL": server.openai, "OPENAI_API_KEY": "none", "RUNNER_PRICES": "list"}

    def do(self, shown: Shown) -> Ended:
        return run(*shown.words[1:], cwd=self.folder, env=self.env)


def found(told: Any, key: str) -> bool:
    """Return True if JSON has a key, which may be a path."""
    for name in key.split("."):
        if not isinstance(told, dict) or name not in told:
            return False
        told = told[name]
    return True


def test_each_command_runs_in_its_order_and_its_json_has_the_keys(tmp_path: Path) -> None:
    with simulator(*QUICK, "--fault", "invalid_json=0.4") as server:
        sitting = Sitting(tmp_path, server)
        allowed = {"run": {0, 1}, "retry": {0, 1}}
        for shown in commands(SKILL):
            ended = sitting.do(shown)
            name = shown.words[1]
            assert ended.code in allowed.get(name, {0}), f"{shown.text}\n{ended}"
            if "--json" in shown.words:
                assert [json.loads(line) for line in ended.out.splitlines()] if name in allowed else json.loads(ended.out)
        assert {"check", "init", "try", "estimate", "run", "errors", "show", "retry", "export"} <= {
            shown.words[1] for shown in commands(SKILL)
        }
        assert (tmp_path / "answers.parquet").exists()
        assert (tmp_path / "answers.csv").read_text().count("mood") >= 1
        assert len(KEYS) == 4
        for command, keys in KEYS:
            ended = sitting.do(Shown(command, []))
            last = json.loads(ended.out.splitlines()[-1] if " run " in command else ended.out)
            named = re.findall(r"`([\w.]+)`", keys)
            assert [key for key in named if not found(last, key)] == [], command
        (program,) = re.findall(r"^```python\n(.*?)^```$", PAGE, re.DOTALL | re.MULTILINE)
        env = environment(sitting.env)
        done = subprocess.run([sys.executable, "-c", program], cwd=tmp_path, env=env, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr


def test_the_skill_has_the_form_that_agents_expect() -> None:
    front = re.match(r"---\nname: ([a-z0-9-]{1,64})\ndescription: (.{1,1024})\n---\n\n# ", PAGE)
    assert front is not None
    assert "runner" in front[2]
    # an agent reads all of it at once
    assert len(PAGE.splitlines()) < 500


def test_every_option_code_and_exit_code_of_the_skill_exists() -> None:
    names = {setting.option for setting in SETTINGS}
    others = {"--json", "--version", "--sample", "--only", "--class", "--db", "--new", "--trust", "--yes"}
    assert set(re.findall(r"(?<![\w-])--[a-z][a-z-]*", PAGE)) - names - others == set()
    codes = {"invalid_output", "bad_row", "context_length", "content_policy"}
    assert codes <= set(ADVICE)
    table = PAGE.partition("| exit code |")[2].partition("\n\n")[0]
    assert [int(code) for code in re.findall(r"^\| (\d+)", table, re.MULTILINE)] == [0, 1, 2, 3, 4, 5, 130]


@pytest.mark.parametrize("line", [line for line in LLMS.splitlines() if "](" in line])
def test_every_link_of_llms_txt_leads_somewhere(line: str) -> None:
    link = re.fullmatch(r"- \[[^\]]+\]\(([^)]+)\)(?:: \S.*)?", line)
    assert link is not None, "a line of a list: [name](link): what is there"
    assert (ROOT / link[1]).is_file()


def test_llms_txt_has_its_form() -> None:
    """A title, a summary as a quotation, text, then lists of links below headings of the second level (llmstxt.org)."""
    assert re.match(r"# \S.*\n\n> \S.*\n\n\S.*\n\n## \S", LLMS)
    assert re.findall(r"^#{3,} ", LLMS, re.MULTILINE) == []
    guides = {f"docs/guides/{path.name}" for path in (ROOT / "docs" / "guides").glob("*.md")}
    assert len(guides - set(re.findall(r"\]\(([^)]+)\)", LLMS))) <= len(guides) // 2
