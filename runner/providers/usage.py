"""Reads what a server says about tokens. Pure.

One rule: the last figures that make sense count. A later zero never replaces a number, because many servers end a stream with an
empty usage.
"""

from collections.abc import Mapping

from runner.model import Json, Usage
from runner.providers.lenient_json import count

_INPUT = ("prompt_tokens", "input_tokens")
_OUTPUT = ("completion_tokens", "output_tokens")
# DeepSeek's name and that of gateways to Anthropic come last
_CACHED = ("cached_tokens", "prompt_cache_hit_tokens", "cache_read_input_tokens")
# of gateways to Anthropic, and of OpenRouter
_WRITTEN = ("cache_write_tokens", "cache_creation_tokens", "cache_creation_input_tokens")
_REASONING = ("reasoning_tokens",)
_MESSAGES_FIELDS = ("input_tokens", "cache_read_input_tokens", "cache_creation_input_tokens", "output_tokens")
# what was written to a cache by how long that is kept, of Anthropic and of gateways to it
_BY_LIFE = ("cache_creation", "cache_creation_token_details")
_MINUTES, _HOUR = "ephemeral_5m_input_tokens", "ephemeral_1h_input_tokens"
_THINKING = ("thinking_tokens",)


def chat_usage(value: Json, before: Usage | None = None) -> Usage | None:
    """Return the usage after a usage object of Chat Completions. before: the usage so far, kept if this one says nothing."""
    if type(value) is not dict:
        return before
    details = value.get("prompt_tokens_details") or value.get("input_tokens_details")
    cached, stored = (_of(details, _CACHED), _of(details, _WRITTEN)) if type(details) is dict else (None, None)
    hour = _by_life(details)[1] if type(details) is dict else None
    details = value.get("completion_tokens_details") or value.get("output_tokens_details")
    reasoning = _of(details, _REASONING) if type(details) is dict else None
    read, written, total = _of(value, _INPUT), _of(value, _OUTPUT), count(value.get("total_tokens"))
    cached = _of(value, _CACHED) if cached is None else cached
    stored = _of(value, _WRITTEN) if stored is None else stored
    reasoning = _of(value, _REASONING) if reasoning is None else reasoning
    if (reasoning or total) and (reasoning or 0, total) != (0, (read or 0) + (written or 0)):
        written, reasoning = _with_reasoning(read, written, reasoning, total)
    usage = Usage(
        input_tokens=read,
        output_tokens=written,
        cached_tokens=cached,
        cache_write_tokens=stored,
        cache_write_1h_tokens=_by_life(value)[1] if hour is None else hour,
        reasoning_tokens=reasoning,
    )
    if before is None:
        return None if read is written is cached is reasoning is None else usage
    return _later(before, usage)


def _of(figures: Mapping[str, Json], names: tuple[str, ...]) -> int | None:
    """Return the first count that is known by one of these names."""
    for name in names:
        if name in figures and (number := count(figures[name])) is not None:
            return number
    return None


def _by_life(figures: Mapping[str, Json]) -> tuple[int | None, int | None]:
    """Return what was written to caches that are kept for minutes, and for an hour; None if these are not told apart."""
    for name in _BY_LIFE:
        if type(lives := figures.get(name)) is dict:
            return count(lives.get(_MINUTES)), count(lives.get(_HOUR))
    return None, None


def _with_reasoning(
    read: int | None, written: int | None, reasoning: int | None, total: int | None
) -> tuple[int | None, int | None]:
    """Return output, with the reasoning in it, and reasoning. Some servers (xAI, Gemini) count the reasoning beside the output.

    The total tells: it is input + output + reasoning there. Without a total, reasoning that exceeds the output is not in it.
    """
    if written is not None and reasoning is not None and reasoning > written:
        return written + reasoning, reasoning
    if total is None or read is None or total <= read:
        return written, reasoning
    beside = total - read - (written or 0)
    if beside <= 0:
        return written, reasoning
    if written is None:
        return total - read, reasoning
    if reasoning in (None, 0, beside):
        return total - read, beside
    # what else a total may hold is not known
    return written, reasoning


def _later(before: Usage, now: Usage) -> Usage:
    if not now.input_tokens and not now.output_tokens and (before.input_tokens or before.output_tokens):
        return before
    return Usage(
        input_tokens=now.input_tokens or before.input_tokens,
        output_tokens=now.output_tokens or before.output_tokens,
        cached_tokens=before.cached_tokens if now.cached_tokens is None else now.cached_tokens,
        cache_write_tokens=before.cache_write_tokens if now.cache_write_tokens is None else now.cache_write_tokens,
        cache_write_1h_tokens=before.cache_write_1h_tokens if now.cache_write_1h_tokens is None else now.cache_write_1h_tokens,
        reasoning_tokens=before.reasoning_tokens if now.reasoning_tokens is None else now.reasoning_tokens,
    )


class MessagesUsage:
    """The token counts of the Messages dialect. They are running totals in several events, and each may be missing."""

    __slots__ = ("_counts", "_hour", "_minutes", "_thinking")

    def __init__(self) -> None:
        self._counts: dict[str, int] = {}
        self._minutes: int | None = None
        self._hour: int | None = None
        self._thinking: int | None = None

    def update(self, usage: Mapping[str, Json]) -> Usage | None:
        """Take a usage object; return the usage so far, None if nothing is known."""
        for name in _MESSAGES_FIELDS:
            value = count(usage.get(name))
            if value is not None and (value or name not in self._counts):
                self._counts[name] = value
        if not self._counts:
            return None
        self._update_parts(usage)
        uncached = self._counts.get("input_tokens")
        read = self._counts.get("cache_read_input_tokens")
        written = self._counts.get("cache_creation_input_tokens")
        if written is None and self._hour is not None:
            written = self._hour + (self._minutes or 0)
        return Usage(
            # in this dialect, input_tokens does not include the cached tokens
            input_tokens=None if uncached is None else uncached + (read or 0) + (written or 0),
            output_tokens=self._counts.get("output_tokens"),
            cached_tokens=read,
            cache_write_tokens=written,
            cache_write_1h_tokens=self._hour,
            reasoning_tokens=self._thinking,
        )

    def _update_parts(self, usage: Mapping[str, Json]) -> None:
        minutes, hour = _by_life(usage)
        if hour is not None:
            self._minutes, self._hour = minutes, hour
        if count(usage.get("output_tokens")) is not None:
            # an earlier figure is of a smaller output
            details = usage.get("output_tokens_details")
            self._thinking = _of(details, _THINKING) if type(details) is dict else None
