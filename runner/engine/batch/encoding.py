"""Makes the line of a row in a file of requests: the same request as a live one, but without a stream and a service tier."""

import secrets
from functools import partial
from typing import NamedTuple

from anyio import to_thread

from runner.batches import BatchRow, BatchService, Reask
from runner.engine.answers import InformedProvider
from runner.engine.batch.learning import Learning, asked_again
from runner.engine.batch.parts import Plan, Rules
from runner.engine.batch.spending import Spending
from runner.engine.bounds import Bounds, bounds
from runner.engine.outcomes import failed
from runner.engine.sending import Sender
from runner.engine.task import Files
from runner.errors import AttachmentError, AttemptError
from runner.model import HttpCall, Item, Outcome, Request
from runner.several import seed_of

_MARK_BYTES = 6


class Line(NamedTuple):
    """A request in a file. bound: the most tokens that it can have."""

    model: str
    line: bytes
    row: BatchRow
    bound: Bounds


class Encoding:
    """Makes lines of items."""

    def __init__(
        self, service: BatchService, provider: InformedProvider, plan: Plan, rules: Rules, learning: Learning, spending: Spending
    ) -> None:
        self._service, self._provider, self._plan = service, provider, plan
        self._learning, self._spending = learning, spending
        # so that results tell whether they are of a batch that this session has made
        self._mark = f"-{secrets.token_hex(_MARK_BYTES)}" if service.rules.marked else ""
        self._redactor, self._wall = rules.redactor, rules.clock.wall
        self._sender = Sender(provider)

    async def line(self, item: Item, reask: Reask | None) -> Line | Outcome:
        """Return the line of an item, or the outcome of one of which no request can be made.

        reask: what it brings along from earlier requests; None: nothing.
        """
        item = asked_again(item, reask)
        request = self._learning.request_of(item, seed_of(item.key, self._plan.used_seeds))
        try:
            call, files = await self._encoded(request)
            whole = call if files is None else await self._sender.whole(files, self._provider)
            line = self._service.line(custom_id := self._service.custom_id(f"{item.key}{self._mark}"), whole)
            bound = bounds(call, files)
            output = self._spending.output_bound(request.model, bound, self._wall())
        except (AttachmentError, AttemptError) as error:
            return failed(item, item.attempts_before, None, error.code, self._redactor(str(error)))
        except Exception as error:  # noqa: BLE001 - one unusual row must not end the run
            words = self._redactor(f"the request could not be built: {error!r}")
            return failed(item, item.attempts_before, None, "internal", words)
        if len(line) > self._service.rules.bytes:
            words = f"the request has {len(line):,} bytes, and a file of requests may have {self._service.rules.bytes:,}"
            return failed(item, item.attempts_before, None, "too_large", words)
        kept = reask if reask is not None and reask.fingerprint in (None, item.fingerprint) else None
        row = BatchRow(
            custom_id=custom_id,
            key=item.key,
            position=item.position,
            fingerprint=item.fingerprint,
            metadata=item.metadata,
            number=item.attempts_before + 1,
            repairs=kept.repairs if kept is not None else 0,
            failures=kept.failures if kept is not None else 0,
            answered=item.answered,
            made_seed=call.made_seed,
            input_bound=bound.input,
            output_bound=output,
            cache_1h_bound=bound.hour,
        )
        return Line(request.model, line, row, bound)

    async def _encoded(self, request: Request) -> tuple[HttpCall, Files | None]:
        """Return a request; of one with files an outline, and what is known of them. Raises AttachmentError."""
        if not request.media:
            return self._provider.encode(request), None
        attachments = self._provider.attachments
        if attachments is None:
            raise AttachmentError("this provider takes no files")
        found = await to_thread.run_sync(partial(attachments.outlined, request), abandon_on_cancel=True)
        return self._provider.encode(found.request), Files(request, found.tokens, found.size)
