"""The commands that steer a session, as docs/guides/steering.md shows them: real processes, signals and a terminal."""

import json
import signal
import socket
import stat
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest
from doc_blocks import ROOT, blocks
from processes import Started, assert_clean, count, rows, run, runner, simulator, write_prompts

from runner.control.messages import Ask, Watch, encode
from runner.control.place import places_of, socket_of
from runner.control.server import MOST_GUESTS, MOST_WATCHERS

GUIDE = ROOT / "docs" / "guides" / "steering.md"
SLOW = ("--first-token-s", "0.3", "--chunk-s", "0.02", "--tokens", "20")


@pytest.fixture(scope="module")
def server() -> Iterator[tuple[str, ...]]:
    with simulator(*SLOW) as started:
        yield "--base-url", started.openai, "--model", "m", "--concurrency", "8", "--no-share"


def begun(folder: Path, server: tuple[str, ...], *, rows_: int = 3_000, db: str = "runner.db") -> Started:
    write_prompts(folder / "prompts.jsonl", range(rows_))
    started = runner("run", "prompts.jsonl", *server, "--db", db, cwd=folder)
    started.until(lambda: count(folder / db, where="status = 'done'") > 4, "the first answers")
    return started


def test_each_command_of_the_guide(tmp_path: Path, server: tuple[str, ...]) -> None:
    shown = [line for block in blocks(GUIDE) for line in block.text.splitlines() if line.startswith("$ runner ")]
    first, *commands = [line.removeprefix("$ runner ").split() for line in shown]
    assert first[:2] == ["run", "prompts.jsonl"]
    said: dict[str, str] = {}
    with begun(tmp_path, server) as session:
        (place,) = tmp_path.glob("*.sock")
        assert (place, stat.S_IMODE(place.lstat().st_mode)) == (socket_of(tmp_path / "runner.db", 1), 0o600)
        for command in commands:
            if command[0] == "attach":
                with runner(*command, cwd=tmp_path) as attached:
                    attached.until(lambda: "run 1: " in attached.out, "the headline")
                    attached.signal(signal.SIGINT)
                    assert attached.ended().code == 130
                assert session.alive
                continue
            ended = run(*command, cwd=tmp_path)
            assert ended.code == 0, (command, ended)
            said[command[0]] = ended.out
        ended = session.ended()
    assert_clean(ended)
    assert ended.code == 130
    assert "stopped by `runner stop 1`; waiting up to 30 s for" in ended.out
    assert "paused by you: `runner continue 1`" in said["status"]
    assert "asked" in said["status"]
    assert said["cancel"] == "run 1: cancelled 2 rows (row-40, row-41)\n"
    commands_kept = [one[0] for one in rows(tmp_path / "runner.db", "SELECT command FROM steered ORDER BY id")]
    assert commands_kept == ["pause", "continue", "set", "cancel", "requeue", "stop"]
    told = json.loads(run("status", "--json", cwd=tmp_path).out)["steered"]
    assert [(one["command"], one["session"], one["by"]) for one in told] == [(one, 1, "terminal") for one in commands_kept]
    assert not list(tmp_path.glob("*.sock"))
    # and now nobody is there
    gone = run("pause", cwd=tmp_path)
    assert (gone.code, gone.out) == (6, "")
    assert "run 1 of runner.db is not running; `runner resume 1` goes on with what is left of it" in gone.err


def test_a_killed_session_leaves_a_socket_that_the_next_one_replaces(tmp_path: Path, server: tuple[str, ...]) -> None:
    """A row that was requeued when its session was killed is paid once for each time that it went out."""
    with begun(tmp_path, server) as session:
        assert run("cancel", "row-900", cwd=tmp_path).code == 0
        session.killed()
    place = socket_of(tmp_path / "runner.db", 1)
    assert stat.S_ISSOCK(place.lstat().st_mode)
    assert run("stop", "--json", cwd=tmp_path).code == 6
    with runner("resume", "1", cwd=tmp_path) as again:
        again.until(lambda: run("pause", "1", cwd=tmp_path).code == 0, "the new socket")
        told = json.loads(run("requeue", "row-1", "nobody", "--json", "--run", "1", cwd=tmp_path).out)
        assert told["error"] is not None
        assert told["rows"]["nobody"] == "the input has no row with this id"
        assert run("stop", cwd=tmp_path).code == 0
        assert run("stop", cwd=tmp_path).code in (0, 2, 6)
        assert again.ended().code == 130
    assert rows(tmp_path / "runner.db", "SELECT session, command FROM steered ORDER BY id") == [
        (1, "cancel"),
        (2, "pause"),
        (2, "stop"),
        *([(2, "stop")] if count(tmp_path / "runner.db", "steered") == 4 else []),
    ]
    # no answer was bought twice
    assert rows(
        tmp_path / "runner.db", "SELECT max(n) FROM (SELECT count(*) n FROM attempts WHERE error_code IS NULL GROUP BY item_key)"
    ) == [(1,)]


def test_two_stores_and_a_long_path(tmp_path: Path, server: tuple[str, ...], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    tmp_path.chmod(0o700)
    deep = tmp_path / ("d" * 90)
    deep.mkdir()
    write_prompts(deep / "prompts.jsonl", range(2_000))
    env = {"XDG_RUNTIME_DIR": str(tmp_path)}
    with begun(tmp_path, server, db="a.db") as one, runner("run", "prompts.jsonl", *server, cwd=deep, env=env) as two:
        two.until(lambda: count(deep / "runner.db", where="status = 'done'") > 4, "the first answers")
        (place,) = places_of(deep / "runner.db", 1)
        assert (place.parent, stat.S_IMODE(place.lstat().st_mode)) == (tmp_path / "runner", 0o600)
        assert run("stop", cwd=deep, env=env).code == 0
        assert two.ended().code == 130
        assert one.alive
        assert not place.exists()
        assert run("stop", "--db", "a.db", cwd=tmp_path).code == 0
        assert one.ended().code == 130


def test_garbage_a_flood_and_one_that_never_reads_cannot_hurt(tmp_path: Path, server: tuple[str, ...]) -> None:
    with begun(tmp_path, server) as session:
        place = str(socket_of(tmp_path / "runner.db", 1))
        ends = [socket.socket(socket.AF_UNIX) for _ in range(80)]
        for end in ends:
            end.connect(place)
        # garbage, a frame that is too large, a flood of what is no request
        ends[77].sendall(b"GET / HTTP/1.1\r\n\r\n" * 1_000)
        ends[78].sendall(b"\xff\xff\xff\xff")
        ends[79].settimeout(0.2)
        # it is cut off, or not read any more
        with suppress(OSError):
            while True:
                ends[79].sendall(b"\x05\0\0\0\x00\x00\x00\x00\x00" * 10_000)
        before = count(tmp_path / "runner.db", where="status = 'done'")
        session.until(lambda: count(tmp_path / "runner.db", where="status = 'done'") > before + 20, "more answers")
        assert run("stop", cwd=tmp_path).code == 0
        for end in ends:
            end.close()
        ended = session.ended()
    assert_clean(ended)


def test_those_who_watch_keep_nobody_out_who_steers(tmp_path: Path, server: tuple[str, ...]) -> None:
    frame = encode(Ask(number=1, request=Watch()))
    with begun(tmp_path, server) as session:
        place = str(socket_of(tmp_path / "runner.db", 1))
        ends = list[socket.socket]()
        for _ in range(MOST_GUESTS):
            ends.append(end := socket.socket(socket.AF_UNIX))
            end.connect(place)
            end.sendall(len(frame).to_bytes(4, "little") + frame)
            end.settimeout(60)
            told = b""
            # that it watches, or may not
            while b"watch" not in told:
                told += end.recv(1 << 16)
        late = run("attach", cwd=tmp_path)
        assert f"{MOST_WATCHERS} watch this session already" in late.err
        assert run("stop", cwd=tmp_path).code == 0
        for end in ends:
            end.close()
        ended = session.ended()
    assert_clean(ended)


def test_bad_values_and_several_runs_are_one_sentence(tmp_path: Path, server: tuple[str, ...]) -> None:
    for words, what in {
        ("set",): "name a limit",
        ("set", "--rpm", "x"): "rpm must be a number",
        ("set", "--concurrency", "auto"): "concurrency must be a number here",
        ("cancel",): "Missing argument",
    }.items():
        ended = run(*words, cwd=tmp_path)
        assert (ended.code, what in ended.err) == (2, True), ended
    with begun(tmp_path, server) as one, runner("run", "prompts.jsonl", *server, "--new", cwd=tmp_path) as two:
        two.until(
            lambda: count(tmp_path / "runner.db", "runs") == 2 and len(list(tmp_path.glob("*.sock"))) == 2, "the second run"
        )
        assert "several runs are running: 1, 2; name one by its number" in run("pause", cwd=tmp_path).err
        assert run("stop", "1", cwd=tmp_path).code == run("stop", "2", cwd=tmp_path).code == 0
        assert one.ended().code == two.ended().code == 130


def test_attach_shows_a_session_to_its_end(tmp_path: Path, server: tuple[str, ...]) -> None:
    with begun(tmp_path, server, rows_=60) as session:
        attached = run("attach", cwd=tmp_path)
        ended = session.ended()
    assert attached.code == ended.code == 0
    assert attached.out.startswith(f"run 1: {tmp_path / 'prompts.jsonl'}, 60 rows")
    # the same summary
    assert ended.out[ended.out.index("run 1 finished") :] == attached.out[attached.out.index("run 1 finished") :]
