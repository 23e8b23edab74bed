"""How large the requests of a job are, without sending them."""

from collections.abc import Mapping, Sequence

import msgspec

from runner.batches import BATCH_TIER
from runner.config.job import Job
from runner.engine.bounds import bounds
from runner.errors import AttachmentError
from runner.inputs.prompts import make_item
from runner.media import Media
from runner.model import Item, Json, Request, Row
from runner.prices.guess import Size
from runner.session import wiring
from runner.session.opening import template_of


class Sizer:
    """Measures requests. The job has its base URL and a model. Raises UsageError for what is no template."""

    def __init__(self, job: Job) -> None:
        self._provider, self._template = wiring.offline(job), template_of(job)
        self._files = wiring.attachments(job)
        # None: that of the request
        self._tier, self._alone = BATCH_TIER if job.mode != "live" else None, job.mode == "batch"

    def size(self, row: Row) -> Size | None:
        """Return the size of a row's request; None if none can be made, so that nothing is sent for it."""
        made = make_item(row, "", self._template)
        if not isinstance(made, Item):
            return None
        request, tokens = made.request, 0
        if request.media:
            try:
                outlined = self._files.outlined(request)
            except AttachmentError:
                return None
            request, tokens = outlined.request, outlined.tokens
        call = self._provider.encode(request)
        text, most = _text(made.request), bounds(call, None)
        tier, hour = self._tier or most.tier, most.hour is not None
        return Size(request.model, text, most.input, tokens, most.output, hour=hour, tier=tier, alone=self._alone)


def _text(request: Request) -> int:
    """Return the bytes of the texts of a request, its schema too, without its files."""
    schema = len(msgspec.json.encode(request.shape.schema)) if request.shape is not None else 0
    return schema + _bytes(request.system or "") + sum(_bytes_in(message.get("content")) for message in request.messages)


def _bytes_in(value: Json) -> int:
    if isinstance(value, str):
        return _bytes(value)
    if isinstance(value, Mapping):
        return sum(_bytes_in(inner) for name, inner in value.items() if name != "type")
    if isinstance(value, Sequence) and not isinstance(value, Media):
        return sum(map(_bytes_in, value))
    return 0


def _bytes(text: str) -> int:
    return len(text) if text.isascii() else len(text.encode(errors="surrogatepass"))
