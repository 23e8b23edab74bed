"""Who may use the server of the page: attacks from other hosts, other sites, other programs, and slow ones."""

import http.client
import os
import socket
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import httpx
import pytest
from filling import done, failed, filled
from webbing import BEARER, GUARD_S, JSON, TOKEN, Page, served

from runner.web import guard, peers
from runner.web.access import access, name_of
from runner.web.app import static_files
from runner.web.uvicorn_internals import MOST_HEAD


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Page]:
    folder = tmp_path_factory.mktemp("guard")
    (folder / "secret.txt").write_text("not for the page")
    with served(filled(folder / "runner.db", done("a", 1), failed("b", 2))) as page:
        yield page


def cookie(page: Page) -> str:
    with page.client(Accept="text/html") as client:
        answer = client.get("/", params={"token": TOKEN})
    return answer.headers["set-cookie"].partition(";")[0]


def proof(page: Page) -> str:
    """Return what the page keeps for its own port."""
    return access(TOKEN, "127.0.0.1", page.port).proof


def test_the_token_in_the_address_becomes_a_cookie_and_leaves_the_address(page: Page) -> None:
    with page.client(Accept="text/html") as client:
        answer = client.get("/", params={"token": TOKEN, "x": "1"})
    assert (answer.status_code, answer.headers["location"]) == (303, f"/?x=1&proof={proof(page)}")
    attributes = {part.strip().lower() for part in answer.headers["set-cookie"].split(";")[1:]}
    assert {"httponly", "samesite=strict", "path=/"} <= attributes
    assert TOKEN not in str(answer.headers)
    with page.client(Cookie=cookie(page), **{"X-Runner": proof(page)}) as client:
        assert client.get("/").status_code == client.get("/api/runs").status_code == 200


def test_a_cookie_that_another_user_was_sent_opens_nothing_but_the_files_of_the_page(
    page: Page, monkeypatch: pytest.MonkeyPatch
) -> None:
    with page.client(Cookie=cookie(page)) as client:
        assert client.get("/api/runs").status_code == 200
        # from here on, the server belongs to another user than this process
        other = os.getuid() + 1
        monkeypatch.setattr(os, "getuid", lambda: other)
        for given in (None, "1", "wrong", TOKEN, cookie(page).partition("=")[2]):
            headers = {"X-Runner": given} if given is not None else {}
            paths = ("/api/runs", "/api/runs/1/rows", "/api/events", "/metrics")
            answers = [client.get(path, headers=headers) for path in paths]
            answers += [client.post(path, json={}, headers=headers) for path in ("/api/runs/1/pause", "/api/stream", "/")]
            answers.append(client.delete("/api/stream/1", headers=headers))
            assert {answer.status_code for answer in answers} == {401}
        found = [client.get(path) for path in ("/", "/static/main.js", "/openapi.json")]
        assert [answer.status_code for answer in found] == [200] * 3
        assert not [answer for answer in found if proof(page) in answer.text]
        assert client.get("/api/runs", headers={"X-Runner": proof(page)}).status_code == 200


@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
def test_the_kernel_tells_whose_the_other_end_of_a_connection_is(host: str) -> None:
    with socket.create_server((host, 0), family=socket.AF_INET6 if ":" in host else socket.AF_INET) as server:
        with socket.create_connection(server.getsockname()[:2]) as client:
            ends = client.getsockname()[:2], client.getpeername()[:2]
            assert peers._owner(*ends) == os.getuid()
        assert not peers.is_own((host, 1), ends[1])
    assert not peers.is_own(None, ends[1])
    assert not peers.is_own(("a name", 1), ends[1])


@pytest.mark.parametrize(
    "path", ["/", "/api/runs", "/api/runs/1/rows", "/api/events", "/metrics", "/openapi.json", "/static/main.js"]
)
@pytest.mark.parametrize(
    "headers",
    [
        {"Accept": "*/*"},
        {"Authorization": "Bearer wrong"},
        {"Authorization": f"Basic {TOKEN}"},
        {"Authorization": f"Bearer {TOKEN}x"},
        {"Cookie": "runner=1; runner-1=2"},
    ],
)
def test_without_the_token_nothing_is_told(page: Page, path: str, headers: dict[str, str]) -> None:
    with page.client(**headers) as client:
        answers = [client.get(path), client.get(path, params={"token": "wrong"})]
    assert {answer.status_code for answer in answers} == {401}
    assert all(answer.text != "a" and TOKEN not in answer.text for answer in answers)


def test_the_token_in_an_address_opens_the_page_and_the_metrics_alone(page: Page) -> None:
    with page.client(Accept="*/*") as client:
        assert client.get("/metrics", params={"token": TOKEN}).status_code == 200
        assert client.get("/api/runs", params={"token": TOKEN}).status_code == 401
        assert client.post("/metrics", params={"token": TOKEN}, json={}).status_code == 401


@pytest.mark.parametrize(
    "host", ["evil.example", "evil.example:{port}", "127.0.0.1.evil.example", "localhost@evil.example", "0.0.0.0", ""]
)
def test_another_name_is_refused_though_it_leads_here(page: Page, host: str) -> None:
    # a page of evil.example whose name was made to lead to this machine has the cookie of nobody, but may have a token
    with page.client(**BEARER, Host=host.format(port=page.port)) as client:
        assert client.get("/api/runs").status_code in (400, 421)


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1:1234", "[::1]:{port}", "LOCALHOST:{port}"])
def test_names_of_this_machine_are_taken_also_through_a_tunnel(page: Page, host: str) -> None:
    with page.client(**BEARER, Host=host.format(port=page.port)) as client:
        assert client.get("/api/runs").status_code == 200


def test_a_server_for_others_is_reached_under_its_own_names_alone() -> None:
    known = access(TOKEN, "0.0.0.0", 80)
    assert known.is_own_host("10.0.0.7:80", "10.0.0.7")
    assert known.is_own_host(socket.gethostname(), "10.0.0.7")
    assert not known.is_own_host("10.0.0.8", "10.0.0.7")
    assert [name_of(text) for text in ("a:b", "[::1", "a b", "a/b", None)] == [None] * 5


@pytest.mark.parametrize(
    "headers",
    [
        {"Origin": "http://evil.example"},
        {"Origin": "null"},
        {"Origin": "http://127.0.0.1:1"},
        {"Sec-Fetch-Site": "cross-site"},
        {"Sec-Fetch-Site": "same-site"},
    ],
)
def test_other_sites_can_neither_read_nor_change(page: Page, headers: dict[str, str]) -> None:
    with page.client(Cookie=cookie(page), **{"X-Runner": proof(page)}, **headers) as client:
        answers = [client.get("/api/runs"), client.get("/api/events"), client.post("/api/runs/1/pause", json={})]
    assert {answer.status_code for answer in answers} == {403}
    assert not [name for answer in answers for name in answer.headers if name.startswith("access-control")]


def test_a_change_needs_more_than_the_cookie(page: Page) -> None:
    with page.client(Cookie=cookie(page)) as client:
        # as a form of another site would send it, were the cookie sent
        assert client.post("/api/runs/1/pause", data={"a": "1"}).status_code in (403, 415)
        assert client.post("/api/runs/1/pause", json={}).status_code == 403
        own = {"X-Runner": "1", "Origin": page.url}
        assert client.post("/api/runs/1/pause", content=b"{}", headers={**own, "Content-Type": "text/plain"}).status_code == 415
        # nobody works on the run, which is another matter
        assert client.post("/api/runs/1/pause", json={}, headers=own).json()["code"] == "not_running"


def test_nothing_changes_by_get_and_methods_are_as_documented(page: Page) -> None:
    with page.client() as client:
        for what in ("pause", "continue", "stop", "cancel", "requeue", "set", "retry"):
            answer = client.get(f"/api/runs/1/{what}")
            assert (answer.status_code, answer.headers["allow"], answer.json()["code"]) == (405, "POST", "method")
        for method in ("POST", "PUT", "DELETE", "PATCH", "OPTIONS", "TRACE", "BREW"):
            assert client.request(method, "/api/runs").status_code == 405
        head = client.head("/api/events")
        assert (head.status_code, head.content) == (200, b"")


PATHS = [
    "/static/../app.py", "/static/..%2fapp.py", "/static/%2e%2e/app.py", "/static/%252e%252e%252fapp.py", "/static//etc/passwd",
    "/static/..\\app.py", "/static/index.html%00.js", "/static/", "/static/main.js/", "/secret.txt", "/../secret.txt",
    "/%2e%2e/secret.txt", "/runner.db", "/api/runs/1/rows/..%2f..%2f..%2fsecret.txt", "//etc/passwd", "/static/vendored/..",
]  # fmt: skip


@pytest.mark.parametrize("path", PATHS)
def test_no_path_leads_out_of_the_files_of_the_page(page: Page, path: str) -> None:
    # httpx would make the path shorter
    connection = http.client.HTTPConnection("127.0.0.1", page.port, timeout=GUARD_S)
    connection.request("GET", path, headers=BEARER)
    answer = connection.getresponse()
    text = answer.read()
    assert answer.status in (400, 404), (path, answer.status)
    assert b"not for the page" not in text
    assert b"root:" not in text
    connection.close()


def test_each_answer_says_what_a_browser_may_do_with_it(page: Page) -> None:
    with page.client() as client:
        answers = [client.get(path) for path in ("/", "/api/runs", "/nothing", "/static/main.js", "/metrics", "/api/runs/9")]
        answers += [client.get("/", headers={"Authorization": "no"}), client.get("/", headers={"Host": "evil.example"})]
    for answer in answers:
        assert answer.headers["content-security-policy"] == guard.POLICY
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert answer.headers["referrer-policy"] == "no-referrer"
        assert "server" not in answer.headers
    assert "unsafe" not in guard.POLICY


def test_the_files_of_the_page_are_those_of_its_folder(page: Page) -> None:
    with page.client() as client:
        for name, path in static_files().items():
            answer = client.get(f"/static/{name}")
            assert (answer.status_code, answer.content) == (200, path.read_bytes())
        assert client.get("/").content == static_files()["index.html"].read_bytes()


def test_bodies_have_a_size_and_are_json(page: Page) -> None:
    huge = guard.MOST_BODY + 1
    with page.client(**BEARER, **JSON) as client:
        assert client.post("/api/runs/1/cancel", content=b" " * huge).status_code == 413
        assert client.post("/api/runs/1/cancel", content=(b" " * 65_536 for _ in range(huge // 65_536 + 1))).status_code == 413
        for bad in (
            b"{",
            b"[]",
            b'{"ids": 3}',
            b'{"ids": []}',
            b'{"ids": ["a"], "more": 1}',
            b"\xff",
            b'{"ids":' + b"[" * 100_000,
        ):
            answer = client.post("/api/runs/1/cancel", content=bad)
            assert (answer.status_code, answer.json()["code"]) == (400, "body"), bad[:20]
        for bad in (b'{"concurrency": "3"}', b'{"rpm": true}', b"{}", b'{"max_cost": 1e999}'):
            assert client.post("/api/runs/1/set", content=bad).status_code == 400, bad


def test_heads_have_a_size(page: Page) -> None:
    # what comes in one piece is taken, so this is more than a piece
    with page.client(**BEARER, **{"X-Much": "a" * (32 * MOST_HEAD)}) as client, suppress(httpx.WriteError, httpx.ReadError):
        assert client.get("/api/runs").status_code in (400, 431)
    # the server has survived
    with page.client() as client:
        assert client.get("/api/runs").status_code == 200


SLOW = {
    "no byte": b"",
    "a head without an end": b"GET /api/runs HTTP/1.1\r\nHost: localhost\r\nX-A: ",
    "a second head": b"GET /nothing HTTP/1.1\r\nHost: localhost\r\n\r\nGET /ap",
    "a body that does not come": (
        b"POST /api/runs/1/pause HTTP/1.1\r\nHost: localhost\r\nContent-Length: 9\r\nContent-Type: application/json\r\n"
        b"Authorization: Bearer " + TOKEN.encode() + b"\r\n\r\n{"
    ),
}


@pytest.mark.parametrize("sent", SLOW.values(), ids=SLOW)
def test_whoever_sends_slowly_is_sent_away(page: Page, sent: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("runner.web.uvicorn_internals.HEAD_S", 0.3)
    monkeypatch.setattr("runner.web.guard.BODY_S", 0.3)
    with socket.create_connection(("127.0.0.1", page.port), timeout=GUARD_S) as end:
        end.sendall(sent)
        received = b""
        try:
            while piece := end.recv(4096):
                received += piece
                # a byte now and then does not help
                end.sendall(b"a" if sent else b"")
        except ConnectionError:
            pass
    assert received.count(b"HTTP/1.1 ") == (b"\r\n\r\n" in sent)
    if sent.startswith(b"POST"):
        assert received.startswith(b"HTTP/1.1 408")


def test_what_is_no_http_is_refused(page: Page) -> None:
    for sent in (b"\x16\x03\x01\x02\x00\x01\x00\r\n\r\n", b"GET / HTTP/1.1\r\n\r\n", b"GET / HTTP/9.9\r\nHost: a\r\n\r\n"):
        with socket.create_connection(("127.0.0.1", page.port), timeout=GUARD_S) as end:
            end.sendall(sent)
            assert end.recv(4096).startswith(b"HTTP/1.1 4")
    upgrade = {"Upgrade": "websocket", "Connection": "Upgrade", "Sec-WebSocket-Version": "13", "Sec-WebSocket-Key": "a"}
    with page.client(**BEARER, **upgrade) as client:
        assert client.get("/api/events2").status_code == 404


def test_the_token_is_in_no_answer_and_in_no_record(page: Page, capfd: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    with page.client(Accept="*/*") as client:
        client.get("/", params={"token": TOKEN})
        client.get("/", params={"token": f"{TOKEN}x"})
        client.get("/metrics", params={"token": TOKEN})
    assert TOKEN not in "".join(capfd.readouterr())
