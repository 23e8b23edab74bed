"""What is wrong with an API key, or with the name of its variable, as far as its looks show. No key is ever quoted. Pure."""

import re
from collections.abc import Mapping
from urllib.parse import urlsplit

from runner.errors import UsageError

_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_KEY = re.compile(r"(?:sk|pk|gsk|hf|xai|key|AIza|nvapi|pplx|csk|fw|r8|Bearer )[-_ ]?[A-Za-z0-9_-]{16,}")
_PLACEHOLDER = re.compile(
    r"(?:sk-)?(?:.*(?:\.\.\.|…|<.*>|\*{3}|x{4}|\b(?:your|insert|replace|paste|change)[-_ ]?.*|placeholder|example).*"
    r"|none|null|empty|dummy|test|todo|tbd|changeme|secret|token|key|api[-_ ]?key|no[-_]?key(?:[-_]required)?|fake|foo|bar"
    r"|\d{1,6}|abc)",
    re.IGNORECASE,
)
_LONGEST_PLACEHOLDER = 48


def refuse_key_as_name(name: str, source: str) -> None:
    """Raise UsageError if the name of the key's variable is no name, or looks like a key. source: where it was set, in words."""
    looks_like_key = _KEY.fullmatch(name) is not None and not name.isupper()
    if looks_like_key or _NAME.fullmatch(name) is None:
        raise UsageError(
            f"api_key_env ({source}) must be the name of an environment variable, such as MY_API_KEY, and not the key itself; "
            "put the key into that variable"
        )


def missing(name: str, environment: Mapping[str, str]) -> str | None:
    """Return why there is no key in a variable: "is not set" or "is empty"; None if there is one."""
    if environment.get(name, "").strip():
        return None
    return "is empty" if name in environment else "is not set"


def fault_of(key: str, provider: str) -> str | None:
    """Return what a key looks like, if it looks wrong, in words that follow "the key in NAME"."""
    if key[:1] in "\"'" or key[-1:] in "\"'":
        return "is in quotation marks"
    if key.lower().startswith("bearer "):
        return "begins with Bearer, which is added when it is sent"
    if any(char.isspace() for char in key):
        return "contains a blank"
    if "=" in key[:40] and key.partition("=")[0].isupper():
        return "begins with the name of a variable"
    if len(key) <= _LONGEST_PLACEHOLDER and _PLACEHOLDER.fullmatch(key):
        return "looks like a placeholder"
    if provider == "openai" and key.startswith("sk-ant-"):
        return "looks like a key for Anthropic"
    if provider == "anthropic" and re.match(r"sk-(?!ant-)", key):
        return "does not look like a key for Anthropic, which begins with sk-ant-"
    return None


def other_variable(base_url: str, name: str, environment: Mapping[str, str]) -> str | None:
    """Return a variable that may hold the key of an endpoint: GROQ_API_KEY for api.groq.com; None if there is none."""
    host = urlsplit(base_url).hostname or ""
    for variable, value in environment.items():
        owner = variable.removesuffix("_API_KEY").lower()
        if variable.endswith("_API_KEY") and variable != name and value.strip() and len(owner) > 2 and owner in host:
            return variable
    return None
