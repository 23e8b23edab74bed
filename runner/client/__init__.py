"""One streamed HTTP exchange and everything that bounds it; the only package that knows the HTTP library."""

from runner.client.clocks import Deadlines
from runner.client.exchange import HttpExchange
from runner.client.http import Caps, HttpClient

__all__ = ["Caps", "Deadlines", "HttpClient", "HttpExchange"]
