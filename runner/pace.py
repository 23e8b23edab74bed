"""What a session is doing at one instant, as it is shown and as another process reads it from the store."""

from collections.abc import Mapping

from msgspec import Struct


class LaneState(Struct, frozen=True, kw_only=True):
    """What a lane is doing."""

    model: str
    # requests that may be in flight now, and the highest number there will be (both alike for a fixed number)
    slots: int
    ceiling: int
    in_flight: int
    # limits in force, by name (rpm, tpm, input_tpm, output_tpm), set by the job or reported by the server
    limits: Mapping[str, float] = {}
    # why requests wait, one phrase; None if none waits
    waiting: str | None = None
    # True if no request is sent until that wait is over
    blocked: bool = False
    # the limit per minute that a request waits for now, by name; None if none does
    waits_for: str | None = None
    # rows in the lane that are not being sent, and what they still have to get of each limit of tokens, debts included, if known
    waiting_rows: int = 0
    needs: Mapping[str, float] = {}
    # seconds until the pause ends, and since the present outage began; 0 if there is none
    paused_s: float = 0.0
    outage_s: float = 0.0
    # how many runs share its limits, this one included; 0: it shares them with none
    shared: int = 0
    # a person has paused the session
    halted: bool = False


class WorkerCounts(Struct, frozen=True, kw_only=True):
    """The workers of a session, by state (``workers.member``)."""

    # those that get requests; those that are not ready yet; those of which nothing is heard; those that are lost or have failed
    live: int = 0
    starting: int = 0
    silent: int = 0
    lost: int = 0


def worker_words(workers: WorkerCounts) -> str:
    """Return how many workers there are, a phrase."""
    parts = [f"{workers.live:,} at work"]
    for number, words in ((workers.starting, "starting"), (workers.silent, "silent"), (workers.lost, "lost so far")):
        parts += [f"{number:,} {words}"] if number else []
    return ", ".join(parts)


class BatchesPace(Struct, frozen=True, kw_only=True):
    """The open batches of a session at the provider."""

    # how many there are, and by the provider's word for their state
    open: int = 0
    states: Mapping[str, int] = {}
    vendor: str = ""
    # rows that wait in them; of those at the provider all requests, and how many it says to have answered, errors included
    waiting: int = 0
    requests: int = 0
    answered: int = 0
    # rows that came back without an answer, and have not been sent again yet
    returned: int = 0


def batches_words(batches: BatchesPace) -> str:
    """Return how the batches stand, a phrase; empty if there are none."""
    if not batches.open:
        return ""
    states = ", ".join(f"{number:,} {word}" for word, number in sorted(batches.states.items(), key=lambda one: -one[1]))
    words = f"{batches.open:,} {'batch' if batches.open == 1 else 'batches'} at {batches.vendor} ({states})"
    if batches.requests:
        words += f", {batches.answered:,} of {batches.requests:,} requests answered there"
    return words


class Pace(Struct, frozen=True, kw_only=True):
    """What a session is doing at one instant; stored so that another process can show it."""

    # UTC seconds since the epoch
    at: float
    lanes: tuple[LaneState, ...]
    # rows that wait for a retry, one phrase; None if there are none
    retrying: str | None = None
    # seconds until the last row has its outcome, pauses but no outage included; None if nothing can be said yet
    left_s: float | None = None
    # with --dedupe: requests that all rows of the run take, those of earlier sessions included; None: not known
    requests: int | None = None
    # None: the requests are made by this process itself
    workers: WorkerCounts | None = None
    # since when a person has paused the session, in UTC seconds since the epoch; None: it is not paused
    halted_at: float | None = None
    # None: no row waits in a batch
    batches: BatchesPace | None = None

    @property
    def blocked(self) -> dict[str, str]:
        """Why a lane sends nothing for now, by the model of the lane."""
        return {lane.model: lane.waiting or "it waits" for lane in self.lanes if lane.blocked}
