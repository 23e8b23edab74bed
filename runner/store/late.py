"""Books what attempts have used, where that is known only after they were given up. Synchronous."""

import sqlite3
from collections.abc import Sequence

from runner.entries import LateUsage

_BOOK = """
UPDATE attempts SET input_tokens = ?, output_tokens = ?, cached_tokens = ?, cache_write_tokens = ?, cache_write_1h_tokens = ?,
    reasoning_tokens = ?, input_bound = NULL, output_bound = NULL, cache_1h_bound = NULL
WHERE run_id = ? AND item_key = ? AND number = ? AND error_code = 'worker_lost' AND input_tokens IS NULL
"""
_UNSENT = """
UPDATE attempts SET sent = 0, input_bound = NULL, output_bound = NULL, cache_1h_bound = NULL
WHERE run_id = ? AND item_key = ? AND number = ? AND error_code = 'worker_lost' AND input_tokens IS NULL
"""


def book_late(driver: sqlite3.Connection, run_id: int, late: Sequence[LateUsage]) -> None:
    """Write down what attempts have used. One whose usage is not known as a whole keeps its bounds."""
    for key, number, usage in late:
        if usage is None:
            driver.execute(_UNSENT, (run_id, key, number))
            continue
        if usage.input_tokens is None or usage.output_tokens is None:
            continue
        counts = (
            usage.input_tokens, usage.output_tokens, usage.cached_tokens, usage.cache_write_tokens,
            usage.cache_write_1h_tokens, usage.reasoning_tokens,
        )  # fmt: skip
        driver.execute(_BOOK, (*counts, run_id, key, number))
