"""Where requests go: the base URL, the key, the proxy and the certificates of an endpoint."""

import os
import ssl
import urllib.request
from collections.abc import Mapping
from pathlib import Path
from urllib.parse import urlsplit

from msgspec import Struct, structs

from runner.config import address, plugins
from runner.config.address import is_loopback
from runner.config.job import Job
from runner.errors import UsageError
from runner.text import Redactor, Secret


class Endpoint(Struct, frozen=True, kw_only=True):
    """Where a job's requests go.

    base_url: None for a local server, which starts with the session.
    notes: what a person should know before anything is sent, one sentence each.
    """

    base_url: str | None
    key: Secret | None
    proxy: str | None
    notes: tuple[str, ...]

    @property
    def redactor(self) -> Redactor:
        """Takes the key out of foreign text and out of answers."""
        return Redactor([self.key.reveal()] if self.key is not None else [])


def settled_endpoint(job: Job, environment: Mapping[str, str]) -> Job:
    """Fill in the endpoint that a job leaves to the provider, so that it takes part in telling runs apart."""
    if job.local_server is not None:
        return job
    module = plugins.load("providers", job.provider)
    sources = dict(job.sources)
    base_url = job.base_url
    if base_url is None:
        base_url = environment.get(module.BASE_URL_ENV) or module.DEFAULT_BASE_URL
        used = bool(environment.get(module.BASE_URL_ENV))
        sources["base_url"] = f"environment {module.BASE_URL_ENV}" if used else "the provider's default"
    return structs.replace(job, base_url=address.checked(base_url, sources["base_url"]), sources=sources)


def key_source(job: Job, environment: Mapping[str, str]) -> str | None:
    """Name the variable that holds the key, None where no key is set."""
    if job.local_server is not None:
        return None
    name: str = job.api_key_env or plugins.load("providers", job.provider).KEY_ENV
    return name if environment.get(name, "").strip() else None


def find_endpoint(job: Job, environment: Mapping[str, str]) -> Endpoint:
    """Find key and proxy. Raises UsageError when no model is named, a hosted endpoint has no key, or a variable is of no use."""
    if job.model is None:
        raise UsageError("no model is named; set model in the job file, or give --model")
    _check_certificates(environment)
    if job.local_server is not None:
        return Endpoint(base_url=None, key=None, proxy=None, notes=(job.local_server.note,))
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
