"""What the finish reason of a complete answer means. Pure; the same for every dialect, streamed or not.

    reason, "empty" --+-- in the user's fail ------------> failed at once, text kept    code finish_REASON
                      +-- in the user's retry -----------> tried again                  code finish_REASON
                      +-- in the user's done, in WHOLE --> done
                      +-- in GAVE_UP --------------------> tried again                  code gave_up
                      +-- anything else -----------------> done, with the note unknown_finish

The first line that fits counts. The lists of reasons are data.
"""

from collections.abc import Iterable
from functools import lru_cache
from typing import Literal, TypeAlias

from msgspec import Struct, structs

from runner.errors import FinishError, UsageError
from runner.model import Completion
from runner.providers.classify import snake

Kind: TypeAlias = Literal["whole", "gave_up", "unknown"]
Reasons: TypeAlias = str | list[str] | None

EMPTY = "empty"
"""In the user's lists: an answer without text, refusal and tool call, whatever its finish reason is."""
UNKNOWN = "unknown_finish"
"""The note on an answer whose finish reason is in no list."""

CUT: frozenset[str] = frozenset(
    {
        "length", "limit", "max_length", "max_len", "max_tokens", "max_output_tokens", "max_completion_tokens", "max_new_tokens",
        "token_limit", "model_length", "error_limit", "context_length", "context_length_exceeded",
        "model_context_window_exceeded", "context_window_exceeded",
    }
)  # fmt: skip
"""Reasons of answers that end at a limit of their length. In snake case."""

FILTERED: frozenset[str] = frozenset(
    {
        "content_filter", "content_filtered", "safety", "refusal", "recitation", "blocklist", "prohibited_content", "spii",
        "language", "sensitive", "guardrail_intervened", "guardrail", "model_armor", "error_toxic", "image_safety",
        "image_prohibited_content", "image_recitation", "no_image",
    }
)  # fmt: skip
"""Reasons of answers that a rule about content ended. In snake case."""

WHOLE: frozenset[str] = CUT | FILTERED | frozenset(
    {
        # the model ended its answer
        "stop", "stopped", "end", "end_turn", "end_of_turn", "eos", "eos_token", "complete", "completed", "done", "finish",
        "finished", "success", "word",
        # a text that ends answers
        "stop_sequence", "stop_sequences", "stop_word", "stop_token", "stop_str",
        # what has ended it otherwise
        "repetition",
        # the model waits for its caller
        "tool_calls", "tool_call", "tool_use", "function_call", "function_calls", "pause_turn", "compaction",
    }
)  # fmt: skip
"""Reasons of answers that are what the model had to say, under the limits and rules that it was given. In snake case."""

GAVE_UP: frozenset[str] = frozenset(
    {
        "error", "abort", "insufficient_system_resource", "insufficient_system_resources", "network_error", "server_error",
        "internal_error", "malformed_function_call", "malformed_response", "unexpected_tool_call", "unknown", "other",
        "image_other", "unspecified", "undefined", "null", "none", "not_finished", "incomplete_generation", "cancel",
        "disconnect", "disconnected", "terminated", "killed", "preempted", "evicted", "shutdown", "load", "unload", "busy",
        "time_limit", "deadline_exceeded", "rate_limit", "rate_limited", "rate_limit_exceeded", "resource_exhausted",
        "capacity_exceeded", "out_of_memory", "oom", "missing_thought_signature",
    }
)  # fmt: skip
"""Reasons with which a server ends an answer that the model had not ended. In snake case."""

_GAVE_UP_WORDS: frozenset[str] = frozenset(
    {
        "error", "errored", "abort", "aborted", "cancel", "cancelled", "canceled", "timeout", "timedout", "overloaded",
        "unavailable", "malformed", "failed", "failure", "interrupted", "exception", "crashed", "disconnected",
    }
)  # fmt: skip
"""A reason with one of these words, such as ``upstream_error``, means that the server gave up, unless it is in WHOLE."""

_PREFIXES = ("finish_reason_", "stop_reason_", "reason_")
_LONGEST = 80


def normal(reason: str) -> str:
    """Return a reason in the form in which reasons are compared: ``FinishReason.MAX_TOKENS`` is ``max_tokens``."""
    name = snake(reason)
    for prefix in _PREFIXES:
        name = name.removeprefix(prefix)
    return name or reason.strip().lower()


def is_cut(reason: str) -> bool:
    """Return True if an answer ends at a limit of its length."""
    return normal(reason) in CUT


ENDS = {"length": CUT, "content_filter": FILTERED}
"""Names for answers by their finish reason, if that leaves a doubt about them."""


def doubt(completion: Completion) -> str | None:
    """Return a name for what is doubtful about the shape of an answer; None if nothing is."""
    return end_of(completion.finish_reason) or (EMPTY if EMPTY in completion.notes else None)


@lru_cache(1024)
def end_of(reason: str) -> str | None:
    """Return the name in ``ENDS`` of a finish reason; None for one that is in none of them."""
    return next((name for name, among in ENDS.items() if normal(reason) in among), None)


@lru_cache(1024)
def kind_of(reason: str) -> Kind:
    """Return what a finish reason means by itself."""
    name = normal(reason)
    if name in WHOLE:
        return "whole"
    words = name.split("_")
    gave_up = name in GAVE_UP or not _GAVE_UP_WORDS.isdisjoint(words) or words[:2] == ["timed", "out"]
    return "gave_up" if gave_up else "unknown"


class Finish(Struct, frozen=True, kw_only=True):
    """What finish reasons, and the word ``empty``, mean to the user of a run. In the form of ``normal``."""

    retry: frozenset[str] = frozenset()
    fail: frozenset[str] = frozenset()
    done: frozenset[str] = frozenset()

    def judged(self, completion: Completion) -> Completion | FinishError:
        """Return a complete answer as it counts, or the error that it counts as."""
        reason = completion.finish_reason
        if self.retry or self.fail or self.done:
            names = [normal(reason), *([EMPTY] if EMPTY in completion.notes else [])]
            for name in _common(names, self.fail):
                return FinishError(_words(name, reason), code=f"finish_{name}", verdict="fail", kept=True)
            for name in _common(names, self.retry):
                return FinishError(_words(name, reason), code=f"finish_{name}", verdict="retry", kept=True)
            if _common(names, self.done):
                return completion
        kind = kind_of(reason)
        if kind == "whole":
            return completion
        if kind == "gave_up":
            return FinishError(f"the server gave up on the answer (finish reason {_quoted(reason)})", code="gave_up")
        return structs.replace(completion, notes=(*completion.notes, UNKNOWN))


def of(retry: Reasons, fail: Reasons, done: Reasons) -> Finish:
    """Return what the user's lists say. Raises UsageError for a reason that is in two of them, or is no word."""
    lists = {"retry": _normal(retry), "fail": _normal(fail), "done": _normal(done)}
    for name in sorted(frozenset().union(*lists.values())):
        places = [f"finish.{word}" for word, names in lists.items() if name in names]
        if len(places) > 1:
            raise UsageError(f"{name!r} is in {' and in '.join(places)}; a finish reason can mean one thing only")
        if not name:
            raise UsageError(f"{places[0]} names a finish reason without letters or digits")
    return Finish(**lists)


def _normal(reasons: Reasons) -> frozenset[str]:
    return frozenset(map(normal, [reasons] if isinstance(reasons, str) else reasons or []))


def _common(names: Iterable[str], among: frozenset[str]) -> list[str]:
    return [name for name in names if name in among]


def _words(name: str, reason: str) -> str:
    what = "the answer is empty" if name == EMPTY else "the answer ended"
    return f"{what} (finish reason {_quoted(reason)}), which the setting finish counts as a failure"


def _quoted(reason: str) -> str:
    return repr(reason if len(reason) <= _LONGEST else reason[: _LONGEST - 1] + "…")
