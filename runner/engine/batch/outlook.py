"""What a decision about batches is made of, and what it says. Plain values: ``policy`` decides.

Instants are seconds since the epoch, durations seconds, rates rows per second. None: not known, unless said otherwise.
"""

from collections.abc import Sequence
from typing import Literal, TypeAlias

from msgspec import Struct

from runner.batches import State, StoredBatch

Submitting: TypeAlias = Literal["open", "full", "closed", "never"]
"""Whether the provider takes batches: as far as is known; a quota is full; it refuses for now; it will never take one."""


class Flex(Struct, frozen=True, kw_only=True):
    """The flex tier of the live path."""

    # over the last minutes, while rows waited for it; None: it was not seen so
    rows_per_s: float | None = None
    # how long an answer takes, nearly at most
    slowest_s: float | None = None
    # as a share of the standard price
    price: float = 0.5


class Live(Struct, frozen=True, kw_only=True):
    """What is known of the live path. None: not known."""

    # what limits per minute let through; requests open at once, now and at most
    rows_per_s: float | None = None
    slots: int | None = None
    most_slots: int | None = None
    # how long an answer takes: on average, and nearly at most
    answer_s: float | None = None
    slowest_s: float | None = None
    # rows per second over the last minutes, in which rows waited for the live path all the time
    measured: float | None = None
    # None: there is no flex, or it is not wanted
    flex: Flex | None = None

    @property
    def speed(self) -> float | None:
        """Rows per second at full speed."""
        if self.measured is not None:
            return self.measured
        slots = self.slots if self.rows_per_s is None else self.most_slots
        by_slots = None if slots is None or self.answer_s is None else slots / max(self.answer_s, 0.001)
        known = [rate for rate in (self.rows_per_s, by_slots) if rate is not None]
        return min(known, default=None)


class Open(Struct, frozen=True, kw_only=True):
    """An open batch. done: answered rows, as the provider counts them; 0 where it counts none before the end."""

    id: int
    state: State
    rows: int
    waiting: int
    done: int = 0
    submitted_at: float | None = None
    cancel_asked_at: float | None = None

    @classmethod
    def of(cls, batch: StoredBatch, cancel_asked_at: float | None = None) -> "Open":
        """Return what the policy needs of a batch in the store."""
        return cls(
            id=batch.id,
            state=batch.state,
            rows=batch.rows,
            waiting=batch.waiting,
            done=batch.done,
            submitted_at=batch.submitted_at,
            cancel_asked_at=cancel_asked_at,
        )

    @property
    def undone(self) -> int:
        """Rows that would come back without an answer if the batch ended now."""
        return max(0, min(self.waiting, self.rows - self.done))


class View(Struct, frozen=True, kw_only=True):
    """A run at an instant."""

    now: float
    # None: there is none
    deadline: float | None
    # of the session: short deadlines get short margins
    began_at: float
    batches: Sequence[Open]
    # rows that wait nowhere; those of them that came back from a batch; rows that the live path has
    open: int
    flying: int
    live: Live
    returned: int = 0
    # seconds since the first of these came back
    returned_s: float = 0.0
    # of the run in all, for the size of batches; 0: not known
    rows: int = 0
    # seconds that cancels of the run took, from the request to the end of the batch
    cancels: Sequence[float] = ()
    submitting: Submitting = "open"
    # rows that fit into the quota; None: not known
    room: int | None = None
    # of a batch, as a share of the standard price
    price: float = 0.5
    # seconds until the next decision at the latest
    step_s: float = 60.0


class Decision(Struct, frozen=True, kw_only=True):
    """What is to be done now."""

    # open rows that go live now, at which tier, and how long they may wait for capacity of flex
    live: int = 0
    tier: Literal["flex"] | None = None
    flex_patience_s: float = 0.0
    # open rows that may go into batches now
    submit: int = 0
    # rows of each at most; the provider's own limits hold besides
    piece_rows: int
    # batches to be cancelled (or dropped, if nothing of them was sent)
    cancel: tuple[int, ...] = ()
    # batches whose rows go live although they may still be answered: perhaps they are paid twice
    overtake: tuple[int, ...] = ()
    # when to decide again, at the latest
    wake_at: float
    # rows that wait nowhere, as they were seen
    open: int = 0
    # the deadline cannot be kept, by what is known
    late: bool = False
    # a sentence for people, and what it is about: its figures change, and it is told once
    told: str | None = None
    about: Literal["speed", "deadline"] | None = None
