"""Valid and invalid URLs of endpoints and proxies, and the message for each invalid one."""

import re

import httpx
import pytest

from runner.config.address import check_base_url, check_proxy, origin, without_ending
from runner.errors import UsageError


@pytest.mark.parametrize(
    "good",
    [
        "http://localhost:8000/v1",
        "https://api.openai.com/v1",
        "https://api.example.com.",
        "http://my_vllm-2:1/v1",
        "http://127.0.0.1:65535",
        "http://[::1]:8000/v1",
        "http://[fe80::1%eth0]/v1",
        "https://xn--mnchen-3ya.example/v1",
        "https://host/a%20path/~x",
    ],
)
def test_a_valid_url_is_returned_without_its_last_slash(good: str) -> None:
    assert check_base_url(good, "the test") == check_base_url(good + "/", "the test") == good


@pytest.mark.parametrize(
    ("given", "sent"),
    [
        ("https://m\u00fcnchen.example/v1", "https://xn--mnchen-3ya.example/v1"),
        # a Cyrillic letter that looks like the first one of api
        ("https://\u0430pi.openai.com:8443/v1?a=\u00fc", "https://xn--pi-6kc.openai.com:8443/v1?a=\u00fc"),
        ("https://stra\u00dfe.example/\u00fc", "https://xn--strae-oqa.example/\u00fc"),
        ("http://127\u30020\u30020\u30021:80/v1", "http://127.0.0.1:80/v1"),
    ],
)
def test_a_host_in_other_letters_is_shown_as_it_is_looked_up(given: str, sent: str) -> None:
    assert check_base_url(given, "the test") == sent
    assert httpx.URL(given).raw_host == httpx.URL(sent).raw_host


@pytest.mark.parametrize(
    ("bad", "why"),
    [
        ("http://\U0001f600.example/v1", "has an invalid host"),
        ("http://\uff4cocalhost/v1", "has an invalid host"),
        ("http://ex ample/v1", "contains whitespace or a control character"),
        ("http://ex\nample/v1", "contains whitespace or a control character"),
        ("http://ex\x00ample/v1", "contains whitespace or a control character"),
        ("http://ex\u00a0ample/v1", "contains whitespace or a control character"),
        ("http://host/v1 ", "contains whitespace or a control character"),
        ("http:///v1", "has no host"),
        ("http://:80/v1", "has no host"),
        ("https://", "has no host"),
        ("http://ex%20ample/v1", "has an invalid host: ex%20ample"),
        ("http://ex<am>ple/v1", "has an invalid host"),
        ("http://a..b/v1", "has an invalid host"),
        ("http://-a/v1", "has an invalid host"),
        ("http://host\\v1", "has an invalid host"),
        (f"http://{'x' * 64}.example/v1", "has an invalid host"),
        ("http://[1.2.3.4]/v1", "is not a valid URL"),
        ("http://[::1/v1", "is not a valid URL"),
        ("http://host:/v1", "has an invalid port"),
        ("http://host:0/v1", "has an invalid port"),
        ("http://host:65536/v1", "has an invalid port"),
        ("http://host:-1/v1", "has an invalid port"),
        ("http://host:http/v1", "has an invalid port"),
        ("host/v1", "is not a valid URL"),
        ("ftp://host/v1", "is not a valid URL"),
        ("http://host/v1#", "must not contain #"),
        ("http://host#", "must not contain #"),
        ("http://host/v1?v=1#", "must not contain #"),
    ],
)
def test_an_invalid_url_is_refused_in_one_sentence(bad: str, why: str) -> None:
    with pytest.raises(UsageError, match=re.escape(why)) as refused:
        check_base_url(bad, "job.toml")
    assert str(refused.value).startswith(f"base_url {bad!r} (job.toml) ")
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize(
    ("given", "returned"),
    [
        ("http://host/v1/?api-version=1", "http://host/v1?api-version=1"),
        ("http://host?v=a/", "http://host?v=a/"),
        ("http://host/v1?", "http://host/v1"),
    ],
)
def test_a_query_is_kept(given: str, returned: str) -> None:
    assert check_base_url(given, "the test") == returned


@pytest.mark.parametrize("name", ["key", "api_key", "api-key", "access_token", "sig", "code", "password"])
def test_a_secret_in_the_query_is_refused_and_not_repeated(name: str) -> None:
    with pytest.raises(UsageError, match="must not contain a secret") as refused:
        check_base_url(f"http://host/v1?v=1&{name}=hush-hush", "job.toml")
    assert "hush" not in str(refused.value)


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("https://Host.example/v1?x=1", "https://host.example"),
        ("https://host:443", "https://host"),
        ("http://host:443", "http://host:443"),
        ("http://[::1]:80/v1", "http://[::1]"),
        ("http://[::1]:81/v1", "http://[::1]:81"),
    ],
)
def test_origin(url: str, expected: str) -> None:
    assert origin(url) == expected


def test_a_password_is_not_repeated() -> None:
    with pytest.raises(UsageError, match="must not contain a user name or password") as refused:
        check_base_url("http://me:hush@host/v1", "job.toml")
    assert "hush" not in str(refused.value)


@pytest.mark.parametrize(
    ("good", "expected"),
    [
        ("http://127.0.0.1:3128", "http://127.0.0.1:3128"),
        ("https://proxy.example", "https://proxy.example"),
        ("http://[::1]:3128/", "http://[::1]:3128/"),
        ("proxy:3128", "http://proxy:3128"),
        # a host named http
        ("http:3128", "http://http:3128"),
        (" http://127.0.0.1:3128\t\n", "http://127.0.0.1:3128"),
        (" proxy:3128 ", "http://proxy:3128"),
        ("me:hush@proxy:3128", "http://me:hush@proxy:3128"),
        ("http://m%40e:hu%2Fsh@proxy:3128", "http://m%40e:hu%2Fsh@proxy:3128"),
        ("http://m%C3%BC:h%3Ash%FF@proxy:3128", "http://m%C3%BC:h%3Ash%FF@proxy:3128"),
    ],
)
def test_a_proxy_is_returned_with_its_scheme(good: str, expected: str) -> None:
    assert check_proxy(good, "http_proxy") == expected


@pytest.mark.parametrize(
    ("bad", "why"),
    [
        ("http://127.0.0.1:99999", "its port is not a number"),
        ("http://127.0.0.1:notaport", "its port is not a number"),
        ("http://me:hu#sh@127.0.0.1:9", "its port is not a number"),
        ("http://me:12#hush@127.0.0.1:9", "must be written as %2F, %3F or %23"),
        ("http://me:12/hush@127.0.0.1:9", "must be written as %2F, %3F or %23"),
        ("http:/127.0.0.1:9", "its http: must be followed by //"),
        ("HTTPS:/me:hush@127.0.0.1:9", "its http: must be followed by //"),
        ("http:\\\\127.0.0.1:9", "its http: must be followed by //"),
        ("http://me:hush@127.0.0\n.1:9", "it contains a blank or a control character"),
        ("http://me:hush@127.0.0.1:9/ a", "it contains a blank or a control character"),
        ("http://:9", "not a URL such as http://host:port"),
        ("http://", "not a URL such as http://host:port"),
        ("http://[::1", "not a URL such as http://host:port"),
        ("http://me:hush@a\u2100b:9", "not a URL such as http://host:port"),
        ("http://me:hush@ex ample:9", "not a URL such as http://host:port"),
        ("http://m%3Ae:hush@127.0.0.1:9", "its user name contains a colon"),
        ("http://m%E2%82%ACe:hush@127.0.0.1:9", "a character that an HTTP header cannot carry"),
        ("http://me:hush%E2%82%AC@127.0.0.1:9", "a character that an HTTP header cannot carry"),
        ("socks5://me:hush@127.0.0.1:9", "not an HTTP proxy"),
    ],
)
def test_an_invalid_proxy_is_refused_without_being_quoted(bad: str, why: str) -> None:
    with pytest.raises(UsageError, match=re.escape(why)) as refused:
        check_proxy(bad, "http_proxy")
    assert str(refused.value).startswith("the proxy in http_proxy cannot be used: ")
    assert not {"me", "hu", "sh", "12", "127"} & set(re.findall(r"\w+", str(refused.value)))
    assert refused.value.__context__ is None


@pytest.mark.parametrize(
    ("given", "meant"),
    [
        ("localhost:1234/v1", "http://localhost:1234/v1"),
        ("127.0.0.1/v1", "http://127.0.0.1/v1"),
        ("api.openai.com/v1", "https://api.openai.com/v1"),
        ("//api.openai.com/v1", "https://api.openai.com/v1"),
        ("my-server:8000", "http://my-server:8000"),
        ("http//host/v1", "http://host/v1"),
        ("https:/host/v1", "https://host/v1"),
        ("https:host/v1", "https://host/v1"),
        ("ftp://localhost/v1", "http://localhost/v1"),
    ],
)
def test_a_url_without_a_scheme_is_refused_with_the_one_that_was_meant(given: str, meant: str) -> None:
    with pytest.raises(UsageError) as caught:
        check_base_url(given, "option --base-url")
    assert str(caught.value).endswith(f"; use {meant}")


def test_a_password_without_a_scheme_is_not_quoted() -> None:
    with pytest.raises(UsageError) as caught:
        check_base_url("me:pass-word@host/v1", "option --base-url")
    assert "pass-word" not in str(caught.value)


@pytest.mark.parametrize(
    ("given", "openai", "anthropic"),
    [
        ("http://h/v1/chat/completions", "http://h/v1", "http://h"),
        ("http://h/chat/completions", "http://h", "http://h"),
        ("http://h/v1/completions", "http://h/v1", "http://h"),
        ("http://h/v1/messages", "http://h/v1", "http://h"),
        ("http://h/v1/Chat/Completions", "http://h/v1", "http://h"),
        ("http://h/x/v1/responses", "http://h/x/v1", "http://h/x"),
        # nothing is taken off that may belong to the address
        ("http://h/v1", "http://h/v1", "http://h/v1"),
        ("http://h/models", "http://h/models", "http://h/models"),
    ],
)
def test_the_path_of_a_request_is_taken_off(given: str, openai: str, anthropic: str) -> None:
    assert without_ending(given, versioned=True) == openai
    assert without_ending(given, versioned=False) == anthropic
