"""The names and units of what OpenTelemetry is told. They are pinned: what was built on them goes on to work.

``docs/reference/telemetry.md`` explains each, and a test holds the page to this module. Loads nothing of OpenTelemetry.
"""

from typing import NamedTuple

CONVENTIONS = "1.41.0"
"""The version of OpenTelemetry's semantic conventions whose names for generative AI are used."""
SCHEMA_URL = f"https://opentelemetry.io/schemas/{CONVENTIONS}"
SCOPE = "runner"
"""The name of the instrumentation scope, and of the service where ``OTEL_SERVICE_NAME`` names none."""

CHAT = "chat"
"""The operation of each attempt, and the first word of the name of its span; the second is the model."""
SESSION = "runner.session"
"""The name of the span of a session, to which those of its attempts belong."""

OPERATION = "gen_ai.operation.name"
PROVIDER = "gen_ai.provider.name"
REQUEST_MODEL = "gen_ai.request.model"
RESPONSE_MODEL = "gen_ai.response.model"
RESPONSE_ID = "gen_ai.response.id"
FINISH_REASONS = "gen_ai.response.finish_reasons"
FIRST_CHUNK = "gen_ai.response.time_to_first_chunk"
INPUT_TOKENS = "gen_ai.usage.input_tokens"
OUTPUT_TOKENS = "gen_ai.usage.output_tokens"
CACHED_TOKENS = "gen_ai.usage.cache_read.input_tokens"
CACHE_WRITE_TOKENS = "gen_ai.usage.cache_creation.input_tokens"
REASONING_TOKENS = "gen_ai.usage.reasoning.output_tokens"
TOKEN_TYPE = "gen_ai.token.type"  # noqa: S105 - of tokens that are pieces of a text
ERROR = "error.type"
HTTP_STATUS = "http.response.status_code"
ADDRESS = "server.address"
PORT = "server.port"
RUN = "runner.run"
ROW = "runner.row"
ANSWER_NUMBER = "runner.answer_number"
ATTEMPT = "runner.attempt"
ENDPOINT = "runner.endpoint"
COST = "runner.cost"
OUTCOME = "runner.outcome"
ROWS = "runner.rows"
DONE = "runner.done"
FAILED = "runner.failed"
OVERFLOW = "otel.metric.overflow"

ATTEMPT_ATTRIBUTES = (
    OPERATION, PROVIDER, REQUEST_MODEL, RESPONSE_MODEL, RESPONSE_ID, FINISH_REASONS, FIRST_CHUNK, INPUT_TOKENS, OUTPUT_TOKENS,
    CACHED_TOKENS, CACHE_WRITE_TOKENS, REASONING_TOKENS, ERROR, HTTP_STATUS, ADDRESS, PORT, RUN, ROW, ANSWER_NUMBER, ATTEMPT,
    ENDPOINT, COST,
)  # fmt: skip
"""What a span of an attempt may have."""
SESSION_ATTRIBUTES = (RUN, ROWS, DONE, FAILED, ERROR)
"""What the span of a session may have."""

_OF_ATTEMPTS = (OPERATION, PROVIDER, REQUEST_MODEL, RESPONSE_MODEL, ADDRESS, PORT, ENDPOINT)


class Metric(NamedTuple):
    """An instrument. kind: histogram, counter or gauge. buckets: of a histogram, the upper bound of each but the last."""

    name: str
    kind: str
    unit: str
    description: str
    attributes: tuple[str, ...]
    buckets: tuple[float, ...] = ()


_SECONDS = (0.01, 0.02, 0.04, 0.08, 0.16, 0.32, 0.64, 1.28, 2.56, 5.12, 10.24, 20.48, 40.96, 81.92)
"""The conventions' own for durations, and below for tokens."""

TOKEN_USAGE = Metric(
    "gen_ai.client.token.usage",
    "histogram",
    "{token}",
    "Number of input and output tokens used.",
    (TOKEN_TYPE, *_OF_ATTEMPTS),
    tuple(4.0**power for power in range(14)),
)
DURATION = Metric(
    "gen_ai.client.operation.duration", "histogram", "s", "Duration of an attempt.", (ERROR, *_OF_ATTEMPTS), _SECONDS
)
TIME_TO_FIRST_CHUNK = Metric(
    "gen_ai.client.operation.time_to_first_chunk",
    "histogram",
    "s",
    "Time from sending to the first chunk with text, reasoning or a tool call.",
    _OF_ATTEMPTS,
    _SECONDS,
)
OUTCOMES = Metric("runner.rows", "counter", "{row}", "Rows whose outcome was saved.", (OUTCOME, ERROR, RUN))
IN_FLIGHT = Metric("runner.requests.in_flight", "gauge", "{request}", "Requests that are open.", (RUN,))
SPENT = Metric(COST, "counter", "USD", "Cost of attempts whose tokens and prices are known.", _OF_ATTEMPTS)

METRICS = (TOKEN_USAGE, DURATION, TIME_TO_FIRST_CHUNK, OUTCOMES, IN_FLIGHT, SPENT)
