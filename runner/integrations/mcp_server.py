"""The MCP server: the tools with their words, and how a call becomes an answer or an error of one sentence."""

import sys
from collections.abc import Callable
from functools import partial
from typing import Annotated, Any

import anyio.to_thread
import msgspec
from mcp.server.mcpserver import Context, MCPServer
from mcp.server.mcpserver.tools.base import Tool
from mcp_types import CallToolResult, TextContent, ToolAnnotations
from pydantic import Field, ValidationError

from runner.config.job_file import suggestion
from runner.errors import RunnerError
from runner.integrations import mcp_schemas
from runner.integrations.mcp_steer import MOST_S, Steering
from runner.integrations.mcp_tools import Named, Tools
from runner.text import clean, redact
from runner.version import __version__

INSTRUCTIONS = """runner sends the rows of a file to a language model and keeps every answer in a store; no finished row is paid \
for twice. The usual way: `estimate` a file (free), `submit` it (costs money), `watch` the run until it has ended, look at `errors`, \
`retry` what may work now (costs money), and read `results` or `export` them to a file. A run is a process of its own: it goes on when \
this server ends, and `watch`, `status` and `stop` find it again. What all sessions together may spend is fixed by the person who \
started this server; `budget` says what is left, and no call can raise it."""

_READS = ToolAnnotations(read_only_hint=True, open_world_hint=False)
_SPENDS = ToolAnnotations(read_only_hint=False, destructive_hint=False, idempotent_hint=True, open_world_hint=True)
_STEERS = ToolAnnotations(read_only_hint=False, destructive_hint=False, idempotent_hint=True, open_world_hint=False)
_GIVES_UP = ToolAnnotations(read_only_hint=False, destructive_hint=True, idempotent_hint=True, open_world_hint=False)

_WORDS: dict[str, tuple[str, ToolAnnotations]] = {
    "estimate": (
        "Say what a run of a file would take: rows, tokens, dollars and seconds, each between bounds. Free: nothing is sent. Use it "
        "before `submit`.",
        _READS,
    ),
    "submit": (
        "COSTS MONEY. Start a run of a file as a process of its own, or continue the run that there is: rows that are answered are not "
        "sent again, so the same call is safe to repeat, also after a crash. It may spend `max_cost` dollars at most, out of the "
        "person's cap. Returns as soon as the run has begun; then use `watch`.",
        _SPENDS,
    ),
    "watch": (
        "Wait for a run. Free. Returns when the run has ended, when it has said something new, or after `seconds`, with counts, notes "
        "and cost; reports progress meanwhile. Call it again with `seen` while `running` is true.",
        _READS,
    ),
    "runs": ("List all runs of the store with their counts and settings. Free.", _READS),
    "status": (
        "Tell all about one run: counts, attempts, tokens, dollars, where the time went, why it stopped. Free. `watch` is the cheaper "
        "call while it runs.",
        _READS,
    ),
    "errors": (
        "Tell what went wrong in a run, by cause, with an example, ids, what it cost and what to do. Free. Use it before `retry`.",
        _READS,
    ),
    "retry": (
        "COSTS MONEY. Send rows of a run again that have failed, or those that `classes` or `ids` name, and no others. A row keeps its "
        "answer until it has a new one. The run must not be running; in a running one, use `requeue`.",
        _SPENDS,
    ),
    "results": (
        "Read finished rows of a run in input order, a page at a time: id, status, text, error. Free. For all of a large run, use "
        "`export`.",
        _READS,
    ),
    "show": ("Show one row whole: what was asked, every attempt, the answer, its earlier answers. Free.", _READS),
    "export": ("Write the finished rows of a run to a file in the root folder. Free.", _GIVES_UP),
    "budget": ("Say how many dollars the person allows, what is spent, and what is left. Free.", _READS),
    "pause": ("Send no further requests of a running session; those that are open finish. Free. `continue` goes on.", _STEERS),
    "continue": (
        "Go on after `pause`; or, if no process works on the run, start one that sends what is left of it, which COSTS MONEY out of the "
        "person's cap.",
        _SPENDS,
    ),
    "stop": (
        "End a running session. Open requests may finish; a second call drops them. Free. What is left can be sent with `continue`.",
        _GIVES_UP,
    ),
    "cancel": ("Give up rows of a running session: their open requests end, and the rows count as failed. Free.", _GIVES_UP),
    "requeue": ("COSTS MONEY. Send failed rows again in the session that is running, within what it may spend.", _SPENDS),
    "set": ("Change how fast a running session sends: open requests, requests or tokens per minute. Free.", _STEERS),
}


class _Tool(Tool):
    """A tool whose errors are one sentence, and which refuses arguments that it does not have."""

    async def run(self, arguments: dict[str, Any], context: Any, convert_result: bool = False) -> Any:
        """Call the tool, and return its object as text and as structured content, or an error."""
        del convert_result
        names = self.parameters["properties"]
        stray = next((name for name in arguments if name not in names), None)
        if stray is not None:
            return _error(f"{self.name} has no argument {clean(stray)!r}{suggestion(stray, names)}")
        try:
            given = self.fn_metadata.validate_arguments(arguments)
        except ValidationError as error:
            first = error.errors()[0]
            return _error(f"the argument {'.'.join(map(str, first['loc'][:1]))} of {self.name} is wrong: {first['msg'].lower()}")
        if self.context_kwarg is not None:
            given[self.context_kwarg] = context
        call = partial(self.fn, **given)
        try:
            told = await call() if self.is_async else await anyio.to_thread.run_sync(call)
        except RunnerError as error:
            return _error(str(error))
        except OSError as error:
            return _error(f"{error.filename or 'a file'} cannot be used: {error.strerror or error}")
        except Exception as error:  # noqa: BLE001 - the client gets a sentence
            print(f"runner: internal error in {self.name}: {type(error).__name__}: {error}", file=sys.stderr, flush=True)
            return _error(f"internal error, {type(error).__name__}. This is a bug of runner; its runs are not affected")
        text = TextContent(type="text", text=msgspec.json.encode(told).decode())
        return CallToolResult(content=[text], structured_content=told)


def _error(sentence: str) -> CallToolResult:
    return CallToolResult(content=[TextContent(type="text", text=clean(redact(sentence)))], is_error=True)


def server(tools: Tools) -> MCPServer[Any]:
    """Return a server with these tools."""
    steering = Steering(tools)

    async def watch(
        context: Context[Any, Any],
        run: Named = None,
        seconds: Annotated[float, Field(ge=0, le=MOST_S, description="How long to wait, at most.")] = 30.0,
        seen: Annotated[int | None, Field(ge=0, description="`seen` of the call before: only newer notes end the wait.")] = None,
    ) -> dict[str, Any]:
        # without a number, whatever was said so far is known
        known = sys.maxsize if seen is None else seen
        return await steering.watch(run, seconds, known, context.report_progress)

    calls: dict[str, Callable[..., Any]] = {
        **{name: getattr(tools, name) for name in _OWN},
        **{name: getattr(steering, name) for name in ("pause", "stop", "cancel", "requeue", "set")},
        "continue": steering.go_on,
        "watch": watch,
    }
    made = [_made(name, calls[name], *_WORDS[name]) for name in _WORDS]
    return MCPServer(
        "runner",
        title="runner: batches of prompts",
        instructions=INSTRUCTIONS,
        version=__version__,
        log_level="ERROR",
        tools=[*made],
        subscriptions=False,
    )


_OWN = ("estimate", "submit", "runs", "status", "errors", "retry", "results", "show", "export", "budget")


def _made(name: str, call: Callable[..., Any], words: str, annotations: ToolAnnotations) -> Tool:
    tool = _Tool.from_function(call, name=name, description=words, annotations=annotations, structured_output=False)
    tool.fn_metadata.output_schema = mcp_schemas.returned(name)
    properties = tool.parameters["properties"]
    for one in properties.values():
        one.pop("title", None)
    if "settings" in properties:
        properties["settings"] = {**properties["settings"], **mcp_schemas.settings(), "default": {}}
        properties["settings"].pop("anyOf", None)
    tool.parameters["additionalProperties"] = False
    tool.parameters.pop("title", None)
    return tool
