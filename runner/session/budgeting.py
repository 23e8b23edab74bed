"""The budget of a session: what requests may use of it by the prices of the job, who is refused, the words when it is reached."""

import time
from collections.abc import Callable, Mapping
from importlib.util import find_spec

from msgspec import structs

from runner.admission import Amounts, Reservation
from runner.batches import BATCH_TIER
from runner.config.job import STORED, Job
from runner.engine.admitting import Quote
from runner.engine.bounds import Bounds, bounds
from runner.engine.limits.budget import Budget, Pot
from runner.engine.stop import Stop
from runner.errors import AttemptError, RunStoppedError, UsageError
from runner.inputs.prompts import make_item
from runner.inputs.scan import PromptFile
from runner.model import Attempt, Item, Json, Request
from runner.money import PICO, STANDARD, Price, exact, picodollars, tier_of
from runner.prices.book import PriceBook
from runner.prices.own import FACTORS
from runner.prices.rates import cost_of, perhaps_of
from runner.session import unpriced, wiring
from runner.session.again import Raising, plain
from runner.session.books import billed
from runner.session.opening import template_of
from runner.session.pricing import is_public, price_book
from runner.session.reached import Progress, amount, reached
from runner.store.spending import Used
from runner.text import plural

SETTINGS = ("max_cost", "max_cost_session", "max_tokens_total")
"""The settings that make a budget."""


def is_set(job: Job) -> bool:
    """Return True if a job has a budget."""
    return any(getattr(job, name) is not None for name in SETTINGS)


def costs_count(job: Job) -> bool:
    """Return True if a job has a budget of dollars."""
    return job.max_cost is not None or job.max_cost_session is not None


def inherited(job: Job, settings: Mapping[str, Json]) -> Job:
    """Return a job with the budget that its run has, where the job sets none: it holds over all sessions."""
    kept = {name: settings[name] for name in SETTINGS if settings.get(name) is not None and getattr(job, name) is None}
    return structs.replace(job, **kept, sources={**job.sources, **dict.fromkeys(kept, STORED)}) if kept else job


def dollars_left(job: Job, before: Used) -> float:
    """Return what the budget of a job leaves, in dollars. before: what earlier sessions have used, or may have."""
    left = (pot.limit - pot.used for pot in _pots(job, before) if pot.counts == "cost")
    return max(0, min(left)) / PICO


def kept(job: Job) -> str:
    """Return the budget that a job has from earlier sessions of its run, in words; empty if it has none."""
    limits = {name: getattr(job, name) for name in SETTINGS if job.sources.get(name) == STORED}
    words = (
        f"{plural(limit, 'token')}" if name == "max_tokens_total" else exact(picodollars(limit)) for name, limit in limits.items()
    )
    named = (f"{amount} (--{name.replace('_', '-')})" for name, amount in zip(limits, words, strict=True))
    return f"a budget of {' and of '.join(named)}" if limits else ""


def batch_price(book: PriceBook | None, model: str, bound: Bounds, at: float) -> Price | None:
    """Return the highest price at which a request may be billed in a batch; None if it is not known. at: as for ``quote``."""
    rates = book.highest(model, at, BATCH_TIER, bound.input) if book is not None else None
    return Price(model=model, tier=BATCH_TIER, rates=rates) if rates is not None else None


class UnpricedTierError(AttemptError):
    """The model of a request has a price, and the service tier that it asks for has none. The words say what to do."""


class Tariff:
    """What requests may use at most. book: None if no price is known."""

    def __init__(self, job: Job, book: PriceBook | None) -> None:
        self._book, self._priced = book, costs_count(job)
        self._option = "--max-cost" if self._priced else "--max-tokens-total"

    def quote(self, model: str, bound: Bounds, at: float) -> Quote:
        """Return the most that a request can use. Raises AttemptError if that is not known. at: seconds since the epoch."""
        book, most = self._book, bound.output
        rates = book.highest(model, at, bound.tier, bound.input) if book is not None else None
        if rates is None and self._priced:
            raise self._unpriced(model, tier_of(bound.tier), at)
        if most is None and book is not None and (limit := book.limit(model)) is not None:
            most = limit * bound.answers
        if most is None:
            words = f"{self._option} needs a limit of every answer, and no limit is known for {model}: set --max-tokens"
            raise AttemptError(words, code="unbounded", verdict="fail", sent=False)
        cost = rates.most(bound.input, most, bound.hour or 0) if rates is not None else 0
        return Quote(Amounts(cost, bound.input + most), most, Price(model=model, tier=STANDARD, rates=rates))

    def _unpriced(self, model: str, tier: str, at: float) -> AttemptError:
        """Return why a request is not sent whose price is not known. tier: the one that it asks for."""
        book = self._book
        words = unpriced.reason(self._option, model, book.begins(model, at) if book is not None else None)
        if book is not None and (more := book.beside(model, at)) is not None:
            words += f" (the list has {more} of it beside its tokens)"
        elif book is not None and book.schedule(model, at) is not None:
            ways = [f'state {tier} in [prices."{model}"] of the job file, such as 2.0 (a factor of input and output)']
            ways = [*(ways if tier in FACTORS else []), "ask for no tier, or for another one (--tier)"]
            words = f"{self._option} needs the price of the tier {tier!r}, and none is known for {model}: {'; or '.join(ways)}"
            return UnpricedTierError(words, code="unpriced", verdict="fail", sent=False)
        return AttemptError(words, code="unpriced", verdict="fail", sent=False)


class Purse(Tariff):
    """The budget of a session, and what its requests use of it.

    before: what earlier sessions have used. progress: how far the run is now. tell: called with a sentence for the user. raising:
    returns the command with other limits.
    """

    def __init__(
        self,
        job: Job,
        book: PriceBook | None,
        before: Used,
        stop: Stop,
        progress: Callable[[], Progress],
        tell: Callable[[str], None],
        raising: Raising = plain,
    ) -> None:
        super().__init__(job, book)
        self._stop, self._progress, self._raising, self._before = stop, progress, raising, before.cost
        self.budget = Budget(_pots(job, before), self._reached)
        self._tell: Callable[[str], None] | None = tell
        if before.unknown and self._priced:
            tell(_unknown(before.unknown))

    def quote(self, model: str, bound: Bounds, at: float) -> Quote:
        """Return the most that a request can use. Say once what it means that only the model limits its answers."""
        quote = super().quote(model, bound, at)
        if bound.output is None and self._tell is not None:
            pot = self.budget.pots[0]
            held = f"each request holds up to {amount(pot, pot.of(quote.amounts))} of the budget until it has ended"
            self._tell(f"no max_tokens limits the answers, so {held}; with --max-tokens N, more of them go out at the same time")
            self._tell = None
        return quote

    @property
    def counts_dollars(self) -> bool:
        """True if it limits dollars."""
        return self._priced

    def change_max_cost(self, limit: int) -> None:
        """Have the run cost so many picodollars at most."""
        self.budget.change_limit("max_cost", limit, self._before)

    def waiting(self) -> str | None:
        """Return why requests wait, if it is for the budget, in one phrase."""
        if not self.budget.waiting:
            return None
        pot = max(self.budget.pots, key=lambda pot: (pot.used + pot.held) / max(1, pot.limit))
        left, held = amount(pot, max(0, pot.limit - pot.used)), amount(pot, pot.held)
        return f"waiting for room in the budget ({left} left, {held} of it for open rows)"

    def used(self, attempt: Attempt, reserved: Reservation) -> Amounts:
        """Return what an attempt has used, or may have."""
        known, tokens = self._known(attempt)
        # as much as it may have been
        return Amounts(reserved.amounts.cost if known is None else known, tokens)

    def correct(self, was: Attempt, now: Attempt) -> None:
        """Count an attempt as it is known now. was: as it was counted."""
        before, known = self._known(was), self._known(now)
        if before[0] is not None and known[0] is not None:
            self.budget.correct(Amounts(before[0], before[1]), Amounts(known[0], known[1]))

    def _known(self, attempt: Attempt) -> tuple[int | None, int]:
        """Return what an attempt has used, or may have: cost and tokens. None: as much as it held."""
        if not billed(attempt):
            return 0, 0
        usage, bounded = attempt.usage, attempt.input_bound is not None
        known = (usage.input_tokens or 0) + (usage.output_tokens or 0) if usage is not None else 0
        tokens = max(known, (attempt.input_bound or 0) + (attempt.output_bound or 0)) if bounded else known
        if not self._priced:
            return 0, tokens
        rates, top = (attempt.price.rates, attempt.price.most) if attempt.price is not None else (None, None)
        cost = cost_of(usage, rates) if rates is not None else None
        perhaps = perhaps_of(attempt, rates, top) if rates is not None else None
        if perhaps is None or (cost is None and not bounded):
            return None, tokens
        return (cost or 0) + perhaps, tokens

    def _reached(self, need: Amounts) -> None:
        sentence = "the budget is reached"
        try:
            sentence = reached(self.budget, need, self._progress(), self._raising)
        finally:
            # whatever becomes of the advice, nothing more can go out
            self._stop.request(sentence, grace_s=0.0, error=RunStoppedError(sentence, code="budget"))


def _pots(job: Job, before: Used) -> list[Pot]:
    pots = []
    if job.max_cost is not None:
        pots.append(Pot("max_cost", "cost", picodollars(job.max_cost), before.cost))
    if job.max_cost_session is not None:
        pots.append(Pot("max_cost_session", "cost", picodollars(job.max_cost_session)))
    if job.max_tokens_total is not None:
        pots.append(Pot("max_tokens_total", "tokens", job.max_tokens_total, before.tokens))
    return pots


# -- who is refused


def refuse(job: Job, prompts: PromptFile | None = None) -> None:
    """Raise UsageError if a job has a budget that cannot hold, since what its requests can use is not known.

    prompts: its rows. Where the first of them says for itself what the job does not, the others are looked at as they come.
    """
    if not is_set(job):
        return
    assert job.model is not None
    tariff, provider = Tariff(job, price_book(job)), wiring.offline(job)
    asked = ({"role": "user", "content": ""},)
    requests = [Request(model=job.model, messages=asked, params=job.params, tier=job.tier)]
    if prompts is not None:
        made = (make_item(row, "", template_of(job)) for row in prompts.read())
        first = next((item.request for item in made if isinstance(item, Item)), requests[0])
        requests.append(structs.replace(first, messages=asked, media=False))
    refusals = []
    for request in requests:
        try:
            tariff.quote(request.model, bounds(provider.encode(request), None), time.time())
        except AttemptError as error:
            refusals.append(error)
    if len(refusals) == len(requests):
        raise UsageError(_in_full(refusals[0], job))


def _in_full(error: AttemptError, job: Job) -> str:
    if error.code != unpriced.UNPRICED or isinstance(error, UnpricedTierError):
        return str(error)
    if (way := unpriced.ways(job)) is not None:
        return f"{error}: {way}"
    ways = [f'state it in [prices."{job.model}"] of the job file, as input = 0.25 and output = 2.0 (dollars per million tokens)']
    if not is_public(job.base_url):
        ways.append("give --prices list if the provider's list prices hold at this address")
    if find_spec("genai_prices") is None:
        ways.append("for list prices, pip install 'prompt-runner[prices]'")
    return f"{error}: {'; or '.join(ways)}"


def _unknown(attempts: int) -> str:
    """Return the sentence about attempts of earlier sessions whose use of the budget is not known."""
    are = "it is" if attempts == 1 else "they are"
    return f"the cost of {plural(attempts, 'attempt')} of earlier sessions is not known, so {are} not part of the budget"
