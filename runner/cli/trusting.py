"""Asks the user for what only a job file or a store asks for (``config.trust``), on a terminal."""

import os
import sys

import click

from runner.config import endpoint, trust
from runner.config.job import Job


def asked(job: Job, *, trusted: bool) -> Job:
    """Return the job, as one that the user allows if --trust was given or the question was answered with yes.

    Without a terminal nothing is asked; the session then refuses to start. It also remembers what is allowed. Code is asked about
    alone: what may run can send any key by itself.
    """
    if trusted:
        return trust.allowed(job)
    # a stream that was closed before the start is None
    if not all(stream is not None and stream.isatty() for stream in (sys.stdin, sys.stderr)):
        return job
    grants = endpoint.ungranted(job, os.environ)
    for grant in grants:
        click.echo(f"{grant.sentence(job)}; you have not allowed that so far", err=True)
    return trust.allowed(job) if grants and click.confirm("Allow it, now and in later runs?", err=True) else job
