"""The pipelines of OpenTelemetry's SDK: what is told goes through bounded queues to the exporters for OTLP over HTTP.

Everything about them is set by the standard ``OTEL_*`` variables, which the SDK reads. No provider is made global, so a program
that uses OpenTelemetry itself keeps its own.
"""

import logging
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from math import inf
from threading import Lock, Thread
from typing import Any
from urllib.parse import urlsplit

from opentelemetry.exporter.otlp.proto.http.metric_exporter import OTLPMetricExporter
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.metrics import CallbackOptions, Meter, Observation
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import MetricExportResult, MetricsData, PeriodicExportingMetricReader
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExportResult
from opentelemetry.trace import NoOpTracer, Tracer

from runner.errors import UsageError
from runner.integrations.telemetry_names import SCHEMA_URL, SCOPE
from runner.version import __version__

_PREFIX = "OTEL_EXPORTER_OTLP"
_SIGNALS = ("TRACES", "METRICS")
_USUAL = "http://localhost:4318"
_NUMBERS = (
    *(f"{_PREFIX}{signal}_TIMEOUT" for signal in ("", "_TRACES", "_METRICS")),
    *(f"OTEL_BSP_{name}" for name in ("SCHEDULE_DELAY", "EXPORT_TIMEOUT", "MAX_QUEUE_SIZE", "MAX_EXPORT_BATCH_SIZE")),
    *(f"OTEL_METRIC_EXPORT_{name}" for name in ("INTERVAL", "TIMEOUT")),
)
"""Variables that are numbers above 0; some versions of the SDK take what is none for the default."""
_logger = logging.getLogger("opentelemetry")


class Reached:
    """What of a session has come to the collector. Exporters tell it from their threads."""

    def __init__(self) -> None:
        self._lock = Lock()
        self.spans = 0
        self.failed = False

    def exported(self, spans: int, *, taken: bool) -> None:
        """Take note of a request to the collector."""
        with self._lock:
            self.spans += spans if taken else 0
            self.failed = self.failed or not taken


class _Spans(OTLPSpanExporter):
    def __init__(self, reached: Reached) -> None:
        super().__init__()
        self._reached = reached

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        result = SpanExportResult.FAILURE
        try:
            result = super().export(spans)
        finally:
            self._reached.exported(len(spans), taken=result is SpanExportResult.SUCCESS)
        return result


class _Metrics(OTLPMetricExporter):
    def __init__(self, reached: Reached) -> None:
        super().__init__()
        self._reached = reached

    def export(self, metrics_data: MetricsData, timeout_millis: float | None = 10_000, **kwargs: Any) -> MetricExportResult:
        result = MetricExportResult.FAILURE
        try:
            result = super().export(metrics_data, timeout_millis, **kwargs)
        finally:
            self._reached.exported(0, taken=result is MetricExportResult.SUCCESS)
        return result


class Pipelines:
    """The pipelines of one session. Raises UsageError for a variable that cannot be meant."""

    def __init__(self, environment: Mapping[str, str]) -> None:
        _check(environment)
        self.reached = Reached()
        self.collector = _collector(environment)
        resource = _resource()
        self.traces, metrics = (environment.get(f"OTEL_{signal}_EXPORTER") != "none" for signal in _SIGNALS)
        try:
            self._tracing = TracerProvider(resource=resource, shutdown_on_exit=False)
            if self.traces:
                self._tracing.add_span_processor(BatchSpanProcessor(_Spans(self.reached)))
            readers = [PeriodicExportingMetricReader(_Metrics(self.reached))] if metrics else []
            self._metering = MeterProvider(readers, resource=resource, shutdown_on_exit=False)
        except ValueError as error:
            raise UsageError(f"a variable OTEL_* has a value that OpenTelemetry cannot read: {error}") from None
        if _logger.level == logging.NOTSET:
            # from here on it would tell every failure, with a traceback; a session tells the first, in a sentence
            _logger.setLevel(logging.CRITICAL + 1)
        self.tracer: Tracer = NoOpTracer()
        if self.traces:
            self.tracer = self._tracing.get_tracer(SCOPE, __version__, schema_url=SCHEMA_URL)
        self.meter: Meter = self._metering.get_meter(SCOPE, __version__, schema_url=SCHEMA_URL)

    def end(self, within_s: float) -> bool:
        """Send what is left, for so many seconds at most; return True if all that was to be sent has been tried."""
        until = time.monotonic() + within_s
        # a request that hangs is left behind: the threads end with the process, or by the timeouts of the exporters
        ending = [Thread(target=stop, daemon=True) for stop in (self._tracing.shutdown, self._metering.shutdown)]
        for thread in ending:
            thread.start()
        # Ctrl-C ends the wait, and nothing else
        with suppress(KeyboardInterrupt):
            for thread in ending:
                thread.join(max(0.0, until - time.monotonic()))
        return not any(thread.is_alive() for thread in ending)


def observed(read: Callable[[], tuple[int, Mapping[str, Any]]]) -> Callable[[CallbackOptions], Iterable[Observation]]:
    """Return the callback of a gauge, from what returns its value and its attributes."""

    def observe(_: CallbackOptions) -> Iterable[Observation]:
        value, attributes = read()
        yield Observation(value, attributes)

    return observe


def _resource() -> Resource:
    found = Resource.create()
    if not str(found.attributes.get("service.name", "")).startswith("unknown_service"):
        return found
    return found.merge(Resource({"service.name": SCOPE, "service.version": __version__}))


def _collector(environment: Mapping[str, str]) -> str:
    """Return where the collector is, without what may be secret in its URL."""
    # where both are sent, it is that of the spans
    signal = "METRICS" if environment.get("OTEL_TRACES_EXPORTER") == "none" else "TRACES"
    given = environment.get(f"{_PREFIX}_{signal}_ENDPOINT") or environment.get(f"{_PREFIX}_ENDPOINT") or _USUAL
    parts = urlsplit(given)
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}"


def _check(environment: Mapping[str, str]) -> None:
    """Raise UsageError for what is asked for and is not there: other protocols, exporters, and URLs of no kind."""
    for name in (f"{_PREFIX}_PROTOCOL", *(f"{_PREFIX}_{signal}_PROTOCOL" for signal in _SIGNALS)):
        if environment.get(name, "") not in ("", "http/protobuf"):
            raise UsageError(
                f"{name} is {environment[name]!r}; telemetry is sent by http/protobuf alone: unset it, or set it to that"
            )
    for name in (f"OTEL_{signal}_EXPORTER" for signal in _SIGNALS):
        if environment.get(name, "") not in ("", "otlp", "none"):
            raise UsageError(f"{name} is {environment[name]!r}; it may be otlp or none")
    for name in (f"{_PREFIX}_ENDPOINT", *(f"{_PREFIX}_{signal}_ENDPOINT" for signal in _SIGNALS)):
        given = environment.get(name, "")
        if given and not given.startswith(("http://", "https://")):
            raise UsageError(f"{name} must be a URL that begins with http:// or https://, such as {_USUAL}")
    for name in _NUMBERS:
        if environment.get(name) and not _is_number(environment[name]):
            raise UsageError(f"{name} is {environment[name]!r}; it must be a number above 0")


def _is_number(text: str) -> bool:
    try:
        return 0 < float(text) < inf
    except ValueError:
        return False
