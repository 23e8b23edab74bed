"""Imports the results of a batch that has ended, whatever its end was: what was answered has been paid for.

The answers of all files come first, then everything else: so an error is judged by all answers of its batch, and of two results
for one request the answer counts. Each part is one transaction; a row that is in the store no longer waits, so an import that was
broken off goes on where it was.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path

from anyio.lowlevel import checkpoint
from msgspec import Struct, structs

from runner.batches import BatchResult, BatchRow, Reask, StoredBatch
from runner.engine.answers import InformedProvider
from runner.engine.batch.asked import Asked
from runner.engine.batch.asking import Stopped, ask
from runner.engine.batch.files import read_results
from runner.engine.batch.learning import Learning
from runner.engine.batch.reading import Read, Reading
from runner.engine.batch.shared import Shared
from runner.engine.failing import FATAL_GRACE_S
from runner.engine.judge import Judge
from runner.errors import AttemptError, RunStoppedError
from runner.model import Outcome
from runner.text import plural

AT_ONCE = 5_000
"""Results that are imported together; fewer if they or their requests are large. A commit writes whole pages of the store, which
results in another order than the requests touch again and again: of 1,000 a fifth fewer are imported in a second of CPU."""
AT_ONCE_BYTES = 8 << 20


class Tally(Struct):
    """What an import has met. seen: hashes of the ids that it has settled."""

    seen: set[int]
    # results for requests that were never sent, further results for a request, and lines without an id
    unknown: int = 0
    double: int = 0
    nameless: int = 0
    # results that are no answers: there is something for a second pass
    others: int = 0
    # results that name a request, of the batch or not
    named: int = 0


class Importing:
    """Imports results. judge, learning: of the session."""

    def __init__(self, shared: Shared, provider: InformedProvider, judge: Judge) -> None:
        self._service, self._store, self._provider, self._judge = shared.service, shared.store, provider, judge
        self._held, self._folder, self._rules, self._told = shared.held, shared.folder, shared.rules, shared.told
        self._spending, self._further, rules = shared.spending, shared.further, shared.rules
        self.learning = Learning(provider, rules.policy.attempts)

    async def fetch(self, batch: StoredBatch) -> tuple[list[Path], AttemptError | None]:
        """Download all results of a batch; what has come stays for the next try.

        Return what has come, and why the others have not. Raises StoreError.
        """
        paths, failure = list[Path](), None
        await self._folder.make()
        for number, source in enumerate(batch.results):
            path = self._folder.results(batch.token, number)
            try:
                await ask(self._rules.stop, self._service.download(source, path))
            except OSError as error:
                raise self._folder.full(error) from error
            except AttemptError as error:
                # what the others hold is paid for
                failure = failure or error
            else:
                paths.append(path)
        return paths, failure

    async def whole(self, batch: StoredBatch, paths: Sequence[Path], *, partly: bool = False) -> int | None:
        """Import all results of a batch. Return how many of its rows are open again.

        None: it is not over, as the session stops meanwhile, or results that the provider counts are missing, or some are not
        here (``partly``).
        """
        before = self._held.returned
        asked = Asked(self._folder.requests(batch.token), batch.model)
        reading = self._reading(batch, asked)
        tally = Tally(seen=set())
        fresh = batch.waiting == batch.rows
        for answers in (True, False):
            for path in paths:
                if not answers and not tally.others:
                    continue
                for part in _parts(read_results(self._service, path), tally, _at_once(batch), answers=answers):
                    await self._import(batch, part, reading, tally)
                    held = self._held.by_id[batch.id]
                    if self._rules.stop.requested and held.waiting + held.released:
                        return None
        if partly or self._is_no_result(batch, tally):
            return None
        if not self._held.looks[batch.id].short:
            self._tell(batch, tally, fresh=fresh)
        if (short := self._is_short(batch)) and self._put_off(batch):
            return None
        # a batch that has failed without an answer was not begun
        taken = tally.named > 0 or batch.done > 0 or batch.end != "failed"
        await self._rest(batch, reading, asked, taken=taken, short=short)
        await self._end(batch, taken=taken)
        if reading.ends is not None:
            sentence, code = reading.ends
            self._rules.stop.request(sentence, grace_s=FATAL_GRACE_S, error=RunStoppedError(sentence, code=code))
        return self._held.returned - before

    async def faulty(self, batch: StoredBatch, line: int, words: str) -> list[Outcome]:
        """Return the failure of the row because of which a batch is refused. line: of its request, counted from 1. Saves none."""
        asked = Asked(self._folder.requests(batch.token), batch.model)
        rows = await self._store.rows_of(batch.id, list(asked.id_on([line]).values()))
        reading = self._reading(batch, asked)
        read = [reading.faulty(row, words).entry for row in rows.values() if not row.released]
        return [entry for entry in read if isinstance(entry, Outcome)]

    def _reading(self, batch: StoredBatch, asked: Asked) -> Reading:
        return Reading(self._provider, self._judge, self._rules, batch, asked, self.learning, further=self._further)

    def _is_short(self, batch: StoredBatch) -> bool:
        """Return True if results are missing: one of each request if it is completed, else as many as the provider counts."""
        held = self._held.by_id[batch.id]
        left = held.waiting + held.released
        counted = batch.rows if batch.end == "completed" else min(batch.rows, batch.done + batch.failed)
        return left > 0 and batch.rows - left < counted

    def _put_off(self, batch: StoredBatch) -> bool:
        """Have a batch that lacks results looked at again later. False: that was done often enough."""
        looks = self._held.looks[batch.id]
        looks.short += 1
        return looks.short <= len(SHORT_WAITS_S)

    def _is_no_result(self, batch: StoredBatch, tally: Tally) -> bool:
        """Return True if something has come in place of the results, such as a page: they are asked for until they come."""
        looks = self._held.looks[batch.id]
        if not tally.nameless or tally.named or not self._held.by_id[batch.id].waiting:
            return False
        if not looks.told:
            looks.told = True
            self._told.note(f"what came as the results of batch {batch.id} are no results: they are asked for again and again")
        looks.short += 1
        return True

    # -- the results

    async def _import(self, batch: StoredBatch, part: Sequence[BatchResult], reading: Reading, tally: Tally) -> None:
        """Import some results in one transaction."""
        rows = dict(await self._store.rows_of(batch.id, [one.custom_id for one in part if one.custom_id is not None]))
        reads: list[tuple[BatchRow, Read]] = []
        for result in part:
            row = rows.pop(result.custom_id, None) if result.custom_id is not None else None
            if row is None:
                _count_odd(result, tally)
                continue
            tally.seen.add(hash(row.custom_id))
            read = reading.answered(result, row) if result.kind == "answered" else reading.other(result, row)
            reads.append((row, _late(read) if row.released else read))
        await self._save(batch, reads)

    async def _rest(self, batch: StoredBatch, reading: Reading, asked: Asked, *, taken: bool, short: bool) -> None:
        """Take the rows out of a batch for which no result has come. short: some of them were answered all the same."""
        faulty = {} if taken else self._faulty(batch, asked)
        if faulty:
            rows = await self._store.rows_of(batch.id, list(faulty))
            await self._save(batch, [(row, reading.faulty(row, faulty[name])) for name, row in rows.items()])
        while taken and (left := await self._store.rows_left(batch.id, _at_once(batch))):
            await self._save(batch, [(row, self._unanswered(batch, row, reading, short=short)) for row in left])
            await checkpoint()

    def _unanswered(self, batch: StoredBatch, row: BatchRow, reading: Reading, *, short: bool) -> Read:
        unsent = {"expired": reading.expired, "cancelled": reading.cancelled}
        # nobody knows which of them were answered
        read = (reading.missing if short else unsent.get(batch.end or "", reading.missing))(row)
        return _late(read) if row.released else read

    def _faulty(self, batch: StoredBatch, asked: Asked) -> Mapping[str, str]:
        """Return what the provider says of requests because of which it took none of a batch, by their ids."""
        faults = {fault.line: fault for fault in self._held.looks[batch.id].faults if fault.line is not None}
        ids = asked.id_on(faults)
        vendor = self._service.rules.vendor
        return {name: f"{vendor} refuses line {line} of the batch: {faults[line].message}" for line, name in ids.items()}

    async def _save(self, batch: StoredBatch, reads: Sequence[tuple[BatchRow, Read]]) -> None:
        if not reads:
            return
        reasks = await self._reasks(reads)
        entries = [read.entry for _, read in reads if read.entry is not None]
        saved = await self._told.save(batch.id, entries, [row.custom_id for row, _ in reads], reasks)
        self._spending.settle(batch, [row for row, _ in reads], saved)
        waited = [read for row, read in reads if not row.released]
        self._held.settled(batch.id, len(waited), len(reads) - len(waited), sum(read.returned for read in waited))

    async def _reasks(self, reads: Sequence[tuple[BatchRow, Read]]) -> list[Reask]:
        """Return what rows that are open again bring along: what is new, and what they had."""
        if not any(read.returned for _, read in reads):
            return []
        having = [row.key for row, read in reads if read.returned and row.repairs and not _is_new(read)]
        had = await self._store.reasks(having) if having else {}
        found = []
        for row, read in reads:
            if not read.returned or not (read.reask is not None or row.repairs or row.failures):
                continue
            new = read.reask or Reask(
                key=row.key, messages=(), repairs=row.repairs, failures=row.failures, fingerprint=row.fingerprint
            )
            if not new.messages and row.key in had:
                new = structs.replace(new, messages=had[row.key].messages)
            found.append(new)
        return found

    # -- the end

    def _tell(self, batch: StoredBatch, tally: Tally, *, fresh: bool) -> None:
        """Say what was odd. fresh: nothing of the batch was imported before, so that what is not known was never asked for."""
        if tally.unknown and fresh:
            words = f"{plural(tally.unknown, 'result')} of batch {batch.id} belong to no request of it, and were not stored"
            self._told.note(words)
        if tally.double:
            self._told.note(f"{plural(tally.double, 'request')} of batch {batch.id} got a second result, which does not count")
        if tally.nameless:
            self._told.note(f"{plural(tally.nameless, 'line')} of the results of batch {batch.id} name no request")

    async def _end(self, batch: StoredBatch, *, taken: bool) -> None:
        """End a batch whose results are in the store. taken: False: the provider has begun nothing of it."""
        if batch.upload_id is not None:
            # an upload that stays costs nothing; the next session does not know it any more
            with suppress(AttemptError, Stopped):
                await ask(self._rules.stop, self._service.forget(batch.upload_id))
        if taken:
            await self._held.change(batch.id, state="done")
        else:
            self._spending.give_back(batch)
            await self._held.refuse(batch.id, batch.error or "the provider has taken none of it")
        await self._folder.clear(batch.token)


SHORT_WAITS_S = (5.0, 30.0, 120.0)
"""Waits before the results of a batch are fetched again that are fewer than the provider counts."""


def _late(read: Read) -> Read:
    """Return what a result amounts to that came after its row was sent elsewhere: an answer counts, nothing else ends the row."""
    entry = read.entry
    if isinstance(entry, Outcome) and entry.status == "failed":
        entry = entry.attempt
    return Read(entry)


def _is_new(read: Read) -> bool:
    return read.reask is not None and bool(read.reask.messages)


def _count_odd(result: BatchResult, tally: Tally) -> None:
    """Count a result for which no row waits."""
    if result.custom_id is None:
        tally.nameless += 1
    elif hash(result.custom_id) in tally.seen:
        tally.double += 1
    else:
        tally.unknown += 1


def _at_once(batch: StoredBatch) -> int:
    """Return how many rows of a batch are imported together: what a row has asked is stored with its outcome."""
    return min(AT_ONCE, max(1, AT_ONCE_BYTES * batch.rows // max(1, batch.bytes)))


def _parts(results: Iterator[BatchResult], tally: Tally, most: int, *, answers: bool) -> Iterator[list[BatchResult]]:
    """Yield the results of a file in parts: its answers, or all that are none. most: results of a part."""
    part: list[BatchResult] = []
    size = 0
    for result in results:
        if (result.kind == "answered") != answers:
            tally.others += answers
            continue
        tally.named += result.custom_id is not None
        part.append(result)
        size += len(result.body)
        if len(part) >= most or size >= AT_ONCE_BYTES:
            yield part
            part, size = [], 0
    if part:
        yield part
