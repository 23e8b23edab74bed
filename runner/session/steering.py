"""What may be asked of a session that runs: each request, and what came of it, in words."""

import logging

from runner.control.messages import Reply, Request
from runner.control.messages import Stop as StopRequest
from runner.engine.stop import Stop
from runner.session.stopping import BY_COMMAND

logger = logging.getLogger("runner")


class Steering:
    """Does what is asked of a session. stop: of the session."""

    def __init__(self, stop: Stop) -> None:
        self._stop = stop

    async def answer(self, request: Request, by: str) -> Reply:
        """Do what is asked, and say what came of it. by: who asks."""
        logger.info("asked by %s: %s", by, request)
        match request:
            case StopRequest():
                return self._end()
            case _:
                return Reply(number=0, error="this session cannot do that")

    def _end(self) -> Reply:
        again = self._stop.requested
        self._stop.ask(BY_COMMAND)
        return Reply(number=0, done="open requests are dropped" if again else "no further request is sent; open ones may finish")
