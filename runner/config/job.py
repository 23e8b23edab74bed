"""Job: options over environment over job file over defaults, into one frozen value that knows where each setting came from."""

import json
import math
import os
import tomllib
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import msgspec
from msgspec import Struct

from runner import durations
from runner.config.settings import BY_NAME, DIALS, Dial
from runner.errors import UsageError
from runner.inputs.compression import bare
from runner.inputs.spool import STDIN, flows, path_of
from runner.model import Json, Params
from runner.text import nearest

_ANSWER = tuple(dial.name for dial in DIALS if dial.answer)


class Job(Struct, frozen=True, kw_only=True):
    """What to do."""

    # absolute path of the prompt file; what flows (- is standard input) until it was read
    input: Path
    provider: str
    # None: none was named, and nothing can be sent
    model: str | None
    # None: the provider's own
    base_url: str | None
    api_key_env: str | None
    # None: it finds itself, up to max_concurrency
    concurrency: int | None
    max_concurrency: int
    # per minute, each model by itself
    rpm: float | None
    tpm: float | None
    input_tpm: float | None
    output_tpm: float | None
    # names of errors, beyond those that are known
    money_codes: str | list[str] | None
    rate_codes: str | list[str] | None
    attempts: int
    # seconds from the start of a session
    deadline: float | None
    # full or normal: what a power cut may cost
    durability: str
    system: str | None
    params: Params
    connect_s: float
    first_byte_s: float
    silence_s: float
    attempt_s: float
    # setting -> where it came from, in words
    sources: Mapping[str, str] = {}

    def settings(self) -> dict[str, Json]:
        """Give every setting by its name, flat; holds no secret."""
        flat = {dial.name: getattr(self.params if dial.key.startswith("params.") else self, dial.name) for dial in DIALS}
        flat["concurrency"] = "auto" if self.concurrency is None else self.concurrency
        return {"input": str(self.input), **flat}

    def answer(self) -> dict[str, Json]:
        """Give the settings that change an answer."""
        settings = self.settings()
        return {name: settings[name] for name in _ANSWER}


def load(file: str | Path, options: Mapping[str, Any], environment: Mapping[str, str] | None = None) -> Job:
    """Make the job of a prompt file or a job file.

    options: setting -> value for those given on the command line, or as arguments. Raises UsageError.
    """
    environment = os.environ if environment is None else environment
    source, table, named = _files(path_of(file))
    values: dict[str, Any] = {}
    sources: dict[str, str] = {}
    for dial, value in _from_table(table, named):
        values[dial.name], sources[dial.name] = value, str(named)
    for dial in DIALS:
        if environment.get(dial.variable):
            values[dial.name] = _parsed(dial, environment[dial.variable], f"in the environment ({dial.variable})")
            sources[dial.name] = f"environment {dial.variable}"
    for name, value in options.items():
        if name not in BY_NAME:
            raise UsageError(f"there is no setting {name!r}{_close(name, BY_NAME)}")
        if value is not None:
            dial = BY_NAME[name]
            values[name] = _checked(dial, value, f"given with {dial.option}")
            sources[name] = f"option {dial.option}"
    return _job(source, values, sources)


def restore(settings: Mapping[str, Json], options: Mapping[str, Any], environment: Mapping[str, str] | None = None) -> Job:
    """Make the job of a run again from what the store knows, with new settings of those that do not change an answer."""
    environment = os.environ if environment is None else environment
    known = {name: value for name, value in settings.items() if name in BY_NAME and value is not None}
    sources = dict.fromkeys(known, "the store")
    for dial in DIALS:
        if not dial.answer and environment.get(dial.variable):
            known[dial.name] = _parsed(dial, environment[dial.variable], f"in the environment ({dial.variable})")
            sources[dial.name] = f"environment {dial.variable}"
    for name, value in options.items():
        if name not in BY_NAME:
            raise UsageError(f"there is no setting {name!r}{_close(name, BY_NAME)}")
        if name in _ANSWER:
            raise UsageError(f"{name} changes the answers, so it cannot change within a run; start another with `runner run`")
        if value is not None:
            known[name] = _checked(BY_NAME[name], value, f"given with {BY_NAME[name].option}")
            sources[name] = f"option {BY_NAME[name].option}"
    return _job(Path(settings["input"]), known, sources)


def _job(source: Path, values: Mapping[str, Any], sources: Mapping[str, str]) -> Job:
    full = {dial.name: values.get(dial.name, dial.default) for dial in DIALS}
    said = {dial.name: sources.get(dial.name, "default" if full[dial.name] is not None else "not set") for dial in DIALS}
    full["concurrency"] = None if full["concurrency"] == "auto" else full["concurrency"]
    if full["model"] is None and full["provider"] == "simulator":
        full["model"] = "simulated-model"
    if full["base_url"] is not None and full["provider"] == "simulator":
        raise UsageError("provider simulator starts its own server and takes no base_url; for a running one use openai")
    params = Params(**{name: full.pop(name) for name in Params.__struct_fields__})
    return Job(input=source, params=params, sources=said, **full)


def _files(file: Path) -> tuple[Path, dict[str, Any], Path]:
    """Find the prompt file and the table of its job file, if it has one."""
    try:
        str(file).encode()
    except UnicodeEncodeError:
        raise UsageError(f"the name {str(file)!a} is not UTF-8, and the store keeps names as text; rename the file") from None
    if file == STDIN:
        # it has no job file, and becomes a file when it is read
        return file, {}, file
    if file.suffix.lower() != ".toml":
        if not file.exists():
            raise UsageError(f"there is no file {file}")
        if file.is_dir():
            raise UsageError(f"{file} is a folder; name a prompt file (.jsonl) or a job file (.toml)")
        sibling = bare(file).with_suffix(".toml")
        table = _toml(sibling) if sibling.is_file() else {}
        own = table.get("input", file.name)
        if not isinstance(own, str):
            raise UsageError(f"input must be a text, not {own!r} (in {sibling})")
        if (sibling.parent / own).resolve() != file.resolve():
            raise UsageError(f"{sibling} stands beside {file} but names {own} as its input; mend the name, or run {sibling}")
        # a pipe without a name, as a shell makes it, has no other path than the one it was given by
        return file.absolute() if flows(file) else file.resolve(), table, sibling
    table = _toml(file)
    named = table.get("input")
    if not isinstance(named, str) or not named:
        raise UsageError(f'{file} names no prompt file; add a line such as input = "prompts.jsonl"')
    source = file.absolute().parent / named
    if named == str(STDIN) or flows(source):
        return STDIN if named == str(STDIN) else source, table, file
    source = source.resolve()
    if source.is_dir():
        raise UsageError(f"{file} names the prompt file {source}, which is a folder")
    if not source.is_file():
        raise UsageError(f"{file} names the prompt file {source}, which does not exist")
    return source, table, file


def _toml(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise UsageError(f"there is no file {path}") from None
    except OSError as error:
        raise UsageError(f"{path} cannot be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise UsageError(f"{path} is not UTF-8 text (byte {error.start})") from error
    except tomllib.TOMLDecodeError as error:
        raise UsageError(f"{path} is not valid TOML: {error}") from error


def _from_table(table: Mapping[str, Any], path: Path) -> Iterator[tuple[Dial, Any]]:
    by_key = {dial.key: dial for dial in DIALS}
    groups = {dial.key.partition(".")[0] for dial in DIALS if "." in dial.key}
    for name, value in table.items():
        if name == "input":
            continue
        if name not in groups:
            yield _dial(name, by_key, path), _checked(_dial(name, by_key, path), value, f"in {path}")
            continue
        if not isinstance(value, dict):
            raise UsageError(f"{name} must be a table, [{name}], in {path}")
        for inner, one in value.items():
            dial = _dial(f"{name}.{inner}", by_key, path)
            yield dial, _checked(dial, one, f"in {path}")


def _dial(key: str, by_key: Mapping[str, Dial], path: Path) -> Dial:
    if key in by_key:
        return by_key[key]
    # a key in the wrong table is nearer than one of another name
    name = key.rpartition(".")[2]
    if name in BY_NAME:
        raise UsageError(f"unknown key {key!r} in {path}; did you mean {BY_NAME[name].key!r}?")
    raise UsageError(f"unknown key {key!r} in {path}{_close(key, [*by_key, 'input', 'params', 'timeouts'])}")


def _close(word: str, among: Iterable[str]) -> str:
    close = nearest(word, among)
    return f"; did you mean {close!r}?" if close is not None else ""


def _parsed(dial: Dial, text: str, where: str) -> Any:
    """Read a setting from text."""
    value: Any = text
    try:
        if dial.kind == "int":
            value = int(text)
        elif dial.kind == "float":
            value = float(text)
        elif dial.kind == "slots":
            value = text if text == "auto" else int(text)
        elif dial.kind == "json" or (dial.kind == "texts" and text.startswith("[")):
            value = json.loads(text)
    except ValueError:
        raise UsageError(f"{_must(dial)}, not {text!r} ({where})") from None
    return _checked(dial, value, where)


def _checked(dial: Dial, value: Any, where: str) -> Any:
    """Hold a setting to its kind and bounds."""
    given = value
    if dial.kind in ("json", "slots") and isinstance(value, str) and value != "auto":
        return _parsed(dial, value, where)
    if dial.kind == "span" and isinstance(value, str):
        value = durations.parse_span(value)
    if dial.kind in ("float", "span") and isinstance(value, int) and not isinstance(value, bool) and abs(value) < 1e300:
        value = float(value)
    if dial.kind == "texts" and isinstance(value, tuple):
        value = list(value)
    if dial.kind == "texts" and isinstance(value, list) and len(value) == 1:
        value = value[0]
    kinds: dict[str, type | tuple[type, ...]] = {
        "text": str, "int": int, "float": float, "texts": (str, list), "json": dict, "slots": (int, str), "span": float,
        "choice": str,
    }  # fmt: skip
    fits = isinstance(value, kinds[dial.kind]) and not isinstance(value, bool)
    if isinstance(value, list):
        fits = fits and bool(value) and all(isinstance(one, str) for one in value)
    if isinstance(value, float):
        fits = fits and math.isfinite(value)
    if fits and dial.least is not None and not isinstance(value, str):
        fits = value >= dial.least if dial.kind in ("int", "slots") else value > dial.least
    if fits and dial.kind == "text" and dial.name != "system":
        fits = bool(value.strip())
    if fits and dial.kind == "choice":
        fits = value in dial.choices
    if not fits:
        raise UsageError(f"{_must(dial)}, not {given!r} ({where})")
    return value


def _must(dial: Dial) -> str:
    what = {
        "text": "a text", "int": "a whole number", "float": "a number", "texts": "a text or a list of texts",
        "json": "a JSON object", "slots": "auto or a whole number", "span": "seconds or a time such as 30m",
        "choice": " or ".join(dial.choices),
    }[dial.kind]  # fmt: skip
    bound = ""
    if dial.least is not None:
        bound = f" of {dial.least:g} or more" if dial.kind in ("int", "slots") else f" above {dial.least:g}"
    return f"{dial.key} must be {what}{bound}"


def shown(job: Job) -> list[tuple[str, str, str]]:
    """Give every setting for a person: key, value as JSON, where it came from."""
    settings = job.settings()
    return [(dial.key, msgspec.json.encode(settings[dial.name]).decode(), job.sources[dial.name]) for dial in DIALS]
