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
    folder = tmp_path / "sitting"
    folder.mkdir()
    with Sitting(folder, quick, store) as sitting:
        for block in active(page):
            sitting.do(block)
        sitting.end_of_programs()


def test_there_are_commands_and_programs() -> None:
    found = [block for page in PAGES for block in active(page)]
    assert sum(len(block.commands()) for block in found if block.kind in ("shell", "session")) > 60
    assert sum(block.kind == "python" for block in found) > 10
