"""Tells OpenTelemetry of a session, beside showing it."""

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress

import click

from runner.cli.progress import View
from runner.config.endpoint import with_base_url
from runner.config.job import Job
from runner.errors import UsageError
from runner.event_types import Event, Finished, Noted
from runner.interfaces import Observer
from runner.text import clean


@contextmanager
def told(job: Job, view: View, *, quiet: bool) -> Iterator[Observer]:
    """Give the observer that shows a session and tells of it. Raises UsageError for variables ``OTEL_*`` that cannot be meant."""
    # nothing of OpenTelemetry is imported where it is not wanted
    from runner.integrations.telemetry import Telemetry

    ended = False

    def note(sentence: str) -> None:
        if not ended:
            view.tell(Noted(note=sentence))
        elif not quiet:
            # behind the summary, which for a program is the last line
            click.echo(f"runner: {clean(sentence)}", err=True)

    def tell(event: Event) -> None:
        nonlocal ended
        view.tell(event)
        ended = ended or isinstance(event, Finished)
        telemetry.tell(event)

    with Telemetry(job.provider, base_url=_base_url(job), note=note) as telemetry:
        try:
            yield tell
        finally:
            ended = True


def _base_url(job: Job) -> str | None:
    """Return where all requests go; None if that is not known before the session, or if there are several endpoints."""
    if job.is_fleet or job.local_server is not None:
        return None
    # the session says what is wrong with it
    with suppress(UsageError):
        return with_base_url(job, os.environ).base_url
    return None
