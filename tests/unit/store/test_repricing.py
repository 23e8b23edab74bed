"""Attempts of unknown price are looked at by SQLite, and are priced only where a price may be known now."""

import sqlite3
from collections.abc import Iterator
from pathlib import Path

import pytest

from runner.model import Attempt
from runner.money import Price
from runner.prices.book import PriceBook
from runner.store import database, repricing
from runner.store.repricing import price_again

ROWS = 40
FIRST = 1_790_000_000.0
HOUR_S = 3600.0


@pytest.fixture
def driver(tmp_path: Path) -> Iterator[sqlite3.Connection]:
    """A store with attempts of two models, one each hour."""
    database.prepare(tmp_path / "s.db", create=True)
    with sqlite3.connect(tmp_path / "s.db") as driver:
        driver.execute(
            "INSERT INTO runs (id, created_at, input, input_relative, settings, fingerprint) VALUES (1, 1e9, 'x', 'x', '{}', 'f')"
        )
        driver.execute("INSERT INTO prices (id, run_id, model, tier) VALUES (1, 1, 'm', 'standard'), (2, 1, 'n', 'standard')")
        added = (
            "INSERT INTO attempts (run_id, item_key, number, started_at, duration_s, sent, bytes_received, status, input_tokens,"
            " output_tokens, served_model, price_id) VALUES (1, ?, 1, ?, 1.0, 1, 9, 200, 5, 5, ?, ?)"
        )
        driver.executemany(added, ((str(at), FIRST + at * HOUR_S, "served", 1 + at % 2) for at in range(ROWS)))
        yield driver
    driver.close()


def priced(driver: sqlite3.Connection, book: PriceBook) -> tuple[int, int]:
    """Price the attempts again; return how many prices were looked up, and how many attempts have one now."""
    asked = []

    def price(attempt: Attempt) -> Price:
        asked.append(attempt)
        return book.price(attempt)

    price_again(driver, 1, [1, 2], price)
    return len(asked), driver.execute("SELECT count(*) FROM attempts WHERE price_id > 2").fetchone()[0]


def test_where_no_price_is_known_two_attempts_of_each_kind_are_tried(driver: sqlite3.Connection) -> None:
    assert priced(driver, PriceBook("openai", {})) == (4, 0)


def test_only_attempts_of_a_model_that_has_a_price_now_get_one(driver: sqlite3.Connection) -> None:
    asked, found = priced(driver, PriceBook("openai", {"n": {"input": 1, "output": 2}}))
    assert found == ROWS // 2
    assert asked < ROWS
    assert priced(driver, PriceBook("openai", {"n": {"input": 1, "output": 2}})) == (2, found)


def test_a_price_that_holds_from_a_day_on_is_given_from_then_on(driver: sqlite3.Connection) -> None:
    # the first attempt was at 14:13:20 of 2026-09-21
    assert priced(driver, PriceBook(None, {"served": {"input": 1, "output": 2, "from": "2026-09-22"}}))[1] == ROWS - 10


def test_no_attempt_is_left_out_between_two_pages(driver: sqlite3.Connection, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(repricing, "_PAGE", 7)
    own = {name: {"input": 1, "output": 2} for name in ("m", "n")}
    assert priced(driver, PriceBook(None, own))[1] == ROWS


def test_an_answer_that_names_no_tier_gets_the_prices_of_all_that_may_have_served_it(driver: sqlite3.Connection) -> None:
    driver.execute("UPDATE prices SET tier = 'priority' WHERE model = 'm'")
    driver.execute("UPDATE attempts SET tier = 'default' WHERE id = (SELECT max(id) FROM attempts WHERE price_id = 1)")
    book = PriceBook(None, {"m": {"input": 1, "output": 2, "priority": 3}})
    assert priced(driver, book)[1] == ROWS // 2
    found = (
        "SELECT p.tier, p.output, p.most_output, count(*) FROM attempts a JOIN prices p ON p.id = a.price_id"
        " WHERE p.input > 0 GROUP BY 1"
    )
    assert sorted(driver.execute(found)) == [("priority", 2_000_000, 6_000_000, ROWS // 2 - 1), ("standard", 2_000_000, None, 1)]


def test_a_large_request_gets_the_rates_of_its_size_by_its_caches_or_its_bound(driver: sqlite3.Connection) -> None:
    driver.execute("INSERT INTO prices (id, run_id, model, tier) VALUES (3, 1, 'claude-sonnet-4-5', 'standard')")
    added = (
        "INSERT INTO attempts (run_id, item_key, number, started_at, duration_s, sent, bytes_received, status, input_tokens,"
        " output_tokens, cached_tokens, cache_write_tokens, input_bound, price_id)"
        " VALUES (1, ?, 1, 1796000000.0, 1.0, 1, 9, 200, ?, ?, ?, ?, ?, 3)"
    )
    sizes = {
        "small": (100, 1, None, None, None),
        "read": (100, 1, 200_000, None, None),
        "written": (100, 1, None, 200_000, None),
        "cut": (None, None, None, None, 200_001),
    }
    driver.executemany(added, ((key, *size) for key, size in sizes.items()))
    price_again(driver, 1, [3], PriceBook("anthropic", {}).price)
    found = "SELECT a.item_key, p.input FROM attempts a JOIN prices p ON p.id = a.price_id WHERE p.model LIKE 'claude%'"
    assert dict(driver.execute(found)) == {"small": 3_000_000, "read": 6_000_000, "written": 6_000_000, "cut": 6_000_000}
