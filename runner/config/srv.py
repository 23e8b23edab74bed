"""Base URLs from SRV records of the DNS (``srv://NAME/PATH``): one for each target, with its port."""

from urllib.parse import urlsplit

from runner.errors import UsageError
from runner.text import clean

LIFETIME_S = 10.0
"""Seconds for which an answer of the DNS is waited for."""


def addresses_of(given: str) -> list[str]:
    """Return the base URLs of a name, with what follows ``srv://``. Raises UsageError.

    A path stays; without one it is /v1. The servers speak http. Priorities and weights of the records are not used.
    """
    parts = urlsplit(f"//{given}")
    name = parts.hostname or ""
    if not name:
        raise UsageError("srv:// must be followed by a name, such as srv://_vllm._tcp.cluster.example")
    try:
        import dns.exception
        import dns.resolver
    except ImportError:
        raise UsageError("srv:// needs one package more: pip install 'prompt-runner[srv]'") from None
    try:
        answer = dns.resolver.resolve(name, "SRV", lifetime=LIFETIME_S)
    except dns.exception.DNSException as error:
        reason = clean(str(error), 200) or type(error).__name__
        raise UsageError(f"the endpoints of srv://{clean(name)} cannot be looked up: {reason}") from error
    path = parts.path.rstrip("/") or "/v1"
    found = sorted((str(record.target).rstrip("."), int(record.port)) for record in answer)
    return [f"http://{target}:{port}{path}" for target, port in found if target]
