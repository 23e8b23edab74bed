"""Everything of aiohttp's server that is used below its documented surface, and nothing else. Decision 0010 says how to leave it.

``tests/unit/simulator/test_aiohttp_server_internals.py`` fails when a new version changes what is used here.
"""

import asyncio

from aiohttp import web

CHECKED_WITH = "3.14.5"
"""The version of aiohttp that every name below was last checked with."""


def connection_task(request: web.Request) -> asyncio.Task[None]:
    """Return the task that serves a connection, the same one for all its requests; it ends when the connection is over.

    ``web.Request.task`` is not documented. Nothing that is tells the end of a connection.
    """
    return request.task
