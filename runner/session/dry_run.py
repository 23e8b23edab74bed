"""The first requests of a job as they would be sent, without sending them: ``runner run --dry-run N``."""

import os
from collections.abc import Iterator
from contextlib import nullcontext
from typing import NamedTuple

from runner.config.endpoint import find_endpoint, with_base_url
from runner.config.job import Job
from runner.errors import AttachmentError, NotReadyError
from runner.inputs import scan, spool
from runner.inputs.attachments import media_in
from runner.inputs.media_files import MediaFiles
from runner.inputs.prompts import make_item
from runner.interfaces import Provider
from runner.model import Item, Outcome, Row
from runner.session import prepare, wiring
from runner.session.opening import open_input, options_of, rooted


class Unsent(NamedTuple):
    """A row's request: its line, the URL without the query, and the body. fault: why the row makes none, as the run would say.

    shortened: the body has sizes in place of the contents of files.
    """

    line: int
    url: str
    body: bytes
    fault: str | None = None
    shortened: bool = False


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
    files = wiring.attachments(rooted(job))
    with spool.temporary_copy(job.input) if spool.is_stream(job.input) else nullcontext(job.input) as path:
        number = 0
        for number, row in enumerate(open_input(path, options_of(job)).read(), 1):
            yield _unsent(row, make_item(row, "", template), provider, files)
            if number == count:
                break
        scan.refuse_empty(number, spool.display_name(job.input), job.where)


def _unsent(row: Row, made: Item | Outcome, provider: Provider, files: MediaFiles) -> Unsent:
    if isinstance(made, Outcome):
        return Unsent(row.line, "", b"", made.error)
    try:
        request = files.shown(made.request) if made.request.media else made.request
    except AttachmentError as error:
        return Unsent(row.line, "", b"", f"{row.place} {row.line}: {error}")
    call = provider.encode(request)
    return Unsent(
        row.line, call.url.partition("?")[0], call.body, shortened=any(not media.url for media in media_in(made.request.messages))
    )
