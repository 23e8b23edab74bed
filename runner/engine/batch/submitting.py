"""Makes files of requests out of the rows that are to be done: one file of each model, closed at the provider's limits.

A file is in the store before it is on the disk, and its rows are in the store before anything is sent. While it is written,
nothing of it counts: a kill then leaves what the next session deletes.
"""

import secrets
from collections.abc import Sequence
from contextlib import suppress

from msgspec import Struct

from runner.batches import BatchRow, StoredBatch
from runner.engine.batch.encoding import Encoding, Line
from runner.engine.batch.files import RequestFile
from runner.engine.batch.parts import Plan
from runner.engine.batch.shared import Shared
from runner.engine.bounds import Bounds
from runner.errors import StoreError
from runner.interfaces import Items
from runner.model import Item, Outcome

AT_ONCE = 1_000
"""Rows that are written together; fewer, once their requests have ``AT_ONCE_BYTES``."""
AT_ONCE_BYTES = 4 << 20
MOST_FILES = 8
"""Files that are written at the same time, one for each model; with more models, the longest is closed first."""
_ALL = ""


class Writing(Struct):
    """A file that is being written. rows, lines: those that are not in the store, and not in the file, yet."""

    batch: StoredBatch
    file: RequestFile
    rows: list[BatchRow]
    lines: list[bytes]
    held_bytes: int = 0
    count: int = 0
    size: int = 0
    input_bound: int = 0
    # None: some request has no limit
    output_bound: int | None = 0
    hour_bound: int = 0
    largest: Bounds | None = None


class Submitting:
    """Writes files of requests. most: rows of a file, at the most; it may be changed between two of them."""

    def __init__(self, shared: Shared, encoding: Encoding, plan: Plan) -> None:
        self._service, self._store, self._encoding = shared.service, shared.store, encoding
        self._held, self._folder, self._plan, self._told = shared.held, shared.folder, plan, shared.told
        rules, service = shared.rules, shared.service
        self._stop, self._wall = rules.stop, rules.clock.wall
        self.limits = service.rules
        self.most = min(self.limits.lines, plan.rows or self.limits.lines)
        self._files: dict[str, Writing] = {}
        # how many were made whole
        self._whole = 0
        # rows of the next file for which the budget has room; None: it was not asked, or has room for all. again: rows that were
        # read are open again, so that the input is to be read from the beginning
        self.affordable: int | None = None
        self.again = False
        # of the batches of this session: tokens of their input that may be written to caches kept for an hour
        self.hour_bounds: dict[int, int] = {}

    async def next(self, items: Items, most: int) -> tuple[bool, int]:
        """Write rows into files until one is whole. Return False if none is, as no row is left; and how many rows were taken.

        most: rows that may be taken. When these are, what has been begun is made whole. Raises StoreError.
        """
        taken, before = 0, self._whole
        try:
            while self._whole == before:
                chunk = await self._chunk(items, min(AT_ONCE, most - taken, self.affordable or AT_ONCE))
                if self._stop.requested:
                    await self.undo()
                    return False, taken
                taken += len(chunk)
                await self._write(chunk)
                if not chunk:
                    for name in list(self._files):
                        await self._close(name)
                    break
        except StoreError:
            # what can be deleted makes room; the rest is deleted by the next session
            with suppress(StoreError):
                await self.undo()
            raise
        return self._whole > before, taken

    def limit(self, rows: int) -> None:
        """Have the next files hold so many rows at the most."""
        self.most = max(1, min(rows, self.limits.lines))

    async def undo(self) -> None:
        """Delete what was written and not sent. Its rows are open again."""
        while self._files:
            _, writing = self._files.popitem()
            writing.file.abandon()
        for batch in self._held.in_state("writing", "written"):
            await self._folder.clear(batch.token)
            await self._held.drop(batch.id)

    def abandon(self, number: int) -> None:
        """Write no more into the file of a batch, which is about to be deleted."""
        for name, writing in list(self._files.items()):
            if writing.batch.id == number:
                self._files.pop(name).file.abandon()

    # -- rows

    async def _chunk(self, items: Items, most: int) -> list[Item]:
        """Take some items; outcomes among them are saved."""
        chunk: list[Item] = []
        settled: list[Outcome] = []
        while len(chunk) < most and not self._stop.requested:
            one = await anext(items, None)
            if one is None:
                break
            if isinstance(one, Outcome):
                settled.append(one)
                if len(settled) >= AT_ONCE:
                    await self._told.save(None, settled)
                    settled = []
            else:
                chunk.append(one)
        if settled:
            await self._told.save(None, settled)
        return chunk

    async def _write(self, chunk: Sequence[Item]) -> None:
        """Put rows into the files of their models."""
        if not chunk:
            return
        reasks = await self._store.reasks([item.key for item in chunk])
        fallen: list[Outcome] = []
        for item in chunk:
            line = await self._encoding.line(item, reasks.get(item.key))
            if isinstance(line, Outcome):
                fallen.append(line)
            else:
                await self._add(line)
        for writing in list(self._files.values()):
            await self._flush(writing)
        if fallen:
            await self._told.save(None, fallen)

    async def _add(self, line: Line) -> None:
        name = line.model if self.limits.one_model else _ALL
        writing = self._files.get(name)
        if writing is not None and writing.size + len(line.line) > self.limits.bytes:
            await self._close(name)
            writing = None
        if writing is None:
            writing = await self._begin(name, line.model)
        writing.rows.append(line.row)
        writing.lines.append(line.line)
        writing.held_bytes += len(line.line)
        writing.size += len(line.line)
        writing.count += 1
        bound, output = line.bound, line.row.output_bound
        writing.input_bound += bound.input
        writing.output_bound = None if output is None or writing.output_bound is None else writing.output_bound + output
        writing.hour_bound += bound.hour or 0
        if writing.largest is None or bound.input > writing.largest.input:
            writing.largest = bound
        if writing.count >= min(self.most, self.affordable or self.most):
            await self._close(name)
        elif writing.held_bytes >= AT_ONCE_BYTES:
            await self._flush(writing)

    # -- files

    async def _begin(self, name: str, model: str) -> Writing:
        """Begin a batch and its file."""
        if len(self._files) >= MOST_FILES:
            await self._close(max(self._files, key=lambda one: self._files[one].size))
        token = secrets.token_hex(12)
        path = self._folder.requests(token)
        batch = StoredBatch(
            id=0,
            run_id=self._plan.run_id,
            token=token,
            state="writing",
            vendor=self.limits.vendor,
            model=model,
            base_url=self._service.base_url,
            account=self._service.account,
            rows=0,
            waiting=0,
            bytes=0,
            path=str(path),
            created_at=self._wall(),
        )
        batch = await self._held.begin(batch)
        file = await self._folder.open(token)
        self._files[name] = writing = Writing(batch, file, [], [])
        return writing

    async def _flush(self, writing: Writing) -> None:
        """Write the rows to the store and the lines to the file."""
        if not writing.rows:
            return
        await self._store.add_rows(writing.batch.id, writing.rows)
        await writing.file.write(writing.lines)
        writing.rows, writing.lines, writing.held_bytes = [], [], 0

    async def _close(self, name: str) -> None:
        """Make a file whole."""
        writing = self._files[name]
        await self._flush(writing)
        await writing.file.close()
        number, largest = writing.batch.id, writing.largest
        price = self._plan.price(writing.batch.model, largest, self._wall()) if largest is not None else None
        await self._held.written(number, writing.count, writing.file.bytes, price)
        self._held.bound(number, writing.input_bound, writing.output_bound)
        self.hour_bounds[number] = writing.hour_bound
        del self._files[name]
        self._whole += 1
