"""Finds the job file and the prompt file that were named, and reads the settings of a job file."""

import tomllib
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from runner import origin
from runner.config.settings import BY_NAME, SETTINGS, Setting
from runner.config.values import DEEPEST, check, nested_deeper
from runner.errors import UsageError
from runner.inputs.compression import unpacked
from runner.inputs.patterns import Named, as_given, matches, refuse_undecoded, run_named, several
from runner.inputs.spool import STDIN, is_stream, path_of
from runner.text import nearest


def find_files(named: Named) -> tuple[Path, dict[str, Any], Path]:
    """Return the input, the content of its job file (empty if there is none), and the path of the job file."""
    several_of_them = several_named(named)
    if several_of_them is not None:
        return several_of_them, {}, several_of_them
    file = path_of(only(named))
    refuse_undecoded(file)
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
            raise UsageError(f"{sibling} names {input_name!r} as its input; to run them, name {sibling}, and not {file}")
        if (sibling.parent / input_name).resolve() != file.resolve():
            raise UsageError(
                f"{sibling} is the job file of {file}, but its input is {input_name}; correct the input, or run {sibling}"
            )
        # The path of an unnamed pipe, such as /dev/fd/63 from a shell, does not survive being resolved.
        return file.absolute() if is_stream(file) else as_given(file), table, sibling
    table = read_toml(file)
    return _named_in(file, table.get("input")), table, file


def only(named: Named) -> str | Path:
    """Return what is named, without a list around it."""
    return named if isinstance(named, str | Path) else named[0]


def several_named(named: Named) -> Path | None:
    """Return an input of several files, or of the rows of a run; None for a single file. Raises UsageError."""
    names = [named] if isinstance(named, str | Path) else named
    for name in names:
        refuse_undecoded(Path(name))
    if len(names) > 1 or (len(names) == 1 and origin.is_pattern(names[0])):
        return several(names)
    return run_named(only(named))


def _named_in(file: Path, input_name: Any) -> Path:
    """Return the input that a job file names."""
    is_list = isinstance(input_name, list) and all(isinstance(name, str) for name in input_name)
    if not input_name or not (is_list or isinstance(input_name, str)):
        raise UsageError(f'{file} does not name a prompt file; add a line such as input = "prompts.jsonl"')
    try:
        if is_list or origin.is_pattern(file.absolute().parent / input_name):
            return several(input_name if is_list else [input_name], file)
        if (run := run_named(input_name)) is not None:
            return run
    except UsageError as error:
        raise UsageError(f"{error} (input in {file})") from None
    source = file.absolute().parent / input_name
    if input_name == str(STDIN) or is_stream(source):
        return STDIN if input_name == str(STDIN) else source
    source = as_given(source)
    if source.is_dir():
        raise UsageError(f"{file} names the prompt file {source}, which is a folder")
    if not source.is_file():
        raise UsageError(f"{file} names the prompt file {source}, which does not exist")
    return source


def _refuse_missing(file: Path) -> None:
    """Raise UsageError if there is no such file, or its name leads nowhere."""
    try:
        file.stat()
    except (FileNotFoundError, NotADirectoryError, ValueError):
        raise UsageError(f"there is no file {file}") from None
    except OSError as error:
        raise UsageError(f"{file} cannot be read: {error.strerror or error}") from error


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


def is_beside(source: Path, job_file: Path) -> bool:
    """Return True for files in the folder of the job file, or below it, and for what is piped in. Rows of a run are not there."""
    if origin.name_of(source) is not None:
        return False
    if not source.is_absolute():
        return True
    folder = job_file.absolute().parent.resolve()
    files = [match.path for match in matches(source)[0]] if origin.is_several(source) else [source]
    return all(file.resolve().is_relative_to(folder) for file in files)
