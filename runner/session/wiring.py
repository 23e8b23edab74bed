"""Job + environment -> the parts of a session: where to send, with which key, through which proxy."""

import os
import ssl
import sys
import urllib.request
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import cast
from urllib.parse import urlsplit

from msgspec import Struct, structs

from runner.config import address, plugins
from runner.config.address import is_loopback
from runner.config.job import Job
from runner.engine.limits import Kind, Limits
from runner.errors import UsageError
from runner.interfaces import Provider
from runner.providers.classify import MONEY_CODES, snake
from runner.providers.http import Deadlines, HttpClient
from runner.text import Secret, redact

if sys.platform != "win32":
    import resource

SIMULATOR = "simulator"
_OWN_FILES = 40
"""Files open besides the connections: libraries, store, prompt file, terminal."""


class Endpoint(Struct, frozen=True, kw_only=True):
    """Where a job's requests go.

    base_url: None for the simulator, which begins with the session.
    notes: what a person should know before anything is sent, one sentence each.
    """

    base_url: str | None
    key: Secret | None
    proxy: str | None
    notes: tuple[str, ...]

    @property
    def secrets(self) -> tuple[str, ...]:
        """What must be in no answer, message or file."""
        return (self.key.reveal(),) if self.key is not None else ()

    def redact(self, words: str) -> str:
        """Take secrets out of foreign words."""
        return redact(words, self.secrets)


def settled_endpoint(job: Job, environment: Mapping[str, str]) -> Job:
    """Fill in the endpoint that a job leaves to the provider, so that it takes part in telling runs apart."""
    if job.provider == SIMULATOR:
        return job
    module = plugins.load("providers", job.provider)
    sources = dict(job.sources)
    base_url = job.base_url
    if base_url is None:
        base_url = environment.get(module.BASE_URL_ENV) or module.DEFAULT_BASE_URL
        used = bool(environment.get(module.BASE_URL_ENV))
        sources["base_url"] = f"environment {module.BASE_URL_ENV}" if used else "the provider's default"
    return structs.replace(job, base_url=address.checked(base_url, sources["base_url"]), sources=sources)


def limits(job: Job) -> tuple[Limits, str | None]:
    """Give the limits of a job's lanes, and a note when the open-file limit leaves fewer requests in flight than asked for."""
    wanted = job.max_concurrency if job.concurrency is None else job.concurrency
    most = _connections(wanted, ends=2 if job.provider == SIMULATOR else 1)
    note = None
    if most < wanted and job.concurrency is not None:
        note = f"too few files may be open here (ulimit -n), so at most {most} requests are in flight"
    asked: dict[Kind, float | None] = {
        "rpm": job.rpm, "tpm": job.tpm, "input_tpm": job.input_tpm, "output_tpm": job.output_tpm,
    }  # fmt: skip
    per_minute = {kind: amount for kind, amount in asked.items() if amount is not None}
    return Limits(ceiling=most, tuned=job.concurrency is None, per_minute=per_minute), note


def _connections(wanted: int, *, ends: int) -> int:
    """Give how many connections the open-file limit leaves, raising it where that is allowed.

    ends: files for each; the simulator holds the other end of every connection.
    """
    if sys.platform == "win32":
        return wanted
    files = _OWN_FILES + ends * wanted
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != resource.RLIM_INFINITY and soft < files:
        soft = files if hard == resource.RLIM_INFINITY else min(files, hard)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    if soft == resource.RLIM_INFINITY or soft >= files:
        return wanted
    return max(1, (soft - _OWN_FILES) // ends)


def key_source(job: Job, environment: Mapping[str, str]) -> str | None:
    """Name the variable that holds the key, None where no key is set."""
    if job.provider == SIMULATOR:
        return None
    name: str = job.api_key_env or plugins.load("providers", job.provider).KEY_ENV
    return name if environment.get(name, "").strip() else None


def endpoint(job: Job, environment: Mapping[str, str]) -> Endpoint:
    """Find key and proxy. Raises UsageError when no model is named, a hosted endpoint has no key, or a variable is of no use."""
    if job.model is None:
        raise UsageError("no model is named; set model in the job file, or give --model")
    _check_certificates(environment)
    if job.provider == SIMULATOR:
        return Endpoint(base_url=None, key=None, proxy=None, notes=("simulator: the answers are synthetic",))
    assert job.base_url is not None
    module = plugins.load("providers", job.provider)
    name = job.api_key_env or module.KEY_ENV
    value = environment.get(name, "").strip()
    hosted = urlsplit(job.base_url).hostname == urlsplit(module.DEFAULT_BASE_URL).hostname
    if not value and (hosted or job.api_key_env):
        raise UsageError(f"{name} is not set; put the key for {job.base_url} into it: export {name}=...")
    if not value.isascii() or not value.isprintable():
        raise UsageError(f"the key in {name} holds characters that no key has; set it again")
    notes = []
    proxy = _proxy(job.base_url)
    if proxy is not None:
        notes.append(f"requests go through the proxy {_without_user(proxy)}")
    parts = urlsplit(job.base_url)
    if value and parts.scheme == "http" and not is_loopback(parts.hostname or ""):
        notes.append(f"the key travels unencrypted to {parts.hostname} (http)")
    return Endpoint(
        base_url=job.base_url,
        key=Secret(value) if value else None,
        proxy=proxy,
        notes=tuple(notes),
    )


@asynccontextmanager
async def opened(job: Job, where: Endpoint, version: str) -> AsyncIterator[tuple[Provider, HttpClient]]:
    """Open the client, and the simulator where the job asks for it."""
    deadlines = Deadlines(
        connect_s=job.connect_s, first_byte_s=job.first_byte_s, silence_s=job.silence_s, attempt_s=job.attempt_s
    )
    key = where.key.reveal() if where.key is not None else None
    if where.base_url is not None:
        module = plugins.load("providers", job.provider)
        async with HttpClient(deadlines, proxy=where.proxy) as client:
            yield cast("Provider", module.make(where.base_url, key, version=version, **_codes(job))), client
        return
    # imported here: its server is a twentieth of a start, and few jobs ask for it
    from runner.simulator import Behaviour, Simulator

    module = plugins.load("providers", "openai")
    async with Simulator(Behaviour()) as simulator, HttpClient(deadlines) as client:
        yield cast("Provider", module.make(simulator.base_url("openai"), None, version=version)), client


def _codes(job: Job) -> dict[str, frozenset[str]]:
    """Give the names of errors that a job adds to those that are known; a provider of one's own need not know of them."""
    money, rate = (
        [given] if isinstance(given, str) else given or [] for given in (job.money_codes, job.rate_codes)
    )  # fmt: skip
    added = {}
    if money:
        added["money_codes"] = MONEY_CODES | {snake(name) for name in money}
    if rate:
        added["rate_codes"] = frozenset(snake(name) for name in rate)
    return added


def _check_certificates(environment: Mapping[str, str]) -> None:
    """Refuse certificates that cannot be read, before the client does; it takes the first of the variables that is set."""
    file, folders = environment.get("SSL_CERT_FILE"), environment.get("SSL_CERT_DIR")
    if file:
        try:
            ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_verify_locations(file)
        except ssl.SSLError as error:
            raise UsageError(f"SSL_CERT_FILE names {file!r}, which holds no certificate; mend it, or unset it") from error
        except OSError as error:
            raise UsageError(
                f"SSL_CERT_FILE names {file!r}, which cannot be read: {error.strerror}; mend it, or unset it"
            ) from error
    elif folders and not any(Path(folder).is_dir() for folder in folders.split(os.pathsep)):
        raise UsageError(f"SSL_CERT_DIR names {folders!r}, which is no folder; mend it, or unset it")


def _proxy(base_url: str) -> str | None:
    """Find the proxy that the environment names for an address; loopback is never sent through one."""
    parts = urlsplit(base_url)
    host = parts.hostname or ""
    if is_loopback(host) or urllib.request.proxy_bypass(host):
        return None
    proxies = urllib.request.getproxies_environment()
    kind = parts.scheme if proxies.get(parts.scheme) else "all"
    proxy = proxies.get(kind)
    return address.checked_proxy(proxy, _variable(f"{kind}_proxy")) if proxy is not None else None


def _variable(name: str) -> str:
    """Spell a variable as the environment does; of two spellings the lower one counts."""
    return next((found for found in sorted(os.environ, reverse=True) if found.lower() == name), name)


def _without_user(proxy: str) -> str:
    parts = urlsplit(proxy)
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}"
