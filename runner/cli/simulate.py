"""``runner simulate``: run the simulator as a server of its own."""

import json
import os
from typing import Any

import click

from runner.cli.options import count, json_option, seconds
from runner.cli.simulate_batches import batch_options
from runner.errors import UsageError


@click.command()
@click.option("--port", type=count(0, 65535), default=8399, show_default=True, help="Port to listen on; 0 picks a free one.")
@click.option("--seed", type=int, default=0, show_default=True, help="Seed of the random answers and faults.")
@click.option("--first-token-s", type=seconds, default=0.15, show_default=True, help="Mean time to the first token, in seconds.")
@click.option("--chunk-s", type=seconds, default=0.01, show_default=True, help="Time between two tokens, in seconds.")
@click.option("--tokens", type=count(), default=40, show_default=True, help="Mean length of an answer, in tokens.")
@click.option("--reasoning-tokens", type=count(), default=0, metavar="N", help="Mean number of reasoning tokens of an answer.")
@click.option("--fill", "fill_limit", is_flag=True, help="Make every answer as long as the max_tokens of its request.")
@click.option("--rpm", type=count(), help="Requests per minute; the server answers further ones with 429.")
@click.option("--tpm", type=count(), help="Tokens per minute; the server answers requests for more with 429.")
@click.option("--max-in-flight", type=count(), help="Open requests; the server answers further ones with 429.")
@click.option("--key-env", metavar="NAME", help="Require the API key that this environment variable holds.")
@click.option(
    "--fault",
    "faults",
    multiple=True,
    metavar="NAME=SHARE",
    help="Share of requests with a fault, such as 429=0.1; may be repeated.",
)
@click.option(
    "--cache",
    type=click.Choice(["off", "openai", "anthropic", "vllm"]),
    default="off",
    show_default=True,
    help="Cache prefixes of prompts by the rules of this provider.",
)
@click.option(
    "--cache-seconds", "cache_s", type=seconds, default=300, show_default=True, help="Life of a cached prefix after its use."
)
@click.option(
    "--flex-full", type=float, default=0, metavar="SHARE", help="Share of the flex requests refused for lack of capacity."
)
@click.option(
    "--flex-status",
    type=count(),
    default=429,
    metavar="429|498",
    show_default=True,
    help="Status of such a refusal: OpenAI's, Groq's.",
)
@click.option(
    "--flex-downgrade", type=float, default=0, metavar="SHARE", help="Share of the flex requests that the standard tier serves."
)
@click.option("--flex-delay", "flex_delay_s", type=seconds, default=0, metavar="SECONDS", help="Further wait of the flex tier.")
@click.option(
    "--prices", metavar="FILE", help="Prices by model, as in a job file: .toml, .json, or JSON itself. Default: 1 and 4 dollars."
)
@batch_options
@json_option
def simulate(
    port: int, key_env: str | None, faults: tuple[str, ...], prices: str | None, as_json: bool, **behaviour: Any
) -> None:
    """Serve synthetic answers on this machine.

    The server is an OpenAI and an Anthropic endpoint on loopback, with the batch APIs of both, and runs until Ctrl-C.
    GET /invoice says what the answers would have cost.
    """
    from runner.engine.stop import Stop
    from runner.session.blocking import blocking
    from runner.session.signals import STOP_SIGNALS, on_signals
    from runner.session.stopping import StopHandle

    # no other command needs a server
    from runner.simulator import Behaviour, Simulator, parse_faults, parse_prices

    key = os.environ.get(key_env) if key_env else None
    if key_env and not key:
        raise UsageError(f"{key_env} is not set")
    simulated = Behaviour(
        key=key, faults=parse_faults(faults), prices=parse_prices(prices) if prices is not None else {}, **behaviour
    )

    async def serve(stop: Stop) -> None:
        async with Simulator(simulated, port=port) as simulator:
            urls = {dialect: simulator.base_url(dialect) for dialect in ("openai", "anthropic")}
            if as_json:
                # one line, so that who reads it need not wait for the end
                click.echo(json.dumps({**urls, "pid": os.getpid()}))
            else:
                for dialect, url in urls.items():
                    click.echo(f"{dialect:9}  base_url {url}")
                click.echo("answers are synthetic; press Ctrl-C to stop")
            await stop.wait()

    handle = StopHandle()
    with on_signals(STOP_SIGNALS, handle.signalled):
        blocking(lambda: handle.run(serve))
