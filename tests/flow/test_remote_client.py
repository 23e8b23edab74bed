"""The client of a driver with a worker, against what streams and networks do: the tests of ``HttpClient``, unchanged.

Once with answers that the worker decodes, and once with answers that the driver watches as they come.
"""

from functools import partial

import asking
import pytest
from remote import OneWorker
from test_stream_faults import *  # noqa: F403 - every test of that file

from runner.workers.held import HeldProvider


@pytest.fixture(autouse=True, params=["held", "watched"])
def _with_a_worker(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(asking.MADE, "client", lambda dialect: partial(OneWorker, dialect=dialect))
    if request.param == "held":
        monkeypatch.setitem(asking.MADE, "provider", HeldProvider)
