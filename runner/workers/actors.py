"""The process that speaks to Ray: asks for actors, and tells what becomes of them. ``workers.placer`` starts it.

It reads what is asked from standard input, a line of JSON each, and ends its actors and itself when that is closed. The class of
the actors is sent to the nodes as it is, so there it may use nothing but Python's library. The token goes to the actor itself, in
the arguments of a call; Ray's control store keeps only what makes an actor.
"""

import os
import queue
import socket
import subprocess
import sys
import threading
import time
from typing import IO, Any

import msgspec
from msgspec import Struct

from runner.errors import UsageError
from runner.text import clean
from runner.workers import engine_options

LOOK_S = 0.5
"""Seconds between two looks at the actors."""
PLACED_S = 10.0
"""Seconds that Ray has to place actors, before the user is told that some wait."""
REACH_S = 5.0
"""Seconds to reach the address of a cluster."""
_SENTENCE = 300
_TIED = """
import ctypes, os, signal, sys
if sys.platform == "linux":
    ctypes.CDLL(None).prctl(1, signal.SIGKILL)
    if os.getppid() != int(sys.argv[1]):
        sys.exit(1)
try:
    os.execvp(sys.argv[2], sys.argv[2:])
except OSError as error:
    sys.exit(f"{sys.argv[2]}: {error.strerror}")
"""
"""Becomes a program that the kernel kills when its parent dies: a worker is to end with its actor, however that ends."""


class Ask(Struct, frozen=True, kw_only=True):
    """A request for workers. checks: the address must mean this machine only if the cluster is this machine."""

    cluster: str
    count: int
    cpus: int
    program: tuple[str, ...]
    address: str
    checks: bool
    token: str
    number: int = 0


class Told(Struct, frozen=True, kw_only=True):
    """What is told. number: of the request that it answers, 0 for a notice. text: a sentence.

    An empty answer: workers are asked for. An empty notice: none is left.
    """

    number: int = 0
    text: str = ""


class Hand:
    """The actor: holds the CPUs of a worker, which is its child. It uses nothing but modules of Python, which its node has."""

    def place(self) -> str:
        """Return the name of the node, so that it is known that the actor has its place."""
        return socket.gethostname()

    def work(self, program: tuple[str, ...], arguments: list[str], token: str, tied: str) -> tuple[int, str]:
        """Run the worker to its end. Return its exit code and its last line."""
        raylet = os.getppid()
        command = [*(program or (sys.executable, "-P", "-m", "runner")), *arguments]
        # the key is that of the node
        done = subprocess.run(  # noqa: S603 - the program is what the user named
            [sys.executable, "-c", tied, str(os.getpid()), *command],
            env={**os.environ, "RUNNER_WORKER_TOKEN": token},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            check=False,
        )
        if os.getppid() != raylet:
            # it has died meanwhile, and Ray does not end the process of an actor without its raylet
            os._exit(1)
        lines = done.stderr.decode(errors="replace").strip().splitlines()
        return done.returncode, lines[-1] if lines else ""


class Actors:
    """The actors of a run, and what was told of them."""

    def __init__(self, ray: Any, out: IO[bytes]) -> None:
        self._ray, self._out = ray, out
        self._hands: list[Any] = []
        # what is waited for -> number of the worker
        self._placing: dict[Any, int] = {}
        self._working: dict[Any, int] = {}
        self._asked_at, self._told_waiting = 0.0, -1

    def tell(self, number: int, text: str) -> None:
        """Write a line to the run."""
        self._out.write(msgspec.json.encode(Told(number=number, text=text)) + b"\n")
        self._out.flush()

    def ask(self, ask: Ask) -> None:
        """Ask Ray for actors, and answer. Whatever Ray raises becomes a sentence."""
        try:
            if not self._ray.is_initialized():
                _reach(ask.cluster)
                self._ray.init(address=ask.cluster, log_to_driver=False, logging_level="ERROR")
            if ask.checks:
                self._check(ask.address)
            self._place(ask)
        except UsageError as error:
            self.tell(ask.number, str(error))
        except ConnectionError:
            where = "on this machine" if ask.cluster == "auto" else f"at {clean(ask.cluster)}"
            hint = "start one (ray start --head), or name it: --address HOST:PORT"
            self.tell(ask.number, f"no Ray cluster is found {where}; {hint}")
        except Exception as error:  # noqa: BLE001 - whatever Ray raises
            self.tell(ask.number, f"Ray cannot place workers: {_first_line(error)}")
        else:
            self.tell(ask.number, "")

    def _check(self, address: str) -> None:
        """Refuse an address that means this machine only, in a cluster of several. Raises UsageError."""
        own = self._ray.util.get_node_ip_address()
        if any(node["Alive"] and node["NodeManagerAddress"] != own for node in self._ray.nodes()):
            engine_options.reachable({}, "ray", address)

    def _place(self, ask: Ask) -> None:
        kind = self._ray.remote(num_cpus=ask.cpus, max_restarts=0, max_task_retries=0, scheduling_strategy="SPREAD")(Hand)
        for _ in range(ask.count):
            hand = kind.remote()
            self._hands.append(hand)
            number = len(self._hands)
            self._placing[hand.place.remote()] = number
            self._working[hand.work.remote(ask.program, engine_options.worker((), ask.address), ask.token, _TIED)] = number
        self._asked_at = time.monotonic()

    def look(self) -> None:
        """Tell what has changed since the last look."""
        for ended in self._done(self._working):
            number = self._working.pop(ended)
            sentence = self._ended(ended)
            if sentence:
                self.tell(0, f"Ray: the actor {number} {sentence}")
            if not self._working:
                self.tell(0, "")
        for placed in self._done(self._placing):
            del self._placing[placed]
        waiting = len(self._placing)
        if waiting and waiting != self._told_waiting and time.monotonic() - self._asked_at > PLACED_S:
            self._told_waiting = waiting
            placed = f"{len(self._working) - waiting} of {len(self._working)} workers"
            self.tell(0, f"Ray has placed {placed}; the others wait for free CPUs")

    def _done(self, among: dict[Any, int]) -> list[Any]:
        return self._ray.wait(list(among), num_returns=len(among), timeout=0)[0] if among else []

    def _ended(self, ended: Any) -> str:
        """Return how a worker ended, in words that follow its number; empty if it ended well."""
        try:
            code, words = self._ray.get(ended)
        except Exception as error:  # noqa: BLE001 - ActorDiedError, ActorUnavailableError, and what else Ray has for it
            return f"is lost, as Ray sees it: {_first_line(error)}"
        if not code:
            return ""
        return (f"was killed by signal {-code}" if code < 0 else f"ended with exit code {code}") + (
            f": {clean(words, _SENTENCE)}" if words else ""
        )

    def end(self) -> None:
        """End the actors. The cluster goes on."""
        if self._ray.is_initialized():
            for hand in self._hands:
                self._ray.kill(hand)
            self._ray.shutdown()


def _reach(cluster: str) -> None:
    """Raise ConnectionError if nobody listens at HOST:PORT: Ray itself would look for minutes."""
    host, colon, port = cluster.rpartition(":")
    if colon and port.isdecimal() and "/" not in host:
        try:
            socket.create_connection((host.strip("[]"), int(port)), REACH_S).close()
        except (OSError, OverflowError) as error:
            raise ConnectionError from error


def _first_line(error: BaseException) -> str:
    lines = [line for line in str(error).splitlines() if line.strip()]
    return clean(lines[0] if lines else type(error).__name__, _SENTENCE)


def _read(asked: "queue.Queue[Ask | None]") -> None:
    for line in sys.stdin.buffer:
        asked.put(msgspec.json.decode(line, type=Ask))
    asked.put(None)


def main() -> None:
    """Do what standard input says, until it is closed."""
    out = os.fdopen(os.dup(1), "wb")
    # what Ray prints is no line of ours
    os.dup2(2, 1)
    import ray

    asked = queue.Queue[Ask | None]()
    threading.Thread(target=_read, args=(asked,), daemon=True).start()
    actors = Actors(ray, out)
    while True:
        try:
            ask = asked.get(timeout=LOOK_S)
        except queue.Empty:
            actors.look()
            continue
        if ask is None:
            break
        actors.ask(ask)
    actors.end()


if __name__ == "__main__":
    main()
