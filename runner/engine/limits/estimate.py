"""Estimates how many tokens a request takes, from its size and from what the answers before it have reported."""

from runner.engine.limits.headers import Kind
from runner.model import Usage

BYTES_PER_TOKEN = 4.0
"""Bytes of a request per input token, until usage is known; about right for English text in JSON."""
OUTPUT_TOKENS = 256.0
"""Tokens of an answer, until usage is known."""
FIXED_BYTES = 1000.0
"""So many bytes of a request may be names and brackets that are the same in every request and cost nearly no token."""
LEAST_SLOPE = 0.2
"""Tokens that each further byte costs at the least: 5 bytes per token, the most that is usual in text."""
_DOUBT = 0.15
"""How far, in tokens per byte, the expected slope may be wrong: what the answers show is weighed against it."""
_KEPT = 0.98
"""Factor by which each new observation lowers the weight of the older ones: about the last fifty answers count."""


class Estimate:
    """Expects tokens from the newest answers: a straight line for the input, a mean for the output.

    A line through the origin would not do. About a hundred bytes of each request are JSON that costs next to nothing, so small
    requests have 15 bytes per token, and a large one of the same text has 4.
    """

    def __init__(self) -> None:
        self._weight = self._bytes = self._input = 0.0
        # sums of squares and products
        self._bb = self._bt = self._tt = 0.0
        self._least = float("inf")
        self._output = self._answers = 0.0
        # the line, made anew when it is needed: mean size, mean tokens, slope above the mean, slope below it
        self._line: tuple[float, float, float, float] | None = None

    @property
    def learned(self) -> bool:
        """True if the usage of an answer is known."""
        return self._weight > 0 and self._answers > 0

    def input_tokens(self, size: int) -> float:
        """Expected input tokens of a request of ``size`` bytes."""
        if not self._weight:
            return max(1.0, size / BYTES_PER_TOKEN)
        mean, tokens, up, down = self._line or self._fit()
        if size >= mean:
            return max(1.0, tokens + up * (size - mean))
        # below all that was seen, in proportion: a line could lead far below 0, or end far above it
        seen = max(float(size), min(self._least, mean))
        return max(1.0, max(0.0, tokens - down * (mean - seen)) * size / seen)

    def output_tokens(self, most: int | None) -> float:
        """Expected output tokens of an answer that may have up to ``most``."""
        mean = self._output / self._answers if self._answers else OUTPUT_TOKENS
        return mean if most is None else min(mean, float(most))

    def learn(self, size: int, usage: Usage) -> None:
        """Include the usage of a complete answer."""
        if (tokens := usage.input_tokens) is not None and size > 0:
            self._weight = self._weight * _KEPT + 1
            self._bytes = self._bytes * _KEPT + size
            self._input = self._input * _KEPT + tokens
            self._bb = self._bb * _KEPT + size * size
            self._bt = self._bt * _KEPT + size * tokens
            self._tt = self._tt * _KEPT + tokens * tokens
            self._least = min(size, self._least / _KEPT)
            self._line = None
        if usage.output_tokens is not None:
            self._output = self._output * _KEPT + usage.output_tokens
            self._answers = self._answers * _KEPT + 1

    def _fit(self) -> tuple[float, float, float, float]:
        mean, tokens = self._bytes / self._weight, self._input / self._weight
        spread = max(0.0, self._bb / self._weight - mean * mean)
        both = self._bt / self._weight - mean * tokens
        seen = both / spread if spread > 0 else 0.0
        # what the line leaves unexplained makes its slope uncertain; rounding alone is one token
        noise = max(1.0, self._tt / self._weight - tokens * tokens - seen * both)
        trust = spread / (spread + noise / (_DOUBT * _DOUBT * self._weight))
        # the same text without what is the same in all requests
        text = tokens / max(1.0, mean - FIXED_BYTES)
        expected = max(tokens / mean, min(1 / BYTES_PER_TOKEN, text))
        slope = trust * seen + (1 - trust) * expected
        # a large request that is taken for a small one passes the limit; the other way round it only waits
        least = LEAST_SLOPE if trust > 0.5 else 1 / BYTES_PER_TOKEN
        up = min(1.0, max(slope, min(least, text)))
        self._line = mean, tokens, up, min(1.0, max(0.0, slope))
        return self._line


def amount(kind: Kind, input_tokens: float, output_tokens: float) -> float:
    """Return how much a request takes of a limit."""
    match kind:
        case "rpm":
            return 1.0
        case "tpm":
            return input_tokens + output_tokens
        case "input_tpm":
            return input_tokens
        case "output_tpm":
            return output_tokens
