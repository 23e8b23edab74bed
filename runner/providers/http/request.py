"""The head of a request, encoded once for each endpoint."""

import re

import aiohttp
import httpx
from multidict import CIMultiDict
from yarl import URL

from runner.providers.http.aiohttp_internals import ConnectionKey, endpoint_request

_CONTROL = re.compile(r"[\x00-\x08\x0a-\x1f\x7f]")
"""Control characters that end a header line, or that servers treat differently; aiohttp rejects the same ones."""
_LENGTH = "\r\nContent-Length: "


class Proxy:
    """A proxy as aiohttp needs it: its address, and separately the user and password that the address may contain."""

    def __init__(self, address: str) -> None:
        """Raise ValueError for an address that cannot be used. The message of the error may contain a password."""
        url = URL(address)
        self.auth = aiohttp.BasicAuth.from_url(url)
        if self.auth is not None:
            # fails here if it fails, not later at each connection
            self.auth.encode()
        self.url = url.with_user(None)


class Endpoint:
    """An address, and the headers of all requests to it.

    request: passed to aiohttp where it requires a request. key: connections with the same key are interchangeable.
    """

    __slots__ = ("_after", "_before", "key", "request")

    def __init__(self, url: httpx.URL, headers: httpx.Headers, proxy_address: str | None) -> None:
        """Raise aiohttp.ClientError for an unusable address, ValueError for unusable headers or an unusable proxy."""
        address, proxy = _checked(str(url)), _proxy(proxy_address)
        fields = CIMultiDict(headers)
        fields.popall("content-length", None)
        proxy_url, auth = (proxy.url, proxy.auth) if proxy is not None else (None, None)
        self.request = endpoint_request(address, fields, proxy_url, auth)
        self.key: ConnectionKey = self.request.connection_key
        target, fields = address.raw_path_qs, self.request.headers
        if proxy is not None and not self.request.is_ssl():
            target = str(address)
            if proxy.auth is not None:
                fields["Proxy-Authorization"] = proxy.auth.encode()
        lines = [f"POST {target} HTTP/1.1", *(f"{name}: {value}" for name, value in fields.items())]
        for line in lines:
            if _CONTROL.search(line):
                raise ValueError(f"a header contains a control character: {line.partition(':')[0][:80]!r}")
        before, _, after = "\r\n".join(lines).partition(f"{_LENGTH}0")
        self._before, self._after = f"{before}{_LENGTH}".encode("latin-1"), f"{after}\r\n\r\n".encode("latin-1")

    def head(self, length: int) -> bytes:
        """Return the bytes before a body of this length."""
        return b"%b%d%b" % (self._before, length, self._after)


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
        # from None: the cause may show a password
        raise ValueError("the proxy address cannot be used") from None
