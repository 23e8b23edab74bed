"""Several files as one input: what a user may name, and which files that is now."""

import os
import re
import stat
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple, TypeAlias

from runner import origin
from runner.errors import UsageError
from runner.inputs.compression import unpacked
from runner.labels import is_name

Named: TypeAlias = str | Path | Sequence[str | Path]
"""An input as it is named: a file, a pattern, ``run:12``, or several files and patterns."""

_TOLD = 3
"""Files that are left out and named, at most."""
_NUMBER = re.compile(r"(\d+)")


class Match(NamedTuple):
    """A file of an input. pattern: the pattern that it matches; None: it was named itself."""

    path: Path
    pattern: str | None


def run_named(name: str | Path) -> Path | None:
    """Return ``run:12`` or ``run:pilot`` as an input; None for what is no run. Raises UsageError for ``run:`` without any.

    ``./run:12`` is a file of that name. ``Path`` does not tell them apart, so a path is a run only if there is no such file.
    """
    text = str(name)
    number, called = origin.run_of(text), origin.name_of(text)
    if not text.startswith("run:") or ((number is None or isinstance(name, Path)) and os.path.lexists(text)):
        return None
    if number is None and (called is None or not is_name(called)):
        raise UsageError(
            f"{text} names no run; an input of answers is run: and the number or the name of a run, as in run:12 (`runner list`)"
        )
    return Path(f"run:{called if number is None else number}")


def several(names: Sequence[str | Path], job_file: Path | None = None) -> Path:
    """Return the one name of an input of several files and patterns. job_file: the one that names them; None: the user does.

    Raises UsageError for what can be no part of such an input. Which files a pattern stands for, is not looked at.
    """
    folder = Path.cwd() if job_file is None else job_file.absolute().parent
    parts = [_part(name, folder) for name in names]
    if job_file is None:
        _refuse_job_files(parts)
    return origin.joined(parts)


def _part(name: str | Path, folder: Path) -> Path:
    text = str(name)
    if not text:
        raise UsageError("the name of the prompt file is empty")
    if text == "-" or text.startswith("run:"):
        what = "standard input (-)" if text == "-" else text
        raise UsageError(f"{what} cannot be one of several inputs; name it alone, or save it to a file first")
    if "\n" in text or "\r" in text:
        raise UsageError(f"the name of a file of several may not have a line break, as {text!r} has; rename the file")
    if text.lower().endswith(".toml"):
        raise UsageError(f"{text} is a job file, which stands alone; it may name several files itself: input = [...]")
    path = as_given(folder / text)
    if origin.is_pattern(path):
        return path
    _refuse_no_file(path, text)
    return path


def _refuse_job_files(paths: Sequence[Path]) -> None:
    """Raise UsageError if one of several files has a job file of its own: its settings would not hold for the others."""
    for path in paths:
        job_file = unpacked(path).with_suffix(".toml")
        if not origin.is_pattern(path) and job_file.is_file():
            raise UsageError(
                f"{job_file.name} holds the settings of {path.name} alone, and several files are named; give them a job file "
                f"that names them all (input = [...]), or name them by a pattern, for which no such file is read"
            )


def as_given(path: Path) -> Path:
    """Return the absolute path of a file without ``..`` in it. A link stays one, but for those of folders before a ``..``."""
    path = path.absolute()
    return path.parent.resolve() / path.name if ".." in path.parts else path


def refuse_undecoded(file: Path) -> None:
    """Raise UsageError if the name of a file is no text, which the store keeps."""
    try:
        str(file).encode()
    except UnicodeEncodeError:
        if sys.getfilesystemencoding() != "utf-8":
            raise UsageError(f"this locale has no UTF-8 to read the file name {str(file)!a}; set LC_ALL=C.UTF-8") from None
        raise UsageError(
            f"the file name {str(file)!a} is not UTF-8, and the store keeps names as text; rename the file"
        ) from None


def _refuse_no_file(path: Path, name: str) -> None:
    """Raise UsageError for a path that is no regular file."""
    try:
        mode = path.stat().st_mode
    except (FileNotFoundError, NotADirectoryError, ValueError):
        raise UsageError(f"there is no file {name}") from None
    except OSError as error:
        raise UsageError(f"{name} cannot be read: {error.strerror or error}") from error
    if stat.S_ISDIR(mode):
        raise UsageError(f"{name} is a folder; name its files, for example as '{Path(name) / '*.jsonl'}'")
    if not stat.S_ISREG(mode):
        raise UsageError(f"{name} is a pipe or a device, which cannot be one of several files; save it to a file first")


def matches(source: Path) -> tuple[list[Match], list[str]]:
    """Return the files of an input in their order, and why files that a pattern matches are not among them, one sentence each.

    Those of a pattern are in natural order, ``part-2`` before ``part-10``; folders and names that begin with a dot are no match.
    Raises UsageError if a file is missing, or a pattern has no match.
    """
    found: list[Match] = []
    seen: dict[str, Path] = {}
    left_out: list[str] = []
    names = origin.names_of(source)
    own = {os.path.realpath(name): Path(name) for name in names if not origin.is_pattern(name)}
    for name in names:
        pattern = name if origin.is_pattern(name) else None
        for path in _files(pattern) if pattern is not None else [Path(name)]:
            real = os.path.realpath(path)
            other = seen.get(real) or (own.get(real) if pattern is not None else None)
            if other is None:
                seen[real] = path
                found.append(Match(path, pattern))
            elif pattern is None:
                raise UsageError(f"{path} and {other} are the same file; name it once")
            elif path != other:
                left_out.append(f"{path} is left out: it is the same file as {other}")
    for match in found:
        if match.pattern is None:
            _refuse_no_file(match.path, str(match.path))
    if len(left_out) > _TOLD:
        left_out[_TOLD:] = [f"and {len(left_out) - _TOLD:,} more are left out, which are files of other names too"]
    return found, left_out


def _files(pattern: str) -> list[Path]:
    try:
        files = sorted((path for path in origin.matching(pattern) if path.is_file()), key=_natural)
    except ValueError as error:
        raise UsageError(f"{pattern} is no pattern: {error}") from None
    except OSError as error:
        raise UsageError(f"{error.filename or pattern} cannot be read: {error.strerror or error}") from error
    for path in files:
        refuse_undecoded(path)
    if not files:
        raise UsageError(f"no file matches {pattern}; look at the pattern, and at the folder")
    return files


def _natural(path: Path) -> list[list[tuple[int, int, str]]]:
    """Return what sorts paths as people do: folder by folder, and numbers in names by their value."""
    return [
        [(0, int(part), part) if part.isdigit() and part.isascii() else (1, 0, part) for part in _NUMBER.split(name) if part]
        for name in path.parts
    ]
