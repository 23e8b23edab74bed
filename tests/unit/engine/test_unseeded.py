"""A request that was refused with its made-up seed is tried once without it, and gets it back if that is refused too."""

from typing import Any, cast

import pytest

from runner.engine import unseeded
from runner.engine.task import Files, Task
from runner.errors import ProviderError
from runner.model import HttpCall, Item, Request

SEEDED = Request(model="m", messages=({"role": "user", "content": "hi"},), made_seed=7)


def task(made_seed: int | None = 7) -> Task:
    item = Item(key="a", position=1, fingerprint=1, metadata=None, request=SEEDED)
    call = HttpCall(url="http://x", headers={}, body=b"{}", made_seed=made_seed)
    return Task(item, call, cast("Any", None), cast("Any", None), 3, cast("Any", None), files=Files(SEEDED, 1, 1))


def refusal(code: str = "bad_request", status: int = 400, **more: Any) -> ProviderError:
    return ProviderError("400: no", code=code, status=status, **{"verdict": "fail", **more})


def seeds(of: Task) -> tuple[int | None, int | None]:
    assert of.files is not None
    return of.item.request.made_seed, of.files.request.made_seed


@pytest.mark.parametrize("status", [400, 422])
def test_once_without_and_then_with_it_again(status: int) -> None:
    one = task()
    assert unseeded.tries(one, refusal(status=status))
    assert (seeds(one), one.revision) == ((None, None), -1)
    # a failure that says nothing of the request changes nothing
    assert not unseeded.tries(one, refusal("server_error", 500, verdict="retry"))
    assert seeds(one) == (None, None)
    one.revision, one.call = 3, HttpCall(url="http://x", headers={}, body=b"{}")
    assert not unseeded.tries(one, refusal())
    assert (seeds(one), one.revision) == ((7, 7), -1)
    # no second time, also if it was held and is sent again
    one.call = task().call
    assert not unseeded.tries(one, refusal())
    assert seeds(one) == (7, 7)


@pytest.mark.parametrize(
    ("of", "error"),
    [
        (task(made_seed=None), refusal()),
        (task(), refusal("content_policy")),
        (task(), refusal(status=403)),
        (task(), refusal(verdict="stop")),
    ],
    ids=["no seed was sent", "another code", "another status", "stops the run"],
)
def test_what_is_not_tried(of: Task, error: ProviderError) -> None:
    assert not unseeded.tries(of, error)
    assert (seeds(of), of.revision) == ((7, 7), 3)
