"""Makes the request of an item. One with files is made when it goes out, and is forgotten when it has gone.

Before that there is an outline of it, without the contents of the files: for the limits, for messages, and to learn from
refusals. The whole request is made in a thread, once there is room for it in memory.
"""

from collections.abc import Sequence

import anyio
from anyio import to_thread
from msgspec import structs

from runner.engine.answers import InformedProvider
from runner.engine.limits.estimate import BYTES_PER_TOKEN
from runner.engine.task import Files, Task
from runner.errors import AttachmentError
from runner.media import Attachments
from runner.model import HttpCall, Item, Request
from runner.several import seed_of

ROOM_BYTES = 256 << 20
"""Bytes of files, as base64, that open requests hold together. A request with more goes out while no other one holds any."""


THREADS = 4
"""Requests that are made at the same time: until its base64 is made, each takes three times the memory."""


class Sender:
    """Makes the requests of a session."""

    def __init__(self, provider: InformedProvider) -> None:
        self.provider = provider
        # seeds that are not to be made up, as answers that were taken over have them; in rising order
        self.used_seeds: Sequence[int] = ()
        self._room = ROOM_BYTES
        # those who wait for room go one after the other; the event is what the first of them waits for
        self._turn, self._left = anyio.Lock(), anyio.Event()
        self._few = anyio.CapacityLimiter(THREADS)

    async def encoded(self, item: Item) -> tuple[Item, HttpCall, Files | None]:
        """Return the request of an item; if it has files an outline of it, and what is known of them. Raises AttachmentError."""
        files, seed = None, seed_of(item.key, self.used_seeds)
        if seed is not None:
            item = structs.replace(item, request=structs.replace(item.request, made_seed=seed))
        if item.request.media:
            found = await to_thread.run_sync(self._attachments.outlined, item.request, abandon_on_cancel=True)
            files = Files(item.request, found.tokens, found.size)
            item = structs.replace(item, request=found.request)
        return item, self.provider.encode(item.request), files

    async def whole(self, files: Files, provider: InformedProvider) -> HttpCall:
        """Return the whole request of an item with files. provider: where it goes. Raises AttachmentError.

        Who passes it on gives it no name, so that the client, which forgets it once it is sent, is the last to hold it.
        """
        # a thread that hangs on a disk does not hold up the end of the session
        return await to_thread.run_sync(self._filled, files.request, provider, abandon_on_cancel=True, limiter=self._few)

    def _filled(self, request: Request, provider: InformedProvider) -> HttpCall:
        return provider.encode(self._attachments.filled(request))

    async def enter(self, task: Task) -> None:
        """Wait for room in memory for the files of a request, if it has any."""
        if task.files is None:
            return
        share = min(task.files.size, ROOM_BYTES)
        async with self._turn:
            while self._room < share:
                self._left = anyio.Event()
                await self._left.wait()
            self._room -= share
            task.holds = share

    def leave(self, task: Task) -> None:
        """Give back the room that a request holds."""
        if task.holds:
            self._room, task.holds = self._room + task.holds, 0
            self._left.set()

    @property
    def _attachments(self) -> Attachments[Request]:
        attachments = self.provider.attachments
        if attachments is None:
            raise AttachmentError("this provider takes no files")
        return attachments


def expected(task: Task) -> int:
    """Return the size of a request for an estimate of its tokens: files count as text of as many tokens."""
    return len(task.call.body) + (round(task.files.tokens * BYTES_PER_TOKEN) if task.files is not None else 0)
