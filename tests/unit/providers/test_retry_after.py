"""Every header in which a server says how long to wait."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runner.durations import number, parse_span, reset
from runner.providers.retry_after import retry_after

NOW = 1_445_412_480.0
DATE = "Wed, 21 Oct 2015 07:28:00 GMT"
LATER = "Wed, 21 Oct 2015 07:28:30 GMT"


@pytest.mark.parametrize(
    ("value", "wait"),
    [
        ("5", 5.0),
        ("0", 0.0),
        ("1.5", 1.5),
        (" 7 ", 7.0),
        (".5", 0.5),
        ("1e2", 100.0),
        (LATER, 30.0),
        (DATE, 0.0),
        ("Wed, 21 Oct 2015 07:27:00 GMT", None),
        ("-1", None),
        ("nan", None),
        ("inf", None),
        ("1e999", None),
        ("", None),
        ("soon", None),
        ("5, 10", None),
        ("1_000", None),
        ("٣", None),
        ("5s", None),
        ("Wed, 99 Foo 2015", None),
        ("Wed, 21 Oct 2015 07:28:30 +0100", None),
        ("Wed, 21 Oct 2015 09:28:30 +0200", 30.0),
        ("9" * 400, None),
        ("Wed, 21 Oct 99999 07:28:00 GMT", None),
        ("Wednesday, 21-Oct-15 07:28:30 GMT", 30.0),
    ],
)
def test_retry_after(value: str, wait: float | None) -> None:
    assert retry_after({"retry-after": value}, NOW) == wait


def test_dates_are_read_by_the_server_s_own_clock() -> None:
    headers = {"retry-after": LATER, "date": DATE}
    assert retry_after(headers, NOW + 86400) == 30.0
    assert retry_after({**headers, "date": "nonsense"}, NOW + 10) == 20.0


@pytest.mark.parametrize(
    ("value", "wait"),
    [
        ("1s", 1.0),
        ("6m0s", 360.0),
        ("20ms", 0.02),
        ("1h2m3.5s", 3723.5),
        ("0s", 0.0),
        ("2d", 172800.0),
        ("7.66s", 7.66),
        ("12", 12.0),
        ("0.5", 0.5),
        ("", None),
        ("-1s", None),
        ("1x", None),
        ("s", None),
        ("1s2", None),
        ("NaN", None),
        (f"{'9' * 400}s", None),
        (str(int(NOW) + 9), 9.0),
        (str((int(NOW) + 9) * 1000), 9.0),
        (str(int(NOW) - 9), None),
    ],
)
@pytest.mark.parametrize("name", ["x-ratelimit-reset-requests", "x-ratelimit-reset-tokens", "x-ratelimit-reset"])
def test_openai_resets(name: str, value: str, wait: float | None) -> None:
    assert retry_after({name: value}, NOW) == (None if wait is None else pytest.approx(wait))


def test_the_largest_reset_of_the_used_up_limits_counts() -> None:
    headers = {
        "x-ratelimit-reset-requests": "3s",
        "x-ratelimit-remaining-requests": "0",
        "x-ratelimit-reset-tokens": "6m0s",
        "x-ratelimit-remaining-tokens": "100",
    }
    assert retry_after(headers, NOW) == 3.0
    assert retry_after({**headers, "x-ratelimit-remaining-tokens": "0"}, NOW) == 360.0
    assert retry_after({**headers, "x-ratelimit-remaining-requests": "1"}, NOW) is None
    assert retry_after({**headers, "x-ratelimit-reset-requests": "?"}, NOW) is None


def test_anthropic_resets() -> None:
    headers = {
        "anthropic-ratelimit-requests-remaining": "0",
        "anthropic-ratelimit-requests-reset": "2015-10-21T07:28:05Z",
        "anthropic-ratelimit-input-tokens-remaining": "5000",
        "anthropic-ratelimit-input-tokens-reset": "2015-10-21T07:29:00Z",
        "anthropic-ratelimit-requests-limit": "50",
    }
    assert retry_after(headers, NOW) == 5.0
    assert retry_after({**headers, "anthropic-ratelimit-input-tokens-remaining": "0"}, NOW) == 60.0
    assert retry_after({**headers, "date": "Wed, 21 Oct 2015 07:28:04 GMT"}, 0.0) == 1.0
    alone = "anthropic-ratelimit-tokens-reset"
    assert retry_after({alone: "2015-10-21T09:28:02.500+02:00"}, NOW) == 2.5
    for bad in ("", "20151021", "5", "2015-10-21T07:27:00Z", "2015-99-21T07:28:05Z", "0001-01-01T00:00:00+23:59"):
        assert retry_after({alone: bad}, NOW) is None


def test_order() -> None:
    headers = {
        "retry-after-ms": "1500",
        "retry-after": "7",
        "x-ratelimit-reset-requests": "9s",
        "anthropic-ratelimit-requests-reset": "2015-10-21T07:28:05Z",
    }
    seen = []
    for name in list(headers):
        seen.append(retry_after(headers, NOW))
        headers[name] = "-1"
    assert seen == [1.5, 7.0, 9.0, 5.0]
    assert retry_after(headers, NOW) is None
    assert retry_after({}, NOW) is None


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("90", 90.0),
        (" 90 ", 90.0),
        ("30m", 1800.0),
        ("1h30m", 5400.0),
        ("1.5h", 5400.0),
        ("250us", 0.00025),
        ("250µs", 0.00025),
        ("5ns", 5e-9),
        ("30 m", None),
        ("m", None),
        ("-30m", None),
        ("1h,5m", None),
        ("1" * 65, None),
        ("", None),
    ],
)
def test_spans(text: str, seconds: float | None) -> None:
    assert parse_span(text) == (None if seconds is None else pytest.approx(seconds))


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("0", 0.0),
        ("1.5", 1.5),
        ("1e3", 1000.0),
        ("-1", None),
        ("+1", None),
        ("nan", None),
        ("inf", None),
        ("1e999", None),
        ("1,5", None),
    ],
)
def test_numbers(text: str, value: float | None) -> None:
    assert number(text) == value


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("6m0s", 360.0),
        ("12", 12.0),
        (str(int(NOW) + 9), 9.0),
        (str((int(NOW) + 9) * 1000), 9.0),
        ("2015-10-21T07:28:05Z", 5.0),
        ("2015-10-21T07:28:05.500Z", 5.5),
        ("2015-10-21T09:28:05+02:00", 5.0),
        ("2015-10-21T07:27:59Z", None),
        ("2015-10-21", None),
        ("soon", None),
    ],
)
def test_the_time_to_a_reset_in_every_form(text: str, seconds: float | None) -> None:
    assert reset(text, NOW) == seconds


@given(st.text(max_size=100))
def test_no_text_whatever_is_in_it_raises(text: str) -> None:
    for value in (number(text), parse_span(text), reset(text, NOW)):
        assert value is None or 0 <= value < float("inf")


def test_a_wait_of_more_than_a_month_is_none_and_the_next_form_is_tried() -> None:
    month = 31 * 86_400
    assert retry_after({"retry-after": str(month)}, NOW) == month
    assert retry_after({"retry-after": str(month + 1)}, NOW) is None
    assert retry_after({"retry-after-ms": str((month + 1) * 1000), "retry-after": "7"}, NOW) == 7


NAMES = st.sampled_from(
    ["retry-after-ms", "retry-after", "date", "x-ratelimit-reset-a", "anthropic-ratelimit-a-reset", "x-ratelimit-reset"]
)
VALUES = st.text("0123456789.-+eEsmhdTZ: ,aJnGM", max_size=24) | st.text(max_size=10)


@given(st.dictionaries(NAMES, VALUES))
def test_nonsense_never_raises_and_never_goes_back_in_time(headers: dict[str, str]) -> None:
    wait = retry_after(headers, NOW)
    assert wait is None or 0 <= wait < float("inf")
