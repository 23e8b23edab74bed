"""A collector of OpenTelemetry of our own: takes OTLP over HTTP, decodes it, and can misbehave."""

import gzip
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Event, Thread
from typing import Any

from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.metrics.v1.metrics_pb2 import Metric
from opentelemetry.proto.trace.v1.trace_pb2 import Span


class Collector:
    """What was sent. status: of each answer. hangs: no answer comes before the collector ends."""

    def __init__(self, status: int, *, hangs: bool) -> None:
        self.status, self.hangs = status, hangs
        self.ended = Event()
        self.asked = Event()
        self.url = ""
        self.bodies: list[bytes] = []
        self.spans: list[Span] = []
        self.metrics: dict[str, Metric] = {}
        self.schemas: set[str] = set()
        self.resource: dict[str, Any] = {}

    def take(self, path: str, body: bytes) -> None:
        self.bodies.append(body)
        if path == "/v1/traces":
            for of in ExportTraceServiceRequest.FromString(body).resource_spans:
                self.resource = values(of.resource.attributes)
                for scope in of.scope_spans:
                    self.schemas.add(scope.schema_url)
                    self.spans.extend(scope.spans)
        elif path == "/v1/metrics":
            for by in ExportMetricsServiceRequest.FromString(body).resource_metrics:
                # sums are of the whole session, so the last one is the one that counts
                self.metrics.update({metric.name: metric for scope in by.scope_metrics for metric in scope.metrics})

    @property
    def session(self) -> Span:
        (found,) = (span for span in self.spans if span.name == "runner.session")
        return found

    @property
    def attempts(self) -> list[Span]:
        return [span for span in self.spans if span.name != "runner.session"]


def values(attributes: Any) -> dict[str, Any]:
    """Return attributes as Python has them."""
    found = {}
    for one in attributes:
        kind = one.value.WhichOneof("value")
        value = getattr(one.value, kind)
        found[one.key] = [item.string_value for item in value.values] if kind == "array_value" else value
    return found


@contextmanager
def collector(status: int = 200, *, hangs: bool = False) -> Iterator[Collector]:
    """Run a collector on loopback until the block is left."""
    kept = Collector(status, hangs=hangs)

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["content-length"]))
            kept.asked.set()
            if kept.hangs:
                kept.ended.wait(60)
                self.close_connection = True
                return
            if kept.status == 200:
                kept.take(self.path, gzip.decompress(body) if self.headers["content-encoding"] == "gzip" else body)
            self.send_response(kept.status)
            self.send_header("content-length", "0")
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        server.daemon_threads = True
        kept.url = f"http://127.0.0.1:{server.server_port}"
        thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        try:
            yield kept
        finally:
            kept.ended.set()
            server.shutdown()
            thread.join()
