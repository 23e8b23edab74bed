"""Asks the user for what only a job file or a store asks for (``config.trust``), on a terminal."""

import os
import sys

import click

from runner.config import endpoint, remembered, trust
from runner.config.job import Job


def asked(job: Job, *, trusted: bool) -> Job:
    """Return the job, as one that the user allows if --trust was given or the questions were answered with yes.

    Without a terminal nothing is asked; the session then refuses to start. Code is asked about first: what a job sends is known
    only once its module may run. Each yes is for what was shown, and it is kept at once, whether or not the session starts.
    """
    if trusted:
        return trust.allowed(job)
    # a stream that was closed before the start is None
    if not all(stream is not None and stream.isatty() for stream in (sys.stdin, sys.stderr)):
        return job
    while grants := endpoint.ungranted(job, os.environ):
        fault = remembered.fault(os.environ)
        said = [f"{grant.sentence(job)}; you have not allowed that so far" for grant in grants]
        for sentence in said if fault is None else [*said, fault]:
            click.echo(sentence, err=True)
        if not confirmed("Allow it, now and in later runs?"):
            return job
        job = trust.granting(job, grants)
        for note in trust.remember(job, grants, os.environ):
            click.echo(note, err=True)
    return job


def confirmed(question: str) -> bool:
    """Ask a question on the terminal. The end of the input (Ctrl-D) is a no; Ctrl-C ends the command."""
    try:
        return click.confirm(question, err=True)
    except click.Abort as error:
        if not isinstance(error.__context__, EOFError):
            raise
        click.echo(err=True)
        return False
