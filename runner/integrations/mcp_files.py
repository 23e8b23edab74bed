"""The folder in which an agent's files are: nothing outside of it is read or written, also not by symbolic links.

A name is followed to its end once, and that end is what is used: a link that is changed later changes nothing. What is written
is put into its folder by the folder's descriptor, so that a folder which becomes a link meanwhile leads nowhere.
"""

import os
import secrets
import shutil
import stat
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeVar

from runner import origin
from runner.config.job import Job
from runner.config.job_file import find_files, read_toml
from runner.errors import UsageError
from runner.inputs.compression import unpacked
from runner.inputs.patterns import matches
from runner.text import clean

T = TypeVar("T")

FORMATS = {
    ".csv": "csv",
    ".jsonl": "jsonl",
    ".parquet": "parquet",
    ".xlsx": "xlsx",
    ".sqlite": "sqlite",
    ".md": "md",
}
"""The endings of files that an agent may write, and their formats."""
SPECIAL = ("openai-batch", "messages")
"""Formats that have no ending of their own; their files end in .jsonl."""


class Root:
    """The folder of ``--root``. Raises UsageError if it is none."""

    def __init__(self, folder: str | Path) -> None:
        self.path = Path(folder).resolve()
        if not self.path.is_dir():
            raise UsageError(f"--root {folder} is no folder; name the folder in which the files of the agent are")

    def contains(self, path: str | Path) -> bool:
        """Return True for a path whose end, behind all links, is in the folder."""
        try:
            return Path(path).resolve().is_relative_to(self.path)
        except (OSError, RuntimeError, ValueError):
            # a circle of links, or a name that no file can have
            return False

    def inside(self, name: str) -> Path:
        """Return where a name leads, as a path without links. Relative names begin in the folder. Raises UsageError."""
        path = self.path / name if name and "\0" not in name else None
        if path is None or not self.contains(path):
            raise self._outside(name)
        return path.resolve()

    def file(self, name: str) -> Path:
        """Return a file that is there, as ``inside``. A pipe or a device is none: who reads one waits for others."""
        path = self.inside(name)
        try:
            kind = path.stat().st_mode
        except OSError:
            raise UsageError(f"there is no file {clean(name)} in {self.path}") from None
        if not stat.S_ISREG(kind):
            raise UsageError(f"{clean(name)} is no regular file; name a file of rows or a job file (.toml)")
        return path

    def input(self, named: str | Sequence[str]) -> str | list[str]:
        """Return an input as it may be given to a run: files and patterns as absolute paths. ``run:12`` stays what it is."""
        names = [named] if isinstance(named, str) else list(named)
        found = [self._one(name) for name in names]
        return found[0] if isinstance(named, str) else found

    def _one(self, name: str) -> str:
        if name == "-":
            raise UsageError("standard input belongs to the protocol here; write the rows to a file, and name that")
        if origin.name_of(name) is not None:
            return name
        if not origin.is_pattern(self.path / name):
            path = self.file(name)
            self._check_job_file(path)
            return str(path)
        if ".." in Path(name).parts:
            raise self._outside(name)
        for match in matches(self.path / name)[0]:
            if not self.contains(match.path):
                raise self._outside(str(match.path))
        return str(self.path / name)

    def _check_job_file(self, path: Path) -> None:
        """Raise UsageError if a job file, or the one beside a file of rows, is outside, or names files outside."""
        job_file = path if path.suffix.lower() == ".toml" else unpacked(path).with_suffix(".toml")
        if not os.path.lexists(job_file):
            return
        if not self.contains(job_file):
            raise self._outside(str(job_file))
        if not job_file.is_file():
            return
        table = read_toml(job_file)
        named = table.get("input")
        names = [name for name in named if isinstance(name, str)] if isinstance(named, list) else [named] if named else []
        for name in names:
            if not isinstance(name, str) or origin.name_of(name) is not None:
                continue
            if name == "-":
                raise UsageError(f"{clean(str(job_file))} reads standard input, which belongs to the protocol here; name a file")
            if not self.contains(job_file.parent / name.partition("*")[0]) or ".." in Path(name).parts[1:]:
                raise self._outside(f"{name} (input in {job_file})")

    def check(self, job: Job) -> None:
        """Raise UsageError if a job reads a file outside of the folder. Called again when a session has read its input."""
        for path in self.files_of(job):
            if not self.contains(path):
                raise self._outside(str(path))
            if path.exists() and not path.is_file():
                raise UsageError(f"{clean(str(path))} is no regular file; name a file of rows")
        # what the person who started the server has set in its environment is that person's word
        if job.files_root is not None and not job.sources.get("files_root", "").startswith("environment"):
            self.inside(job.files_root)

    def files_of(self, job: Job) -> list[Path]:
        """Return the files that are the input of a job now."""
        if origin.name_of(job.input) is not None:
            return []
        if origin.is_several(job.input):
            return [match.path for match in matches(job.input)[0]]
        return [job.input]

    def target(self, name: str) -> tuple[Path, str]:
        """Return the folder and the name of a file that may be written. Raises UsageError."""
        last = Path(name).name
        if not last or last.startswith(".") or Path(name).suffix.lower() not in FORMATS:
            raise UsageError(f"{clean(name)!r} cannot be written; name a file that ends in {', '.join(FORMATS)}")
        folder = self.inside(str(Path(name).parent))
        if any(part.startswith(".") for part in folder.relative_to(self.path).parts):
            raise UsageError(f"{clean(name)!r} is in a hidden folder, where no results are written; name another folder")
        if not folder.is_dir():
            raise UsageError(f"there is no folder {clean(str(folder))}; make it first, or name another one")
        return folder, last

    def write(self, name: str, export: Callable[[Path], T], *, overwrite: bool, more: Sequence[str] = ()) -> T:
        """Let ``export`` write a file to a path, and put it where ``name`` says. more: endings of files that come with it.

        Raises UsageError for a name outside of the folder, and for a file that is there, unless ``overwrite``.
        """
        folder, last = self.target(name)
        held = self._opened(folder)
        try:
            self._refuse_taken(held, last, name, overwrite=overwrite)
            work = f".{last}-{secrets.token_hex(8)}"
            os.mkdir(work, 0o700, dir_fd=held)
            try:
                result = export(folder / work / last)
                for one in (last, *(f"{last}{ending}" for ending in more)):
                    os.replace(f"{work}/{one}", one, src_dir_fd=held, dst_dir_fd=held)
            finally:
                shutil.rmtree(work, ignore_errors=True, dir_fd=held)
        finally:
            os.close(held)
        return result

    def _opened(self, folder: Path) -> int:
        """Return a descriptor of a folder, reached from the root without any link."""
        flags = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW
        held = os.open(self.path, flags)
        for part in folder.relative_to(self.path).parts:
            try:
                inner = os.open(part, flags, dir_fd=held)
            except OSError:
                raise self._outside(str(folder)) from None
            finally:
                os.close(held)
            held = inner
        return held

    def _refuse_taken(self, folder: int, last: str, name: str, *, overwrite: bool) -> None:
        try:
            there = os.stat(last, dir_fd=folder, follow_symlinks=False)
        except FileNotFoundError:
            return
        if not stat.S_ISREG(there.st_mode):
            raise UsageError(f"{clean(name)} is a link, a folder or a device, and is not replaced; name another file")
        if not overwrite:
            raise UsageError(f"{clean(name)} is there already; name another file, or say overwrite")

    def _outside(self, name: str) -> UsageError:
        return UsageError(f"{clean(name)!r} is outside of {self.path}: only files in that folder are used (--root)")


def input_of(named: str | list[str]) -> Any:
    """Return what a run's input and job file are now, to see whether they have changed since."""
    source, table, job_file = find_files(named)
    return str(source), table, str(job_file)
