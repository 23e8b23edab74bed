"""The tools of an agent that wait for a running session and steer it."""

import asyncio
import time
from functools import partial
from typing import Annotated, Any, Literal, Protocol, TypeAlias

import anyio.to_thread
from pydantic import Field

from runner.control.client import ask
from runner.control.messages import NONE, Cancel, Continue, Pause, Reply, Request, Requeue, Set, Stop
from runner.errors import UsageError
from runner.integrations import mcp_told
from runner.integrations.mcp_launch import notes_of
from runner.integrations.mcp_tools import Accept, Dollars, Named, Tools
from runner.model import Run
from runner.money import PICO, Money
from runner.store.reader import StoreReader

MOST_S = 300.0
"""Seconds for which a call waits, at most."""
_LOOK_S = 1.0
"""Seconds between two looks at the store; more where a look takes long."""
_PART = 10
"""So many times longer than a look is the pause behind it."""

Rate: TypeAlias = Annotated[float, Field(gt=0)] | Literal["none"]
Ids = Annotated[list[str], Field(min_length=1, description="Ids of rows, as `results` and `errors` tell them.")]


class Tell(Protocol):
    """Tells a client how far a call is."""

    async def __call__(self, progress: float, total: float | None, message: str, /) -> None:
        """Tell it."""


class Steering:
    """What an agent can do with a session that is running."""

    def __init__(self, tools: Tools) -> None:
        self._tools = tools

    async def watch(self, run: int | str | None, seconds: float, seen: int, tell: Tell) -> dict[str, Any]:
        """Wait until a run has ended, has something to say, or the time is over. seen: notes that are known already."""
        end, number = time.monotonic() + min(seconds, MOST_S), None
        while True:
            began = time.monotonic()
            found, notes = await anyio.to_thread.run_sync(partial(self._look, run if number is None else number))
            number = found.id
            settled = found.done + found.failed
            await tell(settled, None if found.rows is None else found.rows * found.answers, _words(found))
            now = time.monotonic()
            if not found.active or len(notes) > seen or now >= end:
                break
            await asyncio.sleep(min(max(_LOOK_S, _PART * (now - began)), max(0.0, end - now)))
        return await anyio.to_thread.run_sync(partial(self._watched, found, notes))

    def _look(self, run: int | str | None) -> tuple[Run, list[str]]:
        found = mcp_told.run_of(self._tools.store, run)
        return found, notes_of(self._tools.cap, found.id)

    def _watched(self, found: Run, notes: list[str]) -> dict[str, Any]:
        with StoreReader(self._tools.store) as reader:
            money = reader.money(found.id)
        return {
            "run": mcp_told.brief(found),
            "running": found.active,
            "notes": notes,
            "seen": len(notes),
            **_dollars(money),
            "budget": self._tools.budget(),
        }

    def pause(self, run: Named = None) -> dict[str, Any]:
        """Send no further request."""
        return self._asked(run, Pause())

    def go_on(self, run: Named = None, max_cost: Dollars = None, accept_changes: Accept = False) -> dict[str, Any]:
        """Send requests again, or start a session that goes on with what is left of a run."""
        number = mcp_told.run_of(self._tools.store, run, counted=False).id
        if self._tools.is_running(number):
            return self._asked(number, Continue())
        return self._tools.resume(number, max_cost, accept_changes=accept_changes)

    def stop(self, run: Named = None) -> dict[str, Any]:
        """End a session; it can be continued."""
        return self._asked(run, Stop())

    def cancel(self, ids: Ids, run: Named = None) -> dict[str, Any]:
        """Give up rows."""
        return self._asked(run, Cancel(ids=tuple(ids)))

    def requeue(self, ids: Ids, run: Named = None) -> dict[str, Any]:
        """Send failed rows again in the running session."""
        return self._asked(run, Requeue(ids=tuple(ids)), own=True)

    def set(
        self,
        run: Named = None,
        concurrency: Annotated[int | None, Field(ge=1, description="Requests that may be open at once.")] = None,
        rpm: Annotated[Rate | None, Field(description=f"Requests per minute; {NONE}: no limit but that of the server.")] = None,
        tpm: Annotated[Rate | None, Field(description=f"Tokens per minute; {NONE}: no limit but that of the server.")] = None,
        max_cost: Annotated[
            float | None,
            Field(gt=0, description="Dollars of the run over all its sessions. What this session was given stays the most."),
        ] = None,
    ) -> dict[str, Any]:
        """Change the limits of a running session. The share of the cap that it was given is a limit of its own, and stays."""
        if (concurrency, rpm, tpm, max_cost) == (None, None, None, None):
            raise UsageError("name at least one of concurrency, rpm, tpm and max_cost")
        return self._asked(run, Set(concurrency=concurrency, rpm=rpm, tpm=tpm, max_cost=max_cost), own=True)

    def _asked(self, run: int | str | None, request: Request, *, own: bool = False) -> dict[str, Any]:
        """Ask a session for something. own: only one that an agent has started, within the cap; a person's is let alone."""
        number = mcp_told.run_of(self._tools.store, run, counted=False).id
        if own and self._tools.is_running(number) and not self._tools.cap.open_on(number):
            raise UsageError(
                f"a person has started the session that works on run {number}, and what it spends is not in the cap of this "
                "server; such a session can be paused, continued and stopped, and rows of it cancelled, and nothing else"
            )
        reply: Reply = ask(self._tools.store, number, request, by="agent")
        if reply.error is not None:
            raise UsageError(reply.error)
        return {"run": number, "done": reply.done, "rows": dict(reply.rows)}


def _words(run: Run) -> str:
    of = "" if run.rows is None else f" of {run.rows * run.answers:,}"
    return f"run {run.id}: {run.done:,} done, {run.failed:,} failed{of}"


def _dollars(money: Money) -> dict[str, float | None]:
    known = money.known
    return {
        "cost": money.spent / PICO if known else None,
        "cost_perhaps": money.perhaps / PICO if known and money.perhaps is not None else None,
    }
