"""The address of an endpoint, or of a proxy: held to what an address can be before anything is sent. Pure."""

import ipaddress
import re
from urllib.parse import SplitResult, unquote, urlsplit

from runner.errors import UsageError

# what stands in host names; an underscore does in those of containers
_NAME = re.compile(r"[a-z0-9_]([a-z0-9_-]*[a-z0-9_])?(\.[a-z0-9_]([a-z0-9_-]*[a-z0-9_])?)*\.?", re.IGNORECASE)
_LIKE = "it must look like https://host/v1"


def checked(base_url: str, source: str) -> str:
    """Give a base_url without a slash at its end. Raises UsageError for what is none; source: where it came from, in words."""
    said = f"base_url {base_url!r} ({source})"
    # asked first, for urlsplit drops line ends and goes on
    if any(char.isspace() or not char.isprintable() for char in base_url):
        raise UsageError(f"{said} holds a blank or a control character; {_LIKE}")
    try:
        parts = urlsplit(base_url)
    except ValueError as error:
        raise UsageError(f"{said} is not an address: {error}; {_LIKE}") from error
    if parts.username is not None or parts.password is not None:
        raise UsageError("base_url must hold no user name or password; keys come from the environment")
    if parts.scheme not in ("http", "https"):
        raise UsageError(f"{said} is not an address; {_LIKE}")
    if not parts.hostname:
        raise UsageError(f"{said} names no host; {_LIKE}")
    if not _is_host(parts):
        raise UsageError(f"{said} names a host that cannot be one: {parts.hostname}; {_LIKE}")
    if not _is_port(parts):
        raise UsageError(f"{said} names a port that cannot be one; leave it out, or give a number from 1 to 65535")
    # an empty one counts too: what is put behind it would not be its path
    if "?" in base_url or "#" in base_url:
        raise UsageError(f"{said} must end with its path, without ? or #")
    return base_url.rstrip("/")


def checked_proxy(proxy: str, variable: str) -> str:
    """Give the address of an HTTP proxy that an environment variable names.

    Raises UsageError for what is none, and never quotes it: where it is wrong, its password may stand anywhere in it.
    """
    if "://" not in proxy:
        proxy = f"http://{proxy}"
    fault = _fault_of_proxy(proxy)
    if fault is not None:
        raise UsageError(f"{variable} names a proxy that cannot be used: {fault}; mend it, or unset it")
    return proxy


def _fault_of_proxy(proxy: str) -> str | None:
    try:
        parts = urlsplit(proxy)
    except ValueError:
        return "it is no address like http://host:port"
    if parts.scheme not in ("http", "https"):
        return "it is not an HTTP proxy"
    if not parts.hostname or not _is_host(parts):
        return "it is no address like http://host:port"
    if not _is_port(parts):
        return "its port is not a number from 1 to 65535"
    if "@" in parts.path + parts.query + parts.fragment:
        return "a / ? or # in its user name or password must be written as %2F, %3F or %23"
    if ":" in unquote(parts.username or ""):
        return "there is a colon in its user name"
    if not _is_latin_1(parts.username) or not _is_latin_1(parts.password):
        return "its user name or password holds a character that HTTP cannot carry there"
    return None


def is_loopback(host: str) -> bool:
    """Tell whether a host is this machine by its name or number."""
    if host == "localhost" or host.endswith(".localhost"):
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


def _is_port(parts: SplitResult) -> bool:
    """Tell whether the port, where one is named, is a number that can be connected to."""
    try:
        return parts.port != 0 and not parts.netloc.endswith(":")
    except ValueError:
        return False


def _is_latin_1(quoted: str | None) -> bool:
    """Tell whether a user name or password can be put into the header, which has one byte for each character."""
    try:
        # what is no UTF-8 goes as it is written
        unquote(quoted or "", errors="ignore").encode("latin-1")
    except UnicodeError:
        return False
    return True
