"""The first requests of a job as they would be sent, without sending them: ``runner run --dry-run N``."""

from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from msgspec import structs

from runner.config.job import Job
from runner.errors import AttachmentError
from runner.inputs import scan, spool
from runner.inputs.attachments import media_in
from runner.inputs.media_files import MediaFiles
from runner.inputs.prompts import make_item
from runner.inputs.seeds import seeded
from runner.interfaces import Provider
from runner.model import Item, Outcome, Row
from runner.origin import Files, place_of, where
from runner.session import batch_fit, unfit, wiring
from runner.session.naming import DEFAULT_STORE
from runner.session.opening import open_input, options_of, template_of, unsent
from runner.several import key_of, seed_of


class Unsent(NamedTuple):
    """A row's request: its line, the URL without the query, and the body. fault: why the row makes none, as the run would say.

    where: its line in words. shortened: the body has sizes in place of the contents of files. file: that of the line, where the
    input is several. other_seeds: further answers of the row are asked for with other seeds.
    """

    line: int
    url: str
    body: bytes
    where: str
    fault: str | None = None
    shortened: bool = False
    file: str | None = None
    other_seeds: bool = False


def dry_run(job: Job, count: int, db: str | Path = DEFAULT_STORE) -> Iterator[Unsent]:
    """Yield the requests of the first rows of an input, ``count`` at most; standard input is read to its end first.

    No key is needed: keys are in headers and the query, which are left out. Raises UsageError as
    ``run`` does, also if no model is set.
    """
    store = Path(db).resolve()
    job = unsent(job, store)
    job = batch_fit.as_sent(job) if job.mode == "batch" else job
    provider, template = wiring.offline(job), template_of(job)
    files = wiring.attachments(job)
    with spool.readable(job.input) as path:
        number = 0
        prompts = open_input(path, options_of(job), store)
        unfit.refuse_unscanned(job, prompts)
        for number, row in enumerate(prompts.read(), 1):
            yield _unsent(row, make_item(row, "", template), provider, files, prompts.files)
            if number == count:
                break
        scan.refuse_empty(number, spool.display_name(job.input), job.where, prompts.about)


def _unsent(row: Row, made: Item | Outcome, provider: Provider, media: MediaFiles, several: Files | None) -> Unsent:
    (file, line), place = place_of(row.line, several), where(row.place, row.line)
    if isinstance(made, Outcome):
        return Unsent(line, "", b"", place, made.error, file=file)
    try:
        request = media.shown(made.request) if made.request.media else made.request
    except AttachmentError as error:
        return Unsent(line, "", b"", place, f"{place}: {error}", file=file)
    call = provider.encode(request)
    shortened = any(not media.url for media in media_in(made.request.messages))
    other = provider.encode(structs.replace(seeded(request, 2), made_seed=seed_of(key_of("", 2)))).body != call.body
    return Unsent(line, call.url.partition("?")[0], call.body, place, shortened=shortened, file=file, other_seeds=other)
