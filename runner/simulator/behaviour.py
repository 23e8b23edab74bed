"""What a simulator does, as one frozen value; a value that makes no sense cannot be built."""

import math

import msgspec

from runner.errors import UsageError
from runner.simulator.faults import check_faults


class Behaviour(msgspec.Struct, frozen=True, kw_only=True):
    """How the simulator answers; nonsense is a UsageError when it is built."""

    # Same seed and same requests: same answers and same faults, in whatever order the requests arrive.
    seed: int = 0
    # Mean; a single answer waits between half and one and a half times as long.
    first_token_s: float = 0.15
    # Pause between chunks; 0 sends the whole answer in one write.
    chunk_s: float = 0.01
    # Mean, one chunk each; a single answer has between half and one and a half times as many.
    tokens: int = 40
    # Requests and tokens (input and output together) per minute; None is no limit.
    rpm: int | None = None
    tpm: int | None = None
    # Answers at the same time; None is no limit.
    max_in_flight: int | None = None
    # How much of a minute's worth a limit per minute holds at the start: 1 is all, 0 makes the first request wait.
    fill: float = 1.0
    # Whether headers say how long to wait (retry-after) and how the limits stand.
    hints: bool = True
    # What requests must carry as Bearer token or x-api-key; None asks for nothing.
    key: str | None = None
    # No money: every request that carries the key is refused for it.
    broke: bool = False
    # Answer with the text of the last message, one token a word, instead of invented words.
    echo: bool = False
    # Share of admitted requests by name of fault, see FAULTS.
    faults: dict[str, float] = msgspec.field(default_factory=dict)

    def __post_init__(self) -> None:
        for name in ("first_token_s", "chunk_s"):
            seconds = getattr(self, name)
            if not (math.isfinite(seconds) and seconds >= 0):
                raise UsageError(f"{name} of the simulator must be 0 or more seconds, not {seconds:g}")
        for name in ("tokens", "rpm", "tpm", "max_in_flight"):
            number = getattr(self, name)
            if number is not None and number < 1:
                raise UsageError(f"{name} of the simulator must be at least 1, not {number}")
        if not 0 <= self.fill <= 1:
            raise UsageError(f"fill of the simulator must be from 0 to 1, not {self.fill:g}")
        check_faults(self.faults)

    def __repr__(self) -> str:
        shown = {name: getattr(self, name) for name in self.__struct_fields__}
        if self.key is not None:
            # Somebody will rehearse with the key of their real provider.
            shown["key"] = "***"
        return f"Behaviour({', '.join(f'{name}={value!r}' for name, value in shown.items())})"
