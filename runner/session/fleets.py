"""The endpoints of a session that has several: their lanes, their providers and clients, and the list that they come from.

What names a list of endpoints (``file:``, ``srv://``) is read again while the session goes. An endpoint that has come gets
requests from then on; one that has gone gets no further ones, and those that are open there may end.
"""

import os
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, cast

import anyio
from anyio import to_thread

from runner.config import fleet
from runner.config.endpoint import Endpoint, find_endpoint, with_base_url
from runner.config.fleet_tables import SRV, listed
from runner.config.fleet_tables import Member as Named
from runner.config.job import Job
from runner.engine.limits import Limits
from runner.engine.limits.fleets import FleetLanes
from runner.engine.limits.roster import Member, Roster
from runner.engine.member_judge import MemberJudge
from runner.engine.stop import Stop
from runner.engine.way import Way
from runner.errors import RunnerError, UsageError
from runner.interfaces import Client, Decoder, Heard, Provider
from runner.model import HttpCall
from runner.prices.book import PriceBook
from runner.prices.book_of_several import BookOfSeveral
from runner.session import pricing, wiring
from runner.session.at_endpoint import AtEndpoint

if TYPE_CHECKING:
    # imported where it is used: a session whose workers send needs no HTTP library
    from runner.providers.http import HttpClient
    from runner.providers.http.client import Refuse
    from runner.workers.client import RemoteClient

LOOK_S = 1.0
"""Seconds between two looks at a file of endpoints, and at what is open."""
LATE = 3
"""A look that comes after so many times as long is late."""
LOOK_UP_S = 30.0
"""The same for a name in the DNS."""
GONE = "gone"
"""Why an endpoint gets no requests that the list has no more."""


class Fleet:
    """The endpoints of a session. endpoint: the first of them, with all as its members. each: most open requests at one."""

    def __init__(self, job: Job, endpoint: Endpoint, limits: Limits, each: int) -> None:
        self._job, self._named = job, [named for named, _ in endpoint.members]
        self._endpoints = [one for _, one in endpoint.members]
        # that of the session. Without workers: one for each proxy, the first of which it is; and those that were opened here
        self._client: Client[Any] | None = None
        self._clients: dict[str | None, Client[Any]] = {}
        # by the number of the endpoint, for workers
        self._base_urls = [one.base_url or "" for one in self._endpoints]
        self._opened: list[HttpClient] = []
        reasons = listed(job.fallback_on)
        self._roster = Roster([_member(number, one) for number, one in enumerate(self._named)], frozenset(reasons))
        self.lanes = FleetLanes(limits, self._roster, each)
        self._ways: list[Way] = []
        self._judges: list[MemberJudge] = []
        self._tell: Callable[[str], None] = lambda _: None
        self._answered = False
        self._book: PriceBook | None = None
        # the list as it was read last
        self._listed: list[str] | None = None
        # what could not be read or used of the list, so that it is said once
        self._told: str | None = None

    def ways(self, client: Client[Any], tell: Callable[[str], None], *, answered: bool, book: PriceBook | None) -> list[Way]:
        """Return where requests can go. It grows with the list. tell: receives what the user should know, a sentence each.

        client: sends to the first endpoint; with workers, to all. answered: the run has answers of earlier sessions. book: the
        prices of the session.
        """
        self._tell, self._answered, self._book = tell, answered, book
        self._client, self._clients = client, {self._endpoints[0].proxy: client}
        if self._job.has_workers:
            cast("RemoteClient", client).reach(self._base_urls)
        self._ways.extend(map(self._way, self._roster.members))
        return self._ways

    def _way(self, member: Member) -> Way:
        number = member.number
        named, endpoint = self._named[number], self._endpoints[number]
        here = fleet.seen_by(self._job, named)
        model = (self._job.model, named.model) if named.model is not None else None
        provider: Provider = AtEndpoint(self._held(wiring.provider_at(here, endpoint)), number, model)
        informed = wiring.informed(here, endpoint, provider, self._tell, lambda: None, answered=self._answered)
        judge = MemberJudge(member, self._roster, self._judges, self._tell, model=self._job.model)
        return Way(informed, judge, number, named.name, model)

    def _held(self, provider: Provider) -> Provider:
        """Return the provider of an endpoint, whose answers are decoded by workers if there are any."""
        if not self._job.has_workers:
            return provider
        # imported only here: a session without workers needs none of it
        from runner.workers.held import HeldProvider

        return HeldProvider(provider)

    # -- the client, which sends to each endpoint through its own proxy; workers do that by themselves

    def exchange(self, *, fresh: bool = False, heard: Heard | None = None, fallback: bool = False) -> Any:
        """Return the record of a new exchange. fresh: use a new connection. fallback: its row fell back from flex."""
        assert self._client is not None
        return self._client.exchange(fresh=fresh, heard=heard, fallback=fallback)

    async def stream(self, call: HttpCall, decoder: Decoder, exchange: Any, refuse: "Refuse") -> None:
        """Send the call where it belongs, and feed the decoder until its answer is complete. Raises AttemptError."""
        proxy = self._endpoints[call.endpoint].proxy
        client = self._client if self._job.has_workers else self._clients.get(proxy)
        if client is None:
            opened = wiring.client(self._job, proxy)
            self._opened.append(opened)
            client = self._clients[proxy] = opened
        await client.stream(call, decoder, exchange, refuse)

    # -- the list

    async def watch(self, stop: Stop) -> None:
        """Read a list of endpoints again and again, and see whether one is silent. At its end, close what was opened.

        stop: once it is requested, no endpoint gets further requests, and what is open at a silent one may still be answered.
        """
        try:
            changing = fleet.changing(self._job)
            wait_s = LOOK_UP_S if any(one.startswith(SRV) for one in self._job.base_urls) else LOOK_S
            looked_at = listed_at = anyio.current_time()
            while True:
                await anyio.sleep(LOOK_S)
                now = anyio.current_time()
                if now - looked_at < LATE * LOOK_S and not stop.requested:
                    # else this process has stood still, and what has come meanwhile is not read yet
                    self.lanes.look()
                if changing and now - listed_at >= wait_s:
                    await self._look()
                    listed_at = anyio.current_time()
                looked_at = anyio.current_time()
        finally:
            with anyio.CancelScope(shield=True):
                for client in self._opened:
                    await client.__aexit__()

    async def _look(self) -> None:
        try:
            self._follow(await to_thread.run_sync(fleet.addresses, self._job.base_urls, abandon_on_cancel=True))
            self._told = None
        except RunnerError as error:
            self._say(f"{error}; the endpoints stay as they were")

    def _say(self, sentence: str) -> None:
        if sentence != self._told:
            self._told = sentence
            self._tell(sentence)

    def _follow(self, urls: list[str]) -> None:
        """Take up what has come into the list, and send nothing more to what has gone. Raises UsageError."""
        if urls == self._listed:
            return
        wanted = {with_base_url(fleet.alone(self._job, url), os.environ).base_url for url in urls}
        known = {named.base_url: member.out for named, member in zip(self._named, self._roster.members, strict=True)}
        if all(url in known and known[url] not in (None, GONE) for url in wanted if url is not None):
            # nothing would be left that gets requests, so the others stay
            raise UsageError("none of the endpoints in the list can be used: those that were there before stay")
        for url in urls:
            if with_base_url(fleet.alone(self._job, url), os.environ).base_url not in {one.base_url for one in self._named}:
                self._join(url)
        for named, member in zip(self._named, self._roster.members, strict=True):
            if named.base_url not in wanted and member.out is None:
                self._roster.take_out(member, GONE)
                self._tell(f"endpoint {named.name} is no longer in the list: it gets no further requests")
            elif named.base_url in wanted and member.out == GONE:
                self._roster.take_back(member)
                self._tell(f"endpoint {named.name} is in the list again")
        self._listed = urls

    def _join(self, url: str) -> None:
        new = fleet.member_at(self._job, url, self._named, lambda one: with_base_url(one, os.environ))
        found = [(named, find_endpoint(fleet.seen_by(self._job, named), os.environ)) for named in new]
        for named, endpoint in found:
            number = len(self._named)
            self._named.append(named)
            self._endpoints.append(endpoint)
            self._base_urls.append(endpoint.base_url or "")
            member = _member(number, named)
            if isinstance(self._book, BookOfSeveral):
                self._book.join(named.name, pricing.book_at(self._job, named))
            self._ways.append(self._way(member))
            self._roster.join(member)
            self._tell(f"endpoint {named.name} has come into the list")


def _member(number: int, named: Named) -> Member:
    return Member(number=number, name=named.name, weight=named.weight, fallback=named.fallback)
