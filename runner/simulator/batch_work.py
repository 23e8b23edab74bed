"""Answers the requests of a batch, bills them, and writes their results."""

import random
import uuid
from array import array
from typing import BinaryIO

from runner.simulator.answering import Shared
from runner.simulator.batch_behaviour import BatchBehaviour
from runner.simulator.batch_files import StoredFile
from runner.simulator.batch_lines import Lines
from runner.simulator.batch_lots import Lot, Lots
from runner.simulator.dialect import Answer, Dialect, Refusal, output_tokens
from runner.simulator.faults import STATUSES
from runner.simulator.invoice import Used
from runner.simulator.prompt import BYTES_PER_TOKEN
from runner.simulator.sameness import as_streamed

BATCH_TIER = "batch"
# What a batch stands for that live requests have in their headers.
_HEADERS = {"anthropic-version": "batch"}


class Counts:
    """Requests of a batch by what has become of them."""

    def __init__(self) -> None:
        self.answered = 0
        self.refused = 0
        self.expired = 0
        self.cancelled = 0


class _Writer:
    """Writes lines to a file. is_shuffled: they are put into random order at the end."""

    def __init__(self, stored: StoredFile, *, is_shuffled: bool) -> None:
        self._stored = stored
        self._opened: BinaryIO | None = stored.path.open("wb")
        self._sizes: array[int] | None = array("q") if is_shuffled else None
        self._lines: list[bytes] = []

    def add(self, line: bytes) -> None:
        self._lines.append(line)

    def flush(self) -> None:
        if self._opened is None or not self._lines:
            return
        if self._sizes is not None:
            self._sizes.extend(map(len, self._lines))
        self._stored.bytes += self._opened.write(b"".join(self._lines))
        self._lines.clear()

    def finish(self) -> None:
        """Write what is left, and close the file."""
        self.flush()
        opened, self._opened = self._opened, None
        if opened is None:
            return
        opened.close()
        if self._sizes is not None:
            _shuffle(self._stored, self._sizes)


def _shuffle(stored: StoredFile, sizes: "array[int]") -> None:
    """Put the lines of a file into random order, the same for the same number of lines."""
    starts = array("q", [0])
    for size in sizes:
        starts.append(starts[-1] + size)
    order = array("q", range(len(sizes)))
    random.Random(len(sizes)).shuffle(order)  # noqa: S311 - no secret
    with stored.path.open("rb") as ordered:
        stored.path.unlink()
        with stored.path.open("wb") as opened:
            for number in order:
                ordered.seek(starts[number])
                opened.write(ordered.read(sizes[number]))


class Results:
    """The files of results of one batch. errors: of results that are no answers; None: they are among the others."""

    def __init__(self, output: StoredFile, errors: StoredFile | None, behaviour: BatchBehaviour) -> None:
        self.output = output
        self.errors = errors
        self.counts = Counts()
        self._output = _Writer(output, is_shuffled=behaviour.batch_shuffle)
        self._errors = self._output if errors is None else _Writer(errors, is_shuffled=behaviour.batch_shuffle)

    def add(self, line: bytes, *, is_answer: bool) -> None:
        """Add a line of results."""
        (self._output if is_answer else self._errors).add(line)

    def flush(self) -> None:
        """Write the added lines."""
        self._output.flush()
        self._errors.flush()

    def finish(self) -> None:
        """Write what is left, and close the files."""
        self._output.finish()
        self._errors.finish()


class Work:
    """Answers the requests of the batches of one dialect."""

    def __init__(self, shared: Shared, lots: Lots, dialect: Dialect, lines: Lines) -> None:
        self._shared = shared
        self._lots = lots
        self._dialect = dialect
        self._lines = lines
        self._prefix = uuid.uuid4().hex[:12]
        self._made = 0

    def answer(self, line: bytes, results: Results) -> None:
        """Answer the request of a line, if it does not expire and is not refused, and bill it."""
        custom_id, body = self._lines.request(line)
        known = as_streamed(self._dialect.name, body)
        lot = self._lots.draw(known)
        if lot.expires:
            self._expire(custom_id, results)
            return
        try:
            result = self._answered(body, known, lot)
        except Refusal as refusal:
            results.counts.refused += 1
            results.add(self._lines.refused(self._id(), custom_id, refusal), is_answer=False)
            return
        results.counts.answered += 1
        if lot.is_odd:
            results.add(self._lines.odd(self._id(), custom_id, lot.kind), is_answer=True)
        elif not lot.is_missing:
            line = self._lines.answered(self._id(), custom_id, result)
            results.add(line * 2 if lot.is_twice else line, is_answer=True)
        if lot.with_unasked:
            own_id = self._id()
            results.add(self._lines.answered(own_id, b'"unasked-%s"' % own_id.encode(), result), is_answer=True)

    def leave(self, line: bytes, results: Results, *, is_cancelled: bool) -> None:
        """Write the result of a request that is not answered, because the batch was cancelled or has expired."""
        custom_id, _ = self._lines.request(line)
        if not is_cancelled:
            self._expire(custom_id, results)
            return
        results.counts.cancelled += 1
        results.add(self._lines.cancelled(self._id(), custom_id), is_answer=False)

    def _expire(self, custom_id: bytes, results: Results) -> None:
        results.counts.expired += 1
        results.add(self._lines.expired(self._id(), custom_id), is_answer=False)

    def _answered(self, body: bytes, known: bytes, lot: Lot) -> bytes:
        """Return the answer to a request, which is billed. Raises Refusal."""
        shared = self._shared
        ask = self._dialect.read(body, _HEADERS)
        if lot.fails:
            raise Refusal(shared.behaviour.batch_fail_status)
        draw = shared.chance.draw(known)
        if draw.fault is not None:
            shared.counters.faults[draw.fault] += 1
            if draw.fault in STATUSES:
                raise Refusal(STATUSES[draw.fault])
        cacheable = shared.cache.read(ask.model, body)
        tokens = max(1, len(known) // BYTES_PER_TOKEN)
        whole = shared.answers.make(ask, draw, body=body, input_tokens=tokens, tier=self._lines.tier, cacheable=cacheable)
        if cacheable is not None:
            shared.cache.keep(cacheable)
        self._bill(whole, known, is_reported=not (lot.is_missing or lot.is_odd))
        return self._dialect.plain(whole)

    def _bill(self, whole: Answer, known: bytes, *, is_reported: bool) -> None:
        counters = self._shared.counters
        counters.batch_answers += 1
        counters.input_tokens += whole.input_tokens
        output = output_tokens(whole)
        counters.output_tokens += output
        cached, written = whole.cached_tokens or 0, whole.written_tokens or 0
        used = Used(
            fresh=whole.input_tokens - cached - written,
            cached=cached,
            written=written,
            written_1h=whole.written_1h_tokens,
            output=output,
            reasoning=whole.reasoning_tokens or 0,
        )
        self._shared.invoice.bill(
            counters.number,
            known,
            used,
            model=whole.model,
            tier=BATCH_TIER,
            dialect=self._dialect.name,
            reported=is_reported,
            ending="whole",
        )

    def _id(self) -> str:
        """Return an id of a result: random ones cost more than everything else about a line."""
        self._made += 1
        return f"{self._prefix}{self._made:020x}"
