"""Commands about a run as a person can type them here: with its number, and with its store where that is another one."""

import os
import re
from os.path import realpath
from pathlib import Path

from runner import origin
from runner.text import shell_word

DEFAULT_STORE = "runner.db"
_MOST_WORDS = 5
_ABOUT_A_RUN = re.compile(r"`runner (resume|retry|errors|status|pause|continue|stop)((?: --[^`]*)?)`")


def command(name: str, run: int, db: str | Path, *more: str) -> str:
    """Return a command about a run. more: words behind the number, as a shell reads them."""
    return " ".join(["runner", name, str(run), *more]) + store_option(db)


def store_path(db: str | Path) -> Path:
    """Return the absolute path of a store that was named."""
    return Path(db).resolve()


def store_option(db: str | Path) -> str:
    """Return the option that names a store, with a space before it; empty if a command in this folder uses that store anyway.

    The variable is gone in the next terminal, so a store that only it names is named too.
    """
    used = {realpath(DEFAULT_STORE), realpath(os.environ.get("RUNNER_DB") or DEFAULT_STORE)}
    return "" if used == {realpath(db)} else f" --db {shell_word(str(db))}"


def file_word(file: str | Path) -> str:
    """Return the name of an input as a shell and a command read it: one that begins with a dash is no option.

    Of many files, the first are named, and dots stand for the others.
    """
    names = origin.names_of(file)
    words = [shell_word(f"./{name}" if name.startswith("-") else name) for name in names[:_MOST_WORDS]]
    return " ".join(words if len(names) <= _MOST_WORDS else [*words, "..."])


def without_a_run(sentence: str) -> str:
    """Return a sentence with the command that was typed in the place of those that it names, which are about a run."""

    def same(found: re.Match[str]) -> str:
        options = found[2].strip()
        return f"the same command with {options}" if options else "the same command again"

    return _ABOUT_A_RUN.sub(same, sentence)


def in_full(sentence: str, run: int, db: str | Path, *, asked: bool = False) -> str:
    """Return a sentence with the commands that it names complete: `runner retry` is about the newest run of the usual store.

    asked: the run is a program's session, which no command continues: the program opens a new one.
    """

    def full(found: re.Match[str]) -> str:
        options = found[2].strip()
        if asked and found[1] in ("resume", "retry"):
            settings = ", ".join(map(_as_argument, (word for word in options.split() if word.startswith("--"))))
            return f"a new Session({settings})" if settings else "a new Session"
        return f"`{command(found[1], run, db, *([options] if options else []))}`"

    return _ABOUT_A_RUN.sub(full, sentence)


def _as_argument(option: str) -> str:
    """Return an option as a program writes it."""
    name = option.removeprefix("--").replace("-", "_")
    return f"{name.removeprefix('no_')}=False" if name.startswith("no_") else f"{name}=..."
