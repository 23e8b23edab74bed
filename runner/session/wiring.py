"""Builds the parts of a session from a job: its limits, its provider and its HTTP client."""

import inspect
import os
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from importlib import import_module
from types import ModuleType
from typing import TYPE_CHECKING, Any, cast
from urllib.parse import urlsplit

from runner.config import credentials, plugins, trust
from runner.config.endpoint import Endpoint, files_folder, files_grant, is_users, provider_of
from runner.config.fleet import changing
from runner.config.fleet_tables import NO_KEY
from runner.config.job import Job
from runner.config.settings import BY_NAME
from runner.engine.limits import Kind, Limits
from runner.engine.retry import RetryPolicy
from runner.errors import UsageError
from runner.inputs.media_files import Dialect, MediaFiles
from runner.interfaces import Client, Provider
from runner.media import MediaLimits
from runner.money import FLEX, asks_for_flex
from runner.providers.classify import MONEY_CODES, snake
from runner.providers.explain import Destination
from runner.providers.http import Timeouts
from runner.providers.informed import Informed, Rules
from runner.session import ending_early
from runner.session.additions import with_additions
from runner.session.options import Told
from runner.version import __version__

if TYPE_CHECKING:
    from runner.providers.http import HttpClient

LOCAL = "http://127.0.0.1/v1"
"""Stands for the address of a local server, which has a port only while it runs."""
_FLEX_FIRST_BYTE_S = 900.0
"""What OpenAI advises for flex."""
ROOM = 16
"""Endpoints for which there is to be room at least where more may come."""
_OWN_FILES = 40
"""Open files other than connections: libraries, store, prompt file, terminal."""


def limits(job: Job) -> tuple[Limits, str | None]:
    """Return the limits of a job's lanes, and a note if the open-file limit allows fewer open requests than the job asks for."""
    wanted = most_at_one(job) * max(1, len(job.members), ROOM if changing(job) else 1)
    # workers open the connections, each within its own limit
    most = wanted if job.has_workers else _connections(wanted, ends=2 if job.local_server is not None else 1)
    note = None
    if most < wanted and job.concurrency is not None:
        note = f"the limit of open files (ulimit -n) allows only {most} of {wanted} open requests"
    return Limits(ceiling=most, tuned=job.concurrency is None, per_minute=per_minute(job)), note


def most_at_one(job: Job) -> int:
    """Return how many requests may be open at an endpoint, each of several."""
    return job.max_concurrency if job.concurrency is None else job.concurrency


def per_minute(job: Job) -> dict[Kind, float]:
    """Return the limits per minute that a job sets."""
    asked: dict[Kind, float | None] = {
        "rpm": job.rpm, "tpm": job.tpm, "input_tpm": job.input_tpm, "output_tpm": job.output_tpm,
    }  # fmt: skip
    return {kind: amount for kind, amount in asked.items() if amount is not None}


def _connections(wanted: int, *, ends: int) -> int:
    """Return how many connections the open-file limit allows. Raises the soft limit if it is too low and the hard limit permits.

    ends: files for each connection: 2 if a local server in this process holds the other end, else 1.
    """
    if sys.platform == "win32":
        return wanted
    import resource

    files = _OWN_FILES + ends * wanted
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != resource.RLIM_INFINITY and soft < files:
        soft = files if hard == resource.RLIM_INFINITY else min(files, hard)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    if soft == resource.RLIM_INFINITY or soft >= files:
        return wanted
    return max(1, (soft - _OWN_FILES) // ends)


def policy(job: Job) -> RetryPolicy:
    """Return the retry policy of a job. A number of attempts that the user set is used up, even if all failures look alike."""
    return RetryPolicy(
        attempts=job.attempts,
        refused_s=job.patience_s,
        flex_patience_s=job.flex_patience,
        flex_is_asked_for=job.tier != FLEX or job.said("tier"),
        repairs=job.repairs,
        alike=job.attempts if job.said("attempts") else RetryPolicy().alike,
    )


def informed(
    job: Job, endpoint: Endpoint, provider: Provider, tell: Callable[[str], None], doubt: Callable[[], None], *, answered: bool
) -> Informed:
    """Return the provider of a session with what is known of the job.

    tell, doubt: see ``Informed``. answered: the run has answers of earlier sessions.
    """
    destination = None
    if endpoint.base_url is not None:
        unkeyed = job.api_key_env == NO_KEY
        variable = "api_key_env" if unkeyed else job.api_key_env or provider_of(job, os.environ).KEY_ENV
        missing = (
            "is empty, and must name the variable of a key"
            if unkeyed
            else credentials.missing(variable, os.environ) or "is not set"
        )
        key = endpoint.key.reveal() if endpoint.key is not None else None
        by = _bearer(job) if key is None else None
        destination = Destination(
            provider=job.provider,
            base_url=endpoint.base_url,
            variable=variable,
            missing=missing if key is None and by is None else None,
            by=by,
            fault=credentials.fault_of(key, job.provider) if key is not None else None,
            named=is_users(job, os.environ),
            model=job.model,
            answered=answered,
            other=None if unkeyed else credentials.other_variable(endpoint.base_url, variable, os.environ),
        )
    return Informed(
        provider,
        finish=job.finish,
        destination=destination,
        strict=job.strict_params,
        tell=tell,
        doubt=doubt,
        attachments=attachments(job, sends=True),
        rules=Rules(ending_early.check_of(job), ending_early.watch_of(job)),
    )


def attachments(job: Job, *, sends: bool = False) -> MediaFiles:
    """Return the files that the rows of a job name. The job has its base URL. sends: they are sent, so that is remembered."""
    module = dialect_of(job)
    own = urlsplit(job.base_url or "").hostname == urlsplit(module.DEFAULT_BASE_URL).hostname
    dialect = Dialect(
        name=job.provider,
        part=getattr(module, "content_part", None),
        own=getattr(module, "CONTENT_PARTS", frozenset()),
        # a server of somebody else in the same dialect has limits of its own
        limits=getattr(module, "MEDIA_LIMITS", MediaLimits()) if own else MediaLimits(),
    )

    def refusal() -> str | None:
        grant = files_grant(job, os.environ)
        words = trust.refusal(job, grant, os.environ)
        if words is None and grant is not None and sends:
            trust.remember(job, [grant], os.environ)
        return words

    return MediaFiles(files_folder(job), dialect, refusal)


def _bearer(job: Job) -> str | None:
    """Return what carries the key where the provider's variable does not, a header or a part of the query, or None."""
    found = [("the header", field) for field in job.headers if field.carries_key]
    found += [("the part of the query", field) for field in job.query if field.variables]
    if not found:
        return None
    what, field = found[0]
    variables = f" ({', '.join(field.variables)})" if field.variables else ""
    return f"{what} {field.name}{variables}"


@asynccontextmanager
async def open_provider(job: Job, endpoint: Endpoint, told: Told | None = None) -> AsyncIterator[tuple[Provider, Client[Any]]]:
    """Yield the provider and the client of a session, with a local server and with workers if the job asks for them.

    told: what workers need; None: the session has none, whatever the job asks for. Raises UsageError.
    """
    if job.local_server is None:
        assert endpoint.base_url is not None
        async with _client(job, endpoint, endpoint.base_url, told) as (opened, held):
            yield held(provider_at(job, endpoint)), opened
        return
    # imported only here: a server adds 5 % to the start time, and few jobs ask for one
    serve = import_module(job.local_server.module).serve
    async with serve(job.local_server.dialect) as base_url, _client(job, endpoint, base_url, told) as (opened, held):
        if told is not None:
            told.at(base_url)
        yield held(made_at(job, endpoint, base_url)), opened


def made_at(job: Job, endpoint: Endpoint, base_url: str) -> Provider:
    """Return the provider of a job at an address; of a local server, it is the one at which that listens."""
    if job.local_server is None:
        return provider_at(job, endpoint)
    module = dialect_of(job)
    return cast("Provider", module.make(base_url, None, version=__version__, **_shape(job, module)))


@asynccontextmanager
async def _client(
    job: Job, endpoint: Endpoint, base_url: str, told: Told | None
) -> AsyncIterator[tuple[Client[Any], Callable[[Provider], Provider]]]:
    """Yield the client of a session, and what its provider is wrapped in."""
    if told is None or not job.has_workers:
        async with client(job, endpoint.proxy) as opened:
            yield opened, lambda provider: provider
        return
    # imported only here: a session without workers needs none of it
    from runner.session.crewing import remote_client
    from runner.workers.held import HeldProvider

    options = {**_shape(job, dialect_of(job)), **({} if job.local_server is not None else _codes(job))}
    async with remote_client(job, endpoint, base_url, options, (_timeouts(job), _timeouts(job, flex=False)), told) as remote:
        yield remote, HeldProvider


def client(job: Job, proxy: str | None) -> "HttpClient":
    """Return an HTTP client with the timeouts of a job, to be entered inside the event loop."""
    # imported only here: a session whose workers send needs no HTTP library
    from runner.providers.http import HttpClient

    return HttpClient(_timeouts(job), proxy=proxy, fallback=_timeouts(job, flex=False))


def provider_at(job: Job, endpoint: Endpoint) -> Provider:
    """Return the provider at an endpoint that is already running."""
    assert endpoint.base_url is not None
    key = endpoint.key.reveal() if endpoint.key is not None else None
    module = provider_of(job, os.environ)
    options = {**_codes(job), **_shape(job, module), **_secrets(module.make, endpoint)}
    provider = cast("Provider", module.make(endpoint.base_url, key, version=__version__, **options))
    return with_additions(provider, endpoint.additions)


def offline(job: Job) -> Provider:
    """Return the provider of a job that has its base URL, without a key, to make requests that are not sent."""
    module = dialect_of(job)
    base_url = LOCAL if job.local_server is not None else job.base_url
    return cast("Provider", module.make(base_url, None, version=__version__, **_codes(job), **_shape(job, module)))


def dialect_of(job: Job) -> ModuleType:
    """Return the module of the dialect in which a job speaks to its server, also to one that is started for it."""
    local = job.local_server
    return provider_of(job, os.environ) if local is None else plugins.load("providers", local.dialect)


def _timeouts(job: Job, *, flex: bool = True) -> Timeouts:
    """Return the timeouts of a job. An answer in one piece comes when all of it is generated: what is not set waits for that.

    Flex has a longer time for the first byte, unless one is set, and the whole attempt as much more. flex: False: the timeouts of
    a row that fell back from it to the standard tier.
    """
    waits = {"first_byte_s": job.first_byte_s, "silence_s": job.silence_s, "attempt_s": job.attempt_s}
    usual = {name: float(BY_NAME[name].default) for name in waits}
    if flex and asks_for_flex(job.tier, job.params.extra_body):
        more_s = max(0.0, _FLEX_FIRST_BYTE_S - usual["first_byte_s"])
        longer = {name: value + more_s for name, value in usual.items() if name != "silence_s"}
        waits |= {name: value for name, value in longer.items() if waits[name] == usual[name]}
        usual |= longer
    if not job.stream:
        waits |= {name: waits["attempt_s"] for name in ("first_byte_s", "silence_s") if waits[name] == usual[name]}
    return Timeouts(connect_s=job.connect_s, **waits)


def _shape(job: Job, module: ModuleType) -> dict[str, bool]:
    """Return the arguments for ``make`` that ask for answers in one piece. Raises UsageError if the provider only streams."""
    if job.stream:
        return {}
    if "stream" not in inspect.signature(module.make).parameters:
        raise UsageError(f"provider {job.provider} cannot do without a stream; leave out stream = false")
    return {"stream": False}


def _codes(job: Job) -> dict[str, frozenset[str]]:
    """Return the error codes that a job adds, as arguments for ``make``. Without such codes a plug-in need not accept them."""
    money, rate = (
        [codes] if isinstance(codes, str) else codes or [] for codes in (job.money_codes, job.rate_codes)
    )  # fmt: skip
    arguments = {}
    if money:
        arguments["money_codes"] = MONEY_CODES | {snake(name) for name in money}
    if rate:
        arguments["rate_codes"] = frozenset(snake(name) for name in rate)
    return arguments


def _secrets(make: Callable[..., object], endpoint: Endpoint) -> dict[str, frozenset[str]]:
    """Return the values that no message of the provider may quote, as an argument for ``make`` if it accepts one."""
    values = (*endpoint.additions.headers, *endpoint.additions.query)
    parameters = inspect.signature(make).parameters if values else {}
    if "secrets" not in parameters and all(parameter.kind != parameter.VAR_KEYWORD for parameter in parameters.values()):
        return {}
    return {"secrets": frozenset((*endpoint.secrets, *(value.reveal() for _, value in values)))}
