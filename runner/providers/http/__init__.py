"""Streamed HTTP exchanges, with their timeouts and size limits; the only package that uses an HTTP library."""

from runner.providers.http.client import Caps, HttpClient
from runner.providers.http.exchange import HttpExchange
from runner.providers.http.timeouts import Timeouts

__all__ = ["Caps", "HttpClient", "HttpExchange", "Timeouts"]
