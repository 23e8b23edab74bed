"""What goes with batches and what does not, and how a session reaches the batch API of its provider."""

import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager

from msgspec import structs

from runner.batches import BatchService
from runner.config import due
from runner.config.endpoint import Endpoint
from runner.config.job import STORED, Job
from runner.durations import format_span
from runner.errors import UsageError
from runner.interfaces import Provider
from runner.money import FLEX, STANDARD
from runner.providers.batch import rules
from runner.session import pricing
from runner.session.options import SessionOptions
from runner.session.wiring import LOCAL
from runner.version import __version__


def uses_batches(job: Job, options: SessionOptions) -> bool:
    """Return True if a session makes batches. The rows of a sample go live: nobody waits a day for an estimate."""
    return job.mode != "live" and options.sample is None


def refuse(job: Job, options: SessionOptions) -> None:
    """Raise UsageError for what a batch cannot have. The job has its base URL."""
    if options.detach and not uses_batches(job, options):
        raise UsageError("--detach leaves batches at the provider: add --mode batch or mixed, or leave --detach out")
    if not uses_batches(job, options):
        return
    if (reason := lacks(job)) is not None:
        raise UsageError(f"mode {job.mode} {reason}")
    if options.detach and job.local_server is not None:
        raise UsageError(
            f"the server of provider {job.provider} ends with the session, and its batches with it: leave --detach out"
        )
    if job.mode == "batch" and job.tier is not None and job.sources.get("tier") != STORED:
        raise UsageError(
            f"a batch is a service tier of its own: leave out tier ({job.tier}), or use --mode mixed for what goes live"
        )
    said = job.by is not None and job.sources.get("by") != STORED
    if said and job.by is not None and (late_s := time.time() - due.instant(job.by, time.time())) > 0:
        raise UsageError(f"by ({job.by}) was {format_span(late_s)} ago; name a time that is to come")


def lacks(job: Job) -> str | None:
    """Return why requests of a job cannot go through a batch, in words that follow a noun; None if they can."""
    if job.has_workers:
        return "makes its batches itself: leave out workers, listen and engine"
    if job.is_fleet or job.members:
        return "goes to one endpoint with one key, and several are named: name one, or use --mode live"
    try:
        rules.rules_of(dialect_of(job), job.base_url or LOCAL)
    except UsageError as error:
        return f"is not possible here: {error}"
    return None


def dialect_of(job: Job) -> str:
    """Return the dialect of the batch API. A plug-in has none, whatever it speaks."""
    return job.local_server.dialect if job.local_server is not None else job.provider


def as_sent(job: Job) -> Job:
    """Return a job as its requests are in a batch: without a stream and a service tier."""
    extra = {name: value for name, value in (job.params.extra_body or {}).items() if name != "service_tier"}
    return structs.replace(job, stream=False, tier=None, params=structs.replace(job.params, extra_body=extra or None))


def at_lowest(job: Job) -> Job:
    """Return a job whose mixed run asks for the flex tier for rows that go live, if prices say that flex is cheaper.

    A tier that the user names stays. Raises UsageError for prices that cannot be read.
    """
    named = job.tier is not None or "service_tier" in (job.params.extra_body or {})
    if job.mode != "mixed" or named or job.model is None or dialect_of(job) != "openai":
        return job
    book, now = pricing.price_book(job), time.time()
    flex, standard = (book.schedule(job.model, now, tier) if book is not None else None for tier in (FLEX, STANDARD))
    cheaper = flex is not None and standard is not None and flex.base.output < standard.base.output
    return structs.replace(job, tier=FLEX) if cheaper else job


@asynccontextmanager
async def open_service(job: Job, endpoint: Endpoint, base_url: str, provider: Provider) -> AsyncIterator[BatchService]:
    """Yield the batch API of a job. base_url: also of a local server. provider: classifies refusals. Raises UsageError."""
    # imported only here: a session without batches needs none of it
    from runner.providers.batch import service
    from runner.providers.batch.transport import Way

    added: tuple[Mapping[str, str], Mapping[str, str]] = tuple(  # type: ignore[assignment]
        {name: value.reveal() for name, value in fields} for fields in (endpoint.additions.headers, endpoint.additions.query)
    )
    way = Way(
        version=__version__,
        proxy=endpoint.proxy,
        headers=added[0],
        query=added[1],
        connect_s=job.connect_s,
        silence_s=job.silence_s,
        first_byte_s=job.first_byte_s,
    )
    key = endpoint.key.reveal() if endpoint.key is not None and job.local_server is None else None
    async with service.open_service(dialect_of(job), base_url, key, provider, way) as opened:
        yield opened
