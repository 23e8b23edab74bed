"""An answer as a message of a chat, in the words of OpenAI, whichever dialect bought it. Pure."""

from collections.abc import Mapping
from typing import Any

from runner.model import Json

_FINISH = {
    "stop": "stop",
    "function_call": "function_call",
    "length": "length|max_tokens|max_output_tokens|max_length|model_length|model_context_window_exceeded|token_limit",
    "tool_calls": "tool_calls|tool_call|tool_use|function_calls",
    "content_filter": "content_filter|content_filtered|refusal|safety|recitation|blocklist|prohibited_content|spii",
}
_ENDS = {word: ours for ours, words in _FINISH.items() for word in words.split("|")}
"""Finish reasons in lower case, with OpenAI's word for each. Any other one is a ``stop``."""


def finish_of(row: Mapping[str, Any]) -> str:
    """Return why the model ended the answer of a row, in OpenAI's word."""
    found = _ENDS.get(str(row["finish_reason"]).lower(), "tool_calls" if row["tool_calls"] else "stop")
    # an answer with a schema that came as a call of a tool is a text
    return "stop" if found == "tool_calls" and row["text"] and not row["tool_calls"] else found


def message(row: Mapping[str, Any]) -> dict[str, Json]:
    """Return the answer of a row: role, content, refusal, and the tool calls if there are any."""
    calls = row["tool_calls"]
    speechless = not row["text"] and (calls or row["refusal"])
    spoken = {"role": "assistant", "content": None if speechless else row["text"], "refusal": row["refusal"]}
    if not calls:
        return spoken
    return {**spoken, "tool_calls": [_call(place, call) for place, call in enumerate(calls)]}


def _call(place: int, call: Mapping[str, Any]) -> dict[str, Json]:
    function = {"name": call.get("name") or "", "arguments": call.get("arguments") or ""}
    return {"id": call.get("id") or f"call_{place}", "type": "function", "function": function}
