"""The alternatives to runner, and the Python interpreter that has each: their requirements can conflict with each other."""

import subprocess
from collections.abc import Sequence
from functools import lru_cache
from typing import NamedTuple

from benchmarks.process import environment


class Peer(NamedTuple):
    """One way to send many prompts."""

    label: str
    # its key in ``loops.LOOPS``, and the modules that it needs
    loop: str
    modules: tuple[str, ...]
    # it needs about as long for this many answers as runner for all of its own
    items: int
    # runner is to answer this many times as many items a second
    target: float


PEERS = (
    Peer("openai SDK with aiohttp", "sdk_aiohttp", ("openai",), 1_000, 10),
    Peer("openai SDK", "sdk", ("openai",), 600, 15),
    Peer("litellm", "litellm", ("litellm",), 500, 50),
)


def python_for(peer: Peer, pythons: Sequence[str]) -> str | None:
    """Return the first interpreter that can run a peer's loop, or None."""
    return next((python for python in pythons if _imports(python, peer.modules)), None)


@lru_cache
def _imports(python: str, modules: tuple[str, ...]) -> bool:
    find = f"import importlib.util as u, sys; sys.exit(not all(map(u.find_spec, {(*modules, 'aiohttp', 'uvloop')!r})))"
    return subprocess.run((python, "-c", find), env=environment(), check=False).returncode == 0  # noqa: S603 - the user's own choice
