"""Tells OpenTelemetry of a session: a span for each attempt, and a few metrics. An observer; needs the extra ``otel``.

The event loop only puts what was saved in a queue. A thread makes spans and measurements of it, and those of the SDK send them.
Each queue is bounded: what a collector does not take in time is left out, is counted, and is told once. It costs the run no row.
"""

import logging
import os
import time
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from importlib.util import find_spec
from queue import SimpleQueue
from threading import Thread
from types import TracebackType
from typing import Self

from msgspec import Struct, structs

from runner.errors import UsageError
from runner.event_types import Event, Finished, Progress, Saved, Started, Summary
from runner.model import Attempt, Outcome

logger = logging.getLogger("runner")

END_S = 4.0
"""So many seconds a session waits at its end for what is still to be sent."""
END_AT_ONCE_S = 0.5
"""The same after a third signal, and after an error."""
MOST_WAITING = 20_000
"""Attempts that may wait for their spans. The SDK's own queue behind it is bounded by ``OTEL_BSP_MAX_QUEUE_SIZE``."""


class _Saved(Struct, frozen=True):
    # (attempt, finish reason)
    attempts: list[tuple[Attempt, str | None]]
    # (what became of a row, error code): how many
    outcomes: Counter[tuple[str, str | None]]


def need_otel() -> None:
    """Raise UsageError if the libraries of OpenTelemetry are not there. Imports none of them but their package."""
    if any(_is_missing(name) for name in ("opentelemetry.sdk.trace", "opentelemetry.exporter.otlp.proto.http")):
        raise UsageError("telemetry needs libraries that are not installed: `pip install 'prompt-runner[otel]'`")


def _is_missing(name: str) -> bool:
    try:
        return find_spec(name) is None
    except ModuleNotFoundError:
        # a package above it
        return True


class Telemetry:
    """Tells OpenTelemetry of one session. A context manager; its method ``tell`` is the observer of the session.

    provider: the dialect of the requests, as in the setting. base_url: of the endpoint, None if it is not known or there are
    several; only its host and port are told. note: is told in a sentence, once, that the collector is not reached, or what it
    has not taken. It is called in the thread of ``tell``, or at the end of the block; by default the log ``runner`` is told.
    Raises UsageError if the libraries are not there, and for a variable ``OTEL_*`` that cannot be meant.
    """

    def __init__(self, provider: str, *, base_url: str | None = None, note: Callable[[str], None] = logger.warning) -> None:
        need_otel()
        # only here is anything of OpenTelemetry imported
        from runner.integrations.telemetry_attempts import AttemptTelemetry
        from runner.integrations.telemetry_sdk import Pipelines

        self._pipelines = Pipelines(os.environ)
        self._attempts = AttemptTelemetry(self._pipelines, provider, base_url)
        self._note = note
        self._noted = False
        self._queue: SimpleQueue[Event | _Saved | None] = SimpleQueue()
        # attempts that were put in the queue, those that were taken from it, and those for which there was no room
        self._put = self._taken = self._left_out = 0
        self._thread = Thread(target=self._work, name="telemetry", daemon=True)
        self._thread.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close(END_S if kind is None else END_AT_ONCE_S)

    def tell(self, event: Event) -> None:
        """Take an event of the session. Does not wait."""
        match event:
            case Saved():
                self._saved(event)
            case Progress():
                self._attempts.in_flight = event.in_flight
            case Started() | Finished():
                self._queue.put(event)
            case _:
                pass
        if not self._noted and self._pipelines.reached.failed:
            self._say(f"telemetry does not reach its collector at {self._pipelines.collector}; the run goes on without it")

    def close(self, within_s: float = END_S) -> None:
        """Send what is left, for so many seconds at most."""
        until = time.monotonic() + within_s
        self._queue.put(None)
        # Ctrl-C ends the wait, and nothing else
        with suppress(KeyboardInterrupt):
            self._thread.join(within_s)
        all_tried = self._pipelines.end(max(0.0, until - time.monotonic()))
        if self._noted:
            return
        where = self._pipelines.collector
        if not all_tried or self._thread.is_alive():
            self._say(f"telemetry is not complete: its collector at {where} did not take what was left in {within_s:g} s")
        elif self._pipelines.reached.failed:
            self._say(f"telemetry did not reach its collector at {where}; the run did not need it")
        elif self._pipelines.traces and (lost := self._attempts.spans + self._left_out - self._pipelines.reached.spans):
            self._say(f"telemetry is not complete: {lost:,} spans were left out, as they came faster than {where} took them")

    def _say(self, sentence: str) -> None:
        self._noted = True
        self._note(sentence)

    def _saved(self, event: Saved) -> None:
        # one that is booked was told when it was saved
        ended = [(attempt, None) for attempt in event.attempts] + [
            (outcome.attempt, outcome.completion.finish_reason if outcome.completion is not None else None)
            for outcome in event.outcomes
            if outcome.attempt is not None and not outcome.booked
        ]
        if not self._thread.is_alive():
            # it has failed, and nothing is taken from the queue any more
            self._left_out += len(ended)
            return
        if self._put - self._taken + len(ended) > MOST_WAITING:
            self._left_out += len(ended)
            ended = []
        self._put += len(ended)
        # no words of a server wait here, nor go further
        bare = [(structs.replace(attempt, error=None) if attempt.error else attempt, reason) for attempt, reason in ended]
        self._queue.put(_Saved(bare, Counter(map(_kind, event.outcomes))))

    def _work(self) -> None:
        try:
            self._tell_all()
        except Exception:
            # the session goes on; what comes now is counted as left out
            logger.exception("OpenTelemetry is told no more of this session")

    def _tell_all(self) -> None:
        """Make spans and measurements of what was told, until the end."""
        summary: Summary | None = None
        while (told := self._queue.get()) is not None:
            match told:
                case Started():
                    self._attempts.begin(told)
                case Finished():
                    summary = told.summary
                case _Saved():
                    self._attempts.rows(told.outcomes)
                    for attempt, reason in told.attempts:
                        self._attempts.attempt(attempt, reason)
                        self._taken += 1
                        # the event loop, if it waits for the interpreter, goes first
                        time.sleep(0)
                case _:
                    pass
        self._attempts.end(summary)


def _kind(outcome: Outcome) -> tuple[str, str | None]:
    return ("kept" if outcome.kept else outcome.status), outcome.error_code
