"""Errors of attempts, as they cross from a worker to its driver: the name of a known class and plain values. Pure."""

from typing import Any

from runner.errors import AttemptError, AttemptTimeoutError, FinishError, ProviderError, StreamError, TransportError
from runner.workers.protocol import Fault

_KINDS: dict[str, type[AttemptError]] = {
    kind.__name__: kind for kind in (AttemptError, TransportError, AttemptTimeoutError, StreamError, FinishError, ProviderError)
}
_FIELDS: dict[str, type | tuple[type, ...]] = {
    "code": str, "verdict": str, "sent": bool, "kept": bool, "early": bool, "misplaced": bool, "address": str,
    "stale": bool, "timeout": str, "orderly": bool, "marked": bool, "speaks": str,
    "status": int, "provider_code": str, "param": str, "throttled": bool, "retry_after_s": (int, float), "words": str,
}  # fmt: skip
"""The attributes that cross, with their types; each may be None."""
_VERDICTS = ("retry", "fail", "stop")


def fault_of(error: Exception) -> Fault:
    """Return an error as it crosses. What is no AttemptError is an error of the program that read the answer."""
    if not isinstance(error, AttemptError):
        error = AttemptError(f"{type(error).__name__}: {error}", code="internal", verdict="fail")
    kind = next(kind.__name__ for kind in type(error).__mro__ if _KINDS.get(kind.__name__) is kind)
    fields = {name: value for name, value in vars(error).items() if _fits(name, value)}
    return Fault(kind, str(error), fields)


def error_of(fault: Fault) -> AttemptError:
    """Return the error of a worker. What is no attribute of an error is left out."""
    kind = _KINDS.get(fault.kind, AttemptError)
    error = kind.__new__(kind, fault.words)
    # what the class sets, so that each attribute is there
    AttemptError.__init__(error, fault.words, code="internal", verdict="fail")
    vars(error).update({name: None for name, owner in _LATER.items() if issubclass(kind, owner)})
    vars(error).update({name: value for name, value in fault.fields.items() if _fits(name, value)})
    return error


_LATER: dict[str, type[AttemptError]] = {
    "stale": TransportError, "timeout": AttemptTimeoutError, "orderly": StreamError, "marked": StreamError,
    "speaks": StreamError, "status": ProviderError, "provider_code": ProviderError, "param": ProviderError,
    "throttled": ProviderError, "retry_after_s": ProviderError,
}  # fmt: skip


def _fits(name: str, value: Any) -> bool:
    if name not in _FIELDS:
        return False
    if name == "verdict":
        return value in _VERDICTS
    return value is None or isinstance(value, _FIELDS[name])
