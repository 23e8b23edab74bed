"""What a run costs while it goes on: gives each attempt its price before it is saved, and adds up what was spent."""

from collections.abc import Iterable, Sequence

from msgspec import structs

from runner.model import Attempt, Entry, Outcome
from runner.money import Money, highest
from runner.prices.book import PriceBook
from runner.prices.rates import cost_of, perhaps_of, saved_by

_STATUS_OK = range(200, 300)


class Books:
    """The money of one run. book: None if nothing is known of prices. before: what earlier sessions have spent."""

    def __init__(self, book: PriceBook | None = None, before: Money | None = None) -> None:
        self._book = book
        self._before = before or Money()
        self._spent = self._failed = self._perhaps = self._unsure = self._priced = self._unpriced = self._saved = 0
        # attempts that may have been billed without any limit
        self._unlimited = 0

    @property
    def money(self) -> Money:
        """What the whole run has cost so far."""
        return self._before.plus(self.now)

    @property
    def now(self) -> Money:
        """What this session has cost."""
        return Money(
            spent=self._spent,
            failed=self._failed,
            perhaps=None if self._unlimited else self._perhaps,
            unpriced=self._unpriced,
            priced=self._priced,
            saved=self._saved,
            unsure=self._unsure,
        )

    def priced(self, entries: Sequence[Entry]) -> Sequence[Entry]:
        """Return the entries, each attempt with its price."""
        book = self._book
        return entries if book is None else [_priced(entry, book) for entry in entries]

    def add(self, attempts: Iterable[Attempt]) -> None:
        """Count attempts that have been saved."""
        for attempt in attempts:
            self._count(attempt, 1)

    def correct(self, was: Attempt, now: Attempt) -> None:
        """Count an attempt as it is known now. was: as it was counted."""
        self._count(was, -1)
        self._count(now, 1)

    def _count(self, attempt: Attempt, times: int) -> None:
        if not billed(attempt):
            return
        rates = attempt.price.rates if attempt.price is not None else None
        if rates is None:
            self._unpriced += times
            return
        known = times * (cost_of(attempt.usage, rates) or 0)
        self._priced += times
        self._spent += known
        self._saved += times * saved_by(attempt.usage, rates)
        self._failed += known if attempt.error_code is not None else 0
        perhaps = perhaps_of(attempt, rates, attempt.price.most if attempt.price is not None else None)
        self._unlimited += times if perhaps is None else 0
        self._perhaps += times * (perhaps or 0)
        self._unsure += 0 if attempt.input_bound is not None else times * (perhaps or 0)


def billed(attempt: Attempt) -> bool:
    """Return True if an attempt was billed, or may have been."""
    return attempt.sent and (attempt.status is None or attempt.status in _STATUS_OK)


def _priced(entry: Entry, book: PriceBook) -> Entry:
    if isinstance(entry, Outcome):
        return entry if entry.attempt is None else structs.replace(entry, attempt=_of(entry.attempt, book))
    return _of(entry, book)


def _of(attempt: Attempt, book: PriceBook) -> Attempt:
    held, price = attempt.price.rates if attempt.price is not None else None, book.price(attempt)
    if held is not None and price.rates is not None:
        # one that may have used all that it held of a budget may have the price of that
        price = structs.replace(price, most=highest([held, price.most or price.rates]))
    elif held is not None:
        return attempt
    return structs.replace(attempt, price=price)
