"""The prices of a job: those that it states, and the list of the vendor to whom its requests go."""

import ipaddress
import time
from pathlib import Path
from urllib.parse import urlsplit

from msgspec import structs

from runner.config.fleet import seen_by
from runner.config.fleet_tables import Member
from runner.config.job import STORED, Job
from runner.errors import UsageError
from runner.prices import listed
from runner.prices.book import PriceBook
from runner.prices.own import LIST, has_list, models_of
from runner.store.reader import StoreReader


def price_book(job: Job) -> PriceBook | None:
    """Return the prices of a job; None if it has none: then what it costs is not known.

    Raises UsageError for prices that cannot be read, and for list prices that are asked for while the list is not installed.
    """
    if job.members:
        return _of_several(job)
    own = models_of(job.prices)
    dialect = job.local_server.dialect if job.local_server is not None else job.provider
    vendor, anywhere = None, has_list(job.prices)
    if anywhere or is_public(job.base_url):
        try:
            vendor = listed.vendor(job.base_url, dialect, anywhere=anywhere)
        except listed.NoListError:
            if anywhere:
                hint = "pip install 'prompt-runner[prices]', or state your own in [prices]"
                raise UsageError(f"list prices need one package more: {hint}") from None
    return PriceBook(vendor, own) if vendor is not None or own else None


def _of_several(job: Job) -> PriceBook | None:
    # imported here: most jobs have one endpoint
    from runner.prices.book_of_several import BookOfSeveral

    books = {member.name: book_at(job, member) for member in job.members}
    if not any(books.values()):
        return None
    asked = {member.name: (job.model, member.model) for member in job.members if member.model is not None}
    return BookOfSeveral(books[job.members[0].name], books, asked)


def book_at(job: Job, member: Member) -> PriceBook | None:
    """Return the prices of one of several endpoints."""
    here = seen_by(job, member)
    if member.prices is not None and here.model is not None:
        stated = {**models_of(job.prices), here.model: member.prices}
        here = structs.replace(here, prices={**stated, **({LIST: True} if has_list(job.prices) else {})})
    return price_book(here)


def tells_more(job: Job, store: Path, run: int) -> bool:
    """Return True if the user states prices for a run that has attempts of unknown price: they are priced when it continues."""
    if not job.said("prices") or job.sources["prices"] == STORED:
        return False
    book = price_book(job)
    if book is None or job.model is None or book.schedule(job.model, time.time()) is None:
        return False
    with StoreReader(store) as reader:
        money = reader.money(run)
    return money.unknown or money.unpriced > 0


def is_public(base_url: str | None) -> bool:
    """Return True for an address that a vendor could have: not one of this machine, nor a number, nor a name without a dot."""
    host = urlsplit(base_url or "").hostname or ""
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return "." in host and not host.endswith((".localhost", ".local", ".internal"))
    return False
