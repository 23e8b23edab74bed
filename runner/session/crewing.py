"""The workers of a session: job -> what they need to know, and the client that gives them the requests."""

import os
from collections.abc import Mapping
from typing import Any

from runner.config.endpoint import Endpoint, provider_of
from runner.config.engines import engine_of
from runner.config.job import Job
from runner.errors import UsageError
from runner.providers.http import Timeouts
from runner.session.options import Told
from runner.workers.client import RemoteClient
from runner.workers.crew import Crew
from runner.workers.hosting import Hosting
from runner.workers.local import MOST, processors
from runner.workers.protocol import Setup
from runner.workers.work import Work

LOOPBACK = "127.0.0.1"
"""Where a run listens for the workers of an engine, if it is not told where: an engine on one machine needs no more."""
SECRET = "RUNNER_WORKER_SECRET_"  # noqa: S105 - the beginning of a name
"""Variables of local workers for secrets that are in no variable here: headers that a program or a job file spells out."""


def remote_client(
    job: Job,
    endpoint: Endpoint,
    base_url: str,
    options: Mapping[str, Any],
    timeouts: tuple[Timeouts, Timeouts],
    told: Told,
) -> RemoteClient:
    """Return the client of a job with workers. options: arguments of the provider's ``make``.

    timeouts: those of the job, and those of rows that fell back from flex. Raises UsageError.
    """
    local = job.local_server
    setup = Setup(
        local.dialect if local is not None else job.provider,
        tuple(one.base_url or base_url for _, one in endpoint.members) or (base_url,),
        {name: value if isinstance(value, bool) else sorted(value) for name, value in options.items()},
        *timeouts,
        local is not None,
        job.is_fleet,
    )
    count, secrets = processors() if job.workers is None else job.workers, secrets_of(job, endpoint)
    engine = engine_of(job)
    if count > MOST:
        raise UsageError(f"workers must be {MOST} or fewer, not {count:,}; each is a process of this machine")
    invites, own = job.listen is not None or engine is not None, count if engine is None else 0
    crew = Crew(Work(setup, secrets), own, told.tell, told.stop, told.book, invites=invites)
    if not invites:
        return RemoteClient(crew)
    if any(name.startswith(SECRET) for name in secrets):
        raise UsageError("workers elsewhere find secrets in their environment alone; write the header as ${NAME}, a variable")
    return RemoteClient(crew, Hosting(crew, job.listen or LOOPBACK, told.store, told.tell, engine, count))


def secrets_of(job: Job, endpoint: Endpoint) -> dict[str, str]:
    """Return the secrets that requests hold, by the names of the variables in which a worker finds them."""
    found: dict[str, str] = {}
    each = [(member.key_variable, one.key) for member, one in endpoint.members] or [(job.api_key_env, endpoint.key)]
    for variable, key in each:
        if key is not None:
            found[variable or provider_of(job, os.environ).KEY_ENV] = key.reveal()
    for field in (*job.headers, *job.query):
        found |= {name: os.environ.get(name, "").strip() for name in field.variables}
    others = [secret.reveal() for secret in endpoint.additions.secrets]
    spelt_out = [secret for secret in others if not any(secret in value for value in found.values())]
    return {**found, **{f"{SECRET}{number}": secret for number, secret in enumerate(spelt_out, 1)}}
