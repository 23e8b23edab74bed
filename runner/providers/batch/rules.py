"""What the providers' batch APIs take, and how they name things: their differences, as data.

``vendor_of`` chooses by the host of the base URL. A host that nobody knows is taken for a gateway that does as OpenAI does.
Where a known provider does not say how long it keeps results, ``kept_days`` is 0. docs/reference/batch-apis.md has the sources.
"""

from collections.abc import Mapping
from typing import Literal, TypeAlias
from urllib.parse import urlsplit

from msgspec import Struct

from runner.batches import BatchRules
from runner.errors import UsageError

Phase: TypeAlias = Literal["waiting", "working", "cancelling", "ended"]
End: TypeAlias = Literal["completed", "expired", "cancelled", "failed"]

_ANY_64 = r"[\x20-\x7e]{1,64}"
_DAY_S = 86_400


class Vendor(Struct, frozen=True, kw_only=True):
    """A provider with a batch API. The names are those of the JSON that goes to it; what comes is read leniently."""

    rules: BatchRules
    # hosts: this one, and those under it
    hosts: tuple[str, ...] = ()
    # whose API it has: that of OpenAI, or one of its own
    api: Literal["openai", "fireworks"] = "openai"
    # what is asked, in each line and of the batch
    endpoint: str = "/v1/chat/completions"
    # whether each line says how and where its request goes
    addressed: bool = True
    # below the base URL
    uploads: str = "/files"
    files: str = "/files"
    batches: str = "/batches"
    purpose: str = "batch"
    # further fields of the form that uploads a file; {name}: of the file
    form: Mapping[str, str] = {}
    # the field that names the file of requests, and whether it takes a list
    input: str = "input_file_id"
    inputs: bool = False
    # the field of the window, and its value
    window: tuple[str, str | int] = ("completion_window", "24h")
    # whether a file has to be processed before a batch can be made of it
    processed: bool = False
    # whether the model has to be named beside the file
    model: bool = False
    # how a list goes on: behind an id, or by the number of the page; and how many entries a page may have
    pages: Literal["after", "page"] = "after"
    page: int = 100


_OPENAI = Vendor(
    rules=BatchRules(
        vendor="OpenAI", dialect="openai", lines=50_000, bytes=200_000_000, custom_id=r"[^\x00-\x1f\x7f\ud800-\udfff]{1,512}"
    ),
    hosts=("openai.com",),
)
_COMPATIBLE = Vendor(rules=BatchRules(vendor="the server", dialect="openai", lines=50_000, bytes=200_000_000, custom_id=_ANY_64))
ANTHROPIC = Vendor(
    rules=BatchRules(
        vendor="Anthropic",
        dialect="anthropic",
        lines=100_000,
        bytes=256_000_000,
        one_model=False,
        kept_days=29,
        metadata=False,
        marked=True,
        custom_id=r"[a-zA-Z0-9_-]{1,64}",
    ),
    page=1000,
)
"""The only provider of its dialect: another host is a gateway to it."""

VENDORS: tuple[Vendor, ...] = (
    _OPENAI,
    Vendor(
        rules=BatchRules(vendor="Azure OpenAI", dialect="openai", lines=50_000, bytes=200_000_000, custom_id=_ANY_64),
        hosts=("openai.azure.com", "services.ai.azure.com", "cognitiveservices.azure.com"),
        processed=True,
    ),
    Vendor(
        rules=BatchRules(vendor="Groq", dialect="openai", lines=50_000, bytes=100_000_000, kept_days=0, custom_id=_ANY_64),
        hosts=("groq.com",),
    ),
    Vendor(
        rules=BatchRules(
            vendor="Together", dialect="openai", lines=50_000, bytes=100_000_000, kept_days=0, metadata=False, custom_id=_ANY_64
        ),
        hosts=("together.xyz", "together.ai"),
        addressed=False,
        uploads="/files/upload",
        purpose="batch-api",
        form={"file_name": "{name}"},
    ),
    Vendor(
        # files of up to 150 MB are taken in one request
        rules=BatchRules(
            vendor="Fireworks",
            dialect="openai",
            lines=100_000,
            bytes=140_000_000,
            kept_days=0,
            metadata=False,
            custom_id=_ANY_64,
            cancels=False,
        ),
        hosts=("fireworks.ai",),
        api="fireworks",
    ),
    Vendor(
        rules=BatchRules(vendor="Mistral", dialect="openai", lines=100_000, bytes=512_000_000, kept_days=1, custom_id=_ANY_64),
        hosts=("mistral.ai",),
        addressed=False,
        batches="/batch/jobs",
        input="input_files",
        inputs=True,
        window=("timeout_hours", 24),
        model=True,
        pages="page",
    ),
)
_WITHOUT = {
    "googleapis.com": "the batches of Gemini are an API of their own; runner does not speak it",
    "openrouter.ai": "OpenRouter has no batch API",
}
"""Hosts whose batch API is not like OpenAI's, or that have none."""

STATES: Mapping[str, tuple[Phase, End | None]] = {
    "validating": ("waiting", None),
    "queued": ("waiting", None),
    "pending": ("waiting", None),
    "created": ("waiting", None),
    "in_progress": ("working", None),
    "progress": ("working", None),
    "running": ("working", None),
    "processing": ("working", None),
    "finalizing": ("working", None),
    "cancelling": ("cancelling", None),
    "canceling": ("cancelling", None),
    "cancellation_requested": ("cancelling", None),
    "completed": ("ended", "completed"),
    "success": ("ended", "completed"),
    "succeeded": ("ended", "completed"),
    "expired": ("ended", "expired"),
    "timeout_exceeded": ("ended", "expired"),
    "cancelled": ("ended", "cancelled"),
    "canceled": ("ended", "cancelled"),
    "failed": ("ended", "failed"),
}
"""The providers' words for the states of a batch, in lower case. Any other word counts as working."""


def vendor_of(dialect: str, base_url: str) -> Vendor:
    """Return the provider at an address. Raises UsageError if it is known to have no batch API, or one of its own."""
    host = (urlsplit(base_url.strip()).hostname or "").lower()
    if dialect == "anthropic":
        return ANTHROPIC
    if dialect != "openai":
        raise UsageError(f"provider {dialect} has no batch API that runner knows; use --mode live")
    for name, words in _WITHOUT.items():
        if _within(host, name):
            raise UsageError(f"{words}; use --mode live")
    return next((vendor for vendor in VENDORS if any(_within(host, name) for name in vendor.hosts)), _COMPATIBLE)


def rules_of(dialect: str, base_url: str) -> BatchRules:
    """Return what the batch API at an address takes, without opening it. Raises UsageError if there is none."""
    return vendor_of(dialect, base_url).rules


def kept_until(rules: BatchRules, since: float | None) -> float | None:
    """Return until when results can be fetched. since: when the batch was made, or has ended; seconds since the epoch."""
    return since + rules.kept_days * _DAY_S if since is not None and rules.kept_days else None


def kept_days(vendor: str) -> float:
    """Return for how many days a provider, by its name in ``BatchRules``, keeps results."""
    return next((one.rules.kept_days for one in (ANTHROPIC, *VENDORS) if one.rules.vendor == vendor), _COMPATIBLE.rules.kept_days)


def _within(host: str, name: str) -> bool:
    return host == name or host.endswith(f".{name}")
