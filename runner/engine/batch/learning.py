"""What refusals in batches teach about parameters and seeds, and requests of rows that are sent again.

A refusal comes long after its request, which is then known only by its body. What it teaches holds for requests like it; so when
the row comes again, it is learned once more with the row's own request. Some rows are enough for that: the others are like them.
"""

from collections import OrderedDict

from msgspec import structs

from runner.batches import BatchRow, Reask
from runner.engine.answers import InformedProvider
from runner.errors import AttemptError, ProviderError
from runner.model import Item, Params, Request

_KEPT = 1_000
"""Rows that are remembered with their refusals."""
_MENDED = 12
"""Attempts beyond the usual, at the most, that a row may lose to parameters: there are not more of these."""
_SEED_STATUSES = (400, 422)


class Learning:
    """What a session learns from the refusals of its batches. attempts: how many a row has."""

    def __init__(self, provider: InformedProvider, attempts: int) -> None:
        self._provider, self._attempts = provider, attempts
        self._refusals: OrderedDict[str, AttemptError] = OrderedDict()
        # rows whose made-up seed was refused for no named reason, with the request as it was with its seed, once it was made anew
        self.unseeded: OrderedDict[str, Request | None] = OrderedDict()

    def mends(self, row: BatchRow, error: AttemptError) -> bool:
        """Return True if a row whose parameter was refused may be sent again. False: it had that often enough."""
        if row.number > self._attempts + _MENDED:
            return False
        if len(self._refusals) < _KEPT:
            self._refusals[row.key] = error
        return True

    def tries_unseeded(self, row: BatchRow, error: AttemptError) -> bool:
        """Return True if a row is to be sent again without its made-up seed, for which it may have been refused."""
        if not isinstance(error, ProviderError) or error.code != "bad_request" or error.verdict != "fail":
            return False
        if row.made_seed is None or error.status not in _SEED_STATUSES or row.key in self.unseeded:
            return False
        if len(self.unseeded) >= _KEPT:
            return False
        self.unseeded[row.key] = None
        return True

    def answered(self, row: BatchRow) -> None:
        """Let the provider learn from an answer that came only without the seed."""
        request = self.unseeded.pop(row.key, None)
        if request is not None and row.made_seed is None:
            self._provider.answered_unseeded(request)

    def request_of(self, item: Item, seed: int | None) -> Request:
        """Return the request of an item as it is to be sent, by what is known of earlier refusals of it. seed: a made-up one."""
        request = structs.replace(item.request, params=_untiered(item.request.params), tier=None, made_seed=seed)
        error = self._refusals.pop(item.key, None)
        if error is not None:
            self._learn(error, request)
        if seed is not None and item.key in self.unseeded:
            self.unseeded[item.key] = request
            request = structs.replace(request, made_seed=None)
        return request

    def _learn(self, error: AttemptError, request: Request) -> None:
        """Let the provider learn from a refusal, with the request of the row, as far as that is not known by now."""
        call = self._provider.encode(request)
        # its code and verdict are those that it came to have when it was read
        error.becomes(code="bad_request", verdict="fail")
        self._provider.explained(error, request, call)


def _untiered(params: Params) -> Params:
    """Return parameters without a service tier that a job or a row names itself: a batch is one of its own."""
    extra = {name: value for name, value in (params.extra_body or {}).items() if name != "service_tier"}
    return params if extra == (params.extra_body or {}) else structs.replace(params, extra_body=extra or None)


def asked_again(item: Item, reask: Reask | None) -> Item:
    """Return an item with what it brings along from earlier requests: it may be asked for a better answer.

    Nothing is brought along by a row that has changed meanwhile.
    """
    if reask is None or not reask.messages or reask.fingerprint not in (None, item.fingerprint):
        return item
    return structs.replace(item, request=structs.replace(item.request, messages=(*item.request.messages, *reask.messages)))
