"""The rows of a session that go through a provider's batch API: the one class that the session drives."""

from collections.abc import Callable, Mapping, Sequence

from runner.batches import BatchService, BatchStore, StoredBatch
from runner.engine.answers import InformedProvider
from runner.engine.batch.parts import Left, Plan, Rules, Told, Until
from runner.engine.judge import Judge
from runner.interfaces import Items


class Batches:
    """Submits rows as batches, polls them and imports what comes. One instance for a session; not for several tasks at once.

    provider: made with ``stream=False``. judge: the session's, or one of its own.
    """

    def __init__(
        self,
        service: BatchService,
        store: BatchStore,
        provider: InformedProvider,
        judge: Judge,
        *,
        plan: Plan,
        rules: Rules,
        told: Told,
    ) -> None:
        self._service, self._store, self._provider, self._judge = service, store, provider, judge
        self._plan, self._rules, self._told = plan, rules, told

    @property
    def open(self) -> Mapping[int, StoredBatch]:
        """The batches of the run in an open state, by number, as they are known now. Empty before ``recover``."""
        raise NotImplementedError

    @property
    def came_open(self) -> int:
        """How many rows came back open in this session (expired, to be tried again, asked again), and were not sent again yet."""
        raise NotImplementedError

    async def recover(self) -> None:
        """Bring each open batch of earlier sessions to a known state: adopt what was sent, drop what was not.

        To be called first, also before rows go live. Nothing is polled but what is needed for it. Raises StoreError; UsageError
        if the batches are of another account.
        """
        raise NotImplementedError

    async def run(self, items: Callable[[], Items], *, detach: bool = False, until: Until | None = None) -> Left:
        """Submit, poll and import until nothing waits, the session is to detach, rows are to go live, or a stop is requested.

        items: returns what is to be done, from the beginning of the input: rows without outcome that do not wait. Broken rows among
        them are saved. detach: submit, poll once, import what has ended, and return. Raises StoreError, and the error of the stop
        is in ``stop.error``.
        """
        raise NotImplementedError

    async def follow(self) -> None:
        """Poll and import the open batches until none is left, beside a live engine. Submits nothing. Ends with a stop."""
        raise NotImplementedError

    async def fetch(self, batch_ids: Sequence[int] | None = None) -> Left:
        """Poll open batches once, and import what has ended. None: all."""
        raise NotImplementedError

    async def cancel(self, batch_ids: Sequence[int]) -> None:
        """Ask the provider to cancel batches. What they have answered is imported when they have ended. Raises AttemptError."""
        raise NotImplementedError
