"""The life of a batch from its creation to its end."""

import asyncio
import math
import time
from itertools import islice
from typing import BinaryIO

from runner.simulator.answering import Shared
from runner.simulator.batch_check import Fault, check
from runner.simulator.batch_work import Results, Work
from runner.simulator.batches import Batch, Batches, End

# Lines between which other tasks run.
_SLICE = 100
_LEFT_SLICE = 1000
# A batch that has little to do looks at the clock so often.
_STEP_S = 0.01
# The parts of its time after which a batch was validated, and has its last answer; the first takes no longer than this.
_VALIDATED, _WORKED = 0.1, 0.95
_VALIDATED_S = 0.5


class Life:
    """Runs the batches of a dialect. validates: after their creation, as OpenAI does."""

    def __init__(self, shared: Shared, batches: Batches, work: Work, *, validates: bool, most_lines: int, splits: bool) -> None:
        self._shared = shared
        self._behaviour = shared.behaviour
        self._batches = batches
        self._work = work
        self._validates = validates
        self._most_lines = most_lines
        self._splits = splits

    def start(self, batch: Batch, delay_s: float) -> asyncio.Task[None]:
        """Start the task of a batch."""
        return asyncio.create_task(self._live(batch, delay_s))

    async def _live(self, batch: Batch, delay_s: float) -> None:
        clock = asyncio.get_running_loop().time
        began = clock()
        opened = batch.stored.path.open("rb")
        with opened:
            if self._validates:
                faults = await self._faults(batch)
                await self._until(batch, began + min(_VALIDATED_S, _VALIDATED * min(delay_s, self._behaviour.batch_window_s)))
                if faults:
                    batch.faults = faults
                    self._end(batch, "failed")
                    return
            if batch.phase != "cancelling":
                batch.phase = "working"
            batch.working_at = time.time()
            results = self._results(batch)
            batch.counts = results.counts
            try:
                await self._answer(batch, opened, results, (clock(), began + delay_s * _WORKED))
            finally:
                results.finish()
        if batch.cancelling_at is not None:
            await self._until(batch, clock() + batch.cancelling_at + self._behaviour.batch_cancel_s - time.time())
        else:
            batch.phase, batch.finalizing_at = "finalizing", time.time()
            await self._until(batch, began + min(delay_s, self._behaviour.batch_window_s), stops=False)
        self._finish(batch, results)

    async def _faults(self, batch: Batch) -> list[Fault]:
        """Return what is wrong with a batch, or with its file."""
        checked = await check(batch.stored, batch.endpoint, self._most_lines)
        batch.total = checked.requests
        self._shared.counters.batch_requests += checked.requests
        if batch.number <= self._behaviour.batch_refuse:
            lines = sorted({1, max(1, checked.requests)})
            return [Fault("invalid_json_line", "This line is not parseable as valid JSON.", None, line) for line in lines]
        most = self._behaviour.batch_queue_tokens
        if most is not None and batch.tokens + self._batches.queued_tokens(batch.account, besides=batch) > most:
            return [queue_full(most)]
        return checked.faults

    def _results(self, batch: Batch) -> Results:
        files = self._batches.files
        output = files.make(account=batch.account, purpose="batch_output", name=f"{batch.id}_output.jsonl", listed=False)
        errors = None
        if self._splits:
            errors = files.make(account=batch.account, purpose="batch_output", name=f"{batch.id}_error.jsonl", listed=False)
        return Results(output, errors, self._behaviour)

    async def _answer(self, batch: Batch, opened: BinaryIO, results: Results, span: tuple[float, float]) -> None:
        """Answer the requests evenly over a span of time, until the batch is cancelled or expires; then give up the others."""
        lines = (line for line in opened if not line.isspace())
        done = 0
        while done < batch.total:
            due, is_last = self._due(batch, span)
            if done < due:
                for line in islice(lines, min(due - done, _SLICE)):
                    self._work.answer(line, results)
                    done += 1
                results.flush()
                await asyncio.sleep(0)
            elif is_last:
                break
            else:
                begin, end = span
                next_at = begin + (end - begin) * (done + 1) / batch.total
                now = asyncio.get_running_loop().time()
                await self._until(batch, min(end, max(next_at, now + _STEP_S), self._expiry(batch)))
        while left := list(islice(lines, _LEFT_SLICE)):
            for line in left:
                self._work.leave(line, results, is_cancelled=batch.cancelling_at is not None)
            results.flush()
            await asyncio.sleep(0)

    def _due(self, batch: Batch, span: tuple[float, float]) -> tuple[int, bool]:
        """Return how many requests are to be answered by now, and whether no more will be."""
        if batch.cancelling_at is not None:
            return math.ceil(batch.total * self._behaviour.batch_cancel_done), True
        begin, end = span
        now = asyncio.get_running_loop().time()
        at = min(now, self._expiry(batch))
        due = batch.total if at >= end else int(batch.total * max(0.0, at - begin) / (end - begin))
        return due, now > at or due == batch.total

    def _expiry(self, batch: Batch) -> float:
        """Return when a batch expires, by the clock of the event loop."""
        return asyncio.get_running_loop().time() + batch.expires_at - time.time()

    async def _until(self, batch: Batch, instant: float, *, stops: bool = True) -> None:
        """Wait until an instant of the event loop's clock. stops: or until the batch is cancelled."""
        left = instant - asyncio.get_running_loop().time()
        if left <= 0:
            return
        if not stops or batch.changed.is_set():
            await asyncio.sleep(left)
            return
        try:
            async with asyncio.timeout(left):
                await batch.changed.wait()
        except TimeoutError:
            return

    def _finish(self, batch: Batch, results: Results) -> None:
        counts = results.counts
        self._end(batch, "cancelled" if counts.cancelled else "expired" if counts.expired else "completed")
        if not self._splits:
            # nobody can ask for this file, unlike for one that was uploaded
            self._batches.files.delete(batch.stored)
        kept_s = self._behaviour.batch_kept_s
        for stored in (results.output, results.errors):
            if stored is None:
                continue
            if not stored.bytes and self._splits:
                self._batches.files.delete(stored)
                continue
            if kept_s is not None:
                stored.kept_until = time.time() + kept_s
            if self._splits:
                self._batches.files.show(stored)
            if stored is results.output:
                batch.output = stored
            else:
                batch.errors = stored

    def _end(self, batch: Batch, end: End) -> None:
        batch.phase = "ended"
        batch.end = end
        batch.ended_at = time.time()


def queue_full(most: int) -> Fault:
    """Return what is wrong with a batch for which the queue has no room."""
    return Fault(
        "token_limit_exceeded",
        f"Enqueued token limit reached for this model in organization org-simulator. Limit: {most:,} enqueued tokens. "
        "Please try again once some in_progress batches have been completed.",
    )
