"""How a request asks for an answer of a certain shape. What the shape means is known to ``runner.schema``."""

from collections.abc import Mapping
from typing import Any, Literal, TypeAlias

from msgspec import Struct

How: TypeAlias = Literal["response_format", "tool", "guided"]
"""response_format: the provider's own parameter for it. tool: a tool that the model has to call. guided: vLLM's parameter."""

SHAPE_NAME = "answer"
"""The name of a schema, or of its tool, where a provider wants one."""


class AnswerShape(Struct, frozen=True, kw_only=True):
    """The schema of a request, and how it is sent. strict: the provider is to keep it in every answer, which it can."""

    schema: Mapping[str, Any]
    how: How
    strict: bool = False
