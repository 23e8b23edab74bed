"""Builds a job from options, environment, job file and defaults, in this order of precedence, with the source of each setting."""

import os
import tomllib
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import msgspec
from msgspec import Struct

from runner.config import fields
from runner.config.fields import Field
from runner.config.local_server import LOCAL_SERVERS, LocalServer
from runner.config.settings import BY_NAME, SETTINGS, Setting
from runner.config.values import check, parse
from runner.errors import UsageError
from runner.inputs.compression import without_gz
from runner.inputs.spool import STDIN, is_stream, path_of
from runner.model import Json, Params
from runner.text import nearest

STORED = "the store"
"""The source of a setting that a store has kept."""

_ANSWER = tuple(setting.name for setting in SETTINGS if setting.answer)


class Job(Struct, frozen=True, kw_only=True):
    """What to do: the input, the endpoint, the model, the parameters and the pace."""

    # absolute path of the prompt file; for standard input (-) and pipes, the name as given until they are copied to a file
    input: Path
    provider: str
    # None: not set, so nothing can be sent
    model: str | None
    # None: the provider's default
    base_url: str | None
    api_key_env: str | None
    # added to every request
    headers: tuple[Field, ...]
    query: tuple[Field, ...]
    # None: tuned automatically, up to max_concurrency
    concurrency: int | None
    max_concurrency: int
    # per minute, for each model separately
    rpm: float | None
    tpm: float | None
    input_tpm: float | None
    output_tpm: float | None
    # error codes of the endpoint, in addition to the known ones
    money_codes: str | list[str] | None
    rate_codes: str | list[str] | None
    attempts: int
    # seconds from the start of a session
    deadline: float | None
    # full or normal: which answers a power cut can lose
    durability: str
    system: str | None
    params: Params
    connect_s: float
    first_byte_s: float
    silence_s: float
    attempt_s: float
    # setting -> where it came from, in words
    sources: Mapping[str, str] = {}
    # the settings for which only a job file or a store stands, and not the user (``config.trust``)
    unvouched: frozenset[str] = frozenset()
    # the user has said for this session that what the file asks for is allowed
    trusted: bool = False
    # the job file, if there is one
    file: Path | None = None

    @property
    def local_server(self) -> LocalServer | None:
        """The server that is started for the session; None if requests go to a server that is already running."""
        return LOCAL_SERVERS.get(self.provider)

    def settings(self) -> dict[str, Json]:
        """Return all settings and the input in one flat dictionary. It contains no secrets."""
        flat = {
            setting.name: getattr(self.params if setting.key.startswith("params.") else self, setting.name)
            for setting in SETTINGS
        }
        flat["concurrency"] = "auto" if self.concurrency is None else self.concurrency
        flat.update({kind: fields.stored(kind, getattr(self, kind), self.input) for kind in ("headers", "query")})
        return {"input": str(self.input), **flat}

    def answer_settings(self) -> dict[str, Json]:
        """Return the settings that can change an answer."""
        settings = self.settings()
        return {name: settings[name] for name in _ANSWER}


def load_job(file: str | Path, options: Mapping[str, Any], environment: Mapping[str, str] | None = None) -> Job:
    """Build the job for a prompt file or a job file.

    options: setting -> value, from the command line or from keyword arguments. Raises UsageError.
    """
    environment = os.environ if environment is None else environment
    source, table, job_file = _find_files(path_of(file))
    values: dict[str, Any] = {}
    sources: dict[str, str] = {}
    for setting, value in _from_table(table, job_file):
        values[setting.name] = fields.joined(setting.kind, None, value, unvouched=True, file=job_file.absolute())
        sources[setting.name] = str(job_file)
    for setting in SETTINGS:
        if environment.get(setting.variable):
            value = parse(setting, environment[setting.variable], f"in the environment ({setting.variable})")
            values[setting.name] = fields.joined(setting.kind, values.get(setting.name), value)
            sources[setting.name] = f"environment {setting.variable}"
    for name, value in options.items():
        if name not in BY_NAME:
            raise UsageError(f"unknown setting {name!r}{_suggestion(name, BY_NAME)}")
        if value is not None:
            setting = BY_NAME[name]
            value = check(setting, value, f"given with {setting.option}")
            values[name] = fields.joined(setting.kind, values.get(name), value)
            sources[name] = f"option {setting.option}"
    return _build(source, values, sources, word=str(job_file), file=job_file if table else None)


def restore_job(settings: Mapping[str, Json], options: Mapping[str, Any], environment: Mapping[str, str] | None = None) -> Job:
    """Rebuild the job of a stored run. The environment and the options can change only settings that do not change answers."""
    environment = os.environ if environment is None else environment
    values = {name: value for name, value in settings.items() if name in BY_NAME and value is not None}
    sources = dict.fromkeys(values, STORED)
    for kind in ("headers", "query"):
        values[kind] = fields.restored(settings.get(kind), Path(settings["input"]), _headers_in)
    for setting in SETTINGS:
        if not setting.answer and environment.get(setting.variable):
            value = parse(setting, environment[setting.variable], f"in the environment ({setting.variable})")
            values[setting.name] = fields.joined(setting.kind, values.get(setting.name), value)
            sources[setting.name] = f"environment {setting.variable}"
    for name, value in options.items():
        if name not in BY_NAME:
            raise UsageError(f"unknown setting {name!r}{_suggestion(name, BY_NAME)}")
        if name in _ANSWER:
            raise UsageError(f"{name} changes the answers, so a run keeps it; start a new run with `runner run`")
        if value is not None:
            value = check(BY_NAME[name], value, f"given with {BY_NAME[name].option}")
            values[name] = fields.joined(BY_NAME[name].kind, values.get(name), value)
            sources[name] = f"option {BY_NAME[name].option}"
    return _build(Path(settings["input"]), values, sources, word=STORED)


def _headers_in(job_file: Path) -> dict[str, str]:
    """Return the headers of a job file, for those whose values the store has not kept."""
    table = _toml(job_file).get("headers", {}) if job_file.is_file() else {}
    headers: dict[str, str] = check(BY_NAME["headers"], table, f"in {job_file}")
    return headers


def _build(source: Path, values: Mapping[str, Any], sources: Mapping[str, str], *, word: str, file: Path | None = None) -> Job:
    """Build the job. word: the source of the settings that a job file or a store gives."""
    full = {setting.name: values.get(setting.name, setting.default) for setting in SETTINGS}
    all_sources = {name: sources.get(name, "default" if value is not None else "not set") for name, value in full.items()}
    full["concurrency"] = None if full["concurrency"] == "auto" else full["concurrency"]
    server = LOCAL_SERVERS.get(full["provider"])
    if server is not None:
        if full["base_url"] is not None:
            hint = f"for a server that already runs, use provider {server.dialect}"
            raise UsageError(f"provider {full['provider']} starts its own server and takes no base_url; {hint}")
        full["model"] = server.model if full["model"] is None else full["model"]
    params = Params(**{name: full.pop(name) for name in Params.__struct_fields__})
    full.update({kind: full[kind] or () for kind in ("headers", "query")})
    unvouched = frozenset(name for name, where in sources.items() if where == word)
    return Job(input=source, params=params, sources=all_sources, unvouched=unvouched, file=file, **full)


def _find_files(file: Path) -> tuple[Path, dict[str, Any], Path]:
    """Return the prompt file, the content of its job file (empty if there is none), and the path of the job file."""
    try:
        str(file).encode()
    except UnicodeEncodeError:
        raise UsageError(
            f"the file name {str(file)!a} is not UTF-8, and the store keeps names as text; rename the file"
        ) from None
    if file == STDIN:
        # Standard input has no job file. It is copied to a file when it is read.
        return file, {}, file
    if file.suffix.lower() != ".toml":
        if not file.exists():
            raise UsageError(f"there is no file {file}")
        if file.is_dir():
            raise UsageError(f"{file} is a folder; name a prompt file (.jsonl) or a job file (.toml)")
        sibling = without_gz(file).with_suffix(".toml")
        table = _toml(sibling) if sibling.is_file() else {}
        input_name = table.get("input", file.name)
        if not isinstance(input_name, str):
            raise UsageError(f"input must be a string, not {input_name!r} (in {sibling})")
        if (sibling.parent / input_name).resolve() != file.resolve():
            raise UsageError(
                f"{sibling} is the job file of {file}, but its input is {input_name}; correct the input, or run {sibling}"
            )
        # The path of an unnamed pipe, such as /dev/fd/63 from a shell, does not survive being resolved.
        return file.absolute() if is_stream(file) else file.resolve(), table, sibling
    table = _toml(file)
    input_name = table.get("input")
    if not isinstance(input_name, str) or not input_name:
        raise UsageError(f'{file} does not name a prompt file; add a line such as input = "prompts.jsonl"')
    source = file.absolute().parent / input_name
    if input_name == str(STDIN) or is_stream(source):
        return STDIN if input_name == str(STDIN) else source, table, file
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
    raise UsageError(f"unknown key {key!r} in {path}{_suggestion(key, [*by_key, 'input', 'params', 'timeouts'])}")


def _suggestion(word: str, names: Iterable[str]) -> str:
    close = nearest(word, names)
    return f"; did you mean {close!r}?" if close is not None else ""


def shown_settings(job: Job) -> list[tuple[str, str, str]]:
    """Return every setting for display: key, value as JSON, and where it came from."""
    values = job.settings()
    return [(setting.key, msgspec.json.encode(values[setting.name]).decode(), job.sources[setting.name]) for setting in SETTINGS]
