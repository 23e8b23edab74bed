"""The files of docs/guides/plugins.md run as they stand: from the current folder, and as an installed package."""

import json
import os
import re
import site
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest
from clusters import real_runner
from processes import Ended, Started, assert_clean, environment, installed
from raw_server import RawServer, Received, Reply, in_thread, sse, stream, whole

import runner

GUIDE = Path(__file__).parents[2] / "docs" / "guides" / "plugins.md"
MARKED = re.compile(r"^<!-- file: (\S+) -->\n```\w+\n(.*?)^```$", re.MULTILINE | re.DOTALL)
FILES = dict(MARKED.findall(GUIDE.read_text(encoding="utf-8")))
KEY = {"MURMUR_API_KEY": "sk-murmur-secret-1"}
POEM = "Shall I compare thee\nto a summer's day?\n\n\nThou art more lovely.\n"


def murmur(request: Received) -> Reply:
    """The made-up API: it echoes the last message, and does as that says."""
    if request.headers.get("authorization") != "Bearer sk-murmur-secret-1":
        return whole("401 Unauthorized", {"error": {"type": "authentication_error", "message": "who is there?"}})
    asked = request.json["messages"][-1]["content"]
    if asked == "shout":
        return whole("400 Bad Request", {"error": {"message": "no shouting, sk-murmur-secret-1"}})
    if asked == "stumble":
        return stream(
            sse({"text": "Well"}, "piece"), sse({"error": {"type": "invalid_request_error", "message": "lost"}}, "error")
        )
    if asked == "at once":
        return whole("200 OK", {"text": "At once.", "reason": "stop", "heard": 2, "spoken": 2})
    pieces = [sse({"text": piece}, "piece") for piece in ("You said: ", asked, f" ({request.json['limit']})")]
    return stream(*pieces, sse({"heard": 9, "spoken": 4, "reason": "stop"}, "end"), sse({"text": "!"}, "piece"))


@pytest.fixture
def server() -> Iterator[RawServer]:
    with in_thread(RawServer(murmur)) as serving:
        yield serving


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A person's folder: the three modules and a prompt file."""
    folder = tmp_path / "mine"
    folder.mkdir()
    for name, text in FILES.items():
        (folder / name).write_text(text, encoding="utf-8")
    prompts = ["hush", "shout", "stumble", "at once"]
    lines = (json.dumps({"id": f"row-{n}", "prompt": prompt}) for n, prompt in enumerate(prompts, 1))
    (folder / "prompts.jsonl").write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
    return folder


def command(*arguments: str, cwd: Path) -> Ended:
    """Run the command ``runner``, which does not put the current folder on the search path, to its end."""
    with installed(*arguments, cwd=cwd, env=KEY) as process:
        ended = process.ended()
    assert_clean(ended)
    return ended


def test_the_guide_holds_the_files_of_which_it_speaks() -> None:
    assert list(FILES) == ["murmur.py", "paragraphs.py", "transcript.py", "through.py", "pyproject.toml"]


def test_provider_and_export_format_from_the_current_folder(folder: Path, server: RawServer) -> None:
    settings = ("--provider", "murmur", "--base-url", server.base_url, "--model", "soft", "--max-tokens", "7")
    ended = command("run", "prompts.jsonl", *settings, "--system", "gently", cwd=folder)
    assert ended.code == 1, ended
    first = server.requests[0]
    assert (first.method, first.path) == ("POST", "/v1/murmurs")
    assert {"voice": "soft", "manner": "gently", "limit": 7}.items() <= first.json.items()
    found = [
        (one.status, one.text, one.finish_reason, one.error_code, one.input_tokens, one.output_tokens)
        for one in runner.results(db=folder / "runner.db")
    ]
    assert found == [
        ("done", "You said: hush (7)", "stop", None, 9, 4),
        ("failed", None, None, "bad_request", None, None),
        ("failed", None, None, "bad_request", None, None),
        ("done", "At once.", "stop", None, 2, 2),
    ]
    exported = command("export", "-o", "answers.txt", "--format", "transcript", cwd=folder)
    assert (exported.code, exported.out) == (0, "run 1: 4 of 4 rows written to answers.txt\n")
    text = (folder / "answers.txt").read_text(encoding="utf-8")
    assert "## row-1\n\nYou said: hush (7)\n\n## row-2\n\n(bad_request) 400: no shouting, [redacted]\n\n" in text
    assert "## row-3\n\n(bad_request) 400 invalid_request_error inside the answer: lost\n\n" in text


def test_an_engine_from_the_current_folder(folder: Path, server: RawServer, tmp_path: Path) -> None:
    real_runner(tmp_path / "runner")
    settings = ("--provider", "murmur", "--base-url", server.base_url, "--model", "soft", "--max-tokens", "7")
    placed = ("--engine", "through", "--engine-option", "program=nice", "--workers", "2")
    path = {"PATH": f"{tmp_path}{os.pathsep}{os.environ['PATH']}"}
    with installed("run", "prompts.jsonl", *settings, *placed, cwd=folder, env={**KEY, **path}) as process:
        ended = process.ended()
    assert_clean(ended)
    assert ended.code == 1, ended
    assert [one.status for one in runner.results(db=folder / "runner.db")] == ["done", "failed", "failed", "done"]
    assert all(request.headers["authorization"] == f"Bearer {KEY['MURMUR_API_KEY']}" for request in server.requests)


def test_an_ending_imports_no_module_of_the_current_folder(folder: Path) -> None:
    """Or a file's name would decide which code is run."""
    (folder / "paragraphs.py").rename(folder / "para.py")
    (folder / "poem.para").write_text(POEM)
    checked = command("check", "poem.para", "--provider", "simulator", cwd=folder)
    assert checked.code == 2
    assert "poem.para begins with " in checked.err
    refused = command("export", "-o", "answers.transcript", cwd=folder)
    assert refused.code == 2
    assert "cannot tell the format" in refused.err


@pytest.fixture(scope="module")
def python(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A fresh environment with our own packages below it, into which the guide's package is installed."""
    place = tmp_path_factory.mktemp("package")
    (place / "source").mkdir()
    for name, text in FILES.items():
        (place / "source" / name).write_text(text, encoding="utf-8")
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", place / "env"], check=True, timeout=60)
    (packages,) = (place / "env").glob("lib/python*/site-packages")
    # not the path itself: an editable installation of runner is a .pth file, which only addsitedir reads
    lines = (f"import site; site.addsitedir({path!r})\n" for path in site.getsitepackages())
    (packages / "below.pth").write_text("".join(lines), encoding="utf-8")
    python = place / "env" / "bin" / "python"
    pip: Sequence[str | Path] = [sys.executable, "-m", "pip", "--python", python, "--quiet", "--disable-pip-version-check"]
    done = subprocess.run([*pip, "install", "--no-deps", place / "source"], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    return python


def test_all_three_from_an_installed_package(python: Path, tmp_path: Path, server: RawServer) -> None:
    (tmp_path / "poem.para").write_text(POEM, encoding="utf-8")

    def command(*arguments: str) -> Ended:
        with Started([str(python), "-m", "runner", *arguments], cwd=tmp_path, env=environment(KEY)) as process:
            ended = process.ended()
        assert_clean(ended)
        return ended

    checked = command("check", "poem.para", "--model", "soft", "--provider", "murmur", "--json")
    assert checked.code == 0, checked
    assert json.loads(checked.out)["rows"] == 2
    settings = ("--provider", "murmur", "--base-url", server.base_url, "--model", "soft", "--max-tokens", "7")
    assert command("run", "poem.para", *settings).code == 0
    assert command("export", "-o", "poem.transcript").code == 0
    text = (tmp_path / "poem.transcript").read_text(encoding="utf-8")
    assert text.count("## row-") == 2
    assert "\n\nYou said: Shall I compare thee\nto a summer's day? (7)\n\n" in text
    assert command("export", "-o", "-", "--format", "transcript").out == text
    assert command("run", "poem.para", "--provider", "simulator", "--new", "--max-tokens", "3").code == 0
    unknown = command("export", "-o", "poem.odt")
    assert (unknown.code, unknown.err.count("\n")) == (2, 1)
    assert "; choose csv, jsonl, md, messages, openai-batch, parquet, sqlite, transcript or xlsx with --format" in unknown.err


def test_a_broken_paragraph_a_packed_file_and_what_is_appended(python: Path, tmp_path: Path) -> None:
    code = """
import gzip, sys
from pathlib import Path
from runner.config import plugins
read = plugins.registered("inputs", "para").read
path = Path("a.para")
path.write_bytes(b"\\n one\\nmore\\n \\n\\xff\\n\\nthree\\n")
size = path.stat().st_size
print([(row.line, row.fields and row.fields["prompt"], row.fault) for row in read(path)])
rows = read(path, limit_bytes=size)
path.open("ab").write(b"\\nfour\\n")
print(len(list(rows)), len(list(read(path, limit_bytes=size))), len(list(read(path))))
Path("a.para.gz").write_bytes(gzip.compress(path.read_bytes()))
print(len(list(read(Path("a.para.gz")))))
try:
    read(Path("missing.para"))
except Exception as error:
    print(type(error).__name__, error)
"""
    done = subprocess.run([python, "-c", code], cwd=tmp_path, capture_output=True, text=True, timeout=60)
    assert done.stderr == ""
    first, *others = done.stdout.splitlines()
    assert first == str([(2, "one\nmore", None), (5, None, "not UTF-8"), (7, "three", None)])
    assert others == ["3 3 4", "4", "UsageError missing.para cannot be read: No such file or directory"]
