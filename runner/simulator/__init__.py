"""A simulated provider: a real HTTP server on loopback that speaks both dialects, with their batch APIs, and can inject faults.

It serves first tries, rehearsals, tests and benchmarks. It listens on 127.0.0.1 only, answers with synthetic text, and shares no
code with the client, so that a bug cannot hide by being in both.

    async with Simulator(Behaviour(faults=parse_faults(["429=0.1", "truncate=0.05"]))) as simulator:
        print(simulator.base_url("openai"))
"""

from runner.simulator.behaviour import Behaviour
from runner.simulator.faults import FAULTS, parse_faults
from runner.simulator.invoice import Line, Statement
from runner.simulator.prices import Price, parse_prices
from runner.simulator.server import Simulator, serve
from runner.simulator.stats import Stats

__all__ = [
    "FAULTS",
    "Behaviour",
    "Line",
    "Price",
    "Simulator",
    "Statement",
    "Stats",
    "parse_faults",
    "parse_prices",
    "serve",
]
