"""Receives signals. Imports nothing heavy: every command loads it.

Handlers are set with ``signal.signal``, which every system has; the handlers of an event loop are missing on Windows.
"""

import os
import signal
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from types import FrameType

# SIGUSR1, SIGUSR2 and SIGXCPU are what batch systems send before they kill; SIGBREAK is Ctrl-Break on Windows
_NAMES = ("SIGINT", "SIGTERM", "SIGHUP", "SIGUSR1", "SIGUSR2", "SIGXCPU", "SIGBREAK")
STOP_SIGNALS = tuple(getattr(signal, name) for name in _NAMES if hasattr(signal, name))
"""The signals that stop a run of the command."""


@contextmanager
def on_signals(kinds: Iterable[int], act: Callable[[int], None]) -> Iterator[list[int]]:
    """Call ``act`` with each of these signals, instead of what was set before; yield the list of those that came.

    A signal that the parent process had us ignore (nohup) stays ignored. Only the main thread can receive signals: elsewhere
    nothing is set.
    """
    caught: list[int] = []

    def handle(kind: int, _frame: object) -> None:
        # the kernel repeats this one every second of processor time
        if kind != getattr(signal, "SIGXCPU", None) or kind not in caught:
            caught.append(kind)
            act(kind)

    before = {}
    if threading.current_thread() is threading.main_thread():
        # None: set by something that is not Python, and cannot be set again
        before = {kind: now for kind in kinds if (now := signal.getsignal(kind)) not in (signal.SIG_IGN, None)}
    for kind in before:
        signal.signal(kind, handle)
    try:
        yield caught
    finally:
        for kind, handler in before.items():
            signal.signal(kind, handler)


@contextmanager
def held_back(act: Callable[[], None]) -> Iterator[list[BaseException]]:
    """Call ``act`` when a signal handler of the program raises, and hold back what it raised; yield the list of that.

    What it raises would come out of whatever code runs just then, such as that which saves answers; uvloop would drop it.
    """
    raised: list[BaseException] = []
    ours = os.getpid()

    def guarded(handler: Callable[[int, FrameType | None], object]) -> Callable[[int, FrameType | None], None]:
        def handle(kind: int, frame: FrameType | None) -> None:
            try:
                handler(kind, frame)
            except BaseException as error:
                if os.getpid() != ours:
                    # a process that the program has forked meanwhile, which has no session
                    raise
                raised.append(error)
                act()

        return handle

    guards = {}
    if threading.current_thread() is threading.main_thread():
        now = {kind: signal.getsignal(kind) for kind in signal.valid_signals()}
        guards = {kind: (handler, guarded(handler)) for kind, handler in now.items() if callable(handler)}
    for kind, (_, guard) in guards.items():
        signal.signal(kind, guard)
    try:
        yield raised
    finally:
        for kind, (handler, guard) in guards.items():
            # the program may have set another one meanwhile, in its observer
            if signal.getsignal(kind) is guard:
                signal.signal(kind, handler)


def exit_code(kind: int) -> int:
    """Return the exit code of a command that a signal has stopped: 128 and its number; for SIGHUP that of SIGTERM."""
    return 128 + (signal.SIGTERM if kind == getattr(signal, "SIGHUP", None) else kind)
