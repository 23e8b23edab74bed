"""Begins with an input that has no job file: chooses the input, and writes a job file that is never put in another's place."""

import os
import re
from collections.abc import Mapping, Sequence
from contextlib import closing, suppress
from pathlib import Path
from typing import NamedTuple

from runner import origin
from runner.config import plugins
from runner.config.settings import BY_NAME
from runner.config.values import check
from runner.errors import StoreError, UsageError
from runner.exports.file import is_standard_output
from runner.inputs import patterns, spool
from runner.inputs.broken_lines import RowFaultError
from runner.inputs.compression import unpacked
from runner.inputs.keys import NEVER_ABSENT, WHOLE_ROW
from runner.inputs.options import ReadOptions
from runner.inputs.overwriting import is_beside_inputs
from runner.inputs.prompts import Texts
from runner.model import Json
from runner.schema import fields
from runner.session import drafting, opening, part, survey, unfit
from runner.session.drafting import Draft
from runner.session.naming import file_word
from runner.session.survey import Survey

_SHOWN = 10
SEVERAL = "job.toml"
"""Name of the job file for several files, in the current folder."""
_NOT_ROWS = re.compile(
    r"(?:package|package-lock|tsconfig|composer|manifest|launch|settings)\.json|(?:requirements|constraints)[-\w]*\.txt"
    r"|(?:readme|license|licence|notice|changelog|changes|authors|robots|cmakelists)\.txt",
    re.IGNORECASE,
)
_READ = {"input_format": "format", **{name: name for name in ("encoding", "delimiter", "sheet", "id_column")}}
"""Settings that say how an input is read, and their names there."""


class Begun(NamedTuple):
    """A job file. job_file: None if it is only to be shown. commands: what may be typed next, and what it does."""

    job_file: Path | None
    text: str
    survey: Survey
    commands: list[tuple[str, str]]


def source(files: Sequence[str]) -> Path:
    """Return the input that is meant, also several files as one; by default the only file of the current folder.

    Raises UsageError.
    """
    if not files:
        return _only_one(Path())
    if len(files) > 1 or origin.is_pattern(files[0]):
        # as a job file in the current folder would name them
        return patterns.several(files, Path(SEVERAL))
    path = spool.path_of(files[0])
    if spool.is_stream(path):
        raise UsageError(f"a job file is for a file, which {spool.display_name(path)} is not; save the rows to a file first")
    if path.suffix.lower() == ".toml":
        raise UsageError(f"{path} is a job file by its name; name the file with the rows: `runner init FILE`")
    patterns.refuse_undecoded(path)
    if path.is_dir():
        raise UsageError(f"{path} is a folder; name a file in it{_among(path)}")
    return path


def candidates(folder: Path) -> list[Path]:
    """Return the files of a folder that could be an input, and that no job file and no earlier export speaks for, by name."""
    return [path for path in sorted(folder.iterdir()) if _could_be_input(path)]


def _could_be_input(path: Path) -> bool:
    ending = unpacked(path).suffix.lower().lstrip(".")
    if path.name.startswith(".") or ending not in survey.ENDINGS or _NOT_ROWS.fullmatch(path.name) or spool.is_copy(path):
        return False
    if not path.is_file() or unpacked(path).with_suffix(".toml").exists() or is_beside_inputs(path):
        return False
    try:
        with closing(
            opening.open_input(path, ReadOptions(asked=frozenset({WHOLE_ROW})), most_bytes=survey.LOOK_BYTES).read()
        ) as rows:
            first = next((row for row in rows if row.fault is None), None)
        return first is not None and not part.is_export(path)
    except UsageError:
        return False


def _only_one(folder: Path) -> Path:
    found = candidates(folder)
    if len(found) == 1:
        return found[0]
    if not found:
        raise UsageError(
            "no file in this folder looks like rows that have no job file yet (.jsonl, .csv, .txt, .xlsx, ...); name one: "
            "`runner init FILE`"
        )
    raise UsageError(f"which file? Name one: `runner init {file_word(found[0])}`{_among(folder, found)}")


def _among(folder: Path, found: list[Path] | None = None) -> str:
    """Return the inputs of a folder, in words that follow a sentence."""
    names = [file_word(path.name) for path in (candidates(folder) if found is None else found)]
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return f". There are: {', '.join(names[:_SHOWN])}{more}" if names else ""


def begin(file: Path, output: str | None, given: Mapping[str, Json]) -> Begun:
    """Look at an input and write its job file. given: settings to write into it.

    Raises UsageError, if there is such a job file too, and StoreError if it cannot be written.
    """
    given = {name: check(BY_NAME[name], value, f"given with {BY_NAME[name].option}") for name, value in given.items()}
    opening.texts_in(given)
    if "fields" in given:
        fields.schema_of(given["fields"])
    if "provider" in given:
        plugins.load("providers", given["provider"])
    target = _target(file, output)
    seen = survey.survey(file, ReadOptions(**{to: given[name] for name, to in _READ.items() if name in given}))
    # beside a prompt that is proposed, --system is a template too
    prompt = given.get("prompt", seen.prompt)
    if (texts := opening.texts_in({**given, "prompt": prompt})) is not None and prompt is not None:
        _refuse_unfit(texts, prompt, seen)
    implied = _implied(file)
    # no job file is read with several files
    is_implied = (target is None or target.absolute() == implied.absolute()) and not origin.is_several(file)
    commands = _commands(file if is_implied else target or implied, seen)
    keys = {name: variable for name in plugins.names("providers") if os.environ.get(variable := _key(name), "").strip()}
    text = Draft(seen, drafting.input_names(file, target or implied), given, keys, drafting.in_force(os.environ)).text(commands)
    if target is not None:
        _write(target, text)
    return Begun(target, text, seen, commands)


def _refuse_unfit(texts: Texts, prompt: str, seen: Survey) -> None:
    """Raise UsageError for a template that `runner run` would refuse. Of a file that was not read whole that cannot be told."""
    fields = {column.name: column.example for column in seen.columns}
    lacking = sorted(texts.names - NEVER_ABSENT - fields.keys())
    if lacking and seen.is_whole:
        try:
            texts.messages(fields), texts.system(fields)
        except RowFaultError:
            unfit.refuse_absent(lacking, fields, seen.path)
    if not texts.names:
        unfit.refuse_braces(prompt, fields)


def _key(provider: str) -> str:
    variable: str = plugins.load("providers", provider).KEY_ENV
    return variable


def _implied(file: Path) -> Path:
    """Return the job file that is read with an input; for several files, one that has to be named."""
    if origin.is_several(file):
        return Path(SEVERAL)
    return unpacked(file).with_suffix(".toml")


def _target(file: Path, output: str | None) -> Path | None:
    """Return the job file to write; None for standard output. Raises UsageError for one that is there, or cannot be one."""
    if output is not None and is_standard_output(output):
        return None
    target = Path(output) if output is not None else _implied(file)
    if target.suffix.lower() != ".toml":
        raise UsageError(f"a job file ends in .toml, and {target} does not; name it so, or use -o - to see it")
    if not target.absolute().parent.is_dir():
        raise UsageError(f"{target} cannot be written: its folder does not exist")
    if os.path.lexists(target):
        raise _taken(target)
    return target


def _taken(target: Path) -> UsageError:
    return UsageError(f"{target} exists already and is left as it is; -o NAME.toml writes another one, -o - prints it")


def _write(target: Path, text: str) -> None:
    """Write a new file. One that has come meanwhile is left alone."""
    try:
        # x: the file is made here or not at all
        with target.open("x", encoding="utf-8", newline="") as file:
            try:
                file.write(text)
                file.flush()
            except BaseException:
                with suppress(OSError):
                    target.unlink()
                raise
    except FileExistsError:
        raise _taken(target) from None
    except OSError as error:
        raise StoreError(f"{target} cannot be written: {error.strerror or error}") from error


def _commands(target: Path, seen: Survey) -> list[tuple[str, str]]:
    """Return the commands that may follow, as they can be typed in the current folder. No key is needed for them."""
    word = file_word(target)
    look = (f"runner check {word}", "reads every row, sends nothing")
    if seen.id_repeats and seen.id_column is None:
        return [look]
    answers = next(name for number in range(1, 1_000_000) if not os.path.lexists(name := _answers(number)))
    return [
        look,
        (f"runner try {word} --provider simulator", "one row, answered while you watch"),
        (f"runner run {word} --provider simulator -o {answers}", "all rows; without --provider, by your model"),
    ]


def _answers(number: int) -> str:
    return "answers.csv" if number == 1 else f"answers-{number}.csv"
