"""What every test shares."""

import pytest


@pytest.fixture
def anyio_backend() -> str:
    """Aiolimiter and aiosqlite live on asyncio only, so do we."""
    return "asyncio"
