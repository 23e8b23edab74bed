"""The prices of several endpoints: each has its own, and a budget counts by the highest of them."""

from collections.abc import Mapping

from runner.model import Attempt
from runner.money import Price, Rates, highest, tier_of
from runner.prices.book import PriceBook


class BookOfSeveral(PriceBook):
    """The rates at each endpoint, by its name; of the first for what is no attempt. Not known (None) is not 0.

    asked: the models that are asked for there, by endpoint: what a request for a model of the job asks for.
    """

    def __init__(
        self, first: PriceBook | None, books: Mapping[str, PriceBook | None], asked: Mapping[str, tuple[str | None, str]]
    ) -> None:
        super().__init__(None, {})
        if first is not None:
            # what is asked about no attempt is told of the first endpoint
            vars(self).update(vars(first))
        self._books, self._asked = dict(books), asked

    def join(self, name: str, book: PriceBook | None) -> None:
        """Add an endpoint."""
        self._books[name] = book

    def price(self, attempt: Attempt) -> Price:
        """Return the price of an attempt where it was made."""
        if attempt.endpoint is None:
            return super().price(attempt)
        book = self._books.get(attempt.endpoint)
        return book.price(attempt) if book is not None else Price(model=attempt.model, tier=tier_of(attempt.tier), rates=None)

    def highest(self, model: str, at: float, tier: str | None, input_tokens: int) -> Rates | None:
        """Return the highest rates that a request can reach, wherever it goes; None if one of them is not known."""
        found = []
        for name, book in self._books.items():
            rates = book.highest(self._at(name, model), at, tier, input_tokens) if book is not None else None
            if rates is None:
                return None
            found.append(rates)
        return highest(found)

    def limit(self, model: str) -> int | None:
        """Return the most tokens that an answer can have, wherever it comes from; None if that is not known."""
        found = [book.limit(self._at(name, model)) if book is not None else None for name, book in self._books.items()]
        known = [one for one in found if one is not None]
        return max(known) if len(known) == len(found) else None

    def _at(self, name: str, model: str) -> str:
        own = self._asked.get(name)
        return own[1] if own is not None and own[0] == model else model
