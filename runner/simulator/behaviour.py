"""The behaviour of a simulator as one frozen value, validated when it is built."""

import math

import msgspec

from runner.errors import UsageError
from runner.simulator.faults import check_faults


class Behaviour(msgspec.Struct, frozen=True, kw_only=True):
    """How the simulator answers. Raises UsageError for invalid values."""

    # The same seed and the same requests give the same answers and faults, in whatever order the requests arrive.
    seed: int = 0
    # Mean time to the first token; each answer takes between 0.5 and 1.5 times as long.
    first_token_s: float = 0.15
    # Pause between chunks; 0 sends the whole answer in one write.
    chunk_s: float = 0.01
    # Mean number of output tokens, sent as one chunk each; each answer has between 0.5 and 1.5 times as many.
    tokens: int = 40
    # Requests, and tokens (input and output together), per minute; None is no limit.
    rpm: int | None = None
    tpm: int | None = None
    # Requests in flight at the same time; None is no limit.
    max_in_flight: int | None = None
    # Part of a minute's allowance that is available at the start: 1 is all of it, 0 makes the first request wait.
    fill: float = 1.0
    # Send headers with the time to wait (retry-after) and the state of the limits.
    hints: bool = True
    # Key that requests must send as Bearer token or x-api-key; None accepts any request.
    key: str | None = None
    # The account is out of credit: every request with the right key is refused.
    broke: bool = False
    # Answer with the text of the last message, one token per word, instead of synthetic text.
    echo: bool = False
    # Name of a fault -> share of admitted requests that get it; see FAULTS.
    faults: dict[str, float] = msgspec.field(default_factory=dict)

    def __post_init__(self) -> None:
        for name in ("first_token_s", "chunk_s"):
            seconds = getattr(self, name)
            if not (math.isfinite(seconds) and seconds >= 0):
                raise UsageError(f"the simulator's {name} must be 0 or more seconds, not {seconds:g}")
        for name in ("tokens", "rpm", "tpm", "max_in_flight"):
            number = getattr(self, name)
            if number is not None and number < 1:
                raise UsageError(f"the simulator's {name} must be at least 1, not {number}")
        if not 0 <= self.fill <= 1:
            raise UsageError(f"the simulator's fill must be from 0 to 1, not {self.fill:g}")
        check_faults(self.faults)

    def __repr__(self) -> str:
        shown = {name: getattr(self, name) for name in self.__struct_fields__}
        if self.key is not None:
            # The key may be that of a real provider, used in a rehearsal.
            shown["key"] = "***"
        return f"Behaviour({', '.join(f'{name}={value!r}' for name, value in shown.items())})"
