"""A server that misbehaves in many ways, in the same way in every run. It shares no code with ``runner``."""

import gzip
import random
from collections import Counter
from collections.abc import Mapping, Sequence

from raw_server import EVENTS, FIN, HANG, LAST, PING, RST, Received, Reply, Step, chunk, events, head, named, sse, stream, whole

PARTIAL = "PARTIAL TEXT"
"""The text of every answer that is cut off."""
ANSWERS = ("stream", "stream with pauses", "stream in one piece", "stream with CRLF", "gzip")
FAULTS = (
    "reset before headers",
    "late reset before headers",
    "cut mid-stream",
    "silent truncation",
    "stall",
    "malformed",
    "error event",
    "429",
    "503",
    "wrong length",
    "short length",
    "giant header",
    "500",
)


def text_of(number: int) -> str:
    """Return the answer to a row: different for each row, and long enough to be cut off."""
    return f"<{number}> Grüezi 🙂 " + " ".join(str(number * one) for one in range(number % 7 + 1))


class Misbehaving:
    """Chooses the reply to a request from the row and the number of its requests so far: the same in every run."""

    def __init__(
        self,
        dialect: str,
        faults: Sequence[str] = FAULTS,
        *,
        likely: Sequence[float] = (0.35, 0.2),
        always: Mapping[int, str] | None = None,
    ) -> None:
        """faults: what may go wrong. likely: chance of a fault at a row's first request, its second, ...; later ones succeed.

        always: rows that get the same fault each time.
        """
        self.dialect, self.faults, self.likely, self.always = dialect, faults, likely, always or {}
        self.asked: Counter[int] = Counter()
        self.played: Counter[str] = Counter()

    def __call__(self, request: Received) -> Reply:
        number = int(request.json["messages"][0]["content"].split()[-1].rstrip("."))
        self.asked[number] += 1
        draw = random.Random(f"{number} {self.asked[number]}")
        play = self._choice(number, draw)
        self.played[play] += 1
        return self._reply(play, number, draw)

    def _choice(self, number: int, draw: random.Random) -> str:
        if number in self.always:
            return self.always[number]
        # only a few faults for each row, so that no row gets as many faults as it has attempts
        likely = dict(enumerate(self.likely, 1)).get(self.asked[number], 0.0)
        return draw.choice(self.faults if draw.random() < likely else ANSWERS)

    def _reply(self, play: str, number: int, draw: random.Random) -> Reply:
        good = self.events(text_of(number), draw)
        # the answer without its end
        begun = self.events(PARTIAL, draw)[: 4 if self.dialect == "openai" else 7]
        match play:
            case "stream":
                return stream(*good)
            case "stream with pauses":
                return stream(*(step for event in good for step in (event, 0.01)))
            case "stream in one piece":
                return stream(b"".join(good))
            case "stream with CRLF":
                return stream(*(event.replace(b"\n", b"\r\n") for event in good))
            case "gzip":
                packed = gzip.compress(b"".join(good))
                return Reply((head(headers={**EVENTS, "content-encoding": "gzip"}), chunk(packed[:40]), chunk(packed[40:]), LAST))
            case "reset before headers":
                return Reply((RST,))
            case "late reset before headers":
                return Reply((1.3, RST))
            case "cut mid-stream":
                return stream(*begun, end=(0.02, RST))
            case "silent truncation":
                return stream(*begun)
            case "stall":
                return stream(*begun, end=(HANG,))
            case "malformed":
                return stream(*begun, sse(b'{"choices": [{"del'), *good[2:])
            case "error event":
                return stream(*begun, self._error("overloaded_error", "busy"))
            case "429":
                hint = {"retry-after-ms": str(draw.randrange(20, 120)), "retry-after": "1"}
                return whole("429 Too Many Requests", {"error": {"type": "rate_limit_error", "message": "slow"}}, **hint)
            case "503":
                return whole("503 Service Unavailable", "upstream is down")
            case "wrong length":
                return Reply((head(headers={"content-type": "text/event-stream", "content-length": "99999"}), *begun, FIN))
            case "short length":
                length = str(len(b"".join(begun)))
                return Reply((head(headers={"content-type": "text/event-stream", "content-length": length}), *good, FIN))
            case "giant header":
                return Reply((head(headers={**EVENTS, "x-giant": "x" * 300_000}), *map(chunk, good), LAST))
            case "500" | "server_error":
                return whole("500 Internal Server Error", "<html><title>oops</title></html>", kind="text/html")
            case "bad_request":
                return whole("400 Bad Request", {"error": {"type": "invalid_request_error", "message": f"not {number}"}})
            case "not_an_api":
                return whole("200 OK", "<html><title>Log in</title></html>", kind="text/html")
        raise AssertionError(play)

    def events(self, text: str, draw: random.Random) -> list[bytes]:
        """Return the events of a whole answer."""
        at = sorted(draw.randrange(len(text) + 1) for _ in range(3))
        pieces = [text[start:end] for start, end in zip([0, *at], [*at, len(text)], strict=True)]
        first, second, *others = events(self.dialect, *pieces)
        return [first, second, *([PING] if self.dialect == "anthropic" else []), *others]

    def _error(self, kind: str, message: str) -> Step:
        error = {"error": {"type": kind, "message": message}}
        return sse(error) if self.dialect == "openai" else named("error", **error)
