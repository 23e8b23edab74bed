"""Finds out where requests go: base URL, key, proxy and certificates."""

import os
import ssl
import urllib.request
from collections.abc import Mapping
from pathlib import Path
from urllib.parse import urlsplit

from msgspec import Struct, structs

from runner.config import address, credentials, plugins
from runner.config.address import is_loopback
from runner.config.job import Job
from runner.errors import NotReadyError, UsageError
from runner.text import Redactor, Secret

_OURS = ("openai", "anthropic")
"""The dialects of which we know what follows base_url."""


class Endpoint(Struct, frozen=True, kw_only=True):
    """Where a job's requests go.

    base_url: None for a local server, which is started with the session.
    notes: what the user should know before anything is sent, one sentence each.
    """

    base_url: str | None
    key: Secret | None
    proxy: str | None
    notes: tuple[str, ...]

    @property
    def redactor(self) -> Redactor:
        """The redactor that removes the key from error messages and answers."""
        return Redactor([self.key.reveal()] if self.key is not None else [])


def with_base_url(job: Job, environment: Mapping[str, str]) -> Job:
    """Return the job with its base URL filled in, from the environment or the provider's default where the job has none.

    The base URL is one of the settings by which runs are told apart, so it must be known before a run is looked up.
    """
    if job.local_server is not None:
        return job
    module = plugins.load("providers", job.provider)
    sources = dict(job.sources)
    base_url = job.base_url
    if base_url is None:
        base_url = environment.get(module.BASE_URL_ENV) or module.DEFAULT_BASE_URL
        from_environment = bool(environment.get(module.BASE_URL_ENV))
        sources["base_url"] = f"environment {module.BASE_URL_ENV}" if from_environment else "the provider's default"
    given = address.check_base_url(base_url, sources["base_url"])
    mended = address.without_ending(given, versioned=job.provider == "openai") if job.provider in _OURS else given
    if mended != given:
        sources["base_url"] += f", without {given.removeprefix(mended)}"
    return structs.replace(job, base_url=mended, sources=sources)


def key_source(job: Job, environment: Mapping[str, str]) -> str | None:
    """Return the name of the environment variable that holds the key; None if no key is set."""
    if job.local_server is not None:
        return None
    name: str = _key_variable(job)
    return name if environment.get(name, "").strip() else None


def find_endpoint(job: Job, environment: Mapping[str, str]) -> Endpoint:
    """Find the key and the proxy.

    Raises UsageError if no model is set, if ``[finish]`` contradicts itself, if a hosted endpoint has no key, or if a variable
    has an unusable value.
    """
    if job.model is None:
        raise NotReadyError("no model is set; set model in the job file, or use --model")
    # a contradiction is found here, and not when the first answer ends
    _ = job.finish
    _check_certificates(environment)
    if job.local_server is not None:
        return Endpoint(base_url=None, key=None, proxy=None, notes=(job.local_server.note,))
    assert job.base_url is not None
    module = plugins.load("providers", job.provider)
    name = _key_variable(job)
    value = environment.get(name, "").strip()
    hosted = urlsplit(job.base_url).hostname == urlsplit(module.DEFAULT_BASE_URL).hostname
    if not value and (hosted or job.api_key_env):
        raise NotReadyError(f"{name} {_no_key(job, name, environment)}")
    if not value.isascii() or not value.isprintable():
        raise UsageError(f"the key in {name} contains characters that no key can contain; set it again")
    notes = []
    _, cut, ending = job.sources.get("base_url", "").partition(", without ")
    if cut:
        notes.append(f"base_url is used without {ending}: {job.base_url}")
    proxy = _proxy(job.base_url)
    if proxy is not None:
        notes.append(f"requests go through the proxy {_without_user(proxy)}")
    parts = urlsplit(job.base_url)
    if value and parts.scheme == "http" and not is_loopback(parts.hostname or ""):
        notes.append(f"the key is sent unencrypted to {parts.hostname} (http)")
    return Endpoint(
        base_url=job.base_url,
        key=Secret(value) if value else None,
        proxy=proxy,
        notes=tuple(notes),
    )


def _key_variable(job: Job) -> str:
    """Return the name of the environment variable for the key. Raises UsageError if api_key_env is no name."""
    if job.api_key_env is None:
        name: str = plugins.load("providers", job.provider).KEY_ENV
        return name
    credentials.refuse_key_as_name(job.api_key_env, job.sources.get("api_key_env", "set"))
    return job.api_key_env


def _no_key(job: Job, name: str, environment: Mapping[str, str]) -> str:
    """Return why no key can be sent and what to do, in words that follow the name of the variable."""
    assert job.base_url is not None
    other = credentials.other_variable(job.base_url, name, environment)
    hint = f", or use --api-key-env {other}" if other is not None else ""
    return f"{credentials.missing(name, environment)}; set it to the key for {job.base_url}: export {name}=...{hint}"


def _check_certificates(environment: Mapping[str, str]) -> None:
    """Raise UsageError if the HTTP client could not load the certificates; it uses the first of the two variables that is set."""
    file, folders = environment.get("SSL_CERT_FILE"), environment.get("SSL_CERT_DIR")
    if file:
        try:
            ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_verify_locations(file)
        except ssl.SSLError as error:
            raise UsageError(f"SSL_CERT_FILE is {file!r}, which contains no certificate; correct it, or unset it") from error
        except OSError as error:
            raise UsageError(
                f"SSL_CERT_FILE is {file!r}, which cannot be read: {error.strerror}; correct it, or unset it"
            ) from error
    elif folders and not any(Path(folder).is_dir() for folder in folders.split(os.pathsep)):
        raise UsageError(f"SSL_CERT_DIR is {folders!r}, which is not a folder; correct it, or unset it")


def _proxy(base_url: str) -> str | None:
    """Return the proxy that the environment sets for a base URL; None for loopback, which never uses a proxy."""
    parts = urlsplit(base_url)
    host = parts.hostname or ""
    if is_loopback(host) or urllib.request.proxy_bypass(host):
        return None
    proxies = urllib.request.getproxies_environment()
    kind = parts.scheme if proxies.get(parts.scheme) else "all"
    proxy = proxies.get(kind)
    return address.check_proxy(proxy, _variable(f"{kind}_proxy")) if proxy is not None else None


def _variable(name: str) -> str:
    """Return a variable's name as the environment spells it; if both spellings exist, the lower-case one is in force."""
    return next((variable for variable in sorted(os.environ, reverse=True) if variable.lower() == name), name)


def _without_user(proxy: str) -> str:
    parts = urlsplit(proxy)
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}"
