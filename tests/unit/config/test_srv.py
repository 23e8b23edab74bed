"""Endpoints from SRV records, asked of a real server of the DNS on loopback."""

import socket
import threading
from collections.abc import Iterator
from contextlib import closing

import dns.message
import dns.resolver
import dns.rrset
import pytest

from runner.config.srv import addresses_of
from runner.errors import UsageError

NAME = "_vllm._tcp.cluster.example."


@pytest.fixture(autouse=True)
def _server(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    with closing(socket.socket(socket.AF_INET, socket.SOCK_DGRAM)) as listening:
        listening.bind(("127.0.0.1", 0))
        listening.settimeout(30)
        resolver = dns.resolver.Resolver(configure=False)
        resolver.nameservers, resolver.port = ["127.0.0.1"], listening.getsockname()[1]
        monkeypatch.setattr(dns.resolver, "default_resolver", resolver)
        thread = threading.Thread(target=_answer, args=(listening,))
        thread.start()
        yield
        thread.join()


def _answer(listening: socket.socket) -> None:
    wire, client = listening.recvfrom(4096)
    query = dns.message.from_wire(wire)
    answer = dns.message.make_response(query)
    if query.question[0].name.to_text() == NAME:
        answer.answer.append(dns.rrset.from_text(NAME, 5, "IN", "SRV", "0 5 8001 n2.example.", "0 5 8000 n1.example."))
    else:
        answer.set_rcode(dns.rcode.NXDOMAIN)
    listening.sendto(answer.to_wire(), client)


@pytest.mark.parametrize(("path", "used"), [("", "/v1"), ("/llm/v1/", "/llm/v1")])
def test_each_record_is_a_base_url(path: str, used: str) -> None:
    found = addresses_of(f"{NAME.rstrip('.')}{path}")
    assert found == [f"http://n1.example:8000{used}", f"http://n2.example:8001{used}"]


def test_a_name_that_is_not_there_is_one_sentence() -> None:
    with pytest.raises(UsageError, match=r"the endpoints of srv://nobody\.example cannot be looked up"):
        addresses_of("nobody.example")
