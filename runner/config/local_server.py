"""Providers that start their own server with the session: the simulator. No other module tests for its name."""

from typing import NamedTuple


class LocalServer(NamedTuple):
    """A server on this machine that starts and ends with a session.

    dialect: the provider whose dialect it speaks. model: the model if the job sets none. module: has ``serve(dialect)``, an
    asynchronous context manager that yields the base URL; it is imported when a session starts the server. note: what the user
    should know before anything is sent, one sentence.
    """

    dialect: str
    model: str
    module: str
    note: str


LOCAL_SERVERS = {
    "simulator": LocalServer(
        dialect="openai",
        model="simulated-model",
        module="runner.simulator",
        note="simulator: the answers are synthetic",
    ),
}
"""The local servers by provider name."""
