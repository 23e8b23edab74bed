"""One streamed HTTP exchange and everything that bounds it; the only package that knows the HTTP library."""

from runner.providers.http.client import Caps, HttpClient
from runner.providers.http.exchange import HttpExchange
from runner.providers.http.timeouts import Deadlines

__all__ = ["Caps", "Deadlines", "HttpClient", "HttpExchange"]
