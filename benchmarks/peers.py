"""What a user would take instead of runner, and the Python that has it: their versions exclude each other now and then."""

import subprocess
from collections.abc import Sequence
from functools import lru_cache
from typing import NamedTuple

from benchmarks.process import environment


class Peer(NamedTuple):
    """One way to send many prompts."""

    label: str
    # its name in ``loops``, and the modules that it needs
    loop: str
    modules: tuple[str, ...]
    # as many of its answers take about as long as all of runner's
    items: int
    # runner is to make so many items in the same time
    target: float


PEERS = (
    Peer("openai SDK with aiohttp", "sdk_aiohttp", ("openai",), 1_000, 10),
    Peer("openai SDK", "sdk", ("openai",), 600, 15),
    Peer("litellm", "litellm", ("litellm",), 500, 50),
)


def python_for(peer: Peer, pythons: Sequence[str]) -> str | None:
    """Give the first interpreter that can run a peer's loop; None where there is none."""
    return next((python for python in pythons if _imports(python, peer.modules)), None)


@lru_cache
def _imports(python: str, modules: tuple[str, ...]) -> bool:
    find = f"import importlib.util as u, sys; sys.exit(not all(map(u.find_spec, {(*modules, 'aiohttp', 'uvloop')!r})))"
    return subprocess.run((python, "-c", find), env=environment(), check=False).returncode == 0  # noqa: S603 - the user's own choice
