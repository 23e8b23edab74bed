"""Opens the batch API of a provider: the one entry to this package for a session."""

import hashlib
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

from runner.batches import BatchService
from runner.interfaces import Provider
from runner.providers.batch.anthropic import AnthropicBatches
from runner.providers.batch.fireworks import FireworksBatches
from runner.providers.batch.openai import OpenAIBatches
from runner.providers.batch.rules import vendor_of
from runner.providers.batch.transport import Transport, Way

_API_VERSION = "2023-06-01"
_CREDENTIALS = ("authorization", "x-api-key", "api-key")


@asynccontextmanager
async def open_service(
    dialect: str, base_url: str, key: str | None, provider: Provider, way: Way, *, clock: Callable[[], float] = time.time
) -> AsyncIterator[BatchService]:
    """Yield the batch API of a provider.

    dialect: "openai" or "anthropic". provider: classifies refusals, as in live runs. way: proxy, additions of the job, timeouts.
    clock: seconds since the epoch. Raises UsageError for a provider without a batch API that is known here, TransportError for a
    proxy or a header that cannot be used.
    """
    vendor = vendor_of(dialect, base_url)
    headers = {"accept": "application/json", "user-agent": f"prompt-runner/{way.version}"}
    if dialect == "anthropic":
        headers["anthropic-version"] = _API_VERSION
        # as the dialect does: the address may be given with the version
        head, mark, query = base_url.strip().partition("?")
        address = head.rstrip("/").removesuffix("/v1") + mark + query
        headers |= {"x-api-key": key} if key is not None else {}
    else:
        address = base_url.strip()
        headers |= {"authorization": f"Bearer {key}"} if key is not None else {}
    made: type[AnthropicBatches | OpenAIBatches | FireworksBatches] = (
        AnthropicBatches if dialect == "anthropic" else OpenAIBatches
    )
    if vendor.api == "fireworks":
        # beside the API of live requests, which is under /inference
        made, address = FireworksBatches, address.replace("/inference/v1", "/v1", 1)
    async with Transport(address, headers, provider, way, clock) as transport:
        yield made(transport, vendor, base_url, _account(key, way))


def _account(key: str | None, way: Way) -> str:
    """Return a short hash by which another key is recognized. It says nothing of the key."""
    added = [value for name, value in sorted(way.headers.items()) if name.lower() in _CREDENTIALS]
    text = "\0".join(["runner batch account", *added, *([key] if key is not None else [])])
    return hashlib.sha256(text.encode(errors="surrogatepass")).hexdigest()[:8]
