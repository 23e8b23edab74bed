"""One streamed HTTP exchange and everything that bounds it; the only package that knows the HTTP library."""

from runner.client.clocks import Deadlines
from runner.client.http import Caps, HttpClient, HttpExchange

__all__ = ["Caps", "Deadlines", "HttpClient", "HttpExchange"]
