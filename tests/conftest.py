"""What every test shares."""

from pathlib import Path

import pytest
from hypothesis import settings

# no deadline: how long an example takes says more about the machine than about the code
settings.register_profile("runner", deadline=None)
settings.load_profile("runner")

QUICK = ("unit", "shape", "conformance")
"""Folders whose tests are quick, but for those below."""

SLOW = {
    # these start processes, install packages, or take more than a second each
    "test_docstring_jobs.py",
    "test_imports.py",
    "test_jobs.py",
    "test_readme.py",
    "test_wheel.py",
}


@pytest.fixture
def anyio_backend() -> str:
    """Aiolimiter and aiosqlite live on asyncio only, so do we."""
    return "asyncio"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark the tests of the inner loop."""
    tests = Path(__file__).parent
    for item in items:
        folder = item.path.relative_to(tests).parts[0]
        if folder in QUICK and item.path.name not in SLOW:
            item.add_marker("quick")
