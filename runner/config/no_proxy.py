"""Reads NO_PROXY as curl, requests and httpx read it. Pure.

Entries are separated by commas or blanks. An entry is ``*``, or a host or an address, perhaps with a port:

    example.com  .example.com  *.example.com     the host and everything below it
    example.com:8000  [::1]:8000                 the same at this port alone
    10.0.0.0/8  fd00::/8                         addresses of a network; names are not resolved
"""

import ipaddress
import re


def bypassed(host: str, port: int, no_proxy: str) -> bool:
    """Return True if requests to a host go past the proxy. no_proxy: the value of the variable."""
    host = host.strip("[]").rstrip(".").lower()
    return any(_matches(entry.lower(), host, port) for entry in re.split(r"[\s,]+", no_proxy) if entry)


def _matches(entry: str, host: str, port: int) -> bool:
    if entry == "*":
        return True
    entry = entry.partition("://")[2] or entry
    name, entry_port = _split(entry)
    if entry_port is not None and entry_port != port:
        return False
    address = _address(host)
    if address is not None:
        try:
            network = ipaddress.ip_network(name, strict=False)
        except ValueError:
            return False
        return address in network
    name = name.removeprefix("*").lstrip(".").rstrip(".")
    return bool(name) and (host == name or host.endswith(f".{name}"))


def _split(entry: str) -> tuple[str, int | None]:
    """Return the name and the port of an entry. An IPv6 address with a port stands in brackets."""
    bracketed = re.fullmatch(r"\[([^\]]*)\](?::(\d+))?", entry)
    if bracketed is not None:
        return bracketed[1], int(bracketed[2]) if bracketed[2] else None
    name, colon, port = entry.partition(":")
    if colon and port.isascii() and port.isdecimal():
        return name, int(port)
    return entry, None


def _address(host: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        return ipaddress.ip_address(host.partition("%")[0])
    except ValueError:
        return None
