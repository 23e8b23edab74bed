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
from runner.config.local_server import LOCAL_SERVERS, LocalServer
from runner.config.settings import BY_NAME, SETTINGS, Setting
from runner.errors import UsageError
from runner.inputs.compression import bare
from runner.inputs.spool import STDIN, flows, path_of
from runner.model import Json, Params
from runner.text import nearest

_ANSWER = tuple(setting.name for setting in SETTINGS if setting.answer)


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

    @property
    def local_server(self) -> LocalServer | None:
        """The server that starts and ends with the session; None where requests go to a server that runs by itself."""
        return LOCAL_SERVERS.get(self.provider)

    def settings(self) -> dict[str, Json]:
        """Give every setting by its name, flat; holds no secret."""
        flat = {one.name: getattr(self.params if one.key.startswith("params.") else self, one.name) for one in SETTINGS}
        flat["concurrency"] = "auto" if self.concurrency is None else self.concurrency
        return {"input": str(self.input), **flat}

    def answer(self) -> dict[str, Json]:
        """Give the settings that change an answer."""
        settings = self.settings()
        return {name: settings[name] for name in _ANSWER}


def load_job(file: str | Path, options: Mapping[str, Any], environment: Mapping[str, str] | None = None) -> Job:
    """Make the job of a prompt file or a job file.

    options: setting -> value for those given on the command line, or as arguments. Raises UsageError.
    """
    environment = os.environ if environment is None else environment
    source, table, named = _files(path_of(file))
    values: dict[str, Any] = {}
    sources: dict[str, str] = {}
    for setting, value in _from_table(table, named):
        values[setting.name], sources[setting.name] = value, str(named)
    for setting in SETTINGS:
        if environment.get(setting.variable):
            values[setting.name] = _parsed(setting, environment[setting.variable], f"in the environment ({setting.variable})")
            sources[setting.name] = f"environment {setting.variable}"
    for name, value in options.items():
        if name not in BY_NAME:
            raise UsageError(f"there is no setting {name!r}{_close(name, BY_NAME)}")
        if value is not None:
            setting = BY_NAME[name]
            values[name] = _checked(setting, value, f"given with {setting.option}")
            sources[name] = f"option {setting.option}"
    return _job(source, values, sources)


def restore_job(settings: Mapping[str, Json], options: Mapping[str, Any], environment: Mapping[str, str] | None = None) -> Job:
    """Make the job of a run again from what the store knows, with new settings of those that do not change an answer."""
    environment = os.environ if environment is None else environment
    known = {name: value for name, value in settings.items() if name in BY_NAME and value is not None}
    sources = dict.fromkeys(known, "the store")
    for setting in SETTINGS:
        if not setting.answer and environment.get(setting.variable):
            known[setting.name] = _parsed(setting, environment[setting.variable], f"in the environment ({setting.variable})")
            sources[setting.name] = f"environment {setting.variable}"
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
    full = {setting.name: values.get(setting.name, setting.default) for setting in SETTINGS}
    said = {name: sources.get(name, "default" if value is not None else "not set") for name, value in full.items()}
    full["concurrency"] = None if full["concurrency"] == "auto" else full["concurrency"]
    server = LOCAL_SERVERS.get(full["provider"])
    if server is not None:
        if full["base_url"] is not None:
            raise UsageError(
                f"provider {full['provider']} starts its own server and takes no base_url; for a running one use {server.dialect}"
            )
        full["model"] = server.model if full["model"] is None else full["model"]
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


def _from_table(table: Mapping[str, Any], path: Path) -> Iterator[tuple[Setting, Any]]:
    by_key = {setting.key: setting for setting in SETTINGS}
    groups = {setting.key.partition(".")[0] for setting in SETTINGS if "." in setting.key}
    for name, value in table.items():
        if name == "input":
            continue
        if name not in groups:
            yield _setting(name, by_key, path), _checked(_setting(name, by_key, path), value, f"in {path}")
            continue
        if not isinstance(value, dict):
            raise UsageError(f"{name} must be a table, [{name}], in {path}")
        for inner, one in value.items():
            setting = _setting(f"{name}.{inner}", by_key, path)
            yield setting, _checked(setting, one, f"in {path}")


def _setting(key: str, by_key: Mapping[str, Setting], path: Path) -> Setting:
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


def _parsed(setting: Setting, text: str, where: str) -> Any:
    """Read a setting from text."""
    value: Any = text
    try:
        if setting.kind == "int":
            value = int(text)
        elif setting.kind == "float":
            value = float(text)
        elif setting.kind == "slots":
            value = text if text == "auto" else int(text)
        elif setting.kind == "json" or (setting.kind == "texts" and text.startswith("[")):
            value = json.loads(text)
    except ValueError:
        raise UsageError(f"{_must(setting)}, not {text!r} ({where})") from None
    return _checked(setting, value, where)


def _checked(setting: Setting, value: Any, where: str) -> Any:
    """Hold a setting to its kind and bounds."""
    given = value
    if setting.kind in ("json", "slots") and isinstance(value, str) and value != "auto":
        return _parsed(setting, value, where)
    if setting.kind == "span" and isinstance(value, str):
        value = durations.parse_span(value)
    if setting.kind in ("float", "span") and isinstance(value, int) and not isinstance(value, bool) and abs(value) < 1e300:
        value = float(value)
    if setting.kind == "texts" and isinstance(value, tuple):
        value = list(value)
    if setting.kind == "texts" and isinstance(value, list) and len(value) == 1:
        value = value[0]
    kinds: dict[str, type | tuple[type, ...]] = {
        "text": str, "int": int, "float": float, "texts": (str, list), "json": dict, "slots": (int, str), "span": float,
        "choice": str,
    }  # fmt: skip
    fits = isinstance(value, kinds[setting.kind]) and not isinstance(value, bool)
    if isinstance(value, list):
        fits = fits and bool(value) and all(isinstance(one, str) for one in value)
    if isinstance(value, float):
        fits = fits and math.isfinite(value)
    if fits and setting.least is not None and not isinstance(value, str):
        fits = value >= setting.least if setting.kind in ("int", "slots") else value > setting.least
    if fits and setting.kind == "text" and setting.name != "system":
        fits = bool(value.strip())
    if fits and setting.kind == "choice":
        fits = value in setting.choices
    if not fits:
        raise UsageError(f"{_must(setting)}, not {given!r} ({where})")
    return value


def _must(setting: Setting) -> str:
    what = {
        "text": "a text", "int": "a whole number", "float": "a number", "texts": "a text or a list of texts",
        "json": "a JSON object", "slots": "auto or a whole number", "span": "seconds or a time such as 30m",
        "choice": " or ".join(setting.choices),
    }[setting.kind]  # fmt: skip
    bound = ""
    if setting.least is not None:
        bound = f" of {setting.least:g} or more" if setting.kind in ("int", "slots") else f" above {setting.least:g}"
    return f"{setting.key} must be {what}{bound}"


def shown_settings(job: Job) -> list[tuple[str, str, str]]:
    """Give every setting for a person: key, value as JSON, where it came from."""
    values = job.settings()
    return [(one.key, msgspec.json.encode(values[one.name]).decode(), job.sources[one.name]) for one in SETTINGS]
