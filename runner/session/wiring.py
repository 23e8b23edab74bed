"""Job + environment -> the parts of a session: where to send, with which key, through which proxy."""

import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import cast

from runner.config import plugins
from runner.config.endpoint import SIMULATOR, Endpoint
from runner.config.job import Job
from runner.engine.limits import Kind, Limits
from runner.interfaces import Provider
from runner.providers.classify import MONEY_CODES, snake
from runner.providers.http import Deadlines, HttpClient

if sys.platform != "win32":
    import resource

_OWN_FILES = 40
"""Files open besides the connections: libraries, store, prompt file, terminal."""


def limits(job: Job) -> tuple[Limits, str | None]:
    """Give the limits of a job's lanes, and a note when the open-file limit leaves fewer requests in flight than asked for."""
    wanted = job.max_concurrency if job.concurrency is None else job.concurrency
    most = _connections(wanted, ends=2 if job.provider == SIMULATOR else 1)
    note = None
    if most < wanted and job.concurrency is not None:
        note = f"too few files may be open here (ulimit -n), so at most {most} requests are in flight"
    asked: dict[Kind, float | None] = {
        "rpm": job.rpm, "tpm": job.tpm, "input_tpm": job.input_tpm, "output_tpm": job.output_tpm,
    }  # fmt: skip
    per_minute = {kind: amount for kind, amount in asked.items() if amount is not None}
    return Limits(ceiling=most, tuned=job.concurrency is None, per_minute=per_minute), note


def _connections(wanted: int, *, ends: int) -> int:
    """Give how many connections the open-file limit leaves, raising it where that is allowed.

    ends: files for each; the simulator holds the other end of every connection.
    """
    if sys.platform == "win32":
        return wanted
    files = _OWN_FILES + ends * wanted
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != resource.RLIM_INFINITY and soft < files:
        soft = files if hard == resource.RLIM_INFINITY else min(files, hard)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    if soft == resource.RLIM_INFINITY or soft >= files:
        return wanted
    return max(1, (soft - _OWN_FILES) // ends)


@asynccontextmanager
async def opened(job: Job, where: Endpoint, version: str) -> AsyncIterator[tuple[Provider, HttpClient]]:
    """Open the client, and the simulator where the job asks for it."""
    deadlines = Deadlines(
        connect_s=job.connect_s, first_byte_s=job.first_byte_s, silence_s=job.silence_s, attempt_s=job.attempt_s
    )
    key = where.key.reveal() if where.key is not None else None
    if where.base_url is not None:
        module = plugins.load("providers", job.provider)
        async with HttpClient(deadlines, proxy=where.proxy) as client:
            yield cast("Provider", module.make(where.base_url, key, version=version, **_codes(job))), client
        return
    # imported here: its server is a twentieth of a start, and few jobs ask for it
    from runner.simulator import Behaviour, Simulator

    module = plugins.load("providers", "openai")
    async with Simulator(Behaviour()) as simulator, HttpClient(deadlines) as client:
        yield cast("Provider", module.make(simulator.base_url("openai"), None, version=version)), client


def _codes(job: Job) -> dict[str, frozenset[str]]:
    """Give the names of errors that a job adds to those that are known; a provider of one's own need not know of them."""
    money, rate = (
        [given] if isinstance(given, str) else given or [] for given in (job.money_codes, job.rate_codes)
    )  # fmt: skip
    added = {}
    if money:
        added["money_codes"] = MONEY_CODES | {snake(name) for name in money}
    if rate:
        added["rate_codes"] = frozenset(snake(name) for name in rate)
    return added
