"""The first requests of a job as they would be sent, without sending them: ``runner run --dry-run N``."""

import os
from collections.abc import Iterator
from contextlib import nullcontext
from typing import NamedTuple

from runner.config.endpoint import find_endpoint, with_base_url
from runner.config.job import Job
from runner.errors import NotReadyError
from runner.inputs import scan, spool
from runner.inputs.prompts import make_item
from runner.model import Outcome
from runner.session import prepare, wiring
from runner.session.opening import open_input, options_of


class Unsent(NamedTuple):
    """A row's request: its line, the URL without the query, and the body. fault: why the row makes none, as the run would say."""

    line: int
    url: str
    body: bytes
    fault: str | None = None


def dry_run(job: Job, count: int) -> Iterator[Unsent]:
    """Yield the requests of the first rows of an input, ``count`` at most; standard input is read to its end first.

    No key is needed: keys are in headers and the query, which are left out. Raises UsageError as
    ``run`` does, also if no model is set.
    """
    job = with_base_url(job, os.environ)
    try:
        find_endpoint(job, os.environ)
    except NotReadyError:
        if job.model is None:
            raise
    provider, template = wiring.offline(job), prepare.template_of(job)
    with spool.temporary_copy(job.input) if spool.is_stream(job.input) else nullcontext(job.input) as path:
        number = 0
        for number, row in enumerate(open_input(path, options_of(job)).read(), 1):
            made = make_item(row, "", template)
            if isinstance(made, Outcome):
                yield Unsent(row.line, "", b"", made.error)
            else:
                call = provider.encode(made.request)
                yield Unsent(row.line, call.url.partition("?")[0], call.body)
            if number == count:
                break
        scan.refuse_empty(number, spool.display_name(job.input), job.where)
