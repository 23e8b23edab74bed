"""Starts sessions as processes of their own, and reads what they say of themselves."""

import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec
from msgspec import Struct

from runner.errors import RunnerError, StoreError
from runner.integrations.mcp_cap import Cap, Grant
from runner.integrations.mcp_session import Order

BEGIN_S = 60.0
"""Seconds for which a start waits until the session has read its input. It goes on all the same."""
_LOOK_S = 0.05
_NOTED = 20
"""Notes that are told, at most: the newest."""


class Launched(Struct, frozen=True, kw_only=True):
    """What came of a start. run: None if the input is still being read, or the session was refused. error: its words."""

    grant: str
    run: int | None
    events: list[dict[str, Any]]
    error: dict[str, Any] | None = None
    # True if the process goes on
    alive: bool = False


class Launcher:
    """Starts sessions within a cap. They live in process groups of their own, so that what ends the server leaves them alone."""

    def __init__(self, cap: Cap) -> None:
        self._cap = cap
        # kept so that their ends are collected
        self._processes: list[subprocess.Popen[bytes]] = []

    def start(self, ordered: Callable[[Grant, int], Order], wanted: float | None, *, free: bool) -> Launched:
        """Start a session, and wait until it has begun. ordered: returns its order, given its grant and its lock.

        wanted: dollars that it may spend, at most; None: all that is left. free: it needs no part of the cap. Raises UsageError.
        """
        self._processes = [process for process in self._processes if process.poll() is None]
        grant, lock = self._cap.reserve(wanted, free=free)
        order, log = ordered(grant, lock), self._cap.log_of(grant.id)
        try:
            log.touch(mode=0o600)
            with log.open("ab") as errors:
                process = subprocess.Popen(
                    # -P: nothing in the folder of the agent's files is imported
                    [sys.executable, "-P", "-m", "runner.integrations.mcp_session"],
                    stdin=subprocess.PIPE,
                    stdout=subprocess.DEVNULL,
                    stderr=errors,
                    cwd=order.root,
                    start_new_session=True,
                    pass_fds=(lock,),
                )
        except OSError as error:
            raise StoreError(f"no process can be started: {error.strerror}; nothing was sent") from error
        finally:
            # only the session holds it now
            os.close(lock)
        assert process.stdin is not None
        with process.stdin as end:
            end.write(msgspec.json.encode(order))
        self._processes.append(process)
        return self._begun(grant, process, log)

    def _begun(self, grant: Grant, process: "subprocess.Popen[bytes]", log: Path) -> Launched:
        end = time.monotonic() + BEGIN_S
        while True:
            alive = process.poll() is None
            events = list(events_in(log))
            run = next((event["run"] for event in events if event.get("event") == "started"), None)
            error = next((event for event in events if event.get("event") == "error"), None)
            if run is not None or error is not None or not alive or time.monotonic() > end:
                break
            time.sleep(_LOOK_S)
        if run is None and error is None and not alive:
            error = {"exit_code": 70, "code": None, "message": f"the session ended at once; {log} says more"}
        return Launched(grant=grant.id, run=run, events=events, error=error, alive=alive)

    def running(self) -> int:
        """Return how many sessions of this server are alive."""
        return sum(process.poll() is None for process in self._processes)


def events_in(log: Path) -> Iterator[dict[str, Any]]:
    """Yield the events of a session, as far as they are whole."""
    try:
        lines = log.read_bytes().split(b"\n")[:-1]
    except OSError:
        return
    for line in lines:
        try:
            event = msgspec.json.decode(line)
        except msgspec.MsgspecError:
            # what a library has written to standard error
            continue
        if isinstance(event, dict) and isinstance(event.get("event"), str):
            yield event


def notes_of(cap: Cap, run: int) -> list[str]:
    """Return what the newest session of a run that an agent has started has said, one sentence each."""
    of_run = [grant for grant in cap.grants() if grant.run == run]
    found: list[str] = []
    for event in events_in(cap.log_of(of_run[-1].id)) if of_run else ():
        match event:
            case {"event": "started", "notes": list(notes)}:
                found += notes
            case {"event": "noted", "note": str(note)}:
                found.append(note)
            case {"event": "stopping", "reason": str(reason)}:
                found.append(f"stopping: {reason}")
            case {"event": "error", "message": str(message)}:
                found.append(message)
            case _:
                pass
    return list(dict.fromkeys(found))[-_NOTED:]


def refused(launched: Launched) -> RunnerError:
    """Return the error with which a session has ended before it began."""
    assert launched.error is not None
    words = str(launched.error["message"])
    if "[prices" in words:
        words += (
            ". Prices count only if they are in a job file that a person has named when this server was started (--trust FILE)"
        )
    return RunnerError(words)
