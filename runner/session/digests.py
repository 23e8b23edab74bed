"""Hashes of requests as they would be sent, to compare them. Two requests are the same if their bytes are, by 128 bits.

What a row puts into ``extra_body`` lies elsewhere in the body than a parameter of that name, and 0 may be 0.0 there. Both ask the
same, so they have the same hash.
"""

from collections.abc import Iterator
from hashlib import blake2b

import msgspec
from msgspec import structs

from runner.inputs.attachments import names_local_files
from runner.interfaces import Provider
from runner.model import HttpCall, Json, Request

_DECODE = msgspec.json.Decoder().decode
_NUMBERS, _WHOLE = ("temperature", "top_p"), ("max_tokens", "seed")


def digest(provider: Provider, request: Request) -> bytes | None:
    """Return the hash of a request as it would be sent; None if it cannot be compared.

    Of the files that an earlier request named, only the names are known.
    """
    if names_local_files(request):
        return None
    try:
        call = provider.encode(request) if not request.params.extra_body else _usual(provider, request)
    except Exception:  # noqa: BLE001 - the engine makes a failed row of it, and says why
        return None
    return blake2b(call.url.encode() + b"\n" + call.body, digest_size=16).digest()


def shape(provider: Provider, request: Request) -> bytes | None:
    """Return the hash of what a request asks for beside its texts: model and parameters."""
    messages = ({"role": "user", "content": "-"},)
    return digest(provider, structs.replace(tiered(request), messages=messages, system=None, media=False, tier=None))


def tiered(request: Request) -> Request:
    """Return a request with the service tier of its ``extra_body`` where that of a job is."""
    extra = request.params.extra_body
    if not extra or not isinstance(tier := extra.get("service_tier"), str):
        return request
    rest = {name: value for name, value in extra.items() if name != "service_tier"}
    return structs.replace(request, tier=tier, params=structs.replace(request.params, extra_body=rest))


def _usual(provider: Provider, request: Request) -> HttpCall:
    """Return a request as it is sent where its parameters are no part of ``extra_body``, if it is the same one then."""
    call = provider.encode(request)
    try:
        body = _DECODE(call.body)
    except (msgspec.MsgspecError, RecursionError):
        # a plug-in may send something else than JSON
        return call
    for usual in _written_usually(request):
        other = provider.encode(usual)
        if other.url == call.url and _DECODE(other.body) == body:
            return other
    return call


def _written_usually(request: Request) -> Iterator[Request]:
    """Yield a request with its parameters at their place, with and without ``max_tokens``, which has several names."""
    request = tiered(request)
    extra = request.params.extra_body or {}
    found = {name: value for name, given in extra.items() if (value := _value(name, given)) is not None}
    for left in ((), ("max_tokens",)):
        params = {name: value for name, value in found.items() if name not in left}
        rest = {name: extra[name] for name in sorted(extra) if name not in params}
        yield structs.replace(request, params=structs.replace(request.params, **params, extra_body=rest or None))


def _value(name: str, given: Json) -> Json:
    """Return a parameter of ``extra_body`` in its own type; None if it is none of those that jobs have."""
    if name in _NUMBERS and type(given) in (int, float):
        return float(given)
    if (name in _WHOLE and type(given) is int) or (name == "stop" and isinstance(given, str | list)):
        return given
    return None
