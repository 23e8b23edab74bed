"""Estimates of whole runs against what these cost in the end: ``python -m benchmarks.estimate_runs --sets 40``.

Each set of rows has its own sizes, languages, lengths of answers and prices, and is sent to a server that counts tokens as each
row says. ``--again`` is the share of the rows that fail once, with an answer that is billed; ``--cut`` the share of those whose
answer is cut off once in the middle, billed up to there without a word. 50 rows are sent for the estimate, then the run is
finished.
"""

import argparse
import json
import logging
import random
import sys
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from statistics import fmean, median, pstdev
from typing import Any, ClassVar, NamedTuple

import runner
from benchmarks.estimates import SAMPLE, VARIED, missed, token_set

ROWS = 1_000


class Compared(NamedTuple):
    """An estimate and the truth, in dollars. varied: the coefficient of variation of the costs of the rows."""

    low: float
    mid: float
    high: float
    cost: float
    varied: float

    @property
    def holds(self) -> bool:
        """True if the run cost what the estimate said that it would, to the rounding of a float."""
        return self.low * (1 - 1e-9) <= self.cost <= self.high * (1 + 1e-9)

    @property
    def half_width(self) -> float:
        """Half of the interval, as a part of the truth."""
        return (self.high - self.low) / 2 / self.cost


class _Metered(BaseHTTPRequestHandler):
    """Answers with the tokens that a prompt names in its first words: of the input, of the answer, and how it fails once."""

    protocol_version = "HTTP/1.1"
    # an answer goes out in one piece: two would wait for each other
    wbufsize = 1 << 16
    seen: ClassVar[set[str]] = set()

    def do_POST(self) -> None:
        """Answer a request."""
        asked = json.loads(self.rfile.read(int(self.headers["content-length"])))
        name, read, written, again = asked["messages"][-1]["content"].split(" ", 4)[:4]
        failed, cut = (again == word and name not in self.seen for word in ("again", "cut"))
        self.seen.add(name)
        message = {"role": "assistant", "content": "Yes."}
        answer = {
            "id": name,
            "object": "chat.completion",
            "model": "m",
            "choices": [{"index": 0, "message": message, "finish_reason": "pause" if failed else "stop"}],
            "usage": {"prompt_tokens": int(read), "completion_tokens": int(written)},
        }
        body = json.dumps(answer).encode()
        self.send_response(200)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body[: len(body) // 2] if cut else body)
        self.close_connection = cut

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@contextmanager
def metered() -> Iterator[str]:
    """Serve on loopback, and yield the base URL."""
    with ThreadingHTTPServer(("127.0.0.1", 0), _Metered) as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}/v1"
        finally:
            server.shutdown()
            thread.join()


def compare(seed: int, number: int, share: float, base_url: str, folder: Path, cut: float = 0.0) -> Compared:
    """Estimate the run of a set of rows, finish it, and return both. share, cut: of the rows that fail once, and are cut once."""
    made, (read_rate, write_rate), _ = token_set(seed, number)
    rows, costs, chance, unknown = [], [], random.Random(seed), 0.0  # noqa: S311 - no secret
    for place, (size, read, written) in enumerate(made):
        drawn = chance.random()
        again = "again" if drawn < share else "cut" if drawn < share + cut else "once"
        words = f"{seed}-{place} {read} {written} {again} "
        rows.append({"id": str(place), "prompt": words + "x" * max(0, size - len(words))})
        costs.append((read * read_rate + written * write_rate) * (2 if again == "again" else 1))
        unknown += (read * read_rate + written / 2 * write_rate) / 1e6 if again == "cut" else 0.0
    settings: dict[str, Any] = {
        "model": "m",
        "base_url": base_url,
        "db": folder / f"{seed}.db",
        "prices": {"m": {"input": read_rate, "output": write_rate}},
        "finish_retry": "pause",
        "concurrency": 8,
        "stream": False,
        "progress": False,
    }
    estimate = runner.estimate(rows, sample=SAMPLE, **settings)
    summary = runner.run(rows, **settings)
    assert summary.finished, summary
    assert estimate.cost is not None, estimate
    assert estimate.cost.high is not None, estimate
    assert summary.cost is not None, summary
    return Compared(
        estimate.cost.low, estimate.cost.mid, estimate.cost.high, summary.cost + unknown, pstdev(costs) / fmean(costs)
    )


def main() -> int:
    """Compare estimates with runs, and print how often they hold. Return 1 if a figure is missed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sets", type=int, default=40)
    parser.add_argument("--first", type=int, default=0, help="seed of the first set")
    parser.add_argument("--rows", type=int, default=ROWS)
    parser.add_argument("--again", type=float, default=0.0)
    parser.add_argument("--cut", type=float, default=0.0)
    given = parser.parse_args()
    logging.disable(logging.WARNING)
    found: list[Compared] = []
    with metered() as base_url, tempfile.TemporaryDirectory() as folder:
        for seed in range(given.first, given.first + given.sets):
            one = compare(seed, given.rows, given.again, base_url, Path(folder), given.cut)
            found.append(one)
            print(
                f"{seed:3}  {one.low:.4f} to {one.high:.4f}, cost {one.cost:.4f}, half-width {one.half_width:.3f}"
                f"{'' if one.holds else '  MISSED'}",
                file=sys.stderr,
            )
    widths = [one.half_width for one in found if one.varied <= VARIED]
    print(f"{sum(one.holds for one in found)} of {len(found)} runs cost what was estimated from {SAMPLE} rows")
    if widths:
        print(f"of {len(widths)} with a coefficient of variation up to 1: half-width {median(widths):.3f} in the median")
    wrong = missed([one.holds for one in found], widths, faults=given.again + given.cut > 0)
    for what in wrong:
        print(f"MISSED  {what}")
    return int(bool(wrong))


if __name__ == "__main__":
    sys.exit(main())
