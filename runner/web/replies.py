"""Answers of the API as JSON. An error is one sentence and a code."""

from collections.abc import Mapping
from typing import Any

import msgspec
from starlette.responses import Response

from runner.errors import RunnerError, StoreError, UsageError
from runner.text import encodable_tree, redact

NO_STORE = {"Cache-Control": "no-store"}


def to_json(value: Any) -> bytes:
    """Return a value as JSON. What is no UTF-8 in it, such as the name of a file, is made readable."""
    try:
        return msgspec.json.encode(value)
    except UnicodeEncodeError:
        return msgspec.json.encode(encodable_tree(msgspec.to_builtins(value)))


def reply(value: Any, status: int = 200, headers: Mapping[str, str] = NO_STORE) -> Response:
    """Return a value as an answer."""
    return Response(to_json(value), status, {**NO_STORE, **headers}, "application/json")


class ApiError(Exception):
    """An answer that is an error. The text is one sentence for a person, ``code`` a word for a program."""

    def __init__(self, status: int, code: str, sentence: str, headers: Mapping[str, str] | None = None) -> None:
        super().__init__(sentence)
        self.status, self.code, self.headers = status, code, headers or {}


def refused(error: ApiError) -> Response:
    """Return an error as an answer."""
    return reply({"error": redact(str(error)), "code": error.code}, error.status, error.headers)


def of_runner(error: RunnerError) -> ApiError:
    """Return an error of the store, of a session or of what was asked as one of the API."""
    if isinstance(error, StoreError):
        return ApiError(503, "store", str(error))
    return ApiError(400 if isinstance(error, UsageError) else 409, "refused", str(error))
