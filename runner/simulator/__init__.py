"""A stand-in for a provider: a real HTTP server on loopback that speaks both dialects, with faults on request.

It is for first tries, rehearsals, tests and benchmarks. It never leaves 127.0.0.1, answers with invented words only,
and shares no code with the client, so that the two cannot be wrong in the same way.

    async with Simulator(Behaviour(faults=parse_faults(["429=0.1", "truncate=0.05"]))) as simulator:
        print(simulator.base_url("openai"))
"""

from runner.simulator.behaviour import Behaviour
from runner.simulator.faults import FAULTS, parse_faults
from runner.simulator.server import Simulator, serve
from runner.simulator.stats import Stats

__all__ = ["FAULTS", "Behaviour", "Simulator", "Stats", "parse_faults", "serve"]
