r"""What the input of a run is called, as the one text that the store keeps: a file, several files, or another run.

    /data/a.csv                     one file
    /data/a.csv\n/data/b/*.csv       several: absolute paths and patterns, one a line
    run:12                          the rows of run 12 of the same store
    run:pilot                       the same of the run of that name, until the store is asked for its number

A position of a row in several files is the number of its file and its line there, so it grows over the whole input.
"""

import glob
import os
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
from msgspec import Struct

LINES = 10**10
"""More lines than a file has: position = LINES * number of the file, from 0 on, + line."""
STORED = "input_files"
"""Where the settings of a run have its files, if it has read several."""
_RUN = re.compile(r"run:(\d{1,18})", re.ASCII)
_CALLED = re.compile(r"run:([^\s:/\\]+)")
_SHOWN = 3
OF_PAGE = "page"
"""How the names of sessions begin whose prompts were asked on the live page."""
_OF_PAGE = re.compile(rf"-asked-in-{OF_PAGE}-(?:job|run-(?P<run>\d+))(?:-rows)?(?:-\d+)?\.session$")


class Files(Struct, frozen=True, kw_only=True):
    """The files that an input consists of, in order: their common folder, and their paths from there.

    gone: those that it consisted of once; their rows are numbered behind the others.
    """

    folder: str
    names: tuple[str, ...]
    gone: tuple[str, ...] = ()

    @property
    def paths(self) -> tuple[str, ...]:
        """Their absolute paths, without those that are gone."""
        return self._absolute(self.names)

    @property
    def numbered(self) -> tuple[str, ...]:
        """The absolute paths of all, by their numbers."""
        return self._absolute((*self.names, *self.gone))

    def name(self, number: int) -> str | None:
        """Return the name of a file by its number; None if there is none."""
        all_of_them = (*self.names, *self.gone) if number >= len(self.names) else self.names
        return all_of_them[number] if number < len(all_of_them) else None

    def stored(self) -> dict[str, Any]:
        """Return them as the settings of a run have them."""
        return {"folder": self.folder, "names": list(self.names), "gone": list(self.gone)}

    def _absolute(self, names: Sequence[str]) -> tuple[str, ...]:
        return tuple(os.path.normpath(os.path.join(self.folder, name)) for name in names)  # noqa: PTH118 - thousands of them


def files_of(paths: Sequence[Path]) -> Files:
    """Return files by their common folder."""
    folder = os.path.commonpath([path.parent for path in paths])
    return Files(folder=folder, names=tuple(os.path.relpath(path, folder) for path in paths))


def files_in(settings: Mapping[str, Any]) -> Files | None:
    """Return the files of a run that has read several, by its stored settings; None for one file."""
    try:
        return msgspec.convert(settings.get(STORED), type=Files | None)
    except msgspec.ValidationError:
        # somebody has changed the store; the results can be read without them
        return None


class Shift(NamedTuple):
    """Files that get other numbers: the first and the last of them, and what is added to their numbers."""

    first: int
    last: int
    by: int


def renumbered(before: Sequence[str], now: Files) -> tuple[Files, list[Shift]]:
    """Return the files of an input with those that are gone now, and which numbers change. before: its paths by their numbers."""
    present = set(now.paths)
    left = [path for path in before if path not in present]
    numbers = {path: number for number, path in enumerate((*now.paths, *left))}
    shifts: list[Shift] = []
    for number, path in enumerate(before):
        by = numbers[path] - number
        if shifts and shifts[-1].by == by and shifts[-1].last == number - 1:
            shifts[-1] = Shift(shifts[-1].first, number, by)
        else:
            shifts.append(Shift(number, number, by))
    gone = tuple(os.path.relpath(path, now.folder) for path in left)
    return Files(folder=now.folder, names=now.names, gone=gone), [shift for shift in shifts if shift.by]


def joined(names: Sequence[str | Path]) -> Path:
    """Return the one name of an input with these absolute paths and patterns. None of them has a line break."""
    return Path("\n".join(map(str, names)))


def names_of(origin: str | Path) -> list[str]:
    """Return the paths and patterns of an input."""
    return re.split(r"\n(?=/|[A-Za-z]:[\\/])", str(origin))


def first_of(origin: str | Path) -> Path:
    """Return the first path of an input."""
    return Path(names_of(origin)[0])


def folder_of(origin: str | Path) -> Path:
    """Return the folder of a file, or the one that several files have in common."""
    names = [Path(name).absolute() for name in names_of(origin)]
    fixed = [next((folder for folder in reversed(name.parents) if is_pattern(folder)), name).parent for name in names]
    return Path(os.path.commonpath(fixed))


def is_of_page(origin: str | Path) -> bool:
    """Return True for what stands for the input of prompts that were asked on the live page, one by one."""
    return _OF_PAGE.search(str(origin)) is not None


def page_words(origin: str | Path) -> str:
    """Return what such an input is called in messages."""
    found = _OF_PAGE.search(str(origin))
    run = found["run"] if found is not None else None
    return f"prompts asked on the live page with the settings of {'the job file' if run is None else f'run {run}'}"


def run_of(origin: str | Path) -> int | None:
    """Return the number of the run whose rows are the input; None if it is made of files."""
    found = _RUN.fullmatch(str(origin))
    return int(found[1]) if found is not None else None


def name_of(origin: str | Path) -> str | None:
    """Return the name, or the number, of the run whose rows are the input; None if it is made of files, which have full paths."""
    found = _CALLED.fullmatch(str(origin))
    return found[1] if found is not None else None


def is_pattern(name: str | Path) -> bool:
    """Return True for a pattern of file names. What a file is called is no pattern."""
    return glob.has_magic(str(name)) and not os.path.lexists(name)


def is_several(origin: str | Path) -> bool:
    """Return True if an input was named as several files: by a pattern, even of one, or by a list."""
    return len(names_of(origin)) > 1 or is_pattern(origin)


def exists(origin: str) -> bool:
    """Return True if something is left of what an input was made of. Whether a run is, only the store can tell."""
    if run_of(origin) is not None:
        return True
    return any(_exists(name) for name in names_of(origin))


def is_complete(origin: str) -> bool:
    """Return True if everything is there that an input was named as."""
    return run_of(origin) is not None or all(_exists(name) for name in names_of(origin))


def _exists(name: str) -> bool:
    if os.path.exists(name):  # noqa: PTH110 - raises nothing
        return True
    return is_pattern(name) and next(matching(name), None) is not None


def matching(pattern: str) -> Iterator[Path]:
    """Yield what an absolute pattern matches, as a shell does it: no names that begin with a dot, unless the pattern has one.

    Links to folders are not followed by ``**``: they may lead in circles. Raises ValueError for a pattern that is none.
    """
    parts = Path(pattern).parts
    fixed = next((number for number, part in enumerate(parts) if glob.has_magic(part)), len(parts) - 1)
    folder, wild = Path(*parts[:fixed]), parts[fixed:]
    # some versions of Python refuse it, others take it for *
    if any("**" in part and part != "**" for part in wild):
        raise ValueError("** stands for folders, and alone between two slashes")
    hidden_too = any(part.startswith(".") for part in wild)
    for path in folder.glob("/".join(wild)):
        if hidden_too or not any(part.startswith(".") for part in path.parts[fixed:]):
            yield path


def relative(origin: str | Path, folder: Path) -> str:
    """Return the name of an input as seen from a folder, without links on the way to it."""

    def one(path: Path) -> str:
        try:
            return os.path.relpath(path.parent.resolve() / path.name, folder)
        except ValueError:
            # another drive on Windows
            return str(path)

    return seen_from(origin, one)


def seen_from(origin: str | Path, one: Callable[[Path], str]) -> str:
    """Return the name of an input with each path of it replaced, as one text. A run stays what it is."""
    if run_of(origin) is not None:
        return str(origin)
    return "\n".join(one(Path(name)) for name in names_of(origin))


def moved(name: str, relative: str, one: Callable[[str], str]) -> str:
    """Return the name of an input by its relative name: that of each path, replaced. A run stays what it is."""
    if run_of(name) is not None:
        return name
    if len(names_of(name)) == 1:
        return one(relative)
    return "\n".join(map(one, relative.split("\n")))


def shown(origin: str | Path) -> str:
    """Return the name of an input for a person: ``3 files in /data: a.csv, b.csv, c.csv``."""
    names = names_of(origin)
    if (number := run_of(origin)) is not None:
        return f"the answers of run {number}"
    if len(names) == 1:
        return names[0]
    found = files_of([Path(name) for name in names])
    more = "" if len(names) <= _SHOWN else ", ..."
    what = "patterns and files" if any(map(is_pattern, names)) else "files"
    return f"{len(names):,} {what} in {found.folder}: {', '.join(found.names[:_SHOWN])}{more}"


def where(place: str, line: int) -> str:
    """Return where a person finds a row: ``line 17``, or ``b.csv, line 17``. line: that of a Row, with the number of its file."""
    return f"{place} {line % LINES}"


def place_of(position: int, files: Files | None) -> tuple[str | None, int]:
    """Return the file of a row and its line there. files: None for an input of one file, which is not named."""
    index, line = divmod(position, LINES)
    return (files.name(index) if files is not None else None), line


def position_of(word: str, files: Files | None) -> int | None:
    """Return the position of a row that is named as ``b.csv:17``; None if the word is nothing of that kind."""
    name, _, line = word.rpartition(":")
    if files is None or name not in files.names or not (line.isascii() and line.isdecimal()) or len(line) > len(str(LINES)):
        return None
    return files.names.index(name) * LINES + int(line)
