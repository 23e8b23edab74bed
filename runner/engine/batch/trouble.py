"""What an error of the batch API means for the session: try again, ask less at a time, or stop. In the words of live rows."""

from collections.abc import Callable
from typing import Literal, TypeAlias

from runner.durations import format_span
from runner.engine.answers import InformedProvider, without_frames
from runner.engine.batch.parts import Rules
from runner.engine.failing import FATAL_GRACE_S
from runner.engine.judge import UNREACHED_S, Judge
from runner.errors import AttemptError, ProviderError, RunStoppedError, advice
from runner.model import HttpCall, Item, Request

NOT_FOUND, TOO_LARGE, QUOTA, UNSUPPORTED = "batch_not_found", "batch_too_large", "batch_quota", "batch_unsupported"
"""Error codes of what only a batch API refuses."""
FIRST_S, MOST_S, GROWTH = 2.0, 60.0, 1.6
"""Seconds of the first wait after an error, of the longest, and how they grow."""

TOLD_AFTER_S = 120.0
"""Seconds of errors and nothing else after which people are told: waiting looks the same as an outage."""

Means: TypeAlias = Literal["again", "full", "smaller", "unknown", "refused", "stop"]
"""again: later. full: the provider takes no more for now. smaller: fewer requests at a time. unknown: it does not know the batch.
refused: it does not take what was sent. stop: the run is stopping."""


class Trouble:
    """Decides what follows from errors of the batch API."""

    def __init__(
        self, provider: InformedProvider, judge: Judge, rules: Rules, note: Callable[[str], None], *, live: bool = False
    ) -> None:
        """live: rows that no batch takes go live."""
        self._provider, self._judge, self._rules, self._note, self._live = provider, judge, rules, note, live
        # the provider takes no batches of ours, so none is made any more
        self.takes_none = False
        self._reached = False
        self._unreached_since: float | None = None
        # since when there were only errors, and whether that was told
        self._failing_since: float | None = None
        self._told = False

    def over(self) -> None:
        """Record that the provider has done what it was asked for."""
        self._answered()
        self._failing_since, self._told = None, False

    def _answered(self) -> None:
        self._reached, self._unreached_since = True, None

    def means(self, error: AttemptError, model: str) -> Means:
        """Return what follows from an error; for ``stop``, the stop has been requested."""
        known: dict[str, Means] = {NOT_FOUND: "unknown", QUOTA: "full", TOO_LARGE: "smaller"}
        if (means := known.get(error.code)) is not None:
            self.over()
            return means
        now = self._rules.clock.monotonic()
        self._tell(error, now)
        if not error.sent and error.verdict == "retry":
            if self._unreached_since is None:
                self._unreached_since = now
            if self._reached or now - self._unreached_since < UNREACHED_S:
                return "again"
            self.stop(error, model)
            return "stop"
        self._answered()
        asked = Request(model=model, messages=())
        error = without_frames(self._provider.explained(error, asked, HttpCall(url="", headers={}, body=b"{}")))
        verdict = self._judge.verdict(error, model, now)
        if verdict == "stop":
            self.stop(error, model)
            return "stop"
        return "again" if verdict == "retry" else "refused"

    def _tell(self, error: AttemptError, now: float) -> None:
        """Say once that there are only errors."""
        self._failing_since = now if self._failing_since is None else self._failing_since
        if (failing_s := now - self._failing_since) >= TOLD_AFTER_S and not self._told:
            self._told = True
            said = self._rules.redactor(str(error)).rstrip(".")
            self._note(f"the batch API has failed for {format_span(failing_s)} ({said}): it is asked again until it answers")

    def stop(self, error: AttemptError, model: str) -> None:
        """Stop the run because of an error."""
        said = self._rules.redactor(str(error))
        item = Item(key="", position=0, request=Request(model=model, messages=()), metadata={}, fingerprint=0)
        sentence = f"{said.rstrip('.')}. {self._judge.advice(error, item, said)}"
        self.stop_for(sentence, code=error.code)

    def goes_live(self, words: str) -> bool:
        """Return True if rows go live as the provider takes no batches of ours: then none is made any more. words: why."""
        if self._live and not self.takes_none:
            self.takes_none = True
            self._note(f"{self._rules.redactor(words).rstrip('.')}; no more batches are made, and the rows go live")
        return self._live

    def refused(self, words: str) -> None:
        """Stop the run because the provider does not take a batch, unless its rows can go live. words: what it says."""
        if self.goes_live(words):
            return
        self.stop_for(f"{self._rules.redactor(words).rstrip('.')}. {advice('batch_refused')}", code="batch_refused")

    def stop_for(self, sentence: str, *, code: str) -> None:
        """Stop the run with a sentence."""
        self._rules.stop.request(sentence, grace_s=FATAL_GRACE_S, error=RunStoppedError(sentence, code=code))

    def wait_s(self, error: AttemptError, last_s: float) -> float:
        """Return how long to wait before the next try. last_s: the wait before the one that failed, 0 if there was none."""
        draw = self._rules.clock.random.uniform(0.8, 1.2)
        wait_s = min(MOST_S, max(FIRST_S, last_s * GROWTH)) * draw
        hint_s = error.retry_after_s if isinstance(error, ProviderError) else None
        return wait_s if hint_s is None else max(wait_s, hint_s)
