"""The site of the documents: built strictly, the same as on a forge, without a network, and it opens in a real browser."""

import re
import shutil
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from browsing import Opened, chromium
from markdown_it import MarkdownIt
from processes import environment

ROOT = Path(__file__).parents[2]
OUTSIDE = {
    "README.md": "readme.html",
    "CONTRIBUTING.md": "contributing.html",
    "CHANGELOG.md": "changelog.html",
    "benchmarks/README.md": "benchmarks.html",
}
PAGES = [*(ROOT / name for name in OUTSIDE), *sorted((ROOT / "docs").rglob("*.md"))]
NAMES = [path.relative_to(ROOT).as_posix() for path in PAGES]
COUNTED = {"li", "ol", "ul", "table", "tr", "pre", "blockquote", "h2", "h3"}


class Counted(HTMLParser):
    """How often each element occurs in the article of a page; in all of a text without one."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.found: Counter[str] = Counter()
        self._inside = "<article" not in html
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self._inside = self._inside or tag == "article"
        if self._inside and tag in COUNTED:
            self.found[tag] += 1

    def handle_endtag(self, tag: str) -> None:
        self._inside = self._inside and tag != "article"


class CodeOfCells(HTMLParser):
    """The texts of all code in cells of tables."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.found: list[str] = []
        self._open: list[str] = []
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag in ("td", "code"):
            self._open.append(tag)
            self.found += [""] if self._open == ["td", "code"] else []

    def handle_endtag(self, tag: str) -> None:
        if tag in self._open:
            self._open.remove(tag)

    def handle_data(self, data: str) -> None:
        if self._open == ["td", "code"]:
            self.found[-1] += data


def built(to: Path) -> "subprocess.CompletedProcess[str]":
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", str(to)]
    env = environment({"NO_MKDOCS_2_WARNING": "1"})
    return subprocess.run(command, cwd=ROOT, env=env, capture_output=True, text=True, check=False, timeout=120)


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The built site. Strict: a link or an anchor that leads nowhere, and a page that is in no menu, is an error."""
    folder = tmp_path_factory.mktemp("site")
    done = built(folder)
    assert done.returncode == 0, done.stderr
    return folder


def on_site(site: Path, page: Path) -> Path:
    name = page.relative_to(ROOT).as_posix()
    return site / OUTSIDE.get(name, name.removeprefix("docs/").removesuffix(".md") + ".html")


def test_the_pages_are_as_on_a_forge_and_load_nothing_from_the_network(site: Path) -> None:
    """Lists, code in lists and tables are what the two dialects of Markdown read differently."""
    assert len(PAGES) > 50
    unlike, loaded, pipes = {}, {}, 0
    for page, name in zip(PAGES, NAMES, strict=True):
        html = on_site(site, page).read_text(encoding="utf-8")
        # what stands between lines at the beginning is data about a page
        text = re.sub(r"\A---\n.*?^---\n", "", page.read_text(encoding="utf-8"), flags=re.DOTALL | re.MULTILINE)
        rendered = MarkdownIt("commonmark").enable("table").render(text)
        forge, here = Counted(rendered).found, Counted(html).found
        if forge != here:
            unlike[name] = {tag: (forge[tag], here[tag]) for tag in COUNTED if forge[tag] != here[tag]}
        shown = CodeOfCells(rendered).found
        assert CodeOfCells(html).found == shown, name
        pipes += sum("|" in code for code in shown)
        tags = re.findall(r"<(?:script|link|img|iframe|source|video)\b[^>]*>", html)
        outside = [tag for tag in tags if re.search(r'(?:src|href)="?(?:https?:)?//', tag)]
        if outside:
            loaded[name] = outside
    assert pipes > 10
    assert unlike == {}, "as often on a forge and on the site"
    assert loaded == {}
    sheets = "".join(path.read_text(encoding="utf-8") for path in site.rglob("*.css"))
    assert not re.search(r"url\([\"']?(?:https?:)?//|@import", sheets)


def test_links_to_the_repository(site: Path) -> None:
    """Pages from outside of docs/ are pages; other files are no links, as the address of the repository is not known."""
    readme = (site / "readme.html").read_text(encoding="utf-8")
    assert 'href="reference/durability.html"' in readme
    assert 'href="benchmarks.html' in (site / "index.html").read_text(encoding="utf-8")
    assert "tests/flow/" not in re.sub(r"<code>.*?</code>", "", (site / "comparison.html").read_text(encoding="utf-8"))


def test_a_link_that_leads_nowhere_is_an_error(tmp_path: Path) -> None:
    """So is an anchor: each is told by the page that has it."""
    for name in ("mkdocs.yml", *OUTSIDE):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        shutil.copy(ROOT / name, tmp_path / name)
    shutil.copytree(ROOT / "docs" / "_site", tmp_path / "docs" / "_site")
    (tmp_path / "docs" / "index.md").write_text("# Here\n\n[gone](gone.md), [no heading](index.md#gone)\n", encoding="utf-8")
    for name in OUTSIDE:
        (tmp_path / name).write_text("# Empty\n", encoding="utf-8")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(tmp_path / "site")]
    done = subprocess.run(command, cwd=tmp_path, env=environment(), capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode != 0
    assert "gone.md" in done.stderr
    assert "#gone" in done.stderr


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with chromium() as started:
        yield started


@pytest.mark.parametrize(("scheme", "width"), [("light", 1280), ("dark", 390)])
def test_it_opens_and_searches_from_the_disk(site: Path, browser: Any, scheme: str, width: int) -> None:
    window = {"width": width, "height": 900}
    with Opened(browser, site / "index.html", color_scheme=scheme, viewport=window) as opened:
        page = opened.page
        for name in ("index.html", "readme.html", "guides/local-servers.html", "reference/settings.html"):
            page.goto((site / name).as_uri())
            # tables scroll by themselves: the page is never wider than the window
            assert page.evaluate("document.documentElement.scrollWidth <= document.documentElement.clientWidth"), name
            wanted = {"light": "default", "dark": "slate"}[scheme]
            assert page.evaluate("document.body.dataset.mdColorScheme") == wanted
        if width < 1000:
            page.click("label.md-header__button[for=__search]")
        # it listens to keys
        page.locator("input.md-search__input").press_sequentially("flex_patience")
        page.wait_for_selector(".md-search-result__link", timeout=30_000)
        assert "settings" in page.inner_text(".md-search-result__list").lower()
        assert opened.said == []
        assert [url for url in opened.asked if not url.startswith(("file:", "data:", "blob:"))] == []
