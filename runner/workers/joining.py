"""How a worker of another machine comes to its driver: it connects, and both prove that they know the token."""

import asyncio
import hmac
import os
import ssl
from collections.abc import Mapping
from pathlib import Path
from time import monotonic

from runner.config import address
from runner.errors import RunnerError, UsageError
from runner.frames import Link
from runner.workers import tokens
from runner.workers.door import MOST_WORDS, Accepted, Answer, Challenge, decode_from_driver, host_name, split
from runner.workers.process import Worker, leave
from runner.workers.protocol import encode
from runner.workers.tokens import VARIABLE, Token

WAIT_S = 30.0
"""Seconds in which the driver has to be there, and to let the worker in."""
_AGAIN_S = 0.5


class NotLetInError(RunnerError):
    """The driver is not there, or one of the two does not know the other."""

    exit_code = 4


def token_of(file: str | None, environment: Mapping[str, str]) -> Token:
    """Return the token of a worker, from a file or from the environment. Raises UsageError."""
    if file is not None:
        try:
            return tokens.read(Path(file).read_text(encoding="ascii", errors="replace"))
        except OSError as error:
            raise UsageError(f"the token file {file} cannot be read: {error.strerror}") from error
    if not environment.get(VARIABLE, "").strip():
        raise UsageError(f"the worker has no token: set {VARIABLE}, or give the file with --token-file")
    return tokens.read(environment[VARIABLE])


async def serve(place: str, token: Token, base_url: str | None) -> None:
    """Work for the driver that listens at HOST:PORT, and end the process. base_url: send there instead.

    Raises UsageError, and NotLetInError if nobody lets the worker in within ``WAIT_S``.
    """
    host, port = split(place, "--connect")
    if not port:
        raise UsageError(f"--connect must be HOST:PORT, not {place!r}; the run says at which port it listens")
    own = None if base_url is None else address.check_base_url(base_url, "--base-url")
    worker = Worker({name: value for name, value in os.environ.items() if name != VARIABLE}, own, host_name())
    await _let_in(worker.link, (host, port), token)
    leave(await worker.work())


async def _let_in(link: Link, place: tuple[str, int], token: Token) -> None:
    """Connect, wait until the driver is there, and prove who both are. Raises NotLetInError."""
    until, why = monotonic() + WAIT_S, ""
    where = f"{place[0]}:{place[1]}"
    while monotonic() < until:
        try:
            async with asyncio.timeout(until - monotonic()):
                await Joining(link, token).done(place)
                return
        except TimeoutError:
            # the time of the last try may be short, and what an earlier one was told says more
            why = why or "it does not answer"
        except (OSError, ssl.SSLError) as error:
            why = str(error.strerror or error)
        link.renew()
        await asyncio.sleep(_AGAIN_S)
    raise NotLetInError(f"no run lets this worker in at {where}: {why}")


class Joining:
    """The first words of a worker. The link takes what comes after them."""

    def __init__(self, link: Link, token: Token) -> None:
        self._link, self._token, self._drawn = link, token, tokens.drawn()
        self._take, self._lost, self._most = link.take, link.lost, link.most
        self._end: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._challenged = b""

    async def done(self, place: tuple[str, int]) -> None:
        """Come in. Raises OSError, and NotLetInError."""
        link = self._link
        link.take, link.lost, link.most = self._listen, self._refused, MOST_WORDS
        try:
            await asyncio.get_running_loop().create_connection(lambda: link, *place, ssl=tokens.for_worker())
            certificate = link.certificate()
            if certificate is None or tokens.fingerprint_of(certificate) != self._token.fingerprint:
                raise NotLetInError("the run at this address is another one than the token was made for")
            await self._end
        finally:
            link.take, link.lost, link.most = self._take, self._lost, self._most
            if not self._end.done() or self._end.exception() is not None:
                link.abort()

    def _listen(self, frame: bytes) -> None:
        certificate = self._link.certificate()
        if certificate is None or tokens.fingerprint_of(certificate) != self._token.fingerprint:
            # no proof for somebody else, who could pass it on
            self._link.abort()
            return
        said = decode_from_driver(frame)
        if isinstance(said, Challenge):
            self._challenged = said.drawn
            self._link.send(encode(Answer(self._token.proof("worker", said.drawn, self._drawn), self._drawn)))
        elif isinstance(said, Accepted):
            right = hmac.compare_digest(said.proof, self._token.proof("driver", self._drawn, self._challenged))
            if right and not self._end.done():
                self._link.take, self._link.lost, self._link.most = self._take, self._lost, self._most
                self._end.set_result(None)

    def _refused(self, _: str | None) -> None:
        if not self._end.done():
            self._end.set_exception(ConnectionResetError("it does not let us in: its token may be of another run"))
