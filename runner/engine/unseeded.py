r"""A request with a made-up seed that is refused for no named reason is tried once without it: nobody has asked for the seed.

refused with it --sent at once without--> answered: such requests go out without from now on
                                     \--> refused too: the refusal is the row's, and its seed is put back
"""

from runner.engine.answers import InformedProvider
from runner.engine.task import Task, asks
from runner.errors import AttemptError, ProviderError

_STATUSES = (400, 422)


def tries(task: Task, error: AttemptError) -> bool:
    """Take the seed out of a request that may have been refused for it. Return True if the item is to be sent again at once."""
    if error.code != "bad_request" or not isinstance(error, ProviderError):
        return False
    if task.seeded is not None:
        if task.item.request.made_seed is None:
            asks(task, made_seed=task.seeded.made_seed)
        return False
    if task.call.made_seed is None or error.status not in _STATUSES or error.verdict != "fail":
        return False
    task.seeded = task.item.request
    asks(task, made_seed=None)
    return True


def answered(task: Task, provider: InformedProvider) -> None:
    """Let the provider learn from an answer that came only without the seed."""
    if task.seeded is not None and task.item.request.made_seed is None:
        provider.answered_unseeded(task.seeded)
