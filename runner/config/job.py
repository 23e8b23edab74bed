"""Builds a job from options, environment, job file and defaults, in this order of precedence, with the source of each setting."""

import os
import tomllib
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import msgspec
from msgspec import Struct

from runner.config.local_server import LOCAL_SERVERS, LocalServer
from runner.config.settings import BY_NAME, SETTINGS, Setting
from runner.config.values import check, parse
from runner.errors import UsageError
from runner.inputs.compression import without_gz
from runner.inputs.spool import STDIN, is_stream, path_of
from runner.model import Json, Params
from runner.providers import finish
from runner.providers.finish import Finish
from runner.text import nearest

STORED = "the store"
"""The source of a setting that an earlier session of the run has stored."""

_ANSWER = tuple(setting.name for setting in SETTINGS if setting.answer)


class Job(Struct, frozen=True, kw_only=True):
    """What to do: the input, the endpoint, the model, the parameters and the pace."""

    # absolute path of the prompt file, as given: a symbolic link stays one, since it may point to another file tomorrow. For
    # standard input (-) and pipes, the name as given until they are copied to a file
    input: Path
    provider: str
    # None: not set, so nothing can be sent
    model: str | None
    # None: the provider's default
    base_url: str | None
    api_key_env: str | None
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
    # what finish reasons, and the word empty, mean in this run
    finish_retry: str | list[str] | None
    finish_fail: str | list[str] | None
    finish_done: str | list[str] | None
    # stop when the model refuses a parameter
    strict_params: bool
    attempts: int
    # seconds for which a server may refuse all rows; 0: these refusals are the rows' own
    patience_s: int
    # seconds from the start of a session
    deadline: float | None
    # failed rows of the run that count as success: a number, or a percentage of its rows; None: none
    ok_failed: int | str | None
    # full or normal: which answers a power cut can lose
    durability: str
    # False: fields of a row such as model and temperature are plain data
    row_settings: bool
    system: str | None
    # False: each answer is asked for in one piece
    stream: bool
    params: Params
    connect_s: float
    first_byte_s: float
    silence_s: float
    attempt_s: float
    # setting -> where it came from, in words
    sources: Mapping[str, str] = {}

    @property
    def local_server(self) -> LocalServer | None:
        """The server that is started for the session; None if requests go to a server that is already running."""
        return LOCAL_SERVERS.get(self.provider)

    @property
    def finish(self) -> Finish:
        """What finish reasons mean in this run. Raises UsageError for a reason that is in two lists."""
        return finish.of(self.finish_retry, self.finish_fail, self.finish_done)

    def tolerates(self, failed: int, *, of: int) -> bool:
        """Return True if so many failed rows of a run with ``of`` rows count as success."""
        if isinstance(self.ok_failed, str):
            return failed * 100 <= float(self.ok_failed.removesuffix("%")) * of
        return failed <= (self.ok_failed or 0)

    def settings(self) -> dict[str, Json]:
        """Return all settings and the input in one flat dictionary. It contains no secrets."""
        flat = {
            setting.name: getattr(self.params if setting.key.startswith("params.") else self, setting.name)
            for setting in SETTINGS
        }
        flat["concurrency"] = "auto" if self.concurrency is None else self.concurrency
        return {"input": str(self.input), **flat}

    def answer_settings(self) -> dict[str, Json]:
        """Return the settings that can change an answer."""
        settings = self.settings()
        return {name: settings[name] for name in _ANSWER}

    def said(self, name: str) -> bool:
        """Return True if the user set this setting. A stored value that is the default counts as not set."""
        source = self.sources.get(name, "default")
        stored_default = source == STORED and getattr(self, name) == BY_NAME[name].default
        return source not in ("default", "not set") and not stored_default


def load_job(file: str | Path, options: Mapping[str, Any], environment: Mapping[str, str] | None = None) -> Job:
    """Build the job for a prompt file or a job file.

    options: setting -> value, from the command line or from keyword arguments. Raises UsageError.
    """
    environment = os.environ if environment is None else environment
    source, table, job_file = _find_files(path_of(file))
    values: dict[str, Any] = {}
    sources: dict[str, str] = {}
    for setting, value in _from_table(table, job_file):
        values[setting.name], sources[setting.name] = value, str(job_file)
    for setting in SETTINGS:
        if environment.get(setting.variable):
            values[setting.name] = parse(setting, environment[setting.variable], f"in the environment ({setting.variable})")
            sources[setting.name] = f"environment {setting.variable}"
    for name, value in options.items():
        if name not in BY_NAME:
            raise UsageError(f"unknown setting {name!r}{_suggestion(name, BY_NAME)}")
        if value is not None:
            setting = BY_NAME[name]
            values[name] = check(setting, value, f"given with {setting.option}")
            sources[name] = f"option {setting.option}"
    return _build(source, values, sources)


def restore_job(settings: Mapping[str, Json], options: Mapping[str, Any], environment: Mapping[str, str] | None = None) -> Job:
    """Rebuild the job of a stored run. The environment can change only its pace and its key, options every setting.

    Raises UsageError. Whether the run may take another value of a setting that changes answers is decided later, by its state.
    """
    environment = os.environ if environment is None else environment
    values = {name: value for name, value in settings.items() if name in BY_NAME and value is not None}
    sources = dict.fromkeys(values, STORED)
    for setting in SETTINGS:
        # a run leaves its server only if that is asked for by name
        if not setting.answer and setting.name != "base_url" and environment.get(setting.variable):
            values[setting.name] = parse(setting, environment[setting.variable], f"in the environment ({setting.variable})")
            sources[setting.name] = f"environment {setting.variable}"
    if options.get("provider") not in (None, values.get("provider")):
        # the address of one provider is of no use to another
        values.pop("base_url", None)
    for name, value in options.items():
        if name not in BY_NAME:
            raise UsageError(f"unknown setting {name!r}{_suggestion(name, BY_NAME)}")
        if value is not None:
            values[name] = check(BY_NAME[name], value, f"given with {BY_NAME[name].option}")
            sources[name] = f"option {BY_NAME[name].option}"
    return _build(Path(settings["input"]), values, sources)


def _build(source: Path, values: Mapping[str, Any], sources: Mapping[str, str]) -> Job:
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
    return Job(input=source, params=params, sources=all_sources, **full)


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
        return file.absolute() if is_stream(file) else _as_given(file), table, sibling
    table = _toml(file)
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


def _as_given(path: Path) -> Path:
    """Return the absolute path of a file without ``..`` in it. A link stays one, but for those of folders before a ``..``."""
    path = path.absolute()
    return path.parent.resolve() / path.name if ".." in path.parts else path


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
    raise UsageError(f"unknown key {key!r} in {path}{_suggestion(key, [*by_key, 'input', 'params', 'timeouts', 'finish'])}")


def _suggestion(word: str, names: Iterable[str]) -> str:
    close = nearest(word, names)
    return f"; did you mean {close!r}?" if close is not None else ""


def shown_settings(job: Job) -> list[tuple[str, str, str]]:
    """Return every setting for display: key, value as JSON, and where it came from."""
    values = job.settings()
    return [(setting.key, msgspec.json.encode(values[setting.name]).decode(), job.sources[setting.name]) for setting in SETTINGS]
