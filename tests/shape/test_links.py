"""What the documents point to exists: relative links with their anchors, paths of the repository, and names of the code."""

import re
from importlib import import_module
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGES = sorted(
    path
    for folder in (".", "docs", "benchmarks", "jobs", "tests", "migrations")
    for path in (ROOT.glob("*.md") if folder == "." else (ROOT / folder).rglob("*.md"))
)
NAMES = [path.relative_to(ROOT).as_posix() for path in PAGES]
# it speaks of the paths that were
HISTORY = {"CHANGELOG.md", "docs/decisions/0009-rooms.md"}
CURRENT = [path for path, name in zip(PAGES, NAMES, strict=True) if name not in HISTORY]
# made while the tests run, or by a command that the page shows
MADE = {"jobs/docstrings.jsonl", "runner/store/_migrations"}

LINK = re.compile(r"\]\((?!https?:|mailto:)([^)#\s]*)(?:#([^)\s]+))?\)")
PATH = re.compile(r"(?<![\w./-])((?:runner|docs|tests|benchmarks|jobs|migrations)/[\w./-]*\w)")
ROOMS = {path.stem for path in (ROOT / "runner").iterdir() if path.suffix == ".py" or (path / "__init__.py").exists()}
QUALIFIED = re.compile(r"`((?:[a-z_]+\.)+[A-Z]\w*)`")


def prose(page: Path) -> str:
    """Return a page without its fenced blocks: what stands in them is an example."""
    return re.sub(r"^```.*?^```$", "", page.read_text(encoding="utf-8"), flags=re.MULTILINE | re.DOTALL)


def anchors(page: Path) -> set[str]:
    """Return the anchors that a forge makes of the headings of a page."""
    headings = re.findall(r"^#+ (.+)$", prose(page), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def test_there_are_pages_and_links() -> None:
    assert {"README.md", "CHANGELOG.md", "docs/index.md", "docs/guides/your-own-model.md", "benchmarks/README.md"} <= set(NAMES)
    assert sum(len(LINK.findall(prose(page))) for page in PAGES) > 50
    assert sum(len(QUALIFIED.findall(prose(page))) for page in PAGES) > 50


@pytest.mark.parametrize("page", PAGES, ids=NAMES)
def test_every_relative_link_leads_somewhere(page: Path) -> None:
    dead = []
    for target, anchor in LINK.findall(prose(page)):
        path = (page.parent / target).resolve() if target else page
        if not path.exists() or (anchor and anchor not in anchors(path)):
            dead.append(f"{target}#{anchor}" if anchor else target)
    assert dead == []


@pytest.mark.parametrize("page", CURRENT, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_every_path_that_is_named_exists(page: Path) -> None:
    # also in examples
    named = set(PATH.findall(page.read_text(encoding="utf-8"))) - MADE
    assert sorted(name for name in named if not (ROOT / name).exists()) == []


@pytest.mark.parametrize("page", CURRENT, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_every_name_of_the_code_exists(page: Path) -> None:
    """As ``config.job.Job``: the module is given from a room on, or from the package on."""
    missing = []
    for name in QUALIFIED.findall(prose(page)):
        module, _, last = name.removeprefix("runner.").rpartition(".")
        if module.partition(".")[0] in ROOMS and not hasattr(import_module(f"runner.{module}"), last):
            missing.append(name)
    assert missing == []


def test_every_page_of_the_documents_is_in_the_index() -> None:
    index = ROOT / "docs" / "index.md"
    linked = {(index.parent / target).resolve() for target, _ in LINK.findall(prose(index)) if target}
    assert sorted({page for page in (ROOT / "docs").rglob("*.md") if page != index} - linked) == []
