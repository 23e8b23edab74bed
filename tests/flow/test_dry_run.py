"""``runner run --dry-run N``: the requests as they would be sent, and nothing is sent."""

import json
from pathlib import Path

import pytest
from processes import assert_clean, piped, run
from raw_server import RawServer, Received, in_thread, whole

PARTS = [{"type": "text", "text": "be short", "cache_control": {"type": "ephemeral"}}, {"type": "text", "text": "and kind"}]
ROWS = [
    {"id": "a", "prompt": "one", "temperature": 0.5},
    {"id": "b", "messages": [{"role": "system", "content": "be short"}, {"role": "user", "content": "zwei \u202e"}]},
    {"id": "c"},
    {"id": "d", "prompt": "four"},
    {"id": "e", "messages": [{"role": "system", "content": PARTS}, {"role": "user", "content": "five"}]},
]


@pytest.mark.parametrize("provider", ["openai", "anthropic"])
@pytest.mark.parametrize("stream", ["--stream", "--no-stream"])
def test_what_is_printed_is_what_is_sent(tmp_path: Path, provider: str, stream: str) -> None:
    (tmp_path / "p.jsonl").write_text("".join(json.dumps(row) + "\n" for row in ROWS))
    bodies: list[bytes] = []

    def answer(request: Received) -> bytes:
        bodies.append(request.body)
        return whole("422 Unprocessable Entity", {"error": {"message": "no"}})

    with in_thread(RawServer(answer)) as server:
        command = (
            "run",
            "p.jsonl",
            "--provider",
            provider,
            "--base-url",
            server.base_url,
            "--model",
            "m",
            "--max-tokens",
            "9",
            stream,
        )
        told = run(*command, "--dry-run", "9", cwd=tmp_path)
        assert bodies == []
        assert not list(tmp_path.glob("*.db"))
        run(*command, "--concurrency", "1", cwd=tmp_path)
    # each line is the body itself; what a terminal would obey is an escape
    assert [json.loads(line) for line in told.out.splitlines()] == [json.loads(body) for body in bodies]
    assert len(bodies) == 4
    last = json.loads(bodies[-1])
    assert (last["system"] if provider == "anthropic" else last["messages"][0]["content"]) == PARTS
    assert "\u202e" not in told.out
    assert told.code == 1
    lines = told.err.splitlines()
    assert [line.partition(": ")[0] for line in lines] == ["line 1", "line 2", "not sent", "line 4", "line 5"]
    assert lines[0] == f"line 1: POST {server.base_url}/{'messages' if provider == 'anthropic' else 'chat/completions'}, not sent"
    assert lines[2].startswith("not sent: line 3: ")


def test_one_row_without_a_number_no_key_and_as_json(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text("id,town,lang\nx,Rome,it\ny,Bonn,de\n")
    command = ("run", "t.csv", "--prompt", "Where is {{ town }}?", "--model", "m")
    ended = run(*command, "--dry-run", cwd=tmp_path)
    assert (ended.code, len(ended.out.splitlines())) == (0, 1)
    ended = run(*command, "--where", "lang == 'de'", "--dry-run", "5", "--json", cwd=tmp_path)
    assert_clean(ended)
    (told,) = map(json.loads, ended.out.splitlines())
    assert (told["line"], told["url"]) == (3, "https://api.openai.com/v1/chat/completions")
    assert told["body"]["messages"] == [{"role": "user", "content": "Where is Bonn?"}]
    options = ("--input-format", "csv", "--limit", "1", "--dry-run", "5")
    read = piped("run", "-", *command[2:], *options, given=b"town\nRome\nBonn\n", cwd=tmp_path)
    assert json.loads(read.out)["messages"][0]["content"] == "Where is Rome?"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["t.csv"]


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("--prompt", "{{ town }}"), "no model is set"),
        (("--prompt", "{{ town }}", "--model", "m", "--where", "town == 'Paris'"), "no row for which"),
        (("--prompt", "{{ town }}", "--model", "m", "--provider", "nobody"), "nobody"),
        (
            ("--prompt", "{{ town }}", "--model", "m", "--columns", "nope"),
            "--columns names the field 'nope', which no row of t.csv",
        ),
        (("--prompt", "{{ nope }}", "--model", "m"), "the template names the field 'nope', which no row of t.csv has"),
        (("--prompt", "{town}", "--model", "m"), "{{ town }} stands for the field, {town} for itself"),
        (("--prompt", "{{ town }}", "--show-config"), "--show-config and --dry-run exclude each other"),
    ],
)
def test_what_cannot_be_run_is_one_sentence(tmp_path: Path, options: tuple[str, ...], words: str) -> None:
    (tmp_path / "t.csv").write_text("town\nRome\n")
    ended = run("run", "t.csv", *options, "--dry-run", "1", cwd=tmp_path)
    assert ended.code == 2
    assert ended.out == ""
    assert words in ended.err
    assert len(ended.err.splitlines()) == 1


def test_a_key_in_the_address_is_not_printed(tmp_path: Path) -> None:
    (tmp_path / "p.jsonl").write_text('{"prompt": "one"}\n')
    (tmp_path / "p.toml").write_text('model = "m"\n[query]\nkey = "${MY_KEY}"\n[headers]\nX-Key = "${MY_KEY}"\n')
    command = ("run", "p.jsonl", "--base-url", "http://127.0.0.1:9/v1?a=b", "--trust", "--dry-run")
    ended = run(*command, cwd=tmp_path, env={"MY_KEY": "sk-very-secret"})
    assert ended.code == 0, ended
    assert ended.err == "line 1: POST http://127.0.0.1:9/v1/chat/completions, not sent\n"
    assert "sk-very-secret" not in ended.out + ended.err
