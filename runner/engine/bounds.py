"""The most tokens that a request can have, which are kept of each attempt that may have been billed for unknown ones.

A token of a text is at least one byte of it, in every tokenizer that works on bytes. The names and brackets of the JSON around
the text are more bytes than the marks that a server puts between messages.
"""

from typing import NamedTuple

import msgspec
from msgspec import Raw, Struct, structs

from runner.engine.task import Files, Task
from runner.interfaces import Decoder
from runner.model import Attempt, HttpCall, Stage, Usage
from runner.money import tier_asked

_FILES = 4
"""The tokens of a picture, a page or a second of sound are known roughly: the most is so many times what is expected."""

_MOST = 1_000_000_000
"""No answer has so many tokens: a larger number is no limit, and may be none that the store can hold."""


class Bounds(NamedTuple):
    """The most tokens that a request and its answer can have; None: no limit is set. tier: the one that the request asks for.

    answers: how many the request asks for. ``output`` is of all of them. hour: of the input, what may be written to a cache that
    is kept for an hour; None if the request asks for none.
    """

    input: int
    output: int | None
    tier: str | None
    answers: int = 1
    hour: int | None = None


_NULL = Raw(b"null")


class _Body(Struct):
    """What a body says about it, as it stands there: what one field says must not hide the others."""

    max_tokens: Raw = _NULL
    max_completion_tokens: Raw = _NULL
    # answers to one request, which count together
    n: Raw = _NULL
    service_tier: Raw = _NULL


_decode = msgspec.json.Decoder(_Body).decode
# some servers take "100" and 100.0 for 100
_decode_number = msgspec.json.Decoder(int | None, strict=False).decode
_decode_text = msgspec.json.Decoder(str | None).decode


class _Limits(NamedTuple):
    """output: the most tokens of all answers; None: no limit is set."""

    output: int | None = None
    answers: int = 1
    tier: str | None = None


def input_bound(call: HttpCall, files: Files | None) -> int:
    """Return the most tokens of input that a request can have. files: those that are not in ``call``."""
    return len(call.body) + (_FILES * files.tokens if files is not None else 0)


def bounds(call: HttpCall, files: Files | None) -> Bounds:
    """Return what bounds a request, by what its body says. files: those that are not in ``call``."""
    limits, most = _limits(call), input_bound(call, files)
    return Bounds(most, limits.output, limits.tier, limits.answers, most if asks_for_hour(call) else None)


def asks_for_hour(call: HttpCall) -> bool:
    """Return True if a request may ask for a cache that is kept for an hour, which costs more: ``"ttl": "1h"``."""
    # a text that holds these bytes is rare, and then the bound is higher than it must be
    return b'"1h"' in call.body


def _limits(call: HttpCall) -> _Limits:
    try:
        body = _decode(call.body)
    except (msgspec.MsgspecError, ValueError, RecursionError):
        # a dialect of a plug-in
        return _Limits()
    answers = _number(body.n)
    named = [limit for raw in (body.max_tokens, body.max_completion_tokens) if (limit := _number(raw)) is not None]
    # nobody knows which of two names counts, or what a server does with a number of answers that is none
    bound = max(named) * (answers or 1) if named and 0 not in (*named, answers) else _MOST
    return _Limits(bound if bound < _MOST else None, answers or 1, _text(body.service_tier))


def _number(raw: Raw) -> int | None:
    """Return a number of 1 or more; None if none is given; 0 for what is no limit, such as -1."""
    try:
        number = _decode_number(raw)
    except (msgspec.MsgspecError, ValueError):
        return 0
    return number if number is None or 0 < number < _MOST else 0


def _text(raw: Raw) -> str | None:
    try:
        return _decode_text(raw)
    except (msgspec.MsgspecError, ValueError):
        return None


def bounded(attempt: Attempt, task: Task, decoder: Decoder, *, kept: bool) -> Attempt:
    """Return the attempt with the most tokens that it may have been billed for, if its usage is not known as a whole.

    kept: the answer is complete, though it counts as a failure.
    """
    refused = attempt.status is not None and not 200 <= attempt.status <= 299
    if not attempt.sent or refused:
        return attempt
    if attempt.tier is None and (asked := _tier_asked(task)) is not None:
        attempt = structs.replace(attempt, asked_tier=asked)
    usage = attempt.usage
    reported = usage is not None and usage.input_tokens is not None and usage.output_tokens is not None
    # a server that counts as it goes has not counted all of an answer that was cut
    if reported and (attempt.error_code is None or kept or decoder.stage >= Stage.COUNTED):
        return _with_unsplit_writes(attempt, usage, task.call)
    reserved = task.reserved
    if reserved is not None:
        # while the tier that serves it is not known, it may be the dearest
        return structs.replace(
            attempt,
            input_bound=reserved.input_bound,
            output_bound=reserved.output_bound,
            cache_1h_bound=reserved.cache_1h_bound,
            price=reserved.price if attempt.tier is None else None,
        )
    most = bounds(task.call, task.files)
    return structs.replace(
        attempt,
        input_bound=most.input,
        output_bound=most.output,
        cache_1h_bound=most.hour,
    )


def counted(attempt: Attempt, call: HttpCall) -> Attempt:
    """Return an attempt that was bounded when nobody knew what came of it, and is answered now. call: what was sent."""
    usage = attempt.usage
    if usage is None or usage.input_tokens is None or usage.output_tokens is None:
        return attempt
    known = structs.replace(attempt, input_bound=None, output_bound=None, cache_1h_bound=None, price=None)
    return _with_unsplit_writes(known, usage, call)


def _with_unsplit_writes(attempt: Attempt, usage: Usage | None, call: HttpCall) -> Attempt:
    """Return an attempt of known usage; what it wrote to caches may be kept for an hour, where it does not tell for how long."""
    if usage is None or not usage.cache_write_tokens or usage.cache_write_1h_tokens is not None or not asks_for_hour(call):
        return attempt
    # a gateway that tells one number for both
    return structs.replace(attempt, cache_1h_bound=usage.cache_write_tokens)


def _tier_asked(task: Task) -> str | None:
    request = task.item.request
    return tier_asked(request.tier, request.params.extra_body)
