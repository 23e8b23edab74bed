"""Builds a job from options, environment, job file and defaults, in this order of precedence, with the source of each setting."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from msgspec import Struct, structs

from runner import origin
from runner.config import asking, due, fields, fleet_tables
from runner.config.fields import Field
from runner.config.fleet_tables import Member
from runner.config.job_file import find_files, is_beside, only, settings_in, suggestion
from runner.config.local_server import LOCAL_SERVERS, LocalServer
from runner.config.settings import BY_NAME, SETTINGS
from runner.config.stored import headers_in, stored_value
from runner.config.values import check, parse
from runner.errors import StoreError, UsageError
from runner.inputs.patterns import Named
from runner.inputs.spool import path_of
from runner.model import Json, Params
from runner.prices import own
from runner.providers import finish
from runner.providers.finish import Finish

STORED = "the store"
"""The source of a setting that an earlier session of the run has stored."""
SAID = "the store, as it was given"
"""The same for a setting that the user had given, though it is the default."""
_MEANT = ("attempts",)
"""Settings that mean more if the user has given them, even if the value is the default."""

_AUTO = tuple(setting.name for setting in SETTINGS if setting.kind == "slots")
_ANSWER = tuple(setting.name for setting in SETTINGS if setting.answer)


class Job(Struct, frozen=True, kw_only=True):
    """What to do: the input, the endpoint, the model, the parameters and the pace."""

    # absolute path of the prompt file, as given: a symbolic link stays one, since it may point to another file tomorrow. For
    # standard input (-) and pipes, the name as given until they are copied to a file. For several files, or the rows of a run,
    # their one name (``origin``)
    input: Path
    provider: str
    model: str | None  # None: not set, so nothing can be sent
    # None: the provider's default. Of several endpoints, the first, once they are known (``members``)
    base_url: str | None
    api_key_env: str | None
    # tables of several endpoints, as they are given; and the reasons for which those that are fallbacks get requests
    endpoints: list[Json] | None
    fallback_on: str | list[str] | None
    headers: tuple[Field, ...]  # added to every request, like the query
    query: tuple[Field, ...]
    concurrency: int | None  # None: tuned automatically, up to max_concurrency
    max_concurrency: int
    # processes that send, None: one for each processor; and where others may join, None: nowhere
    workers: int | None
    listen: str | None
    # with other runs on this machine; where those of other machines may join, and where such runs are to be joined; None: nowhere
    share: bool
    serve_limits: str | None
    join: str | None
    rpm: float | None  # per minute, for each model separately, like the next three
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
    strict_params: bool  # stop when the model refuses a parameter
    # dollars per million tokens by model, or "list"; None: list prices where requests go to the vendor itself
    prices: str | dict[str, Json] | None
    answers: int | None  # that are wanted of each row; None: as many as the run has, 1 of a new one
    # dollars, of the run and of each of its sessions, and tokens of the run: the most that requests may use
    max_cost: float | None
    max_cost_session: float | None
    max_tokens_total: int | None
    confirm_above: float  # dollars: what is expected to cost more is asked about
    tier: str | None  # by the provider's name; None: its default
    flex_patience: float  # seconds for which a row waits for capacity of the flex tier
    mode: str  # live, batch or mixed; for the latter two, when the run is to be done, or seconds in which a session is
    by: str | None
    within: float | None
    warm_prefix: bool | None  # None: where all rows have a long beginning in common
    cache_prefix: bool
    attempts: int
    patience_s: int  # seconds for which a server may refuse all rows; 0: these refusals are the rows' own
    deadline: float | None  # seconds from the start of a session
    ok_failed: int | str | None  # failed rows of the run that count as success: a number, or a percentage of its rows
    engine: str | None  # what starts the workers, None: the session itself; its cluster; its options, each as NAME=VALUE
    engine_address: str | None
    engine_options: str | list[str] | None
    durability: str  # full or normal: which answers a power cut can lose
    input_format: str | None  # how the input is read; None: found out from the file
    encoding: str | None
    delimiter: str | None
    sheet: str | None
    id_column: str  # the field that is the id of a row
    # what of it is used; None: all
    columns: str | list[str] | None
    where: str | None
    sample: int | None
    sample_seed: int
    row_settings: bool  # False: fields of a row such as model and temperature are plain data
    keep_rows: bool  # False: the store does not keep what makes a row's request
    reuse: bool  # a new run takes over the answers that earlier runs in its store have to the same requests
    dedupe: bool  # requests that several rows make are sent once
    # templates; None: each row has its own prompt or messages. The file has been read into ``prompt``
    prompt: str | None
    prompt_file: str | None
    messages: list[Json] | None
    # fields that name pictures, and files of any kind; None: those of these names
    images: str | list[str] | None
    files: str | list[str] | None
    # absolute path of the folder in which those are; None: that of the input
    files_root: str | None
    system: str | None
    # the JSON Schema that answers must fit (``fields`` has been made into one), and how it is sent, None: as the provider does
    schema: dict[str, Json] | None
    fields: str | None
    schema_mode: str | None
    repairs: int
    # end answers that can no longer fit, and those in which this is found, a regular expression
    fail_fast: bool
    stop_when: str | None
    stream: bool  # False: each answer is asked for in one piece
    params: Params
    connect_s: float
    first_byte_s: float
    silence_s: float
    attempt_s: float
    # setting -> where it came from, in words
    sources: Mapping[str, str] = {}
    # the settings for which only a job file or a store stands, and not the user (``config.trust``); ``input`` if it is elsewhere
    unvouched: frozenset[str] = frozenset()
    # the user has said for this session that whatever the file asks for is allowed
    trusted: bool = False
    # what the user was shown and has allowed: kind, what and where of a grant
    granted: frozenset[tuple[str, str, str]] = frozenset()
    # the job file, if there is one
    file: Path | None = None
    # several base URLs, or what stands for a list, as they are given; several variables of keys; all endpoints, once known
    base_urls: tuple[str, ...] = ()
    key_variables: tuple[str, ...] = ()
    members: tuple[Member, ...] = ()

    @property
    def is_fleet(self) -> bool:
        """True if its requests go to several endpoints, or with several keys."""
        return bool(self.base_urls or self.key_variables or self.endpoints)

    @property
    def local_server(self) -> LocalServer | None:
        """The server that is started for the session; None if requests go to a server that is already running."""
        return LOCAL_SERVERS.get(self.provider)

    @property
    def has_workers(self) -> bool:
        """True if requests are sent by other processes."""
        return self.workers != 0 or self.listen is not None or self.engine is not None

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
        flat |= {name: "auto" for name in _AUTO if flat[name] is None}
        if self.is_fleet:
            flat["base_url"] = None if self.endpoints else list(self.base_urls) or self.base_url
            flat["api_key_env"] = list(self.key_variables) or self.api_key_env
        flat.update(
            {kind: fields.stored(kind, getattr(self, kind), origin.first_of(self.input)) for kind in ("headers", "query")}
        )
        return {"input": str(self.input), **flat}

    def stored(self) -> dict[str, Json]:
        """Return the settings as the store keeps them."""
        said = [name for name in _MEANT if self.said(name)]
        return {**self.settings(), "said": said} if said else self.settings()

    def answer_settings(self) -> dict[str, Json]:
        """Return the settings that can change an answer."""
        settings = self.settings()
        return {name: settings[name] for name in _ANSWER}

    def said(self, name: str) -> bool:
        """Return True if the user set this setting. A stored value that is the default counts as not set."""
        source = self.sources.get(name, "default")
        stored_default = source == STORED and getattr(self, name) == BY_NAME[name].default
        return source not in ("default", "not set") and not stored_default


def load_job(file: Named, options: Mapping[str, Any], environment: Mapping[str, str] | None = None) -> Job:
    """Build the job for a prompt file, several, the rows of a run, or a job file.

    options: setting -> value, from the command line or from keyword arguments. Raises UsageError.
    """
    environment = os.environ if environment is None else environment
    source, table, job_file = find_files(file)
    values: dict[str, Any] = {}
    sources: dict[str, str] = {}
    for setting, value in settings_in(table, job_file):
        values[setting.name] = fields.joined(setting.kind, None, value, unvouched=True, file=job_file.absolute())
        sources[setting.name] = str(job_file)
    asking.settle(values, sources, list(values), job_file.absolute().parent, inside=True)
    named = [setting for setting in SETTINGS if environment.get(setting.variable)]
    for setting in named:
        value = parse(setting, environment[setting.variable], f"in the environment ({setting.variable})")
        values[setting.name] = fields.joined(setting.kind, values.get(setting.name), value)
        sources[setting.name] = f"environment {setting.variable}"
    asking.settle(values, sources, [setting.name for setting in named], Path.cwd(), inside=False)
    _take(options, values, sources)
    asking.refuse_two_systems(values, sources)
    job = _build(source, values, sources, word=str(job_file), file=job_file if table else None)
    # a file from elsewhere that only a job file names
    foreign = bool(table) and path_of(only(file)) == job_file and not is_beside(source, job_file)
    return structs.replace(job, unvouched=job.unvouched | {"input"}) if foreign else job


def _take(options: Mapping[str, Any], values: dict[str, Any], sources: dict[str, str]) -> None:
    """Add the settings of the command line or of keyword arguments. Raises UsageError."""
    for name, value in options.items():
        if name not in BY_NAME:
            raise UsageError(f"unknown setting {name!r}{suggestion(name, BY_NAME)}")
        if value is not None:
            setting = BY_NAME[name]
            value = check(setting, value, f"given with {setting.option}")
            values[name] = fields.joined(setting.kind, values.get(name), value)
            sources[name] = f"option {setting.option}"
    asking.settle(values, sources, [name for name, value in options.items() if value is not None], Path.cwd(), inside=False)


def restore_job(settings: Mapping[str, Json], options: Mapping[str, Any], environment: Mapping[str, str] | None = None) -> Job:
    """Rebuild the job of a stored run. The environment can change only its pace and its key, options every setting.

    Raises UsageError, and StoreError for a stored setting that cannot be used. Whether the run may take another value of a
    setting that changes answers is decided later, by its state.
    """
    environment = os.environ if environment is None else environment
    values = {name: value for name, value in settings.items() if name in BY_NAME and value is not None}
    if not values:
        raise StoreError("the settings of the run are damaged; restore a copy of the store, or start a new run")
    sources = dict.fromkeys(values, STORED)
    for kind in ("headers", "query"):
        values[kind] = fields.restored(kind, settings.get(kind), origin.first_of(settings["input"]), headers_in)
    for setting in SETTINGS:
        # a run leaves its server only if that is asked for by name
        if not setting.answer and setting.name not in ("base_url", "endpoints") and environment.get(setting.variable):
            value = parse(setting, environment[setting.variable], f"in the environment ({setting.variable})")
            values[setting.name] = fields.joined(setting.kind, values.get(setting.name), value)
            sources[setting.name] = f"environment {setting.variable}"
    if options.get("provider") not in (None, values.get("provider")):
        # the address of one provider is of no use to another
        values = {name: value for name, value in values.items() if name not in ("base_url", "endpoints")}
    prices = values.get("prices")
    _take(options, values, sources)
    if options.get("prices") is not None:
        values["prices"] = own.joined(prices, values["prices"])
    values |= {name: stored_value(name, value) for name, value in values.items() if sources.get(name) == STORED}
    said = settings.get("said")
    sources |= {name: SAID for name in _MEANT if sources.get(name) == STORED and isinstance(said, list) and name in said}
    return _build(Path(settings["input"]), values, sources, word=STORED)


def _build(source: Path, values: Mapping[str, Any], sources: Mapping[str, str], *, word: str, file: Path | None = None) -> Job:
    """Build the job. word: the source of the settings that a job file or a store gives."""
    full = {setting.name: values.get(setting.name, setting.default) for setting in SETTINGS}
    all_sources = {name: sources.get(name, "default" if value is not None else "not set") for name, value in full.items()}
    full |= {name: None for name in _AUTO if full[name] == "auto"}
    server = LOCAL_SERVERS.get(full["provider"])
    if server is not None:
        if full["base_url"] is not None:
            hint = f"for a server that already runs, use provider {server.dialect}"
            raise UsageError(f"provider {full['provider']} starts its own server and takes no base_url; {hint}")
        full["model"] = server.model if full["model"] is None else full["model"]
    params = Params(**{name: full.pop(name) for name in Params.__struct_fields__})
    full.update({kind: full[kind] or () for kind in ("headers", "query")})
    fleet_tables.split(full)
    due.fit(full, all_sources, STORED)
    unvouched = frozenset(name for name, where in sources.items() if where == word)
    return Job(input=source, params=params, sources=all_sources, unvouched=unvouched, file=file, **full)
