"""The part of a simulator's behaviour that is about batches: how long they take, and what goes wrong with them."""

import math
from typing import Literal, get_args

import msgspec

from runner.errors import UsageError

QueueFull = Literal["fail", "refuse"]
FAIL_STATUSES = (400, 429, 500, 503, 529)
"""The statuses that a request of a batch can be refused with."""

_SHARES = ("batch_expire", "batch_fail", "batch_missing", "batch_twice", "batch_unasked", "batch_odd", "batch_cancel_done")
_SECONDS = ("batch_delay_s", "batch_window_s", "batch_cancel_s", "batch_create_s", "batch_unlisted_s")
_COUNTS = ("batch_refuse", "batch_lost", "batch_lost_uploads", "batch_404", "batch_404_every", "batch_503_every", "batch_breaks")
_LIMITS = ("batch_queue_tokens", "batch_lines", "batch_bytes", "batch_break_bytes", "batch_kept_s")


class BatchBehaviour(msgspec.Struct, frozen=True, kw_only=True):
    """How batches go. Shares are from 0 to 1."""

    # Mean time until a batch ends; each takes between 0.5 and 1.5 times as long. Its requests are answered evenly over it.
    batch_delay_s: float = 1.0
    # Time after which a batch expires: what has no answer by then never gets one.
    batch_window_s: float = 86_400.0
    # Share of the requests that expire in any case.
    batch_expire: float = 0.0
    # Share of the requests that are refused, with an error of this status.
    batch_fail: float = 0.0
    batch_fail_status: int = 400
    # Shares of the answered requests, which are billed all the same: not among the results; twice among them; with status 0 or
    # without a body.
    batch_missing: float = 0.0
    batch_twice: float = 0.0
    batch_odd: float = 0.0
    # Lines of results that nobody asked for, as a share of the answered requests.
    batch_unasked: float = 0.0
    # Results come in random order.
    batch_shuffle: bool = False
    # The first so many batches are refused, although their file was accepted: OpenAI's fail, with line numbers. Anthropic's are
    # refused with 400.
    batch_refuse: int = 0
    # The first so many requests to make a batch, or to upload a file, do their work, but the connection is reset instead of
    # an answer.
    batch_lost: int = 0
    batch_lost_uploads: int = 0
    # A request to make a batch is answered so much later than the batch is made.
    batch_create_s: float = 0.0
    # A batch is not in lists until so long after it was made.
    batch_unlisted_s: float = 0.0
    # The first so many looks at each batch are answered with 404, and every so many-th look later on; 0: none.
    batch_404: int = 0
    batch_404_every: int = 0
    # Every so many-th request about files and batches is answered with 503; 0: none.
    batch_503_every: int = 0
    # Tokens that the batches of an account that have not ended may hold together; None: no limit. A token is four bytes.
    batch_queue_tokens: int | None = None
    # What happens to a batch for which there is no room: it is made and fails, or it is refused with 429 (Anthropic's: always).
    batch_queue_full: QueueFull = "fail"
    # Most lines and bytes of a batch; None: as many as the provider takes.
    batch_lines: int | None = None
    batch_bytes: int | None = None
    # Each file of results breaks off after so many bytes, so many times. A request with a Range goes on where it says.
    batch_break_bytes: int | None = None
    batch_breaks: int = 1
    # Results are sent with the content coding gzip, whether or not the client accepts it, unless a Range is asked for.
    batch_gzip: bool = False
    # Time that a cancelled batch takes to end, and the share of its requests that are answered by then at least. 1: the cancel
    # comes too late, and the batch completes.
    batch_cancel_s: float = 0.0
    batch_cancel_done: float = 0.0
    # Results can be fetched for so long after the batch has ended; None: as long as the simulator runs.
    batch_kept_s: float | None = None
    # Offset of the instants that Anthropic's batches state, in minutes; 0 is UTC, written as Z.
    batch_utc_offset_min: int = 0

    def check_batches(self) -> None:
        """Raise UsageError unless every field makes sense."""
        for name in _SECONDS:
            seconds = getattr(self, name)
            if not (math.isfinite(seconds) and seconds >= 0):
                raise UsageError(f"the simulator's {name} must be 0 or more seconds, not {seconds:g}")
        for name in _SHARES:
            share = getattr(self, name)
            if not 0 <= share <= 1:
                raise UsageError(f"the simulator's {name} must be from 0 to 1, not {share:g}")
        for names in (("batch_expire", "batch_fail"), ("batch_missing", "batch_twice", "batch_odd")):
            total = math.fsum(getattr(self, name) for name in names)
            if total > 1:
                raise UsageError(f"the simulator's {' and '.join(names)} add up to {total:g}, which is more than 1")
        for name in _COUNTS:
            if getattr(self, name) < 0:
                raise UsageError(f"the simulator's {name} must be 0 or more, not {getattr(self, name)}")
        for name in _LIMITS:
            limit = getattr(self, name)
            if limit is not None and not (math.isfinite(limit) and limit > 0):
                raise UsageError(f"the simulator's {name} must be more than 0, not {limit:g}")
        if self.batch_fail_status not in FAIL_STATUSES:
            known = ", ".join(map(str, FAIL_STATUSES))
            raise UsageError(f"the simulator's batch_fail_status must be one of {known}, not {self.batch_fail_status}")
        if self.batch_queue_full not in get_args(QueueFull):
            raise UsageError(f"the simulator's batch_queue_full must be fail or refuse, not {self.batch_queue_full!r}")
        if abs(self.batch_utc_offset_min) >= 24 * 60:
            raise UsageError(f"the simulator's batch_utc_offset_min must be less than a day, not {self.batch_utc_offset_min}")
