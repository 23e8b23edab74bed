"""The seeds of several answers to one row. Pure."""

from collections.abc import Mapping

from msgspec import structs

from runner.model import Json, Request
from runner.several import SEED_NAMES


def seeded(request: Request, number: int) -> Request:
    """Return the request for one of several answers: with the same seed they would all be equal, so each has the next one.

    What the user merges into the body wins over the parameter. Without a seed of the user none is added here: one is made up
    (``several.seed_of``) when the request goes out, so it is no part of what a row asks.
    """
    if number == 1:
        return request
    params = request.params
    body = params.extra_body or {}
    merged = seeded_body(body, number)
    if params.seed is None and merged == body:
        return request
    seed = params.seed + number - 1 if params.seed is not None else None
    # an empty body stays one: the request of each answer leads back to that of the first
    extra_body = merged if body else params.extra_body
    return structs.replace(request, params=structs.replace(params, seed=seed, extra_body=extra_body))


def seeded_body(body: Mapping[str, Json], number: int) -> dict[str, Json]:
    """Return the body of the request for one of several answers, as ``seeded`` does for a request."""
    return {**body, **{name: value + number - 1 for name in SEED_NAMES if type(value := body.get(name)) is int}}
