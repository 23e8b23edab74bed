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
from runner.integrations.mcp_words import INSTRUCTIONS, WORDS
from runner.text import clean, redact
from runner.version import __version__

_READS = ToolAnnotations(read_only_hint=True, open_world_hint=False)
_SPENDS = ToolAnnotations(read_only_hint=False, destructive_hint=False, idempotent_hint=True, open_world_hint=True)
_STEERS = ToolAnnotations(read_only_hint=False, destructive_hint=False, idempotent_hint=True, open_world_hint=False)
_GIVES_UP = ToolAnnotations(read_only_hint=False, destructive_hint=True, idempotent_hint=True, open_world_hint=False)

_KINDS = {
    "estimate": _READS,
    "submit": _SPENDS,
    "watch": _READS,
    "runs": _READS,
    "status": _READS,
    "errors": _READS,
    "retry": _SPENDS,
    "results": _READS,
    "show": _READS,
    "export": _GIVES_UP,
    "budget": _READS,
    "pause": _STEERS,
    "continue": _SPENDS,
    "stop": _GIVES_UP,
    "cancel": _GIVES_UP,
    "requeue": _SPENDS,
    "set": _STEERS,
}
"""The tools by their names: whether they change anything, and what."""


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
    made = [_made(name, calls[name], WORDS[name], _KINDS[name]) for name in _KINDS]
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
    if name == "submit":
        # told once: the others take the same
        properties["settings"] = {"description": properties["settings"]["description"], **mcp_schemas.settings()}
    tool.parameters["additionalProperties"] = False
    tool.parameters.pop("title", None)
    return tool
