"""Asks the user for what only a job file or a store asks for (``config.trust``), on a terminal."""

import os
import sys

import click

from runner.config import endpoint, trust
from runner.config.job import Job


def asked(job: Job, *, trusted: bool) -> Job:
    """Return the job, as one that the user allows if --trust was given or every question was answered with yes.

    Without a terminal nothing is asked; the session then refuses to start. It also remembers what is allowed.
    """
    if trusted:
        return trust.allowed(job)
    # a stream that was closed before the start is None
    if not all(stream is not None and stream.isatty() for stream in (sys.stdin, sys.stderr)):
        return job
    # the server of a module is known only once its code may run
    while grants := endpoint.ungranted(job, os.environ):
        for grant in grants:
            click.echo(f"{grant.sentence(job)}; you have not allowed that so far", err=True)
        if not click.confirm("Allow it, now and in later runs?", err=True):
            return job
        job = trust.allowed(job)
    return job
