"""The blocks of a page of the documents: commands, programs, files, and what is only shown."""

import re
import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import Literal, NamedTuple

ROOT = Path(__file__).parents[2]
Kind = Literal["shell", "session", "python", "file", "shown", "unknown"]

SHELL = {"sh", "bash", "shell"}
SHOWN = {"text", "json", "jsonl", "toml", "yaml", "sql", "csv", "html", "diff", "ini", "md", "markdown", "pyi", "js"}
PROGRAMS = {
    *("runner", "python", "python3", "pip", "pipx", "uv", "uvx", "export", "source", "cd", "mkdir", "cp", "mv", "rm", "umask"),
    *("kill", "cat", "head", "tail", "wc", "sort", "grep", "sed", "awk", "jq", "ls", "echo", "printf", "sqlite3", "datasette"),
    *("curl", "gunzip", "vllm", "llama-server", "ollama", "docker", "sbatch", "srun", "squeue", "scancel", "man", "eval"),
    *("bash", "sh", "zsh", "fish", "git", "make", "apt", "apt-get", "brew", "sudo", "open", "watch", "time", "nohup", "tmux"),
    *("az", "mkdocs", "kubectl"),
}
"""First words by which an indented block, which has no language, is known as commands."""

_FENCE = re.compile(r"^( *)(`{3,}|~{3,})[ \t]*([\w+-]*).*$")
_NOTE = re.compile(r"^<!-- *(?P<name>[a-z][a-z ]*?)(?:: *(?P<value>.*?))? *-->$")
_RUN_BY = re.compile(r"^<!-- commands run by: (\S+) -->$", re.MULTILINE)


class Block(NamedTuple):
    """A block of a page. line: of its first line of text, from 1. notes: the comments above it, by name."""

    page: Path
    line: int
    kind: Kind
    text: str
    notes: dict[str, str]

    @property
    def place(self) -> str:
        """The page and the line, as editors take them."""
        page = self.page.relative_to(ROOT) if self.page.is_relative_to(ROOT) else self.page.name
        return f"{page}:{self.line}"

    def commands(self) -> list[str]:
        """Return the commands of a block for a shell, each with its further lines."""
        lines = self.text.splitlines()
        if self.kind == "session":
            lines = _typed(lines)
        found: list[str] = []
        open_line = False
        for line in lines:
            if open_line:
                found[-1] += f"\n{line}"
            elif line.strip() and not line.lstrip().startswith("#"):
                found.append(line)
            open_line = (bool(found) and line.rstrip().endswith("\\")) or (bool(found) and _quoted(found[-1]))
        return found


def _typed(lines: list[str]) -> list[str]:
    """Return what is typed in a session that is shown with its answers."""
    typed: list[str] = []
    more = False
    for line in lines:
        if line.startswith("$ "):
            typed.append(line[2:])
        elif more:
            typed.append(line.removeprefix("> "))
        else:
            continue
        more = typed[-1].rstrip().endswith("\\")
    return typed


def _quoted(text: str) -> bool:
    """Return True if a quotation of a shell is still open at the end of a text."""
    open_mark, escaped = "", False
    for letter in re.sub(r"(^|\s)#[^'\"\n]*$", "", text):
        if escaped:
            escaped = False
        elif letter == "\\" and open_mark != "'":
            escaped = True
        elif open_mark:
            open_mark = "" if letter == open_mark else open_mark
        elif letter in "'\"":
            open_mark = letter
    return bool(open_mark)


def run_by(page: Path) -> str:
    """Return the test that runs the commands of a page itself, as the page says; empty if it says nothing."""
    found = _RUN_BY.search(page.read_text(encoding="utf-8"))
    return found[1] if found else ""


def blocks(page: Path) -> Iterator[Block]:
    """Yield the blocks of a page in their order."""
    lines = page.read_text(encoding="utf-8").splitlines()
    at = 0
    while at < len(lines):
        fence = _FENCE.match(lines[at])
        if fence:
            end = next((n for n in range(at + 1, len(lines)) if lines[n].strip() == fence[2]), len(lines))
            text = textwrap.dedent("\n".join(lines[at + 1 : end]))
            yield _block(page, at + 2, fence[3], text, _notes(lines, at))
            at = end + 1
        elif lines[at].startswith("    ") and (at == 0 or not lines[at - 1].strip()) and not _in_list(lines, at):
            end = at
            while end < len(lines) and (lines[end].startswith("    ") or not lines[end].strip()):
                end += 1
            yield _block(page, at + 1, "", textwrap.dedent("\n".join(lines[at:end])).strip("\n"), _notes(lines, at))
            at = end
        else:
            at += 1


def _in_list(lines: list[str], at: int) -> bool:
    """Return True if four spaces are no block of their own, but a further paragraph of an item of a list."""
    before = next((line for line in reversed(lines[:at]) if line.strip()), "")
    return bool(re.match(r"^ {0,3}(?:[*+-]|\d+[.)]) +", before)) and not lines[at].startswith("      ")


def _block(page: Path, line: int, language: str, text: str, notes: dict[str, str]) -> Block:
    return Block(page, line, "file" if "file" in notes else _kind(language, text), text, notes)


def _kind(language: str, text: str) -> Kind:
    if language in SHELL:
        return "shell"
    if language == "console":
        return "session"
    if language in {"python", "py"}:
        return "python"
    if language in SHOWN:
        return "shown"
    if language:
        return "unknown"
    if re.search(r"^\$ ", text, re.MULTILINE):
        return "session"
    lines = [line for line in text.splitlines() if line.strip() and not line.lstrip().startswith("#")]
    # after variables that are set for it
    first = next((word for word in (lines[0].split() if lines else []) if not re.match(r"\w+=", word)), "")
    return "shell" if first in PROGRAMS or any(re.match(r"runner [a-z]", line) for line in lines) else "shown"


def _notes(lines: list[str], at: int) -> dict[str, str]:
    """Return the comments right above a line, also with blank lines between."""
    found: dict[str, str] = {}
    while at and (not lines[at - 1].strip() or _NOTE.match(lines[at - 1].strip())):
        at -= 1
        note = _NOTE.match(lines[at].strip())
        if note:
            found[note["name"]] = note["value"] or ""
    return found
