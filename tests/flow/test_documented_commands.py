"""Every command and program that the documents show runs, page by page, or says why not. New pages are covered by themselves.

What a page can say, in comments that are not seen: docs/decisions/0036-documentation-site.md.
"""

from collections.abc import Iterator
from pathlib import Path

import pytest
from doc_blocks import ROOT, Block, blocks, run_by
from doc_runs import Sitting, Stock, read_by_click, runner_commands
from processes import QUICK, Simulated, simulator

PAGES = [
    ROOT / "README.md",
    *(
        page
        for page in sorted((ROOT / "docs").rglob("*.md"))
        # decisions tell of what was
        if page.parent.name != "decisions"
    ),
]
NAMES = [page.relative_to(ROOT).as_posix() for page in PAGES]
RUN_BY_CI = ("the first command", "the test command")
"""Marks of blocks that `.ci/run` runs."""


@pytest.fixture(scope="module")
def quick() -> Iterator[Simulated]:
    with simulator(*QUICK) as started:
        yield started


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Stock:
    return Stock(tmp_path_factory.mktemp("stock"))


def active(page: Path) -> list[Block]:
    return [block for block in blocks(page) if not any(mark in block.notes for mark in RUN_BY_CI)]


def sit(page: Path, tmp_path: Path, quick: Simulated, store: Stock) -> None:
    folder = tmp_path / "sitting"
    folder.mkdir()
    with Sitting(folder, quick, store) as sitting:
        for block in active(page):
            sitting.do(block)
        sitting.end_of_programs()


@pytest.mark.parametrize("page", PAGES, ids=NAMES)
def test_each_command_runs(page: Path, tmp_path: Path, quick: Simulated, store: Stock) -> None:
    test = run_by(page)
    if test:
        # the page's own test runs them
        assert (ROOT / test).exists(), f"{page}: there is no {test}"
        assert page.name in (ROOT / test).read_text(encoding="utf-8"), f"{test} does not speak of {page.name}"
        for block in active(page):
            for command in block.commands() if block.kind in ("shell", "session") else []:
                for words in runner_commands(command):
                    read_by_click(words, block.place)
        return
    sit(page, tmp_path, quick, store)


def test_there_are_commands_and_programs() -> None:
    found = [block for page in PAGES for block in active(page)]
    assert sum(len(block.commands()) for block in found if block.kind in ("shell", "session")) > 60
    assert sum(block.kind == "python" for block in found) > 10


WRONG = {
    "an option that there is not": ("    runner list --colour\n", "No such option '--colour'"),
    "behind words of its own": ("    # first this\n    A=1 runner list --colour\n", "No such option '--colour'"),
    "below something else": ("    nonsense\n    runner list\n", "exit code 127"),
    "a command that fails": ("```sh\nrunner show nobody\n```\n", "exit code 2"),
    "a program of a shell that fails": ("```sh\nfor n in 1; do false; done\n```\n", "exit code 1"),
    "a command in a session": ("```console\n$ runner show nobody\nno such row\n```\n", "exit code 2"),
    "a program that fails": ("```python\n1 / 0\n```\n", "ZeroDivisionError"),
    "a later block of it": ("```python\nn = 1\n```\n\n```python\nassert n == 2\n```\n", "AssertionError"),
    "no language": ("```cobol\nSTOP RUN.\n```\n", "in which language is it"),
    "no reason": ("<!-- not run: -->\n```sh\nrunner list\n```\n", "why is it not run"),
    "an option in what is not run": ("<!-- not run: it is long -->\n```sh\nrunner list --colour\n```\n", "No such option"),
    "an option behind a program that is not here": ("    srun runner list --colour\n", "No such option '--colour'"),
    "a need that nobody knows": ("<!-- needs: a cat -->\n```sh\nrunner list\n```\n", "nobody knows"),
}


@pytest.mark.parametrize(("text", "why"), WRONG.values(), ids=WRONG)
def test_a_page_that_is_wrong_is_found(text: str, why: str, tmp_path: Path, quick: Simulated, store: Stock) -> None:
    page = tmp_path / "page.md"
    page.write_text(f"# A page\n\n{text}", encoding="utf-8")
    with pytest.raises(AssertionError) as raised:
        sit(page, tmp_path, quick, store)
    assert "page.md:" in str(raised.value)
    assert why in str(raised.value)


def test_what_a_page_tells_the_harness(tmp_path: Path, quick: Simulated, store: Stock) -> None:
    page = tmp_path / "page.md"
    page.write_text(
        "<!-- file: job.toml -->\n\n```toml\ninput = 'mine.jsonl'\nmodel = 'm'\nbase_url = 'https://api.openai.com/v1'\n```\n\n"
        "    runner run job.toml --limit 3 --quiet\n    export WANTED=3\n\n"
        '```sh\ntest "$(sqlite3 runner.db "SELECT count(*) FROM items")" = "$WANTED"   # a shell of its own\n```\n\n'
        "<!-- needs: a store as old.db -->\n<!-- exit code: 1 -->\n\n"
        "```console\n$ runner retry --db old.db \\\n>   --base-url https://api.openai.com/v1\n```\n\n"
        "```text\nrunner is not run here\n```\n",
        encoding="utf-8",
    )
    before = quick.sent()
    sit(page, tmp_path, quick, store)
    assert quick.sent() > before + 3
