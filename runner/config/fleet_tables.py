"""Several endpoints in the settings: the tables of ``[[endpoints]]``, and what names more than one address."""

from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

from msgspec import Struct

from runner.errors import UsageError
from runner.model import Json
from runner.prices import own
from runner.text import clean

FALLBACK_ON = ("outage", "rate_limited", "content_policy")
"""Reasons for which a fallback may get requests."""
NO_KEY = ""
"""The name of a key's variable that stands for none: no key is sent, though the provider's own variable is set."""
FILE, SRV = "file:", "srv://"
"""How a base URL begins that stands for a list of them: in a file, or in the DNS."""
_KEYS = ("base_url", "api_key_env", "model", "weight", "fallback", "prices")
_MOST_WEIGHT = 1e6


class Member(Struct, frozen=True, kw_only=True):
    """One endpoint with one key. name: as it is shown, without secrets. key_variable: None: that of the provider; empty: no key.

    model: asked for there in place of that of the job. weight: its share of the requests. prices: of that model there.
    """

    name: str
    base_url: str
    key_variable: str | None = None
    model: str | None = None
    weight: float | None = None
    fallback: bool = False
    prices: Mapping[str, Json] | None = None


def is_list(base_url: str) -> bool:
    """Return True for a base URL that stands for a list."""
    return base_url.startswith((FILE, SRV))


def check_endpoints(value: Sequence[Any], where: str) -> None:
    """Raise UsageError for tables of endpoints that cannot be used."""
    for number, table in enumerate(value, 1):
        name = f"[[endpoints]] number {number}"
        if not isinstance(table, dict):
            raise UsageError(f"{name} must be a table with keys such as base_url and api_key_env ({where})")
        if (found := own.stray(table, _KEYS)) is not None:
            raise UsageError(f"{name} has an unknown key {clean(found[0])!r} ({where}); {found[1]}")
        for key in ("base_url", "model"):
            if key in table and not _is_text(table[key]):
                raise UsageError(f"{key} of {name} must be a text that is not empty ({where})")
        _check_rest(table, name, where)
    if all(table.get("fallback") for table in value):
        raise UsageError(f"each of [[endpoints]] is a fallback; leave fallback out of one ({where})")


def _check_rest(table: Mapping[str, Any], name: str, where: str) -> None:
    keys = table.get("api_key_env")
    if keys not in (None, NO_KEY) and not _is_text(keys) and not (isinstance(keys, list) and keys and all(map(_is_text, keys))):
        raise UsageError(
            f"api_key_env of {name} must be the name of an environment variable, a list of them, or empty for no key ({where})"
        )
    weight = table.get("weight")
    is_number = isinstance(weight, int | float) and not isinstance(weight, bool)
    if weight is not None and not (is_number and 0 < weight <= _MOST_WEIGHT):
        raise UsageError(f"weight of {name} must be a number above 0 and up to {_MOST_WEIGHT:,.0f} ({where})")
    if not isinstance(table.get("fallback", False), bool):
        raise UsageError(f"fallback of {name} must be true or false ({where})")
    prices = table.get("prices")
    if prices is not None:
        if not isinstance(prices, dict):
            raise UsageError(f"prices of {name} must be a table such as {{ input = 0.25, output = 2.0 }} ({where})")
        own.check({str(table.get("model") or name): prices})


def check_reasons(value: str | Sequence[str], where: str) -> None:
    """Raise UsageError for a reason of ``fallback_on`` that there is not."""
    for word in [value] if isinstance(value, str) else value:
        if word not in FALLBACK_ON:
            raise UsageError(f"fallback_on must be some of {', '.join(FALLBACK_ON)}, not {clean(word)!r} ({where})")


def listed(value: str | Sequence[str] | None) -> tuple[str, ...]:
    """Return one text or several as a tuple."""
    return () if value is None else (value,) if isinstance(value, str) else tuple(value)


def _is_text(value: Any) -> bool:
    return isinstance(value, str) and bool(value.strip())


def settle(values: dict[str, Any], sources: dict[str, str], given: Collection[str], folder: Path) -> None:
    """Let what names the endpoints in one source of settings replace that of the sources before it. Raises UsageError.

    given: the settings of this source. folder: where the path of a list begins.
    """
    if "base_url" in given and "endpoints" in given:
        raise UsageError(f"base_url and [[endpoints]] exclude each other; leave one of them out ({sources['base_url']})")
    if "endpoints" in given or "base_url" in given:
        other = "base_url" if "endpoints" in given else "endpoints"
        values.pop(other, None)
        sources.pop(other, None)
    if "base_url" in given:
        rooted = [f"{FILE}{folder / one[len(FILE) :]}" if one.startswith(FILE) else one for one in listed(values["base_url"])]
        values["base_url"] = rooted if len(rooted) > 1 else rooted[0]


def split(full: dict[str, Any]) -> None:
    """Put a setting that has one value or several into two fields of a job. full: the fields of a job, by name."""
    urls, variables = listed(full["base_url"]), listed(full["api_key_env"])
    several = len(urls) > 1 or any(map(is_list, urls))
    full["base_urls"], full["key_variables"] = (urls if several else ()), (variables if len(variables) > 1 else ())
    full["base_url"] = None if several or not urls else urls[0]
    full["api_key_env"] = None if len(variables) != 1 else variables[0]
