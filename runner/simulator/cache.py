"""What is cached of the input of earlier requests, by the rules of three kinds of provider.

``openai``: the prefix of every request of 1,024 tokens or more is kept, in steps of 128 (OpenAI, guide *Prompt caching*).
``anthropic``: the prefix up to each block with ``cache_control`` is kept, four marks at most, if it has 1,024 tokens or more.
Writing it has a price, and a higher one with ``"ttl": "1h"``: such a prefix lives for an hour. A mark also finds a prefix that
ends up to 20 blocks before it (Anthropic, guide *Prompt caching*).
``vllm``: every full block of 16 tokens is kept (vLLM, design document *Automatic prefix caching*).

A prefix can be read once the answer to the request that wrote it has begun, so that of requests sent at the same time none
reads what another writes. Anthropic says so in that guide; the others cannot know a prefix before they have worked through it.
The clock is an argument.
"""

import time
from collections.abc import Callable, Iterator
from hashlib import blake2b
from typing import Literal, NamedTuple

from runner.simulator.dialect import Refusal
from runner.simulator.prompt import BYTES_PER_TOKEN, Block, blocks

CacheKind = Literal["off", "openai", "anthropic", "vllm"]
CACHES: tuple[CacheKind, ...] = ("off", "openai", "anthropic", "vllm")

_LEAST = 1024
_STEP = 128
_VLLM_STEP = 16
_MARKS = 4
_LOOKBACK = 20
_HOUR = 12
# Prefixes to remember: about 45 MB.
_REMEMBERED = 250_000


class Prefix(NamedTuple):
    """The beginning of a request: its length in tokens, and a hash of all its content."""

    tokens: int
    key: bytes


class Cacheable(NamedTuple):
    """What a cache can do for a request, shortest prefix first. marked: only what was marked is kept, and writing it costs.

    hour: tokens of the longest prefix that is to be kept for an hour; it comes before all others.
    """

    readable: list[Prefix]
    kept: list[Prefix]
    marked: bool
    hour: int = 0


class Hit(NamedTuple):
    """Tokens of a request that are read from the cache, and tokens that are written to it at a price.

    written_1h: of these, those that are kept for an hour.
    """

    read: int
    written: int
    written_1h: int = 0


class Cache:
    """The prefixes that a provider remembers. lifetime_s: how long one lives after it was last used.

    One that is kept for an hour lives twelve times as long.
    """

    def __init__(
        self,
        kind: CacheKind,
        *,
        lifetime_s: float,
        remembered: int = _REMEMBERED,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._kind = kind
        self._lifetime_s = lifetime_s
        self._remembered = remembered
        self._clock = clock
        # key of a prefix -> when it was last used; the least recently used one is the first
        self._used: dict[bytes, float] = {}
        self._for_hour: set[bytes] = set()

    def read(self, model: str, body: bytes) -> Cacheable | None:
        """Return what could be cached of a valid request; None if nothing is cached. Raises Refusal (400) for too many marks."""
        if self._kind == "off":
            return None
        found = blocks(body)
        if self._kind == "anthropic":
            return _marked(model, found)
        step = _VLLM_STEP if self._kind == "vllm" else _STEP
        prefixes = list(_steps(model, found, step))
        if self._kind == "openai":
            prefixes = [prefix for prefix in prefixes if prefix.tokens >= _LEAST]
        return Cacheable(readable=prefixes, kept=prefixes, marked=False)

    def find(self, asked: Cacheable, input_tokens: int) -> Hit:
        """Return what the cache does for a request that has this many tokens."""
        now = self._clock()
        read = 0
        for prefix in reversed(asked.readable):
            used = self._used.get(prefix.key)
            if used is not None and now - used <= self._lifetime_s * (_HOUR if prefix.key in self._for_hour else 1):
                read = min(prefix.tokens, input_tokens)
                self._use(prefix, now)
                break
        written = asked.kept[-1].tokens if asked.marked and asked.kept else 0
        to_be_written, for_hour = (max(0, min(tokens, input_tokens) - read) for tokens in (written, asked.hour))
        return Hit(read=read, written=to_be_written, written_1h=for_hour)

    def keep(self, asked: Cacheable) -> None:
        """Remember the prefixes of a request whose answer begins."""
        now = self._clock()
        # the shortest last: it serves most requests, and is forgotten last
        for prefix in reversed(asked.kept):
            self._use(prefix, now)
            if prefix.tokens <= asked.hour:
                self._for_hour.add(prefix.key)
        while len(self._used) > self._remembered:
            oldest = next(iter(self._used))
            del self._used[oldest]
            self._for_hour.discard(oldest)

    def _use(self, prefix: Prefix, now: float) -> None:
        self._used.pop(prefix.key, None)
        self._used[prefix.key] = now


def _steps(model: str, found: list[Block], step: int) -> Iterator[Prefix]:
    """Yield the prefixes of a request whose lengths are multiples of ``step`` tokens."""
    content = b"".join(block.content for block in found)
    key = blake2b(model.encode(), digest_size=16).digest()
    size = step * BYTES_PER_TOKEN
    for end in range(size, len(content) + 1, size):
        key = blake2b(key + content[end - size : end], digest_size=16).digest()
        yield Prefix(end // BYTES_PER_TOKEN, key)


def _marked(model: str, found: list[Block]) -> Cacheable:
    """Return the prefixes that end at a mark, and those that a mark finds."""
    marks = [number for number, block in enumerate(found) if block.life is not None]
    if len(marks) > _MARKS:
        raise Refusal(400, f"A maximum of {_MARKS} blocks with cache_control may be provided. Found {len(marks)}.")
    lives = [found[mark].life for mark in marks]
    if lives != sorted(lives, key=lambda life: life != "1h"):
        raise Refusal(400, "a ttl='1h' cache_control block must not come after a ttl='5m' cache_control block")
    key = blake2b(model.encode(), digest_size=16).digest()
    size = 0
    ends: list[Prefix] = []
    for block in found:
        # the length keeps apart what two blocks say and what one says
        key = blake2b(key + len(block.content).to_bytes(8, "big") + block.content, digest_size=16).digest()
        size += len(block.content)
        ends.append(Prefix(size // BYTES_PER_TOKEN, key))
    seen = {number for mark in marks for number in range(max(0, mark - _LOOKBACK), mark + 1)}
    kept = [mark for mark in marks if ends[mark].tokens >= _LEAST]
    return Cacheable(
        readable=[ends[number] for number in sorted(seen) if ends[number].tokens >= _LEAST],
        kept=[ends[mark] for mark in kept],
        marked=True,
        hour=max((ends[mark].tokens for mark in kept if found[mark].life == "1h"), default=0),
    )
