"""Makes the site of the documents as they stand in the repository: navigation, links to what is outside of docs/, code in tables.

The pages are written for a forge, where links lead to files of the repository. On the site, four pages from outside of ``docs/``
are pages too, and a link to any other file leads to the repository if ``repo_url`` is set, and is no link otherwise.
"""

import posixpath
import re
from pathlib import Path
from typing import Any

from mkdocs.structure.files import File, Files

ROOT = Path(__file__).parents[2]
OUTSIDE = {
    "README.md": "readme.md",
    "CONTRIBUTING.md": "contributing.md",
    "CHANGELOG.md": "changelog.md",
    "benchmarks/README.md": "benchmarks.md",
}
"""Pages of the repository that are pages of the site, and their names there."""

TITLES = {"readme.md": {"First steps": "readme.md"}}
"""Pages that have another title in the menu than above their text."""

_LINK = re.compile(r"(?P<text>!?\[(?:[^\[\]]|\[[^\]]*\])*\])\((?P<target>[^)\s#]*)(?P<anchor>#[^)\s]*)?\)")
_FENCE = re.compile(r"(^```.*?^```$|`[^`\n]+`)", re.MULTILINE | re.DOTALL)
_BLOCK = re.compile(r"(^```.*?^```$)", re.MULTILINE | re.DOTALL)
_ROW = re.compile(r"^\|.*$", re.MULTILINE)
_CODE = re.compile(r"`[^`\n]+`")
_HEADING = re.compile(r"^## (.+)$|\]\(([^)#\s]+\.md)\)", re.MULTILINE)


def on_config(config: Any) -> Any:
    """Make the navigation from docs/index.md: a tab for each of its headings, a page for each of its links, in their order."""
    sections: dict[str, list[str]] = {"Home": ["index.md"]}
    seen, section = {"index.md"}, "Home"
    index = (ROOT / "docs" / "index.md").read_text(encoding="utf-8")
    for heading, target in _HEADING.findall(index):
        if heading:
            section = heading
            continue
        page = name_on_site(posixpath.normpath(posixpath.join("docs", target)))
        if page and page not in seen:
            seen.add(page)
            sections.setdefault(section, []).append(page)
    config["nav"] = [{name: [TITLES.get(page, page) for page in pages]} for name, pages in sections.items()]
    return config


def on_files(files: Files, config: Any) -> Files:
    """Add the pages from outside of docs/."""
    for source, name in OUTSIDE.items():
        files.append(File.generated(config, name, content=(ROOT / source).read_text(encoding="utf-8")))
    return files


def on_page_markdown(markdown: str, page: Any, config: Any, **_: Any) -> str:
    """Turn what is written for a forge into what the site reads: links, and code in tables."""
    markdown = code_of_site(markdown)
    source = next((path for path, name in OUTSIDE.items() if name == page.file.src_uri), f"docs/{page.file.src_uri}")
    return links_of_site(markdown, source, page.file.src_uri, (config.repo_url or "").rstrip("/"))


def links_of_site(markdown: str, source: str, name: str, repo_url: str = "") -> str:
    """Return a page with the links of the site. source: its path in the repository; name: its path on the site."""

    def turned(link: "re.Match[str]") -> str:
        text, target, anchor = link["text"], link["target"], link["anchor"] or ""
        if not target or re.match(r"[a-z]+:", target):
            return link[0]
        path = posixpath.normpath(posixpath.join(posixpath.dirname(source), target))
        there = name_on_site(path)
        if not (ROOT / path).exists():
            # mkdocs says so
            return link[0]
        if there:
            return f"{text}({posixpath.relpath(there, posixpath.dirname(name) or '.')}{anchor})"
        return f"{text}({repo_url}/blob/main/{path}{anchor})" if repo_url else text.strip("[]")

    # what stands in code is no link
    parts = _FENCE.split(markdown)
    return "".join(part if number % 2 else _LINK.sub(turned, part) for number, part in enumerate(parts))


def code_of_site(markdown: str) -> str:
    """Return a page whose code in tables has ``|`` as it is, where a forge wants it escaped.

    Python-Markdown takes no ``|`` within code for the end of a cell, and would show the backslash.
    """

    def bare(row: "re.Match[str]") -> str:
        return _CODE.sub(lambda code: code[0].replace(r"\|", "|"), row[0])

    parts = _BLOCK.split(markdown)
    return "".join(part if number % 2 else _ROW.sub(bare, part) for number, part in enumerate(parts))


def name_on_site(path: str) -> str:
    """Return the name on the site of a file of the repository; empty if it is not there."""
    if path in OUTSIDE:
        return OUTSIDE[path]
    if path == "docs":
        return "index.md"
    inside = path.removeprefix("docs/")
    return (
        inside
        if inside != path and (ROOT / path).is_file() and path.endswith((".md", ".json", ".ipynb", ".svg", ".png", ".html"))
        else ""
    )
