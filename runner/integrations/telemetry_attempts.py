"""Makes a span and measurements of each attempt of a session. Texts of prompts, answers and errors are in none of them."""

from collections import Counter
from collections.abc import Mapping
from functools import lru_cache
from typing import Any
from urllib.parse import urlsplit

from opentelemetry import trace
from opentelemetry.metrics import Histogram, Meter
from opentelemetry.trace import Span, SpanKind, Status, StatusCode

from runner.event_types import Started, Summary
from runner.integrations import telemetry_names as names
from runner.integrations.telemetry_names import Metric
from runner.integrations.telemetry_sdk import Pipelines, observed
from runner.model import Attempt
from runner.money import PICO
from runner.prices.rates import cost_of
from runner.session.books import billed
from runner.several import number_of, row_of
from runner.text import redact

_MOST_SETS = 500
"""Sets of attributes that a metric has at the most. Rows may name models of their own, and servers answer what they like."""
_MOST_CHARS = 256
_NANO = 10**9


class AttemptTelemetry:
    """The spans and the metrics of one session. Used in one thread, but for ``in_flight``, which is a number.

    provider: the name of the dialect. base_url: of the one endpoint; None: it is not known, or there are several.
    """

    def __init__(self, pipelines: Pipelines, provider: str, base_url: str | None) -> None:
        self._tracer = pipelines.tracer
        self._common: dict[str, Any] = {names.OPERATION: names.CHAT, names.PROVIDER: provider, **_server(base_url)}
        self._session: Span | None = None
        self._run: dict[str, Any] = {}
        self._sets: set[tuple[Any, ...]] = set()
        self.in_flight = 0
        # spans of attempts that are to come to the collector
        self.spans = 0
        meter = pipelines.meter
        self._tokens, self._duration, self._first = (
            _histogram(meter, metric) for metric in (names.TOKEN_USAGE, names.DURATION, names.TIME_TO_FIRST_CHUNK)
        )
        self._cost = meter.create_counter(names.SPENT.name, names.SPENT.unit, names.SPENT.description)
        self._rows = meter.create_counter(names.OUTCOMES.name, names.OUTCOMES.unit, names.OUTCOMES.description)
        gauge = names.IN_FLIGHT
        told = observed(lambda: (self.in_flight, self._run))
        meter.create_observable_gauge(gauge.name, [told], gauge.unit, gauge.description)

    def begin(self, event: Started) -> None:
        """Begin the span of the session."""
        self._run = {names.RUN: event.run}
        self._session = self._tracer.start_span(names.SESSION, attributes={**self._run, names.ROWS: event.rows})
        self._within = trace.set_span_in_context(self._session)

    def rows(self, outcomes: Counter[tuple[str, str | None]]) -> None:
        """Count outcomes that were saved, by what they are and their error codes."""
        for (outcome, code), number in outcomes.items():
            self._rows.add(number, {names.OUTCOME: outcome, **_error(code), **self._run})

    def attempt(self, attempt: Attempt, finish_reason: str | None) -> None:
        """Tell of one attempt. finish_reason: of the answer that it brought, None: there is none."""
        known = self._known(attempt)
        usage = attempt.usage
        rates = attempt.price.rates if attempt.price is not None else None
        cost = cost_of(usage, rates) if rates is not None and billed(attempt) else None
        self._measure(attempt, known, cost)
        if self._session is None or not self._session.is_recording():
            return
        told = {
            **known,
            **self._run,
            names.ROW: _text(row_of(attempt.key)),
            names.ANSWER_NUMBER: number_of(attempt.key),
            names.ATTEMPT: attempt.number,
            names.RESPONSE_ID: _words(attempt.response_id),
            names.FINISH_REASONS: None if finish_reason is None else (_word(finish_reason),),
            names.FIRST_CHUNK: attempt.time_to_first_token_s,
            names.INPUT_TOKENS: usage and usage.input_tokens,
            names.OUTPUT_TOKENS: usage and usage.output_tokens,
            names.CACHED_TOKENS: usage and usage.cached_tokens,
            names.CACHE_WRITE_TOKENS: usage and usage.cache_write_tokens,
            names.REASONING_TOKENS: usage and usage.reasoning_tokens,
            names.HTTP_STATUS: attempt.status,
            names.COST: None if cost is None else cost / PICO,
            **_error(attempt.error_code),
        }
        begun = int(attempt.started_at * _NANO)
        span = self._tracer.start_span(
            f"{names.CHAT} {_word(attempt.model)}".rstrip(),
            context=self._within,
            kind=SpanKind.CLIENT,
            attributes={name: value for name, value in told.items() if value is not None},
            start_time=begun,
        )
        if attempt.error_code is not None:
            span.set_status(Status(StatusCode.ERROR))
        span.end(begun + int(attempt.duration_s * _NANO))
        self.spans += 1

    def end(self, summary: Summary | None) -> None:
        """End the span of the session. summary: None if there is none."""
        self.in_flight = 0
        if self._session is None or not self._session.is_recording():
            return
        if summary is not None:
            self._session.set_attributes(
                {names.DONE: summary.done_now, names.FAILED: summary.failed_now, **_error(summary.stop_code)}
            )
            if summary.stop_code is not None:
                self._session.set_status(Status(StatusCode.ERROR))
        self._session.end()
        self.spans += 1

    def _known(self, attempt: Attempt) -> dict[str, Any]:
        """Return the attributes that spans and metrics of an attempt have in common."""
        told = {
            names.REQUEST_MODEL: _word(attempt.model) or None,
            names.RESPONSE_MODEL: None if attempt.served_model is None else _word(attempt.served_model),
            names.ENDPOINT: None if attempt.endpoint is None else _word(attempt.endpoint),
        }
        return {**self._common, **{name: value for name, value in told.items() if value is not None}}

    def _measure(self, attempt: Attempt, known: Mapping[str, Any], cost: int | None) -> None:
        by = self._bounded({**known, **_error(attempt.error_code)})
        self._duration.record(attempt.duration_s, by)
        by = {name: value for name, value in by.items() if name != names.ERROR}
        if attempt.time_to_first_token_s is not None:
            self._first.record(attempt.time_to_first_token_s, by)
        if attempt.usage is not None:
            for kind, tokens in (("input", attempt.usage.input_tokens), ("output", attempt.usage.output_tokens)):
                if tokens is not None:
                    self._tokens.record(tokens, {names.TOKEN_TYPE: kind, **by})
        if cost is not None:
            self._cost.add(cost / PICO, by)

    def _bounded(self, attributes: dict[str, Any]) -> dict[str, Any]:
        """Return the attributes, or where there are too many sets of them already, those that all attempts have."""
        values = tuple(attributes.items())
        if values in self._sets:
            return attributes
        if len(self._sets) >= _MOST_SETS:
            return {**self._common, names.OVERFLOW: True}
        self._sets.add(values)
        return attributes


def _histogram(meter: Meter, metric: Metric) -> Histogram:
    return meter.create_histogram(
        metric.name, metric.unit, metric.description, explicit_bucket_boundaries_advisory=metric.buckets
    )


def _error(code: str | None) -> dict[str, str]:
    return {} if code is None else {names.ERROR: code}


def _server(base_url: str | None) -> dict[str, Any]:
    """Return host and port of a URL; neither its path nor its query, which may be secret."""
    if base_url is None:
        return {}
    parts = urlsplit(base_url)
    if parts.hostname is None:
        return {}
    return {names.ADDRESS: parts.hostname, names.PORT: parts.port or (443 if parts.scheme == "https" else 80)}


def _text(text: str) -> str:
    """Return a text that can be sent: lone surrogates would break off the whole request."""
    return text[:_MOST_CHARS].encode(errors="replace").decode()


def _words(text: str | None) -> str | None:
    """Return what a server has said, as ``_text`` does, without anything that looks like a key."""
    return None if text is None else redact(_text(text))


@lru_cache(maxsize=1024)
def _word(text: str) -> str:
    """Return what many attempts have in common, as ``_words`` does."""
    return redact(_text(text))
