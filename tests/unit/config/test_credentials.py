"""What a key that looks wrong is called, and what is refused as the name of its variable. No key is quoted."""

import pytest

from runner.config.credentials import fault_of, missing, other_variable, refuse_key_as_name
from runner.errors import UsageError

REAL = "sk-proj-Ab3dEf9h1JklMn0pQrStUvWxYz1234567890"


@pytest.mark.parametrize(
    "key",
    [
        "your-api-key-here",
        "YOUR_API_KEY",
        "sk-...",
        "EMPTY",
        "none",
        "<key>",
        "sk-xxxxxxxx",
        "changeme",
        "sk-your-key",
        "api-key",
    ],
)
def test_placeholders(key: str) -> None:
    assert fault_of(key, "openai") == "looks like a placeholder"


@pytest.mark.parametrize(
    ("key", "provider", "words"),
    [
        (f'"{REAL}"', "openai", "is in quotation marks"),
        (f"'{REAL}", "openai", "is in quotation marks"),
        (f"Bearer {REAL}", "openai", "begins with Bearer"),
        (f"OPENAI_API_KEY={REAL}", "openai", "begins with the name of a variable"),
        ("sk-abc def", "openai", "contains a blank"),
        ("sk-ant-api03-abcdefghijkl", "openai", "looks like a key for Anthropic"),
        (REAL, "anthropic", "does not look like a key for Anthropic"),
    ],
)
def test_other_faults(key: str, provider: str, words: str) -> None:
    fault = fault_of(key, provider)
    assert fault is not None
    assert words in fault
    assert REAL not in fault


@pytest.mark.parametrize(
    ("key", "provider"),
    [(REAL, "openai"), ("sk-ant-api03-abcdef", "anthropic"), ("gsk_abc123def456", "openai")],
)
def test_a_key_that_looks_right(key: str, provider: str) -> None:
    assert fault_of(key, provider) is None


@pytest.mark.parametrize("name", ["OPENAI_API_KEY", "my_key", "K", "_KEY_2", "KEY_OF_MY_PROJECT_NUMBER_ONE"])
def test_names(name: str) -> None:
    refuse_key_as_name(name, "option --api-key-env")


@pytest.mark.parametrize("name", [REAL, "gsk_abcdefghijklmnopqrst12", "hf_abcdefghijklmnopqrstuv", "a b", "MY-KEY", "$KEY"])
def test_a_key_is_no_name_and_is_not_quoted(name: str) -> None:
    with pytest.raises(UsageError) as caught:
        refuse_key_as_name(name, "option --api-key-env")
    assert name not in str(caught.value)
    assert "must be the name of an environment variable" in str(caught.value)


def test_missing() -> None:
    assert missing("K", {}) == "is not set"
    assert missing("K", {"K": " \n"}) == "is empty"
    assert missing("K", {"K": "x"}) is None


def test_another_variable() -> None:
    environment = {"GROQ_API_KEY": "x", "OPENROUTER_API_KEY": "", "AI_API_KEY": "x", "OPENAI_API_KEY": "x"}
    assert other_variable("https://api.groq.com/openai/v1", "OPENAI_API_KEY", environment) == "GROQ_API_KEY"
    assert other_variable("https://openrouter.ai/api/v1", "OPENAI_API_KEY", environment) is None
    assert other_variable("http://localhost:1234/v1", "OPENAI_API_KEY", environment) is None
