"""What a job that an agent starts may ask for: which settings a call may give, and what counts only as the word of a person.

An agent may have written the job file, and so may whoever sent it. So a file decides neither where requests go, nor which secrets
go along, nor what a token costs: that is said in the environment of the server, or in a job file that the person who started the
server has named with ``--trust``. It counts as it was then; of a file that has changed since, the rest is taken.
"""

import os
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import msgspec
from msgspec import Struct, structs

from runner.config import endpoint, trust
from runner.config.job import STORED, Job, load_job
from runner.config.job_file import suggestion
from runner.config.settings import SETTINGS
from runner.errors import UsageError
from runner.integrations.mcp_files import Root, input_of
from runner.session import only
from runner.session.options import Asked
from runner.text import clean

_WITHHELD = frozenset(
    {
        # where requests go, and what goes along
        "base_url", "api_key_env", "endpoints", "fallback_on", "headers", "query", "files_root", "images", "files",
        # money: a call has an argument of its own, and prices are the word of a person
        "prices", "max_cost", "max_cost_session", "confirm_above", "extra_body", "money_codes", "rate_codes",
        # processes and sockets
        "workers", "listen", "engine", "engine_address", "engine_options", "share", "serve_limits", "join",
        # files, and how safe the disk is
        "prompt_file", "input_format", "durability", "keep_rows", "sheet", "strict_params", "ok_failed",
    }
)  # fmt: skip
GIVEN = tuple(setting for setting in SETTINGS if setting.name not in _WITHHELD)
"""The settings that a call may give."""
_DIALECTS = ("openai", "anthropic", "simulator")
_ADDRESS = (
    "provider", "base_url", "base_urls", "endpoints", "api_key_env", "key_variables", "engine", "engine_address",
    "engine_options", "listen", "serve_limits", "join",
)  # fmt: skip
"""What of a job says where requests go and what is started, beside headers and query."""


class Trusted(Struct, frozen=True, kw_only=True):
    """A job file that a person has named: the file, its prices, and where its requests go.

    addresses: as it says so, and with the base URL filled in, as the store has it.
    """

    file: str
    addresses: tuple[str, ...]
    prices: Any = None


class Human(Struct, frozen=True, kw_only=True):
    """What the person who started the server has said: whether money may be spent, and which job files count."""

    capped: bool = False
    trusted: tuple[Trusted, ...] = ()


def trusted(root: Root, names: Sequence[str]) -> tuple[Trusted, ...]:
    """Return job files as they are now. Raises UsageError for one that is none."""
    found = []
    for name in names:
        path = root.file(name)
        job = load_job(str(path), {})
        root.check(job)
        addresses = (_address(job), _address(_settled(trust.allowed(job))))
        found.append(Trusted(file=str(path), addresses=addresses, prices=job.prices))
    return tuple(found)


def settings_of(given: Mapping[str, Any] | None) -> dict[str, Any]:
    """Return the settings of a call. Raises UsageError for one that no call may give."""
    names = [setting.name for setting in GIVEN]
    for name, value in (given or {}).items():
        if name in _WITHHELD:
            raise UsageError(
                f"the setting {name} cannot be given in a call: a person decides about it, in a job file that the server was "
                "started with (the option --trust FILE)"
            )
        if name not in names:
            raise UsageError(f"unknown setting {clean(name)!r}{suggestion(name, names)}")
        if name == "provider" and value not in _DIALECTS:
            raise UsageError(
                f"the provider of a call is {', '.join(_DIALECTS)}; another one belongs in a job file that is trusted"
            )
        if name == "schema" and isinstance(value, str):
            raise UsageError("give the schema as a JSON object, not as the name of a file")
    return dict(given or {})


def load(root: Root, named: str | list[str], settings: Mapping[str, Any], human: Human) -> Job:
    """Return the job of an input with the settings of a call, as it may be run. Raises UsageError."""
    source = root.input(named)
    before = input_of(source)
    job = load_job(source, settings)
    if input_of(source) != before:
        raise UsageError("the job file changed while it was read; try again")
    return checked(job, root, human)


def checked(job: Job, root: Root, human: Human) -> Job:
    """Return a job as it may be run: what it asks for is a person's word, and its files are in the folder. Raises UsageError."""
    root.check(job)
    job = _addressed(job, human)
    if job.local_server is not None:
        return job
    if not human.capped:
        raise UsageError(
            "this server was started without --max-cost, so it may use nothing but the simulator, which is free; the person "
            "who started it allows money with `runner mcp --max-cost DOLLARS`"
        )
    if job.prices is not None and not _is_persons_price(job, human):
        raise UsageError(f"{_file(job)} states [prices] of its own, and an agent may have written them; {_way(job)}")
    return job


def costs_something(job: Job) -> bool:
    """Return True if a job has to have a part of the cap. The simulator has one where its prices are stated, as a rehearsal."""
    return job.local_server is None or job.prices is not None


def _addressed(job: Job, human: Human) -> Job:
    """Return the job with what it needs allowed, if it goes where a person has said."""
    mine = _settled(job)
    if any(_address(one) in known.addresses for one in (job, mine) for known in human.trusted):
        # code first: what a job sends is known only once its module may run
        while grants := endpoint.ungranted(job, os.environ):
            job = trust.granting(job, grants)
        return job
    named = [name for name in _ADDRESS if name in job.unvouched]
    named += ["headers"] if any(field.unvouched for field in job.headers) else []
    named += ["query"] if any(field.unvouched for field in job.query) else []
    if all(name == "provider" for name in named) and job.provider in _DIALECTS:
        return job
    started = [name for name in ("engine", "listen", "serve_limits", "join") if name in named]
    plain = mine is not job and not started and not trust.code_grants(job)
    if plain and endpoint.is_users(mine, os.environ) and not endpoint.ungranted(job, os.environ):
        return job
    raise UsageError(f"{_file(job)} says {' and '.join(named) or 'provider'}, and an agent may have written that; {_way(job)}")


def _way(job: Job) -> str:
    """Return how a person allows what a job asks for."""
    if job.file is not None:
        return f"the person who started this server allows it by starting it with the option --trust {_file(job)}"
    return "a person sends it in a terminal, or starts this server with a job file that says the same (the option --trust FILE)"


def _settled(job: Job) -> Job:
    """Return the job with its base URL filled in; the job itself if a module would have to be imported, or a list looked up."""
    if job.is_fleet or trust.ungranted(job, trust.code_grants(job), os.environ):
        return job
    return endpoint.with_base_url(job, os.environ)


def _address(job: Job) -> str:
    """Return where the requests of a job go, and what goes along, as one text that can be compared."""
    parts: dict[str, Any] = {name: getattr(job, name) for name in _ADDRESS}
    for name in ("headers", "query"):
        fields: Iterable[Any] = getattr(job, name)
        parts[name] = sorted((field.name, field.text) for field in fields)
    return msgspec.json.encode(parts, order="sorted").decode()


def _is_persons_price(job: Job, human: Human) -> bool:
    if job.sources.get("prices", "").startswith("environment"):
        return True
    return any(one.prices == job.prices for one in human.trusted)


def _file(job: Job) -> str:
    return clean(str(job.file)) if job.file is not None else "the stored run"


def with_share(job: Job, share: float | None) -> Job:
    """Return the job with a budget for its session. share: dollars; None: none."""
    if share is None:
        return job
    # what the store has is the share of an earlier session
    own = job.max_cost_session if job.sources.get("max_cost_session") != STORED else None
    least = share if own is None else min(share, own)
    return structs.replace(
        job, max_cost_session=least, sources={**job.sources, "max_cost_session": "the cap of the agent's server"}
    )


def which(classes: Sequence[str] | None, ids: Sequence[str] | None) -> Asked:
    """Return which rows a call wants to be sent again. Raises UsageError for one that names nothing: it would mean all failed."""
    if ids is not None and not ids:
        raise UsageError("ids is an empty list; leave it out to send all failed rows again, or name some")
    return Asked(classes=tuple(only.listed(classes, "classes")), ids=None if ids is None else tuple(ids))
