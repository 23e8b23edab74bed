"""What is said of a model whose price is not known, and what a person can do about it."""

import json
import re
import time
from datetime import UTC, datetime

import msgspec

from runner.batches import BATCH_TIER
from runner.config.job import STORED, Job
from runner.errors import UsageError
from runner.errors import advice as advice_on
from runner.model import Json
from runner.money import STANDARD, tier_asked, tier_of
from runner.prices import own
from runner.prices.book import PriceBook
from runner.text import clean, shell_word

UNPRICED = "unpriced"
"""The error code of a row whose model has no known price, under a budget of dollars."""
_NONE, _LATER = "none is known for ", "the stated price of "
_MODEL = re.compile(rf"(?s), and (?:{_NONE}(?P<none>.*)|{_LATER}(?P<later>.*) holds only from [0-9-]+ on)$")


def reason(option: str, model: str, begins: float | None) -> str:
    """Return why a budget of dollars cannot hold. begins: when the stated price of the model does; None: there is none."""
    why = f"{_NONE}{model}" if begins is None else f"{_LATER}{model} holds only from {day(begins)} on"
    return f"{option} needs the price of every model, and {why}"


def day(instant: float) -> str:
    """Return the date of an instant, in seconds since the epoch, as ``from`` has it."""
    return datetime.fromtimestamp(instant, UTC).date().isoformat()


def ways(job: Job) -> str | None:
    """Return what to do about a price that begins later, is not on the list, or is missing for a run that goes on; else None."""
    model = job.model or ""
    if begins(job.prices, model) is not None:
        return "leave out its from if that price holds today too, else state today's price in its place"
    if own.has_list(job.prices):
        return f"the list does not have it, so state it beside the list: --prices {_stated(model, job.prices)} ({_UNIT})"
    if job.sources.get("provider") == STORED:
        # a resume or a retry, which reads no job file
        return f"state it: --prices {_stated(model)} ({_UNIT})"
    return None


def advice(example: str) -> str:
    """Return what to do about failed rows. example: the error of one of them, which names the model."""
    found = _MODEL.search(example)
    model = (found["none"] or found["later"]) if found is not None else None
    words = _stated(model) if model else ""
    if not words or "`" in words or words.startswith("$'"):
        return advice_on(UNPRICED, failed=True)
    return f"State its price ({_UNIT}; the run keeps its prices of other models): `runner retry --prices {words}`."


def begins(prices: Json, model: str) -> float | None:
    """Return when the stated price of a model begins to hold; None if it does already, or if there is none."""
    table = own.models_of(prices).get(model)
    try:
        stated = own.stated(model, table) if table is not None else None
    except UsageError:
        return None
    return stated.since if stated is not None and not stated.holds(time.time()) else None


def unknown(model: str, prices: Json, tier: str | None = None) -> str:
    """Return the words for a run of which no price is known, with what to do. prices: the setting. tier: that is asked for."""
    name = clean(model)
    if (since := begins(prices, model)) is not None:
        return f"unknown: {_LATER}{name} holds only from {day(since)} on; without its from, it holds for all that was sent"
    if model in own.models_of(prices) and tier_of(tier) != STANDARD:
        return of_tier(model, tier_of(tier)).removeprefix("cost ")
    if own.has_list(prices) and (asked := tier_of(tier)) != STANDARD:
        ways = (
            f'; input, output and {asked} (a factor, such as 2.0) in [prices."{name}"] state one' if asked in own.FACTORS else ""
        )
        return f"unknown: the list has no price for {name} at the tier {clean(asked)}{ways}"
    if own.has_list(prices):
        return f"unknown: the list has no price for {name}; --prices {clean(_stated(model, prices))} states one beside it"
    return f'unknown: no price is known for {name}; [prices."MODEL"] in the job file states one'


def of_job(job: Job, book: PriceBook | None) -> str | None:
    """Return the sentence for a job whose price is not known: that its cost is unknown, and what states it; else None."""
    now, model, tier = time.time(), job.model or "", tier_of(tier_asked(job.tier, job.params.extra_body))
    tier = BATCH_TIER if job.mode != "live" else tier
    if book is not None and book.schedule(model, now, tier) is not None:
        return None
    return of_tier(model, tier) if book is not None and book.schedule(model, now) is not None else at_start(job)


def at_start(job: Job) -> str:
    """Return the sentence for a session whose model has no known price: that its cost is unknown, and what states a price."""
    model, name = job.model or "", clean(job.model or "")
    if (since := begins(job.prices, model)) is not None:
        return f"cost unknown: {_LATER}{name} holds only from {day(since)} on; without its from, it holds for all that is sent"
    table = {**({own.LIST: True} if own.has_list(job.prices) else {}), **own.models_of(job.prices), model: _EXAMPLE}
    words = f"state one, such as --prices {shell_word(json.dumps(table, ensure_ascii=False))} (dollars per million tokens)"
    return f"cost unknown: no price is known for {name}; {words}"


def of_tier(model: str, tier: str) -> str:
    """Return the sentence for a session whose model has a price, but not in the service tier that it asks for."""
    name, words = clean(model), clean(tier)
    ways = f'; {words} in [prices."{name}"] states its factor, such as 2.0' if tier in own.FACTORS else ""
    return f"cost unknown: no price is known for {name} at the tier {words}{ways}"


_EXAMPLE = {"input": 0.25, "output": 2.0}
_UNIT = "X and Y in dollars per million tokens"


def _stated(model: str, beside: Json = None) -> str:
    """Return the value of ``--prices`` with the price of a model, as a shell reads it. beside: what the setting is now."""
    others: dict[str, Json] = {own.LIST: True} if own.has_list(beside) else {}
    known = {**others, **own.models_of(beside)}
    words = [*(f"{json.dumps(name)}: {msgspec.json.encode(value).decode()}" for name, value in known.items() if name != model)]
    return shell_word(f'{{{", ".join([*words, f"{json.dumps(model)}: "])}{{"input": X, "output": Y}}}}')
