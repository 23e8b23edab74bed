"""``runner simulate``: run the simulator as a server of its own."""

from collections.abc import Callable, Sequence
from typing import Any

from runner.engine.stop import Stop
from runner.session.blocking import blocking
from runner.session.signals import STOP_SIGNALS, on_signals
from runner.session.stopping import StopHandle


def simulate(port: int, faults: Sequence[str], say: Callable[[str], None], **behaviour: Any) -> None:
    """Serve synthetic answers on loopback until a signal that ends a run, such as Ctrl-C. say: called with each line to print."""
    # imported here, because no other command needs a server
    from runner.simulator import Behaviour, Simulator, parse_faults

    async def serve(stop: Stop) -> None:
        simulated = Behaviour(faults=parse_faults(faults), **behaviour)
        async with Simulator(simulated, port=port) as simulator:
            say(f"openai     base_url {simulator.base_url('openai')}")
            say(f"anthropic  base_url {simulator.base_url('anthropic')}")
            say("answers are synthetic; press Ctrl-C to stop")
            await stop.wait()

    handle = StopHandle()
    with on_signals(STOP_SIGNALS, handle.signalled):
        blocking(lambda: handle.run(serve))
