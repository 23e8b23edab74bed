"""Where a worker sends requests, and which way."""

import pytest
from msgspec import structs
from peers import SETUP

from runner.workers.ends import Ends

pytestmark = pytest.mark.anyio


async def test_the_proxy_is_that_for_the_server_that_the_worker_sends_to(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("http_proxy", "https_proxy", "all_proxy", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)
    monkeypatch.setenv("http_proxy", "http://proxy.example:3128")
    setup = structs.replace(SETUP, base_urls=("http://model.example/v1",), direct=False)
    own = "http://127.0.0.1:9/v1"
    for said, beside, proxy in (
        (setup, None, "http://proxy.example:3128"),
        (setup, own, None),
        (structs.replace(setup, direct=True), None, None),
        (structs.replace(SETUP, direct=False), "http://model.example/v1", "http://proxy.example:3128"),
    ):
        ends = Ends(said, {}, beside)
        assert list(ends.clients) == [proxy]
        await ends.close()
