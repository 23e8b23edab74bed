"""The prices of a job: those that it states, and the list of the vendor to whom its requests go."""

import ipaddress
import json
from urllib.parse import urlsplit

from runner.config.job import Job
from runner.config.values import LIST
from runner.errors import UsageError
from runner.prices import listed
from runner.prices.book import PriceBook
from runner.text import clean, shell_word

_EXAMPLE = {"input": 0.25, "output": 2.0}


def price_book(job: Job) -> PriceBook | None:
    """Return the prices of a job; None if it has none: then what it costs is not known.

    Raises UsageError for prices that cannot be read, and for list prices that are asked for while the list is not installed.
    """
    own = job.prices if isinstance(job.prices, dict) else {}
    dialect = job.local_server.dialect if job.local_server is not None else job.provider
    vendor, anywhere = None, job.prices == LIST
    if anywhere or is_public(job.base_url):
        try:
            vendor = listed.vendor(job.base_url, dialect, anywhere=anywhere)
        except listed.NoListError:
            if anywhere:
                hint = "pip install 'prompt-runner[prices]', or state your own in [prices]"
                raise UsageError(f"list prices need one package more: {hint}") from None
    return PriceBook(vendor, own) if vendor is not None or own else None


def unknown(job: Job) -> str:
    """Return the sentence for a session whose model has no known price: that its cost is unknown, and what states a price."""
    model, own = job.model or "", job.prices if isinstance(job.prices, dict) else {}
    if model in own:
        return f"cost unknown: the price that is stated for {clean(model)} holds only later"
    table = json.dumps({**own, model: _EXAMPLE}, ensure_ascii=False)
    words = f"state one, such as --prices {shell_word(table)} (dollars per million tokens)"
    return f"cost unknown: no price is known for {clean(model)}; {words}"


def is_public(base_url: str | None) -> bool:
    """Return True for an address that a vendor could have: not one of this machine, nor a number, nor a name without a dot."""
    host = urlsplit(base_url or "").hostname or ""
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return "." in host and not host.endswith((".localhost", ".local", ".internal"))
    return False
