"""Validates the URL of an endpoint or of a proxy before anything is sent. Pure."""

import ipaddress
import re
from urllib.parse import SplitResult, parse_qsl, unquote, urlsplit, urlunsplit

from runner.config.fields import Field
from runner.errors import UsageError

# Host names of containers may contain an underscore.
_NAME = re.compile(r"[a-z0-9_]([a-z0-9_-]*[a-z0-9_])?(\.[a-z0-9_]([a-z0-9_-]*[a-z0-9_])?)*\.?", re.IGNORECASE)
# What follows base_url in a request. The first that fits is taken off.
_ENDINGS = ("/chat/completions", "/completions", "/messages", "/responses")
_ONE_SLASH = re.compile(r"https?:(?:/(?!/)|\\)", re.IGNORECASE)
_PORTS = {"http": 80, "https": 443}
_EXAMPLE = "it must look like https://host/v1"


def check_base_url(base_url: str, source: str) -> str:
    """Return a base URL without a slash at the end of its path. It may have a query.

    A host in other letters is returned as it is looked up (``xn--...``), so that none looks like another wherever it is shown.
    source: where the URL was set, in words. Raises UsageError if the URL is invalid.
    """
    name = f"base_url {base_url!r} ({source})"
    # This check comes first, because urlsplit silently drops line ends.
    if any(char.isspace() or not char.isprintable() for char in base_url):
        raise UsageError(f"{name} contains whitespace or a control character; {_EXAMPLE}")
    try:
        parts = urlsplit(base_url)
    except ValueError as error:
        raise UsageError(f"{name} is not a valid URL: {error}; {_EXAMPLE}") from error
    # without a scheme, urlsplit finds no user name, and the message must not quote a password
    if "@" in parts.netloc or (not parts.netloc and "@" in base_url.partition("/")[0]):
        raise UsageError("base_url must not contain a user name or password; put the key into the environment")
    if parts.scheme not in ("http", "https"):
        why = "" if "://" in base_url else ", as it does not begin with http:// or https://"
        raise UsageError(f"{name} is not a valid URL{why}; {_guess(base_url)}")
    if not parts.hostname:
        raise UsageError(f"{name} has no host; {_guess(base_url)}")
    host = _wire_name(parts.hostname)
    if host is None or not _is_host(parts):
        raise UsageError(f"{name} has an invalid host: {parts.hostname}; {_EXAMPLE}")
    if not _is_port(parts):
        raise UsageError(f"{name} has an invalid port; use a number from 1 to 65535, or leave the port out")
    # An empty fragment is refused too: anything appended to the URL would not become part of its path.
    if "#" in base_url:
        raise UsageError(f"{name} must not contain #")
    if not parts.netloc.isascii():
        netloc = host if parts.port is None else f"{host}:{parts.port}"
        base_url = urlunsplit((parts.scheme, netloc, parts.path, parts.query, parts.fragment))
    path, _, query = base_url.partition("?")
    for part, value in parse_qsl(query, keep_blank_values=True):
        if Field(name=part, text=value).sounds_secret:
            hint = f'query = {{ {part} = "${{NAME}}" }} takes it from an environment variable'
            raise UsageError(f"base_url must not contain a secret, and {part!r} sounds like one ({source}); {hint}")
    return path.rstrip("/") + (f"?{query}" if query else "")


def origin(url: str) -> str:
    """Return scheme, host and port of a URL, such as ``https://host``; the port is left out where it is the scheme's own."""
    parts = urlsplit(url)
    host = parts.hostname or ""
    host = f"[{host}]" if ":" in host else host
    return f"{parts.scheme}://{host}" if port_of(url) == _PORTS.get(parts.scheme) else f"{parts.scheme}://{host}:{parts.port}"


def port_of(url: str) -> int:
    """Return the port that a URL means."""
    parts = urlsplit(url)
    return parts.port or _PORTS.get(parts.scheme, 0)


def without_ending(base_url: str, *, versioned: bool) -> str:
    """Return a base URL without the path of a request, which is often copied along: ``/v1/chat/completions`` becomes ``/v1``.

    versioned: False if the dialect adds the version itself, so that ``/v1`` goes too.
    """
    path, mark, query = base_url.partition("?")
    for ending in _ENDINGS:
        if path.lower().endswith(ending):
            path = path[: -len(ending)].rstrip("/")
            return (path if versioned else path.removesuffix("/v1")) + mark + query
    return base_url


def _guess(base_url: str) -> str:
    """Return words with the URL that was probably meant, for one without a valid scheme; else what a URL looks like."""
    typo = re.fullmatch(r"(https?)(?::/?|//)([^/:].*)", base_url, re.IGNORECASE)
    rest = typo[2] if typo is not None else base_url.partition("://")[2] if "://" in base_url else base_url.removeprefix("//")
    try:
        parts = urlsplit(f"//{rest}")
        host, port = parts.hostname or "", parts.port
    except ValueError:
        return _EXAMPLE
    if not host or not _is_host(parts) or parts.username is not None:
        return _EXAMPLE
    plain = is_loopback(host) or "." not in host or port not in (None, 443) or host.replace(".", "").isdigit()
    scheme = typo[1].lower() if typo is not None else "http" if plain else "https"
    return f"use {scheme}://{rest}"


def check_proxy(proxy: str, variable: str) -> str:
    """Return the URL of an HTTP proxy, with a scheme. variable: the environment variable that holds it.

    Raises UsageError if the URL is invalid. The message never quotes the URL: in an invalid one the password can be anywhere.
    """
    proxy = proxy.strip()
    fault = "its http: must be followed by //" if _ONE_SLASH.match(proxy) else None
    if "://" not in proxy:
        proxy = f"http://{proxy}"
    fault = fault or _fault_of_proxy(proxy)
    if fault is not None:
        raise UsageError(f"the proxy in {variable} cannot be used: {fault}; correct {variable}, or unset it")
    return proxy


def _fault_of_proxy(proxy: str) -> str | None:
    try:
        parts = urlsplit(proxy)
    except ValueError:
        return "it is not a URL such as http://host:port"
    if parts.scheme not in ("http", "https"):
        return "it is not an HTTP proxy"
    if not parts.hostname or not _is_host(parts):
        return "it is not a URL such as http://host:port"
    if not _is_port(parts):
        return "its port is not a number from 1 to 65535"
    if "@" in parts.path + parts.query + parts.fragment:
        return "a / ? or # in its user name or password must be written as %2F, %3F or %23"
    if ":" in unquote(parts.username or ""):
        return "its user name contains a colon"
    if not _is_latin_1(parts.username) or not _is_latin_1(parts.password):
        return "its user name or password contains a character that an HTTP header cannot carry"
    # urlsplit silently drops line ends
    if any(char.isspace() or not char.isprintable() for char in proxy):
        return "it contains a blank or a control character"
    return None


def is_loopback(host: str) -> bool:
    """Return True if a host name or IP address means this machine for every resolver, which ``x.localhost`` does not."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _is_host(parts: SplitResult) -> bool:
    host = parts.hostname or ""
    if "[" in parts.netloc:
        try:
            return ipaddress.ip_address(host).version == 6
        except ValueError:
            return False
    try:
        return _NAME.fullmatch(host.encode("idna").decode()) is not None
    except UnicodeError:
        return False


def _wire_name(host: str) -> str | None:
    """Return the name by which the HTTP client looks a host up; None if it has none."""
    if host.isascii():
        return host
    # imported here: few hosts need it
    import idna

    try:
        return idna.encode(host.lower()).decode()
    except idna.IDNAError:
        return None


def _is_port(parts: SplitResult) -> bool:
    """Return True if the URL has no port, or one that can be connected to."""
    try:
        return parts.port != 0 and not parts.netloc.endswith(":")
    except ValueError:
        return False


def _is_latin_1(quoted: str | None) -> bool:
    """Return True if a user name or password fits into the proxy header, which has one byte per character."""
    try:
        # Escapes that are not valid UTF-8 are sent as they are written.
        unquote(quoted or "", errors="ignore").encode("latin-1")
    except UnicodeError:
        return False
    return True
