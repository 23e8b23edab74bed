"""Pictures, PDFs and recordings of rows, end to end: what a server receives, what fails, and what is kept."""

import json
from base64 import b64encode
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from processes import Ended, assert_clean, count, piped, rows, run
from raw_server import RawServer, Received, Reply, anthropic_answer, in_thread, openai_answer, whole
from samples import FILES, PNG, TYPES, png, write_files

import runner
from runner.engine import sending

PNG_URI = f"data:image/png;base64,{b64encode(PNG).decode()}"
BUSY = whole("503 Service Unavailable", {"error": {"message": "busy"}})


class Shown:
    """A server that keeps what it was shown. refuse: how many requests it refuses first. then: called after each request."""

    def __init__(self) -> None:
        self.bodies: list[Any] = []
        self.refuse = 0
        self.then: Callable[[], object] = lambda: None

    def __call__(self, request: Received) -> Reply:
        self.bodies.append(request.json)
        self.then()
        if len(self.bodies) <= self.refuse:
            return BUSY
        return anthropic_answer("seen") if request.path.endswith("/messages") else openai_answer("seen")

    @property
    def parts(self) -> list[list[Any]]:
        """The contents of the last messages; texts go ahead of those with files, as these are looked at first."""
        return [body["messages"][-1]["content"] for body in self.bodies]


@pytest.fixture
def shown() -> Shown:
    return Shown()


@pytest.fixture
def address(shown: Shown) -> Iterator[str]:
    with in_thread(RawServer(shown)) as server:
        yield server.base_url


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    write_files(tmp_path / "media")
    return tmp_path


def write(folder: Path, *lines: dict[str, Any]) -> None:
    (folder / "p.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))


def asked(folder: Path, address: str, *options: str, file: str = "p.jsonl", env: dict[str, str] | None = None) -> Ended:
    command = ("run", file, "--model", "m", "--base-url", address, "--concurrency", "1", "--json")
    return run(*command, *options, cwd=folder, env=env)


@pytest.mark.parametrize("provider", ["openai", "anthropic"])
def test_the_server_gets_the_bytes_of_the_files(folder: Path, shown: Shown, address: str, provider: str) -> None:
    names = list(FILES) if provider == "openai" else [name for name in FILES if not TYPES[name].startswith("audio/")]
    write(folder, {"id": "a", "prompt": "what?", "files": [f"media/{name}" for name in names]}, {"id": "b", "prompt": "plain"})
    ended = asked(folder, address, "--provider", provider)
    assert ended.code == 0, ended
    plain, content = sorted(shown.parts, key=lambda parts: isinstance(parts, list))
    assert plain == "plain"
    assert content[-1] == {"type": "text", "text": "what?"}
    sent = json.dumps(content)
    assert [b64encode(FILES[name]).decode() in sent for name in names] == [True] * len(names)
    assert len(content) == len(names) + 1
    # what is kept and exported is the name
    exported = run("export", "1", "-o", "-", "--format", "jsonl", cwd=folder)
    first = json.loads(exported.out.splitlines()[0])
    assert (first["prompt"], first["files"]) == ("what?", [f"media/{name}" for name in names])
    store = (folder / "runner.db").read_bytes()
    assert b64encode(PNG)[:40] not in store


def test_a_table_with_a_column_of_paths_needs_no_rewriting(folder: Path, shown: Shown, address: str) -> None:
    (folder / "t.csv").write_text("image_path,question,images\nmedia/1.png,what is it?,3\n,and now?,4\n")
    ended = asked(folder, address, "--prompt", "{{ question }}", "--images", "image_path", file="t.csv")
    assert ended.code == 0, ended
    assert "and now?" in shown.parts
    assert [{"type": "image_url", "image_url": {"url": PNG_URI}}, {"type": "text", "text": "what is it?"}] in shown.parts
    # another column is another run, and one that no row has is refused before anything is sent
    ended = asked(folder, address, "--prompt", "{{ question }}", "--images", "image_pth", file="t.csv")
    assert (ended.code, len(shown.bodies)) == (2, 2)
    assert "no row of t.csv has the field 'image_pth' (--images); its first row has: image_path, question" in ended.err
    ended = asked(folder, address, "--prompt", "{{ question }}", file="t.csv")
    assert "there is no file 3 in" in rows(folder / "runner.db", "SELECT error FROM items WHERE run_id = 2")[0][0]
    ended = asked(folder, address, "--prompt", "{{ question }}", "--no-row-settings", "--new", file="t.csv")
    assert (ended.code, shown.parts[2:]) == (0, ["what is it?", "and now?"])


def test_a_missing_file_fails_its_row_and_nothing_is_sent_for_it(folder: Path, shown: Shown, address: str) -> None:
    write(folder, {"id": "a", "prompt": "a", "images": "late.png"}, {"id": "b", "prompt": "b", "images": "media/1.png"})
    checked = run("check", "p.jsonl", cwd=folder)
    assert "2 files named by rows" in checked.out
    assert "line 1: there is no file late.png in" in checked.out
    assert asked(folder, address).code == 1
    assert len(shown.bodies) == 1
    store = folder / "runner.db"
    assert rows(store, "SELECT key, status, error_code, attempts FROM items ORDER BY key") == [
        ("a", "failed", "attachment", 0),
        ("b", "done", None, 1),
    ]
    told = run("errors", cwd=folder)
    assert "1 x attachment" in told.out
    (folder / "late.png").write_bytes(FILES["2.jpg"])
    assert run("retry", "1", cwd=folder).code == 0
    assert rows(store, "SELECT count(*) FROM items WHERE status = 'done'") == [(2,)]
    assert shown.parts[1][0]["image_url"]["url"].startswith("data:image/jpeg;base64,")


def test_each_attempt_reads_the_file_and_a_changed_file_is_not_bought_again(folder: Path, shown: Shown, address: str) -> None:
    write(folder, {"id": "a", "prompt": "a", "images": "media/1.png"})
    shown.refuse = 1

    shown.then = lambda: (folder / "media" / "1.png").write_bytes(png(3, 3))
    assert asked(folder, address).code == 0
    first, second = shown.parts
    assert first[0]["image_url"]["url"] == PNG_URI
    assert second[0]["image_url"]["url"] == f"data:image/png;base64,{b64encode(png(3, 3)).decode()}"
    assert asked(folder, address).code == 0
    assert len(shown.bodies) == 2
    shown.then = lambda: None
    # the same picture under another name is a changed row
    (folder / "media" / "1.png").rename(folder / "media" / "new.png")
    write(folder, {"id": "a", "prompt": "a", "images": "media/new.png"})
    assert "1 finished row has changed since" in asked(folder, address).out
    assert len(shown.bodies) == 2
    assert asked(folder, address, "--accept-changes").code == 0
    assert len(shown.bodies) == 3


def test_a_learned_parameter_and_an_outline_of_the_request(folder: Path) -> None:
    write(folder, {"id": "a", "prompt": "a", "images": "media/1.png", "temperature": 0})
    bodies: list[Any] = []

    def answer(request: Received) -> Reply:
        bodies.append(request.json)
        refusal = {
            "error": {"message": "Unsupported parameter: 'temperature'", "param": "temperature", "code": "unsupported_parameter"}
        }
        return whole("400 Bad Request", refusal) if "temperature" in request.json else openai_answer()

    with in_thread(RawServer(answer)) as server:
        assert asked(folder, server.base_url).code == 0
    assert ["temperature" in body for body in bodies] == [True, False]
    assert [body["messages"][0]["content"][0]["image_url"]["url"] for body in bodies] == [PNG_URI] * 2


def test_files_count_by_their_tokens_in_a_limit_per_minute(folder: Path, shown: Shown, address: str) -> None:
    (folder / "big.png").write_bytes(png(800, 800))
    write(folder, *({"id": str(n), "prompt": "a", "images": "big.png"} for n in range(3)))
    # as text, one of them would be 600,000 tokens, and take six minutes of this limit
    assert asked(folder, address, "--tpm", "100k", "--max-tokens", "10").code == 0
    assert len(shown.bodies) == 3


def test_what_is_printed_is_what_is_sent_but_for_the_contents(folder: Path, shown: Shown, address: str) -> None:
    big = f"data:image/png;base64,{b64encode(png(30, 30)).decode()}"
    own = {"type": "image_url", "image_url": {"url": big, "detail": "low"}}
    write(
        folder,
        {"id": "a", "prompt": "a", "images": "media/1.png"},
        {"id": "b", "messages": [{"role": "user", "content": [own]}]},
        {"id": "c", "prompt": "c", "images": "../secret.png"},
    )
    printed = run("run", "p.jsonl", "--model", "m", "--base-url", address, "--dry-run", "3", cwd=folder)
    assert len(printed.out) < 1_000
    told = [json.loads(line) for line in printed.out.splitlines()]
    assert asked(folder, address).code == 1
    for dry, sent in zip(told, shown.bodies, strict=True):
        assert "characters of base64)" in dry["messages"][0]["content"][0]["image_url"]["url"]
        dry["messages"], sent["messages"] = [], []
        assert dry == sent
    assert "(the contents of its files are left out here)" in printed.err
    assert "line 3: ../secret.png is outside of" in printed.err
    # a file in the row itself is kept with the row, and the prompt is for people
    shown_row = run("show", "b", cwd=folder)
    assert_clean(shown_row)
    assert "characters of base64)" in shown_row.out
    assert big not in shown_row.out


def test_rows_of_standard_input_name_files_of_the_current_folder(folder: Path, shown: Shown, address: str) -> None:
    (folder / "elsewhere").mkdir()
    line = json.dumps({"prompt": "a", "images": "media/1.png"}).encode()
    command = ("run", "-", "--model", "m", "--base-url", address, "--db", "elsewhere/x.db")
    shown.refuse = 1
    stopped = piped(*command, "--attempts", "1", given=line, cwd=folder)
    assert stopped.code == 1
    assert run("retry", "--db", "x.db", cwd=folder / "elsewhere").code == 0
    assert [part[0]["image_url"]["url"] for part in shown.parts] == [PNG_URI] * 2


def test_a_job_file_that_names_the_server_does_not_get_the_files_beside_it(
    folder: Path, monkeypatch: pytest.MonkeyPatch, shown: Shown
) -> None:
    # not a loopback address, which needs no word; the proxy is where a request would go
    with in_thread(RawServer(shown)) as server:
        write(folder, {"id": "a", "prompt": "a", "images": "media/1.png"})
        (folder / "p.toml").write_text('base_url = "http://models.example/v1"\nmodel = "m"\n')
        env = {"HTTP_PROXY": server.origin, "XDG_CONFIG_HOME": str(folder / "configuration")}
        refused = run("run", "p.jsonl", cwd=folder, env=env)
        assert (refused.code, shown.bodies) == (2, [])
        assert f"p.toml wants to send the files in {folder} to http://models.example" in refused.err
        assert "--trust" in refused.err
        assert "--trust" in run("check", "p.jsonl", cwd=folder, env=env).out
        # in a message it is seen when the row is read; allowed once, it is remembered
        part = {"type": "image_url", "image_url": {"url": "media/1.png"}}
        write(folder, {"id": "a", "messages": [{"role": "user", "content": [part]}]})
        assert run("run", "p.jsonl", cwd=folder, env=env).code == 1
        (words,) = rows(folder / "runner.db", "SELECT error FROM items")[0]
        assert "--trust" in words
        shown.refuse = 1
        assert run("retry", "1", "--trust", "--attempts", "1", cwd=folder, env=env).code == 1
        assert run("retry", "1", cwd=folder, env=env).code == 0
        assert len(shown.bodies) == 2


def test_files_root_widens_what_may_be_sent(folder: Path, shown: Shown, address: str) -> None:
    (folder / "jobs").mkdir()
    write(folder / "jobs", {"id": "a", "prompt": "a", "images": "1.png"}, {"id": "b", "prompt": "b", "images": "/etc/hosts"})
    assert asked(folder, address, "--files-root", "media", file="jobs/p.jsonl").code == 1
    assert shown.parts[0][0]["image_url"]["url"] == PNG_URI
    assert count(folder / "runner.db", where="error LIKE '/etc/hosts is outside of%'") == 1
    ended = asked(folder, address, "--files-root", "nowhere", file="jobs/p.jsonl")
    assert ended.code == 2
    assert "which is no folder" in ended.err


def test_python_gives_files_too(folder: Path, shown: Shown, address: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder)
    # each takes all the room that there is for files, so each has to give it back
    monkeypatch.setattr(sending, "ROOM_BYTES", 1)
    shown.refuse = 1
    write(folder, *({"prompt": prompt, "photo": "1.png"} for prompt in "abc"))
    options = {"images": "photo", "files_root": "media", "concurrency": 2, "deadline": "2m"}
    assert runner.run("p.jsonl", model="m", base_url=address, **options).done == 3
    assert [part[0]["image_url"]["url"] for part in shown.parts] == [PNG_URI] * 4
    result = next(runner.results())
    assert (result.prompt, result.metadata) == ("a", {"photo": "1.png"})


def test_answers_about_files_of_this_computer_are_not_taken_over(folder: Path, shown: Shown, address: str) -> None:
    """The same name may be another picture by now; a URL and a data URI are part of the request."""
    images = ["media/1.png", "https://h/x.png", f"data:image/png;base64,{b64encode(png(3, 3)).decode()}"]
    (folder / "a.csv").write_text("id,photo\n" + "".join(f'{n},"{image}"\n' for n, image in enumerate(images)))
    asked(folder, address, "--prompt", "{{ photo[:0] }}see", "--images", "photo", file="a.csv")
    (folder / "b.csv").write_text((folder / "a.csv").read_text())
    # another template that makes the same requests
    other = asked(folder, address, "--prompt", "see{{ photo[:0] }}", "--images", "photo", "--reuse", file="b.csv")
    assert other.code == 0, other
    assert [body["messages"][0]["content"][0]["image_url"]["url"] for body in shown.bodies[3:]] == [PNG_URI]


@pytest.mark.anyio
async def test_asks_one_by_one_and_rows_in_memory_name_files_too(
    folder: Path, shown: Shown, address: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(folder)
    settings = {"model": "m", "base_url": address, "images": "photo"}
    async with runner.Session(name="asks", db="elsewhere.db", **settings) as session:
        result = await session.ask({"prompt": "a", "photo": "media/1.png"})
        assert (result.text, result.metadata) == ("seen", {"photo": "media/1.png"})
        gone = await session.ask({"prompt": "a", "photo": "media/none.png"})
        assert gone.error_code == "attachment"
    rows_in_memory = [{"prompt": "b", "photo": Path("media/1.png")}, {"prompt": "c", "photo": PNG}]
    assert (await runner.arun(rows_in_memory, db="elsewhere.db", **settings)).done == 2
    assert [part[0]["image_url"]["url"] for part in shown.parts] == [PNG_URI] * 3


def test_one_row_is_tried_with_its_files(folder: Path, shown: Shown, address: str) -> None:
    write(folder, {"prompt": "a", "images": "media/1.png"}, {"prompt": "b", "images": "none.png"})
    command = ("try", "p.jsonl", "--model", "m", "--base-url", address)
    assert run(*command, cwd=folder).out == "seen\n"
    assert shown.parts[0][0]["image_url"]["url"] == PNG_URI
    ended = run(*command, "--row", "2", cwd=folder)
    assert (ended.code, len(shown.bodies)) == (1, 1)
    assert "there is no file none.png" in ended.err
