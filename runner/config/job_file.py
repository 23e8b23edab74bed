"""Finds the job file and the prompt file that were named, and reads the settings of a job file."""

import sys
import tomllib
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from runner.config.settings import BY_NAME, SETTINGS, Setting
from runner.config.values import DEEPEST, check, nested_deeper
from runner.errors import UsageError
from runner.inputs.compression import unpacked
from runner.inputs.spool import STDIN, is_stream
from runner.text import nearest


def find_files(file: Path) -> tuple[Path, dict[str, Any], Path]:
    """Return the prompt file, the content of its job file (empty if there is none), and the path of the job file."""
    _refuse_undecoded(file)
    if file == STDIN:
        # Standard input has no job file. It is copied to a file when it is read.
        return file, {}, file
    if file.suffix.lower() != ".toml":
        _refuse_missing(file)
        if file.is_dir():
            raise UsageError(f"{file} is a folder; name a file of rows in it, or a job file (.toml)")
        sibling = unpacked(file).with_suffix(".toml")
        table = read_toml(sibling) if sibling.is_file() else {}
        input_name = table.get("input", file.name)
        if not isinstance(input_name, str):
            raise UsageError(f"input must be a string, not {input_name!r} (in {sibling})")
        if (sibling.parent / input_name).resolve() != file.resolve():
            raise UsageError(
                f"{sibling} is the job file of {file}, but its input is {input_name}; correct the input, or run {sibling}"
            )
        # The path of an unnamed pipe, such as /dev/fd/63 from a shell, does not survive being resolved.
        return file.absolute() if is_stream(file) else _as_given(file), table, sibling
    table = read_toml(file)
    input_name = table.get("input")
    if not isinstance(input_name, str) or not input_name:
        raise UsageError(f'{file} does not name a prompt file; add a line such as input = "prompts.jsonl"')
    source = file.absolute().parent / input_name
    if input_name == str(STDIN) or is_stream(source):
        return STDIN if input_name == str(STDIN) else source, table, file
    source = _as_given(source)
    if source.is_dir():
        raise UsageError(f"{file} names the prompt file {source}, which is a folder")
    if not source.is_file():
        raise UsageError(f"{file} names the prompt file {source}, which does not exist")
    return source, table, file


def _refuse_undecoded(file: Path) -> None:
    """Raise UsageError if the name of a file is no text, which the store keeps."""
    try:
        str(file).encode()
    except UnicodeEncodeError:
        if sys.getfilesystemencoding() != "utf-8":
            raise UsageError(f"this locale has no UTF-8 to read the file name {str(file)!a}; set LC_ALL=C.UTF-8") from None
        raise UsageError(
            f"the file name {str(file)!a} is not UTF-8, and the store keeps names as text; rename the file"
        ) from None


def _refuse_missing(file: Path) -> None:
    """Raise UsageError if there is no such file, or its name leads nowhere."""
    try:
        file.stat()
    except (FileNotFoundError, NotADirectoryError, ValueError):
        raise UsageError(f"there is no file {file}") from None
    except OSError as error:
        raise UsageError(f"{file} cannot be read: {error.strerror or error}") from error


def _as_given(path: Path) -> Path:
    """Return the absolute path of a file without ``..`` in it. A link stays one, but for those of folders before a ``..``."""
    path = path.absolute()
    return path.parent.resolve() / path.name if ".." in path.parts else path


def read_toml(path: Path) -> dict[str, Any]:
    """Return the content of a job file. Raises UsageError."""
    try:
        table = tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise UsageError(f"there is no file {path}") from None
    except OSError as error:
        raise UsageError(f"{path} cannot be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise UsageError(f"{path} is not UTF-8 text (byte {error.start})") from error
    except RecursionError:
        raise UsageError(f"{path} is nested too deeply") from None
    except tomllib.TOMLDecodeError as error:
        raise UsageError(f"{path} is not valid TOML: {error}") from error
    if nested_deeper(table, DEEPEST + 2):
        # [a.b.c] makes a level of each name
        raise UsageError(f"{path} is nested too deeply")
    return table


def settings_in(table: Mapping[str, Any], path: Path) -> Iterator[tuple[Setting, Any]]:
    """Yield the settings of a job file with their values. Raises UsageError for what is no setting, or no value for one."""
    by_key = {setting.key: setting for setting in SETTINGS}
    groups = {setting.key.partition(".")[0] for setting in SETTINGS if "." in setting.key}
    for name, value in table.items():
        if name == "input":
            continue
        if name not in groups:
            yield _setting(name, by_key, path), check(_setting(name, by_key, path), value, f"in {path}")
            continue
        if not isinstance(value, dict):
            raise UsageError(f"{name} must be a table, [{name}], in {path}")
        for inner, inner_value in value.items():
            setting = _setting(f"{name}.{inner}", by_key, path)
            yield setting, check(setting, inner_value, f"in {path}")


def _setting(key: str, by_key: Mapping[str, Setting], path: Path) -> Setting:
    if key in by_key:
        return by_key[key]
    # The right name in the wrong table is a better guess than a similar name.
    name = key.rpartition(".")[2]
    if name in BY_NAME:
        raise UsageError(f"unknown key {key!r} in {path}; did you mean {BY_NAME[name].key!r}?")
    raise UsageError(f"unknown key {key!r} in {path}{suggestion(key, [*by_key, 'input', 'params', 'timeouts', 'finish'])}")


def suggestion(word: str, names: Iterable[str]) -> str:
    """Return words that ask whether the nearest of the names was meant; none if no name is near."""
    close = nearest(word, names)
    return f"; did you mean {close!r}?" if close is not None else ""
