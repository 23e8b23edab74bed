"""The way of requests out of this machine: proxies and certificates, as the environment sets them."""

import os
import ssl
import urllib.request
from collections.abc import Mapping
from pathlib import Path
from urllib.parse import urlsplit

from runner.config import address, no_proxy
from runner.config.address import is_loopback
from runner.errors import UsageError


def check_certificates(environment: Mapping[str, str]) -> None:
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


def proxy_of(base_url: str) -> str | None:
    """Return the proxy that the environment sets for a base URL; None for this machine, which no proxy reaches."""
    parts = urlsplit(base_url)
    host = parts.hostname or ""
    proxies = urllib.request.getproxies_environment()
    if (
        is_loopback(host)
        or host.endswith(".localhost")
        or no_proxy.bypassed(host, address.port_of(base_url), proxies.get("no", ""))
    ):
        return None
    if not proxies and urllib.request.proxy_bypass(host):
        # the settings of the system, on macOS and Windows
        return None
    kind = parts.scheme if proxies.get(parts.scheme) else "all"
    proxy = proxies.get(kind)
    return address.check_proxy(proxy, _variable(f"{kind}_proxy")) if proxy is not None else None


def _variable(name: str) -> str:
    """Return a variable's name as the environment spells it; if both spellings exist, the lower-case one is in force."""
    return next((variable for variable in sorted(os.environ, reverse=True) if variable.lower() == name), name)


def without_user(proxy: str) -> str:
    """Return the URL of a proxy as it may be shown."""
    parts = urlsplit(proxy)
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}"
