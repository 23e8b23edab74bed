"""The behaviour of a simulator as one frozen value, validated when it is built."""

import math

import msgspec

from runner.errors import UsageError
from runner.simulator.batch_behaviour import BatchBehaviour
from runner.simulator.cache import CACHES, CacheKind
from runner.simulator.faults import check_faults
from runner.simulator.prices import Price, check_prices

FLEX_STATUSES = (429, 498)
"""The statuses of a refusal for lack of capacity: OpenAI's, Groq's."""


class Behaviour(BatchBehaviour, frozen=True, kw_only=True):
    """How the simulator answers. Raises UsageError for invalid values. The fields about batches are in ``BatchBehaviour``."""

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
    # Every answer is as long as the max_tokens of its request allows.
    fill_limit: bool = False
    # Mean number of tokens of reasoning, counted as output; each answer has between 0.5 and 1.5 times as many.
    reasoning_tokens: int = 0
    # Whose rules decide what is cached of the input, and how long a prefix lives after it was last used.
    cache: CacheKind = "off"
    cache_s: float = 300.0
    # Share of the flex requests that are refused for lack of capacity, and with which status.
    flex_full: float = 0.0
    flex_status: int = 429
    # Share of the flex requests that the standard tier serves, and at whose price.
    flex_downgrade: float = 0.0
    # How much longer a request waits for its first token that the flex tier serves.
    flex_delay_s: float = 0.0
    # Model -> its price; the others cost 1 dollar per million input tokens and 4 per million output tokens.
    prices: dict[str, Price] = msgspec.field(default_factory=dict)

    def __post_init__(self) -> None:
        for name in ("first_token_s", "chunk_s", "cache_s", "flex_delay_s"):
            seconds = getattr(self, name)
            if not (math.isfinite(seconds) and seconds >= 0):
                raise UsageError(f"the simulator's {name} must be 0 or more seconds, not {seconds:g}")
        for name in ("tokens", "rpm", "tpm", "max_in_flight"):
            number = getattr(self, name)
            if number is not None and number < 1:
                raise UsageError(f"the simulator's {name} must be at least 1, not {number}")
        for name in ("fill", "flex_full", "flex_downgrade"):
            share = getattr(self, name)
            if not 0 <= share <= 1:
                raise UsageError(f"the simulator's {name} must be from 0 to 1, not {share:g}")
        self._check_money()
        self.check_batches()
        check_faults(self.faults)

    def _check_money(self) -> None:
        if self.reasoning_tokens < 0:
            raise UsageError(f"the simulator's reasoning_tokens must be 0 or more, not {self.reasoning_tokens}")
        if self.cache not in CACHES:
            raise UsageError(f"the simulator's cache must be one of {', '.join(CACHES)}, not {self.cache!r}")
        if self.flex_status not in FLEX_STATUSES:
            raise UsageError(f"the simulator's flex_status must be 429 or 498, not {self.flex_status}")
        if self.echo and self.fill_limit:
            raise UsageError("the simulator's answers cannot echo the request and fill its limit at the same time")
        check_prices(self.prices)

    def __repr__(self) -> str:
        shown = {name: getattr(self, name) for name in self.__struct_fields__}
        if self.key is not None:
            # The key may be that of a real provider, used in a rehearsal.
            shown["key"] = "***"
        return f"Behaviour({', '.join(f'{name}={value!r}' for name, value in shown.items())})"
