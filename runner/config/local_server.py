"""Providers that start a server of their own with the session: the simulator. The one place that knows its name."""

from typing import NamedTuple


class LocalServer(NamedTuple):
    """A server on this machine that starts and ends with a session.

    dialect: the provider whose dialect it speaks. model: asked for where the job names none. module: has ``serve(dialect)``, an
    asynchronous context manager that yields the base URL; it is imported when a session starts the server. note: what a person
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
"""By the name of the provider."""
