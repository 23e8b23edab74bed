"""The guard of the page by itself, in front of an application that tells who has come; and the file with the token."""

import asyncio
from collections import Counter
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from filling import done, filled
from starlette.requests import Request
from webbing import GUARD_S, TOKEN, served_here, until

from runner.web import ask_events, indexing, token_file
from runner.web.access import access
from runner.web.ask_limits import OPEN_IN_ALL
from runner.web.ask_routes import AskRoutes
from runner.web.asking import Asker
from runner.web.guard import Guard
from runner.web.reads import Reads
from runner.web.replies import ApiError
from runner.web.token_file import token_of
from runner.web.uvicorn_internals import LimitedProtocol

ACCESS = access(TOKEN, "127.0.0.1", 80)
HOST = ("host", "127.0.0.1:80")
COOKIE = ("cookie", f"a=b; {ACCESS.cookie}={ACCESS.mark}")
PROOF = ("x-runner", ACCESS.proof)
BEARER = ("authorization", f"Bearer {TOKEN}")
CROSS = ("sec-fetch-site", "cross-site")


def entered(
    *headers: tuple[str, str], method: str = "GET", path: str = "/api/runs", query: str = "", body: Sequence[bytes] = (b"",)
) -> Any:
    """Return as whom the guard lets a request in, or the status with which it refuses it."""
    told: list[Any] = []
    parts = [{"type": "http.request", "body": part, "more_body": at < len(body) - 1} for at, part in enumerate(body)]
    scope = {
        "type": "http",
        "method": method,
        "path": path,
        "query_string": query.encode(),
        "headers": [(name.encode(), value.encode()) for name, value in headers],
        "server": ("127.0.0.1", 80),
    }

    async def app(scope: Any, *_: Any) -> None:
        told.append(scope["state"]["by"])

    async def receive() -> Any:
        return parts.pop(0)

    async def send(message: Any) -> None:
        if "status" in message:
            told.append(message["status"])

    asyncio.run(Guard(app, ACCESS)(scope, receive, send))
    (found,) = told
    return found


def test_who_comes_is_told_apart() -> None:
    change = {"method": "POST", "path": "/api/runs/1/pause"}
    assert entered(HOST, COOKIE, PROOF) == entered(HOST, COOKIE, PROOF, **change) == "page"
    assert entered(HOST, BEARER) == entered(HOST, BEARER, **change) == "api"


@pytest.mark.parametrize("given", ["", "t", TOKEN[:-1], f"{TOKEN}t", ACCESS.mark])
def test_a_part_of_the_token_opens_nothing(given: str) -> None:
    assert entered(HOST, ("authorization", f"Bearer {given}")) == 401
    assert entered(HOST, query=f"token={given}", path="/metrics") == 401
    assert entered(HOST, ("cookie", f"{ACCESS.cookie}={given if given != ACCESS.mark else TOKEN}"), PROOF) == 401


def test_what_another_site_has_a_browser_send_is_refused_also_with_the_token() -> None:
    origin = ("origin", "http://evil.example")
    assert entered(HOST, BEARER, origin) == entered(HOST, BEARER, ("origin", "null")) == 403
    # a program has no origin; the page itself has this one
    assert entered(HOST, BEARER, ("origin", "http://127.0.0.1:80")) == "api"


def test_a_link_in_another_site_leads_to_the_page_and_nothing_else_does() -> None:
    link = ("sec-fetch-mode", "navigate")
    assert entered(HOST, COOKIE, CROSS, link, path="/") == "page"
    assert entered(HOST, COOKIE, CROSS, ("sec-fetch-mode", "no-cors"), path="/") == 403
    assert entered(HOST, COOKIE, CROSS, link) == 403
    assert entered(HOST, COOKIE, CROSS, link, ("origin", "http://evil.example"), path="/") == 403


def test_two_names_are_none_and_those_of_this_machine_are_for_others() -> None:
    assert ACCESS.names == {"localhost", "127.0.0.1", "::1"}
    assert entered(HOST, ("host", "evil.example"), BEARER) == 421
    assert entered(BEARER) == 421


def test_a_body_that_says_that_it_is_short_is_not_taken_at_its_word() -> None:
    piece = b" " * (1 << 20)
    given = {"method": "POST", "body": [piece] * 5}
    assert entered(HOST, BEARER, ("content-length", "5"), **given) == 413
    # and what says that it is long is not read
    assert entered(HOST, BEARER, ("content-length", str(5 << 20)), method="POST", body=()) == 413


def test_a_token_that_others_may_have_seen_or_put_there_is_made_anew(tmp_path: Path) -> None:
    store = tmp_path / "runner.db"
    file = store.with_name(f"{store.name}{token_file.ENDING}")
    first = token_of(store)
    assert token_of(store) == first
    assert file.stat().st_mode & 0o777 == 0o600
    file.chmod(0o640)
    second = token_of(store)
    assert second != first
    (tmp_path / "elsewhere").write_text("x" * 43)
    (tmp_path / "elsewhere").chmod(0o600)
    file.unlink()
    file.symlink_to(tmp_path / "elsewhere")
    assert token_of(store) not in (first, second, "x" * 43)
    assert not file.is_symlink()
    assert (tmp_path / "elsewhere").read_text() == "x" * 43


def asked(routes: AskRoutes, body: bytes, client: str = "10.0.0.1") -> ApiError:
    """Ask a prompt that is refused, and return the error."""
    scope = {"type": "http", "method": "POST", "path": "/api/stream", "headers": [], "client": (client, 1)}

    async def receive() -> Any:
        return {"type": "http.request", "body": body}

    with pytest.raises(ApiError) as found:
        asyncio.run(routes._ask(Request(scope, receive)))  # type: ignore[arg-type]
    return found.value


def test_streams_of_all_clients_together_have_a_most_and_one_that_did_not_begin_is_none(tmp_path: Path) -> None:
    routes = AskRoutes(Asker(filled(tmp_path / "runner.db", done("a", 1))))
    for _ in range(3):
        assert asked(routes, b'{"prompt": "x", "run": 9}').code == "usage"
    assert not routes._open
    routes._open = Counter({f"10.0.0.{number}": 1 for number in range(2, OPEN_IN_ALL + 2)})
    full = asked(routes, b'{"prompt": "x"}')
    assert (full.status, full.code) == (429, "too_many")


def test_connections_have_a_most_and_are_forgotten_when_they_have_ended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("runner.web.uvicorn_internals.MOST_CONNECTIONS", 2)

    store = filled(tmp_path / "runner.db", done("a", 1))

    async def main() -> None:
        known = LimitedProtocol.transports
        async with asyncio.timeout(GUARD_S), served_here(store) as page:
            before = len(known)
            ends = [await asyncio.open_connection("127.0.0.1", page.port) for _ in range(2)]
            await until(lambda: len(known) == before + 2)
            reader, late = await asyncio.open_connection("127.0.0.1", page.port)
            with suppress(ConnectionError):
                assert await reader.read() == b""
            # those that were there go on
            ends[0][1].write(b"GET /nothing HTTP/1.1\r\nHost: localhost\r\n\r\n")
            assert (await ends[0][0].readline()).startswith(b"HTTP/1.1 401")
            for writer in (late, *(writer for _, writer in ends)):
                writer.close()
            await until(lambda: len(known) == before)

    asyncio.run(main())


def test_an_index_is_kept_up_to_date_only_while_somebody_looks_at_rows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(indexing, "FOR_S", 0.05)
    monkeypatch.setattr(indexing, "_LOOK_S", 0.01)
    store = filled(tmp_path / "runner.db", done("a", 1))

    async def main() -> None:
        kept = indexing.Indexing(Reads(store))
        for _ in range(2):
            kept.wanted()
            assert kept._task is not None
            async with asyncio.timeout(GUARD_S):
                await kept._task
        assert kept.index.is_complete(1)

    asyncio.run(main())


def test_a_session_that_is_used_again_in_the_last_moment_does_not_rest(tmp_path: Path) -> None:
    asker = Asker(tmp_path / "runner.db")
    held: Any = SimpleNamespace(streams=1)
    target: Any = (1, True)
    asker._sessions[target] = held
    asyncio.run(asker._end_idle(held))
    assert asker._sessions == {target: held}


@pytest.mark.parametrize(("code", "shown", "again"), [("cut", False, True), ("cut", True, False), ("bad_request", False, False)])
def test_nothing_is_advised_to_be_asked_anew_behind_what_was_shown(code: str, shown: bool, again: bool) -> None:
    assert ask_events._error(code, "so", shown=shown)["retry"] is again
