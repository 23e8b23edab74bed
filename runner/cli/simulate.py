"""``runner simulate``: run the simulator as a server of its own."""

import signal
from collections.abc import Callable, Sequence
from typing import Any

import anyio

from runner.session.blocking import blocking


def simulate(port: int, faults: Sequence[str], say: Callable[[str], None], **behaviour: Any) -> None:
    """Serve synthetic answers on loopback until SIGINT or SIGTERM. say: called with each line to print."""
    # imported here, because no other command needs a server
    from runner.simulator import Behaviour, Simulator, parse_faults

    async def serve() -> None:
        simulated = Behaviour(faults=parse_faults(faults), **behaviour)
        with anyio.open_signal_receiver(signal.SIGINT, signal.SIGTERM) as signals:
            async with Simulator(simulated, port=port) as simulator:
                say(f"openai     base_url {simulator.base_url('openai')}")
                say(f"anthropic  base_url {simulator.base_url('anthropic')}")
                say("answers are synthetic; press Ctrl-C to stop")
                async for _ in signals:
                    return

    blocking(serve)
