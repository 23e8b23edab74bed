"""NO_PROXY: hosts, ports, dots, networks and addresses."""

import pytest

from runner.config.no_proxy import bypassed

YES = [
    ("*", "host", 80),
    ("host", "host", 80),
    ("host", "api.host", 443),
    ("HOST", "host", 80),
    (".example.com", "api.example.com", 443),
    (".example.com", "example.com", 443),
    ("*.example.com", "api.example.com", 443),
    ("example.com.", "example.com", 443),
    ("host:8000", "host", 8000),
    ("host:443", "host", 443),
    (".example.com:8000", "a.example.com", 8000),
    ("http://host", "host", 80),
    ("one, host ,two", "host", 80),
    ("one host", "host", 80),
    ("10.1.2.3", "10.1.2.3", 80),
    ("10.1.2.3:8000", "10.1.2.3", 8000),
    ("10.0.0.0/8", "10.200.3.4", 80),
    ("10.1.2.3/8", "10.200.3.4", 80),
    ("fd00::1", "fd00::1", 80),
    ("[fd00::1]", "fd00::1", 80),
    ("[fd00::1]:8000", "fd00::1", 8000),
    ("fd00:0::0001", "fd00::1", 80),
    ("fd00::/8", "fd12::1", 80),
]
NO = [
    ("", "host", 80),
    (",,", "host", 80),
    (".", "host", 80),
    ("host:8000", "host", 80),
    ("host:8000", "other", 8000),
    ("example.com", "badexample.com", 443),
    ("ample.com", "example.com", 443),
    ("api.host", "host", 80),
    ("10.0.0.0/8", "11.0.0.1", 80),
    ("0.0.0/8", "10.0.0.1", 80),
    ("1.2.3", "10.1.2.3", 80),
    ("2.3", "10.1.2.3", 80),
    ("[fd00::1]:8000", "fd00::1", 80),
    ("fd00::/8", "fe00::1", 80),
    ("10.0.0.0/99", "10.0.0.1", 80),
    ("[", "host", 80),
    ("host:port", "host", 80),
]


@pytest.mark.parametrize(("no_proxy", "host", "port"), YES)
def test_it_goes_past_the_proxy(no_proxy: str, host: str, port: int) -> None:
    assert bypassed(host, port, no_proxy)
    assert bypassed(host, port, f"else.where,{no_proxy}")


@pytest.mark.parametrize(("no_proxy", "host", "port"), NO)
def test_it_goes_through_the_proxy(no_proxy: str, host: str, port: int) -> None:
    assert not bypassed(host, port, no_proxy)
