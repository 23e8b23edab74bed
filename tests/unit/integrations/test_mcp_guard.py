"""What a job may ask for that an agent starts: where requests go and what they cost is the word of a person."""

import json
from pathlib import Path

import pytest

from runner.errors import UsageError
from runner.integrations import mcp_guard
from runner.integrations.mcp_files import Root
from runner.integrations.mcp_guard import Human

FREE = 'prices = {"m" = {input = 0, output = 0}}\n'


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Root:
    for name in ("OPENAI_API_KEY", "OPENAI_BASE_URL", "RUNNER_PRICES"):
        monkeypatch.delenv(name, raising=False)
    (tmp_path / "rows.jsonl").write_text('{"prompt": "hello"}\n')
    return Root(tmp_path)


def write(root: Root, text: str) -> None:
    (root.path / "job.toml").write_text(f'input = "rows.jsonl"\nmodel = "m"\n{text}')


REFUSED = {
    "an address": ('base_url = "https://evil.example/v1"', "base_url"),
    "several": ('base_url = ["http://127.0.0.1:1/v1", "http://127.0.0.1:2/v1"]', "base_url"),
    # nothing is looked up to see that
    "a name of the DNS": ('base_url = "srv://secret.evil.example"', "base_url"),
    "a list of addresses": ('base_url = "file:/etc/hosts"', "base_url"),
    "endpoints": ('[[endpoints]]\nbase_url = "http://127.0.0.1:1/v1"', "endpoints"),
    "a header": ('base_url = "https://evil.example/v1"\n[headers]\nX-Key = "${HOME}"', "headers"),
    "a module": ('provider = "click.testing"', "provider"),
    "an engine": ('engine = "slurm"', "engine"),
    "a socket": ('listen = "0.0.0.0:1"', "listen"),
    "prices": (FREE, "prices"),
    "prices of the list": ('prices = "list"', "prices"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_a_job_file_that_nobody_has_named_decides_nothing_of_this(root: Root, case: str) -> None:
    text, setting = REFUSED[case]
    write(root, text)
    with pytest.raises(UsageError, match=rf"{setting}.* by starting it with the option --trust {root.path}/job\.toml$"):
        mcp_guard.load(root, "job.toml", {}, Human(capped=True))


def test_a_job_file_that_was_named_counts_as_it_was_then(root: Root, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("A_KEY", "k")
    address = f'base_url = "https://server.example/v1"\napi_key_env = "A_KEY"\n{FREE}'
    write(root, f"concurrency = 2\n{address}")
    human = Human(capped=True, trusted=mcp_guard.trusted(root, ["job.toml"]))
    assert mcp_guard.load(root, "job.toml", {}, human).concurrency == 2
    write(root, f"concurrency = 3\n{address}")
    assert mcp_guard.load(root, "job.toml", {}, human).concurrency == 3
    for changed in (
        address.replace("server.example", "other.example"),
        address.replace('"A_KEY"', '"HOME"'),
        address.replace('api_key_env = "A_KEY"\n', ""),
        f"{address}[headers]\nX-More = '${{HOME}}'\n",
        address.replace("output = 0", "output = 0.001"),
    ):
        write(root, changed)
        with pytest.raises(UsageError, match="--trust"):
            mcp_guard.load(root, "job.toml", {}, human)


def test_prices_of_the_environment_and_an_address_of_this_machine_need_no_word(
    root: Root, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RUNNER_PRICES", json.dumps({"m": {"input": 1, "output": 1}}))
    write(root, f'base_url = "http://127.0.0.1:1/v1"\n{FREE}')
    job = mcp_guard.load(root, "job.toml", {}, Human(capped=True))
    # what the file says of them counts no more
    assert job.prices == {"m": {"input": 1, "output": 1}}


def test_without_a_cap_only_the_simulator_works_and_a_share_is_the_least_of_all(root: Root) -> None:
    write(root, "max_cost_session = 1000\n")
    with pytest.raises(UsageError, match="without --max-cost"):
        mcp_guard.load(root, "job.toml", {}, Human())
    simulated = mcp_guard.load(root, "job.toml", {"provider": "simulator"}, Human())
    assert not mcp_guard.costs_something(simulated)
    job = mcp_guard.load(root, "job.toml", {}, Human(capped=True))
    assert mcp_guard.costs_something(job)
    assert mcp_guard.with_share(job, 0.5).max_cost_session == 0.5
    assert mcp_guard.with_share(job, None).max_cost_session == 1000
