"""Finds out where requests go: base URL, key, proxy and certificates."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from types import ModuleType
from typing import NamedTuple
from urllib.parse import urlsplit

from msgspec import Struct, structs

from runner import origin
from runner.config import address, credentials, fleet, plugins, trust, way_out
from runner.config.address import is_loopback
from runner.config.engines import permitted
from runner.config.fleet_tables import NO_KEY, Member
from runner.config.job import Job
from runner.config.trust import Grant
from runner.config.variables import unknown_variables
from runner.errors import NotReadyError, UsageError
from runner.text import Redactor, Secret

_OURS = ("openai", "anthropic")
"""The dialects of which we know what follows base_url."""
_ENDPOINT = "endpoint "
"""How the line begins that says where requests go."""


class Additions(NamedTuple):
    """Headers and query parts with their values, as (name, value), and the secrets among the values."""

    headers: tuple[tuple[str, Secret], ...] = ()
    query: tuple[tuple[str, Secret], ...] = ()
    secrets: tuple[Secret, ...] = ()


class Endpoint(Struct, frozen=True, kw_only=True):
    """Where a job's requests go. members: each of several endpoints, the first of which this is; none where there is one.

    base_url: None for a local server, which is started with the session. grants: what the user has named or allowed.
    notes: what the user should know before anything is sent, one sentence each.
    """

    base_url: str | None
    key: Secret | None
    proxy: str | None
    notes: tuple[str, ...]
    additions: Additions = Additions()
    grants: tuple[Grant, ...] = ()
    members: "tuple[tuple[Member, Endpoint], ...]" = ()

    @property
    def secrets(self) -> tuple[str, ...]:
        """The texts that no answer, message or file may show."""
        if self.members:
            return tuple(dict.fromkeys(secret for _, one in self.members for secret in one.secrets))
        keys = (self.key,) if self.key is not None else ()
        return tuple(secret.reveal() for secret in (*keys, *self.additions.secrets))

    @property
    def redactor(self) -> Redactor:
        """The redactor that removes the secrets from error messages and answers, and all headers from error messages."""
        return Redactor(self.secrets, (value.reveal() for _, value in self.additions.headers))


def provider_of(job: Job, environment: Mapping[str, str]) -> ModuleType:
    """Return the module of a job's provider. Raises UsageError if only a file names it, and the user has not allowed it."""
    trust.check(job, trust.code_grants(job), environment)
    return plugins.load("providers", job.provider)


def with_base_url(job: Job, environment: Mapping[str, str]) -> Job:
    """Return the job with its base URL filled in, from the environment or the provider's default where the job has none.

    The base URL is one of the settings by which runs are told apart, so it must be known before a run is looked up.
    """
    if job.local_server is not None:
        return job
    if job.is_fleet:
        module = provider_of(job, environment)
        usual = environment.get(module.BASE_URL_ENV) or module.DEFAULT_BASE_URL
        return fleet.found(job, usual, lambda one: with_base_url(one, environment))
    module = provider_of(job, environment)
    sources = dict(job.sources)
    base_url = job.base_url
    if base_url is None:
        base_url = environment.get(module.BASE_URL_ENV) or module.DEFAULT_BASE_URL
        from_environment = bool(environment.get(module.BASE_URL_ENV))
        sources["base_url"] = f"environment {module.BASE_URL_ENV}" if from_environment else "the provider's default"
    given = address.check_base_url(base_url, sources["base_url"])
    mended = address.without_ending(given, versioned=job.provider == "openai") if job.provider in _OURS else given
    if mended != given:
        ending = given.partition("?")[0].removeprefix(mended.partition("?")[0])
        sources["base_url"] += f", without {ending}"
    return structs.replace(job, base_url=mended, sources=sources)


def key_source(job: Job, environment: Mapping[str, str]) -> str | None:
    """Return the name of the environment variable that holds the key; None if no key is set."""
    if job.local_server is not None:
        return None
    if job.members:
        found = {key_source(fleet.seen_by(job, member), environment) for member in job.members}
        return ", ".join(sorted(filter(None, found))) or None
    header = next((field for field in job.headers if field.carries_key), None)
    if header is not None and not job.api_key_env:
        return ", ".join(header.variables) or f"the header {header.name}"
    name = _key_variable(job, environment)
    return name if environment.get(name, "").strip() else None


def _key_variable(job: Job, environment: Mapping[str, str]) -> str:
    """Return the name of the environment variable for the key, ``NO_KEY`` for none. Raises UsageError if it is no name."""
    if job.api_key_env is None:
        name: str = provider_of(job, environment).KEY_ENV
        return name
    if job.api_key_env == NO_KEY:
        return NO_KEY
    credentials.refuse_key_as_name(job.api_key_env, job.sources.get("api_key_env", "set"))
    return job.api_key_env


def ungranted(job: Job, environment: Mapping[str, str]) -> list[Grant]:
    """Return what the user has to allow before a job may start; the keys only once its code is allowed. Raises UsageError."""
    code = trust.ungranted(job, trust.code_grants(job), environment)
    if code or job.local_server is not None:
        return code
    job = with_base_url(job, environment)
    # whether rows name files by themselves is seen when they are read
    files = files_grant(job, environment) if job.images or job.files else None
    return trust.ungranted(job, [*_key_grants(job, environment), *([files] if files is not None else [])], environment)


def refuse_ungranted(job: Job, environment: Mapping[str, str]) -> None:
    """Raise UsageError for the first thing that a job needs and nobody has given. The job has its base URL."""
    trust.check(job, trust.code_grants(job), environment)
    if job.local_server is None:
        trust.check(job, _key_grants(job, environment), environment)


def is_users(job: Job, environment: Mapping[str, str]) -> bool:
    """Return True if the user has named the servers of a job, or any secret may go there (``trust.is_users``)."""
    if job.members:
        return all(is_users(fleet.seen_by(job, member), environment) for member in job.members)
    return job.local_server is not None or trust.is_users(job, provider_of(job, environment), environment)


def files_folder(job: Job) -> Path:
    """Return the folder in which the files are that rows name."""
    return Path(job.files_root) if job.files_root is not None else origin.folder_of(job.input)


def files_grant(job: Job, environment: Mapping[str, str]) -> Grant | None:
    """Return what sending the files of that folder needs; None if nothing. The job has its base URL."""
    if job.local_server is not None:
        return None
    if job.members:
        every = [files_grant(fleet.seen_by(job, member), environment) for member in job.members]
        # the first that the user has not named decides
        return min((one for one in every if one is not None), key=lambda one: one.vouched, default=None)
    return trust.files_grant(job, provider_of(job, environment), environment, files_folder(job))


def _key_grants(job: Job, environment: Mapping[str, str]) -> list[Grant]:
    if job.members:
        seen = (fleet.seen_by(job, member) for member in job.members)
        return list(dict.fromkeys(grant for one in seen for grant in _key_grants(one, environment)))
    key = _key_variable(job, environment) if _key(job, environment) else None
    return trust.key_grants(job, provider_of(job, environment), environment, key)


def _key(job: Job, environment: Mapping[str, str]) -> str:
    """Return the key that the provider sends by itself: none where a header of the job carries one, unless a setting names it."""
    if job.api_key_env is None and any(field.carries_key for field in job.headers):
        return ""
    return environment.get(_key_variable(job, environment), "").strip()


def find_endpoint(job: Job, environment: Mapping[str, str]) -> Endpoint:
    """Find the key, the headers and the proxy.

    Raises NotReadyError if no model is set or a hosted endpoint has no key. Raises UsageError if ``[finish]`` contradicts itself,
    if an environment variable has an unusable value, or if only a file says that a secret goes to this server.
    """
    if job.model is None:
        raise NotReadyError("no model is set; set model in the job file, or use --model")
    if job.members:
        return _found_at_each(job, environment)
    _ = job.finish  # a contradiction is found here, and not when the first answer ends
    way_out.check_certificates(environment)
    unknown = unknown_variables(environment)
    code = permitted(job, environment)
    if job.local_server is not None:
        own = (*unknown, job.local_server.note, *trust.notes(job, code, environment))
        return Endpoint(base_url=None, key=None, proxy=None, notes=own, grants=tuple(code))
    assert job.base_url is not None
    module = provider_of(job, environment)
    _check_abilities(job, module)
    name, value = _key_variable(job, environment), _key(job, environment)
    hosted = urlsplit(job.base_url).hostname == urlsplit(module.DEFAULT_BASE_URL).hostname
    by_header = any(field.carries_key for field in job.headers)
    if not value and ((hosted and not by_header) or job.api_key_env):
        raise NotReadyError(_no_key(job, name, environment))
    if not value.isascii() or not value.isprintable():
        raise UsageError(f"the key in {name} contains characters that no key can contain; set it again")
    grants = [*code, *_key_grants(job, environment)]
    trust.check(job, grants, environment)
    additions = _additions(job, environment)
    proxy, secret = way_out.proxy_of(job.base_url), bool(value or additions.secrets)
    where = _where(job, name if value else None)
    return Endpoint(
        base_url=job.base_url,
        key=Secret(value) if value else None,
        proxy=proxy,
        notes=(*unknown, where, *trust.notes(job, grants, environment), *_about_address(job, proxy, secret)),
        additions=additions,
        grants=tuple(grants),
    )


def _found_at_each(job: Job, environment: Mapping[str, str]) -> Endpoint:
    """Return the first endpoint of several, with all of them as its members."""
    each = [(member, find_endpoint(fleet.seen_by(job, member), environment)) for member in job.members]
    first = each[0][1]
    grants = dict.fromkeys(grant for _, one in each for grant in one.grants)
    # the line about each of them would be long; what else is said of several is said once
    rest = dict.fromkeys(note for _, one in each for note in one.notes if not note.startswith(_ENDPOINT))
    return structs.replace(first, members=tuple(each), grants=tuple(grants), notes=(fleet.headline(job), *rest))


def _check_abilities(job: Job, module: ModuleType) -> None:
    """Raise UsageError for a service tier, or marks for a cache, that the provider does not have."""
    if job.cache_prefix and not getattr(module, "CACHE_MARKS", False):
        raise UsageError(f"provider {job.provider} has no marks for a cache: leave cache_prefix out; warm_prefix needs none")
    # None: any
    known: tuple[str, ...] | None = getattr(module, "TIERS", ())
    if job.tier is None or known is None or job.tier in known:
        return
    what = f"no service tier {job.tier!r}, only {' and '.join(known)}" if known else "no service tiers"
    raise UsageError(f"provider {job.provider} has {what}; leave tier out")


def _no_key(job: Job, name: str, environment: Mapping[str, str]) -> str:
    """Return why no key can be sent, and what to do."""
    assert job.base_url is not None
    if name == NO_KEY:
        return f"api_key_env is empty, so that no key is sent, and {job.base_url} needs one: name its variable, or leave it out"
    other = credentials.other_variable(job.base_url, name, environment)
    hint = f", or use --api-key-env {other}" if other is not None else ""
    return f"{name} {credentials.missing(name, environment)}; set it to the key for {job.base_url}: export {name}=...{hint}"


def _where(job: Job, key_variable: str | None) -> str:
    """Return the first line of a session: where requests go, with what key, and who says so. It contains no secret."""
    words = [f"{_ENDPOINT}{(job.base_url or '').partition('?')[0]}", f"model {job.model}"]
    words += [f"key from {key_variable}"] if key_variable is not None else []
    for field in job.headers:
        variables = f" from {', '.join(field.variables)}" if field.variables else ""
        words.append(f"header {field.name}{variables}")
    words += [f"query {field.name} from {', '.join(field.variables)}" for field in job.query if field.variables]
    keyed = key_variable is not None or any(field.carries_key or field.variables for field in (*job.headers, *job.query))
    words += [] if keyed else ["no key"]
    words += [f"job file {job.file}"] if job.file is not None else []
    return ", ".join(words)


def _about_address(job: Job, proxy: str | None, secret: bool) -> Iterator[str]:
    """Yield what the user should know about the way of the requests. secret: they carry one."""
    parts = urlsplit(job.base_url or "")
    _, cut, ending = job.sources.get("base_url", "").partition(", without ")
    if cut:
        yield f"base_url is used without {ending}: {job.base_url}"
    if proxy is not None:
        yield f"requests go through the proxy {way_out.without_user(proxy)}"
    if secret and parts.scheme == "http" and not is_loopback(parts.hostname or ""):
        yield f"the key is sent unencrypted to {parts.hostname} (http)"


def _additions(job: Job, environment: Mapping[str, str]) -> Additions:
    """Fill in the variables of headers and query parts. Raises UsageError if one is not set."""
    found: dict[str, list[tuple[str, Secret]]] = {"header": [], "query": []}
    secrets: list[Secret] = []
    for what, fields in (("header", job.headers), ("query", job.query)):
        for field in fields:
            value = field.resolve(environment, what)
            found[what].append((field.name, Secret(value)))
            secrets += [Secret(secret) for secret in field.secrets(value, environment)]
    return Additions(tuple(found["header"]), tuple(found["query"]), tuple(secrets))
