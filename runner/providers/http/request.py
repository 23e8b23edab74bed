"""What goes out: the bytes before a request's body, made once for each endpoint."""

import re

import aiohttp
import httpx
from multidict import CIMultiDict
from yarl import URL

from runner.providers.http.aiohttp_internals import ConnectionKey, endpoint_request

_CONTROL = re.compile(r"[\x00-\x08\x0a-\x1f\x7f]")
"""What would end a line, or be read differently by others; aiohttp refuses the same."""
_LENGTH = "\r\nContent-Length: "


class Proxy:
    """A proxy as aiohttp wants it: its address, and apart from it the user that may stand in it."""

    def __init__(self, address: str) -> None:
        """Raise ValueError for an address that cannot be used; its words may hold a password."""
        url = URL(address)
        self.auth = aiohttp.BasicAuth.from_url(url)
        if self.auth is not None:
            # not later, with every connection
            self.auth.encode()
        self.url = url.with_user(None)


class Endpoint:
    """An address and the headers that all requests to it have.

    request: stands for all of them where aiohttp wants one. key: connections with the same one may take each other's place.
    """

    __slots__ = ("_before", "_behind", "key", "request")

    def __init__(self, url: httpx.URL, headers: httpx.Headers, through: str | None) -> None:
        """Raise aiohttp.ClientError for an address that cannot be used, ValueError for a proxy or headers that cannot be."""
        address, proxy = _checked(str(url)), _proxy(through)
        fields = CIMultiDict(headers)
        fields.popall("content-length", None)
        through_url, auth = (proxy.url, proxy.auth) if proxy is not None else (None, None)
        self.request = endpoint_request(address, fields, through_url, auth)
        self.key: ConnectionKey = self.request.connection_key
        target, fields = address.raw_path_qs, self.request.headers
        if proxy is not None and not self.request.is_ssl():
            target = str(address)
            if proxy.auth is not None:
                fields["Proxy-Authorization"] = proxy.auth.encode()
        lines = [f"POST {target} HTTP/1.1", *(f"{name}: {value}" for name, value in fields.items())]
        for line in lines:
            if _CONTROL.search(line):
                raise ValueError(f"a header holds a control character: {line.partition(':')[0][:80]!r}")
        before, _, behind = "\r\n".join(lines).partition(f"{_LENGTH}0")
        self._before, self._behind = f"{before}{_LENGTH}".encode(), f"{behind}\r\n\r\n".encode()

    def head(self, length: int) -> bytes:
        """Give all that stands before a body of this length."""
        return b"%b%d%b" % (self._before, length, self._behind)


def _checked(address: str) -> URL:
    try:
        url = URL(address)
    except ValueError as error:
        raise aiohttp.InvalidUrlClientError(address) from error
    if url.scheme not in ("http", "https"):
        raise aiohttp.NonHttpUrlClientError(url)
    if not url.raw_host:
        raise aiohttp.InvalidUrlClientError(url)
    return url


def _proxy(address: str | None) -> Proxy | None:
    try:
        return Proxy(address) if address is not None else None
    except ValueError:
        # without the cause, which may show a password
        raise ValueError("the proxy is no address that can be used") from None
