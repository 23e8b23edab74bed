"""What the parts of a session pass to each other about batches: requests that a provider's batch API answers within a day.

A batch is one file of requests at the provider. ``runner.store.batches`` draws the states of a batch. Durations, instants and
``None`` are as in ``model``.
"""

from collections.abc import AsyncIterator, Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Literal, Protocol, TypeAlias

from msgspec import Struct

from runner.model import Entry, HttpCall, Json
from runner.money import Price

BATCH_TIER = "batch"
"""The service tier of a request that went through a batch."""

State: TypeAlias = Literal[
    "writing", "written", "uploading", "uploaded", "creating", "submitted", "cancelling", "ended", "done", "refused", "gone"
]
"""How far a batch has come; ``runner.store.batches`` draws the way from one to the next."""
OPEN_STATES: tuple[State, ...] = ("writing", "written", "uploading", "uploaded", "creating", "submitted", "cancelling", "ended")
"""States in which rows wait for a batch: nothing else may send them."""
SENT_STATES: tuple[State, ...] = OPEN_STATES[OPEN_STATES.index("uploading") :]
"""States in which its requests may be at the provider: they count for what the run may have cost."""


class BatchRules(Struct, frozen=True, kw_only=True):
    """What a provider's batch API takes, and how its answers are to be read: the differences between providers, as data."""

    # as it is called in messages: "OpenAI", "Groq"; and the dialect of its requests: "openai" or "anthropic"
    vendor: str
    dialect: str
    # the most lines and bytes of one file, and whether all its requests must ask for one model
    lines: int
    bytes: int
    one_model: bool = True
    # how long the provider takes at most, as it is asked for ("24h"), in seconds
    window: str = "24h"
    window_s: float = 86_400.0
    # days for which results are kept after the batch was made or has ended
    kept_days: int = 30
    # whether a batch can carry metadata of ours, by which it is found again
    metadata: bool = True
    # whether a batch can be cancelled without the loss of what it has answered
    cancels: bool = True
    # whether ids of requests carry a mark of the session that made them: nothing else tells a batch of ours from others
    marked: bool = False
    # what an id of a request may be, as a regular expression for the whole of it
    custom_id: str = r".{1,512}"


class BatchCounts(Struct, frozen=True, kw_only=True):
    """Requests of a batch, as the provider counts them."""

    total: int = 0
    done: int = 0
    failed: int = 0


class Fault(Struct, frozen=True, kw_only=True):
    """What a provider says is wrong with the file of a batch. line: counted from 1; None: it names none."""

    line: int | None
    code: str
    message: str


class Remote(Struct, frozen=True, kw_only=True):
    """A batch as the provider describes it."""

    id: str
    # ended: nothing changes any more, and ``end`` says how; what was answered before counts, whatever the end is
    phase: Literal["waiting", "working", "cancelling", "ended"]
    end: Literal["completed", "expired", "cancelled", "failed"] | None = None
    counts: BatchCounts = BatchCounts()
    created_at: float | None = None
    expires_at: float | None = None
    ended_at: float | None = None
    # until when results can be fetched
    kept_until: float | None = None
    # where results are: ids of files or addresses, each to be passed to ``download``; of answers and of errors
    results: tuple[str, ...] = ()
    faults: tuple[Fault, ...] = ()
    # ours, from the metadata; None: it has none
    token: str | None = None
    # the provider's own word for its state, for people
    word: str = ""


class BatchResult(Struct, frozen=True, kw_only=True, gc=False):
    """One line of results. kind: what it is; body: the answer, or the error, as JSON bytes; empty if there is none."""

    # None: the line names none, or is no JSON
    custom_id: str | None
    # odd: neither an answer nor an error: no body, status 0, or a line that cannot be read
    kind: Literal["answered", "refused", "expired", "cancelled", "odd"]
    status: int | None = None
    body: bytes = b""
    request_id: str | None = None


class BatchRow(Struct, frozen=True, kw_only=True, gc=False):
    """A request that waits in a batch, with what is needed to store its outcome without reading the input again."""

    custom_id: str
    key: str
    position: int
    # of the row as it was when it was sent
    fingerprint: int
    metadata: Mapping[str, Json]
    # number of the attempt, counted over all sessions; and how often it was asked for a better answer before it
    number: int
    repairs: int = 0
    # failed attempts that count against it, before this one
    failures: int = 0
    # the row has an answer from before it changed, or a retry asks it again
    answered: bool = False
    made_seed: int | None = None
    # bounds of its tokens, as in ``Attempt``
    input_bound: int | None = None
    output_bound: int | None = None
    cache_1h_bound: int | None = None
    # the row no longer waits for this result (``release``): it may have been sent elsewhere, and this one may still come
    released: bool = False


class Reask(Struct, frozen=True, kw_only=True):
    """What a row that is to be asked again brings along from its earlier requests."""

    key: str
    # what follows its own messages in its next request: an answer that did not fit, and what is wrong with it; and how often it
    # was asked for a better one
    messages: Sequence[Json]
    repairs: int
    # failed attempts that count against it so far, over all sessions
    failures: int = 0
    # of the row that was asked: nothing of this is about another one
    fingerprint: int | None = None


class StoredBatch(Struct, frozen=True, kw_only=True):
    """A batch in the store."""

    id: int
    run_id: int
    # made by us for this batch alone, before any request: the provider's metadata and the names of files contain it
    token: str
    state: State
    vendor: str
    model: str
    # the address that it was sent to, and a short hash of the key (never the key), to recognize another account
    base_url: str
    account: str
    rows: int
    # rows of it that still wait
    waiting: int
    bytes: int
    # the file of requests, deleted when the batch is done
    path: str
    created_at: float
    upload_id: str | None = None
    remote_id: str | None = None
    submitted_at: float | None = None
    expires_at: float | None = None
    ended_at: float | None = None
    kept_until: float | None = None
    # how it ended, by the provider; its own word for its state; what it counts
    end: str | None = None
    word: str | None = None
    done: int = 0
    failed: int = 0
    results: tuple[str, ...] = ()
    # the first fault, in words
    error: str | None = None
    # bounds of the tokens of all its rows together, None: no limit is known; and at what price they may be billed at most
    input_bound: int = 0
    output_bound: int | None = None
    price: Price | None = None
    # rows of it that no longer wait, and whose results may still come (``release``)
    released: int = 0


class BatchService(Protocol):
    """A provider's batch API. One instance for an endpoint and a key, inside ``async with``.

    Every method that sends raises errors as the live path does: ``ProviderError`` with code, verdict and ``retry_after_s``,
    ``TransportError``, ``AttemptTimeoutError``. Their ``sent`` is False only if the request never reached the server. One
    that needs a file of requests raises FileNotFoundError if it is not there, before anything is sent.
    """

    rules: BatchRules
    # the address, and the account as ``StoredBatch`` has it
    base_url: str
    account: str

    def custom_id(self, key: str) -> str:
        """Return the id of the request of a row: its key where the provider takes it, else a hash of it."""
        ...

    def line(self, custom_id: str, call: HttpCall) -> bytes:
        """Return the line of a file of requests, with its line end. call: what would be sent live, without a stream."""
        ...

    async def upload(self, path: Path, token: str) -> str | None:
        """Upload a file of requests, in constant memory. Return its id; None: this provider takes requests with the batch."""
        ...

    async def find_upload(self, token: str) -> str | None:
        """Return the id of the file that was uploaded for a batch; None: there is none."""
        ...

    async def create(self, path: Path, upload_id: str | None, token: str) -> Remote:
        """Make a batch of a file of requests."""
        ...

    async def find(self, token: str, rows: int, since: float) -> Sequence[Remote]:
        """Return the batches that may be that of a token, of so many rows and made since then: one of it, or all alike."""
        ...

    async def look(self, remote_id: str) -> Remote:
        """Return a batch as it is now."""
        ...

    async def cancel(self, remote_id: str) -> Remote:
        """Ask the provider to cancel a batch. One that has ended is returned as it is."""
        ...

    async def download(self, source: str, path: Path) -> None:
        """Download results to a file, in constant memory. Goes on with what is there already; returns once it is whole."""
        ...

    def results(self, path: Path) -> Iterator[BatchResult]:
        """Read a file of results line by line. Never raises for a line."""
        ...

    async def forget(self, upload_id: str) -> None:
        """Delete an uploaded file of requests, which is no longer needed. One that is gone is no error."""
        ...

    def all(self, since: float) -> AsyncIterator[Remote]:
        """Yield the batches of the account since an instant, newest first."""
        ...


class BatchStore(Protocol):
    """What the engine of batches needs of the store. Each method is one transaction; when it returns, it survives a kill."""

    async def batches(self, *, all_states: bool = False) -> list[StoredBatch]:
        """Return the batches of the run in the order of their creation: those in an open state, or all."""
        ...

    async def begin_batch(self, batch: StoredBatch) -> int:
        """Write a batch in the state ``writing`` (its ``id`` is ignored) and return its number."""
        ...

    async def add_rows(self, batch_id: int, rows: Sequence[BatchRow]) -> None:
        """Write rows of a batch that is being written. A row that waits in another batch of the run raises StoreError."""
        ...

    async def change(self, batch_id: int, **values: object) -> None:
        """Change fields of a batch. A state that does not follow its present one raises StoreError."""
        ...

    async def drop_batch(self, batch_id: int) -> None:
        """Delete a batch of which nothing was sent, with its rows, which are open again."""
        ...

    async def known(self, remote_ids: Collection[str]) -> set[str]:
        """Return those of these ids of batches at a provider that the store has, of whatever run."""
        ...

    async def rows_of(self, batch_id: int, custom_ids: Sequence[str]) -> Mapping[str, BatchRow]:
        """Return those of these rows that still wait in a batch, by the id of the request."""
        ...

    async def rows_left(self, batch_id: int, limit: int = 1000) -> list[BatchRow]:
        """Return rows that still wait in a batch."""
        ...

    async def settle(self, batch_id: int, entries: Sequence[Entry], settled: Sequence[str], reasks: Sequence[Reask] = ()) -> None:
        """Write outcomes and failed attempts, and take their rows (``settled``: ids of requests) out of the batch, together."""
        ...

    async def reasks(self, keys: Sequence[str]) -> Mapping[str, Reask]:
        """Return what rows are to be asked again with; rows without are left out."""
        ...

    async def left_bounds(self, batch_id: int) -> tuple[int, int, int]:
        """Return the most tokens of rows without a result: input, output as far as it is limited, input in caches of an hour."""
        ...

    async def release(self, batch_id: int) -> int:
        """Let rows wait no longer: they are sent elsewhere. Return how many. ``settle`` still writes results that come."""
        ...

    async def give_up(self, batch_id: int, error: str) -> int:
        """Give up a lost batch: ``gone``, its rows have failed attempts, perhaps billed, and are open. Return how many."""
        ...
