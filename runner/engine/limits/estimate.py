"""How many tokens a request will take, learned from the usage that the server reports."""

from runner.model import Usage

BYTES_PER_TOKEN = 4.0
"""Bytes of a request for one token of input, until usage tells; English text in JSON has about as many."""
OUTPUT_TOKENS = 256.0
"""Tokens of an answer, until usage tells."""
_KEPT = 0.98
"""What a new observation leaves of the older ones: about fifty answers are looked back on."""


class Estimate:
    """Running means, weighted towards the newest answers."""

    def __init__(self) -> None:
        self._bytes = self._input = 0.0
        self._output = self._answers = 0.0

    def input_tokens(self, size: int) -> float:
        """Tokens of a request of ``size`` bytes."""
        return max(1.0, size * self._input / self._bytes if self._input else size / BYTES_PER_TOKEN)

    def output_tokens(self, most: int | None) -> float:
        """Tokens of an answer that may have at most ``most``."""
        mean = self._output / self._answers if self._answers else OUTPUT_TOKENS
        return mean if most is None else min(mean, float(most))

    def learn(self, size: int, usage: Usage) -> None:
        """Take a complete answer's usage into account."""
        if usage.input_tokens is not None and size > 0:
            self._bytes = self._bytes * _KEPT + size
            self._input = self._input * _KEPT + usage.input_tokens
        if usage.output_tokens is not None:
            self._output = self._output * _KEPT + usage.output_tokens
            self._answers = self._answers * _KEPT + 1
