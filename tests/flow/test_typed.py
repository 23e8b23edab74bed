"""What people type: it works, or the answer names what does."""

import gzip
import json
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
from processes import Simulated, at, count, environment, rows, run, simulator, write_prompts

from runner.store import database
from runner.version import __version__


@pytest.mark.parametrize("name", ["prompts.jsonl", "./prompts.jsonl", "job.toml"])
def test_a_file_stands_for_its_newest_run(folder: Path, server: Simulated, name: str) -> None:
    (folder / "job.toml").write_text('input = "prompts.jsonl"\n')
    write_prompts(folder / "other.jsonl", range(3))
    assert run(*at(server, "--limit", "4"), cwd=folder).code == 0
    assert run(*at(server, "--limit", "2", "--new"), cwd=folder).code == 0
    assert run("run", "other.jsonl", "--model", "m", "--base-url", server.openai, cwd=folder).code == 0
    assert "run 2:" in run("status", name, cwd=folder).out
    assert "run 2 has no failed rows" in run("errors", name, cwd=folder).out
    assert "run 2: 2 of 10 rows written to a.csv" in run("export", name, "-o", "a.csv", cwd=folder).out
    assert run("resume", name, cwd=folder).code == 0
    assert rows(folder / "runner.db", "SELECT run_id, count(*) FROM items GROUP BY 1") == [(1, 4), (2, 10), (3, 3)]
    # the older one is still open
    assert run("resume", name, cwd=folder).code == 0
    assert count(folder / "runner.db", "items", "run_id = 1") == 10
    assert run("retry", name, cwd=folder).code == 0


def test_a_link_that_leads_elsewhere_now_stands_for_no_run(folder: Path, server: Simulated) -> None:
    write_prompts(folder / "day 2.jsonl", range(10, 13))
    (folder / "latest.jsonl").symlink_to("prompts.jsonl")
    where = ("--model", "m", "--base-url", server.openai)
    assert run("run", "latest.jsonl", *where, cwd=folder).code == 0
    for name in ("latest.jsonl", "prompts.jsonl"):
        assert run("status", name, cwd=folder).out.startswith("run 1:")
    (folder / "latest.jsonl").unlink()
    (folder / "latest.jsonl").symlink_to("day 2.jsonl")
    for command in (("status",), ("export", "-o", "a.csv"), ("resume",), ("retry",), ("errors",)):
        ended = run(command[0], "latest.jsonl", *command[1:], cwd=folder)
        assert (ended.code, ended.out) == (2, "")
        assert f"run 1 read {folder}/prompts.jsonl by the name latest.jsonl, which leads to {folder}/day 2.jsonl now" in ended.err
        ended = run(command[0], "day 2.jsonl", *command[1:], cwd=folder)
        assert (ended.code, ended.out, (folder / "a.csv").exists()) == (2, "", False)
    assert run("status", "prompts.jsonl", cwd=folder).out.startswith("run 1:")
    assert run("run", "latest.jsonl", *where, cwd=folder).code == 0
    for name in ("latest.jsonl", "day 2.jsonl"):
        assert run("status", name, cwd=folder).out.startswith("run 2:")
    assert run("export", "prompts.jsonl", "-o", "a.csv", cwd=folder).out == "run 1: 10 of 10 rows written to a.csv\n"


@pytest.mark.parametrize("name", ["a b.jsonl", "$(touch oops).jsonl", "-x.jsonl", "it's.jsonl"])
def test_a_file_in_an_advised_command_is_quoted(folder: Path, server: Simulated, name: str) -> None:
    (folder / "prompts.jsonl").rename(folder / name)
    write_prompts(folder / "other.jsonl", range(3))
    assert run("run", "other.jsonl", "--model", "m", "--base-url", server.openai, "--db", "other.db", cwd=folder).code == 0
    told = run("status", "--db", "other.db", "--", name, cwd=folder).err
    (said,) = re.findall("`(runner run .*?)` starts one", told)
    typed = [shlex.split(said)[1:]]
    assert typed[0][2:] == ["--db", "other.db"]
    if not name.startswith("-"):
        typed += [shlex.split(words)[1:] for words in re.findall("`(runner run .*)`", run(name, cwd=folder).err)]
        assert len(typed) == 2
    for words in typed:
        ended = run(*words[:2], "--model", "m", "--base-url", server.openai, "--db", "new.db", cwd=folder)
        assert (ended.code, count(folder / "new.db")) == (0, 10)


def test_a_name_of_another_locale_blocks_no_other_file(folder: Path, server: Simulated) -> None:
    where = ("--model", "m", "--base-url", server.openai, "-q")
    write_prompts(folder / "\xfc.jsonl", range(20, 23))
    assert run("run", "\xfc.jsonl", *where, cwd=folder).code == 0
    ascii_only = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
    assert run("run", "prompts.jsonl", *where, cwd=folder, env=ascii_only).code == 0
    shown = run("status", "prompts.jsonl", cwd=folder, env=ascii_only)
    assert (shown.code, shown.out.split(":")[0]) == (0, "run 2")
    refused = run("run", "\xfc.jsonl", *where, cwd=folder, env=ascii_only)
    assert (refused.code, "this locale has no UTF-8" in refused.err, "LC_ALL=C.UTF-8" in refused.err) == (2, True, True)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("run", "-x.jsonl", "--provider", "simulator"), "./-x.jsonl"),
        (("--db", "x.db", "run", "prompts.jsonl"), "Options go behind the command: `runner run FILE --db ...`."),
        (("run", "prompts.jsonl", "other.jsonl"), "there is no file other.jsonl"),
        (("check", "prompts.jsonl", "other.jsonl"), "there is no file other.jsonl"),
        (("delete", "prompts.jsonl"), "no run of runner.db has the name 'prompts.jsonl'; `runner list` shows the runs"),
        (("delete", "all"), "no run of runner.db has the name 'all'; `runner list` shows the runs"),
        (("delete", "./p.jsonl"), "'./p.jsonl' is neither the number nor the name of a run; `runner list` shows both"),
    ],
)
def test_what_cannot_be_meant_so_is_told_how_it_can(folder: Path, arguments: tuple[str, ...], words: str) -> None:
    (folder / "-x.jsonl").write_bytes((folder / "prompts.jsonl").read_bytes())
    database.prepare(folder / "runner.db", create=True)
    ended = run(*arguments, cwd=folder)
    assert (ended.code, ended.out) == (2, "")
    assert words in ended.err.splitlines()[-1]


def test_a_gzip_file_that_is_cut_off_is_told_what_to_do(folder: Path) -> None:
    (folder / "cut.jsonl.gz").write_bytes(gzip.compress((folder / "prompts.jsonl").read_bytes())[:60])
    ended = run("check", "cut.jsonl.gz", cwd=folder)
    assert (ended.code, ended.err.count("\n"), "copy it again" in ended.err) == (2, 1, True)


@pytest.mark.parametrize("command", ["run", "check"])
@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("/dev/zero", "may never end"),
        ("", "is empty"),
        ("a" * 300, "cannot be read: File name too long"),
        ("loop.jsonl", "cannot be read: Too many levels of symbolic links"),
    ],
    ids=["device", "empty", "long", "loop"],
)
def test_a_name_that_no_prompt_file_can_have(folder: Path, command: str, name: str, words: str) -> None:
    (folder / "loop.jsonl").symlink_to("loop.jsonl")
    before = sorted(folder.iterdir())
    ended = run(command, name, "--provider", "simulator", cwd=folder)
    assert (ended.code, ended.out, ended.err.count("\n")) == (2, "", 1)
    assert words in ended.err
    assert sorted(folder.iterdir()) == before


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("resume", "nothing.jsonl"), ("RUN is the number or the name of a run", "nothing.jsonl")),
        (("status", "1a"), ("RUN is the number or the name of a run", "runner list")),
        (("resume", "new.jsonl"), ("no run over new.jsonl", "runner run new.jsonl")),
        (("export",), ("runner export -o answers.csv",)),
        (("export", "a.csv", "b.csv"), ("runner export -o a.csv -o b.csv",)),
        (("export", "-o", "a.csv", "-o", "b.csv", "--as", "csv"), ("--format is given once for 2 outputs",)),
        (("export", "1", "2", "-o", "a.csv"), ("one run at a time",)),
    ],
)
def test_what_is_no_run_is_told_what_is(
    folder: Path, server: Simulated, arguments: tuple[str, ...], words: tuple[str, ...]
) -> None:
    write_prompts(folder / "new.jsonl", range(2))
    assert run(*at(server), cwd=folder).code == 0
    ended = run(*arguments, cwd=folder)
    assert (ended.code, ended.out, ended.err.count("\n")) == (2, "", 1)
    for word in words:
        assert word in ended.err


@pytest.mark.parametrize(
    "arguments", [("answers.csv",), ("1", "answers.csv"), ("answers.csv", "1"), ("prompts.jsonl", "answers.csv")]
)
def test_an_export_takes_its_file_as_an_argument_too(folder: Path, server: Simulated, arguments: tuple[str, ...]) -> None:
    assert run(*at(server), cwd=folder).code == 0
    before = (folder / "prompts.jsonl").read_bytes()
    ended = run("export", *arguments, cwd=folder)
    assert (ended.code, ended.out, ended.err) == (0, "run 1: 10 of 10 rows written to answers.csv\n", "")
    assert (folder / "prompts.jsonl").read_bytes() == before


def test_an_export_after_a_mistaken_run_names_the_older_one(folder: Path, server: Simulated) -> None:
    assert run(*at(server), cwd=folder).code == 0
    assert run(*at(server, "--temperature", "1", "--limit", "2"), cwd=folder).code == 0
    ended = run("export", "-o", "answers.csv", cwd=folder)
    first, second = ended.out.splitlines()
    assert first == "run 2: 2 of 10 rows written to answers.csv"
    assert "run 1 of the same file has more finished rows (10, this one 2)" in second
    command = second.partition("`runner ")[2].rstrip("`").split()
    assert run(*command, cwd=folder).out == "run 1: 10 of 10 rows written to answers.csv\n"
    # on standard output there is the export and nothing else
    piped = run("export", "-o", "-", "--format", "jsonl", cwd=folder)
    assert [json.loads(line)["status"] for line in piped.out.splitlines()] == ["done"] * 2
    assert "2 of 10 rows written to standard output" in piped.err
    assert "run 1 of the same file" in piped.err
    assert run("export", "-o", "-", "--quiet", cwd=folder).err == ""


def test_the_older_run_over_the_same_rows_is_named_wherever_they_were(folder: Path, server: Simulated) -> None:
    assert run(*at(server), cwd=folder).code == 0
    (folder / "moved.jsonl").symlink_to((folder / "prompts.jsonl").rename(folder / "prompts moved.jsonl"))
    where = ("--model", "m", "--base-url", server.openai)
    assert run("run", "moved.jsonl", *where, "--temperature", "1", "--limit", "2", cwd=folder).code == 0
    assert "run 1 of the same file has more finished rows (10, this one 2)" in run("export", "a.csv", cwd=folder).out


def test_an_older_run_over_other_rows_is_not_named(folder: Path, server: Simulated) -> None:
    assert run(*at(server), cwd=folder).code == 0
    write_prompts(folder / "prompts.jsonl", range(20, 23))
    assert run(*at(server), cwd=folder).code == 0
    assert run("export", "a.csv", cwd=folder).out == "run 2: 3 of 3 rows written to a.csv\n"


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("stat",), "`runner status`"),
        (("exprot",), "`runner export`"),
        (("lst",), "`runner list`"),
        (("start", "prompts.jsonl"), "runner run FILE"),
        (("validate",), "runner check FILE"),
        (("results",), "runner export"),
        (("prompts.jsonl",), "`runner run prompts.jsonl`"),
        (("xyzzy",), "runner --help"),
        (("resume", "--dry-run"), "`runner check FILE`"),
        (("resume", "--limit", "3"), "`runner run FILE --limit N`"),
        (("status", "--follow"), "`runner status --watch`"),
        (("run", "prompts.jsonl", "--provider", "simulator", "-o", "-"), "`runner export -o -`"),
        (("run", "prompts.jsonl", "--api-key", "x"), "--api-key-env"),
        (("run", "prompts.jsonl", "--threads", "8"), "--concurrency"),
        (("run", "prompts.jsonl", "--concurency", "8"), "--concurrency"),
        (("rm", "1"), "runner delete RUN"),
        (("remove", "1"), "runner delete RUN"),
        (("logs",), "runner status"),
        (("new", "prompts.jsonl"), "runner init FILE"),
        (("ask", "Why?"), "runner try PROMPT"),
        (("abort",), "runner stop"),
        (("check", "prompts.jsonl", "--yes"), "nothing is asked"),
        (("run", "prompts.jsonl", "--force"), "a new run, which sends all rows again"),
        (("export", "-f", "csv"), "--format"),
        (("-V",), "`runner --version`"),
    ],
)
def test_the_answer_names_what_does_it(folder: Path, arguments: tuple[str, ...], words: str) -> None:
    ended = run(*arguments, cwd=folder)
    assert (ended.code, ended.out) == (2, "")
    assert words in ended.err


@pytest.mark.parametrize("arguments", [("rm", "1"), ("remove", "1"), ("run", "prompts.jsonl", "--yes"), ("export", "--force")])
def test_nothing_that_costs_is_proposed_for_what_does_not(folder: Path, arguments: tuple[str, ...]) -> None:
    said = run(*arguments, cwd=folder).err
    for proposed in ("runner resume", "runner retry", "--new", "Did you mean"):
        assert proposed not in said


@pytest.mark.parametrize("words", [("version",), ("--version",)])
def test_the_version(folder: Path, words: tuple[str, ...]) -> None:
    assert run(*words, cwd=folder).out == f"runner, version {__version__}\n"


def test_help_and_the_list_have_other_names(folder: Path, server: Simulated) -> None:
    assert run("help", cwd=folder).out == run("--help", cwd=folder).out
    assert run("help", "export", cwd=folder).out == run("export", "--help", cwd=folder).out
    assert run("help", "exprot", cwd=folder).code == 2
    assert run(*at(server), cwd=folder).code == 0
    assert run("ls", cwd=folder).out == run("runs", cwd=folder).out == run("list", cwd=folder).out != ""


@pytest.mark.parametrize(
    ("options", "env", "expected"),
    [
        (("--tpm", "100k", "--rpm", "1.5K", "--max-tokens", "2k"), {}, {"tpm": 100_000.0, "rpm": 1500.0, "max_tokens": 2000}),
        (("--input-tpm", "2M", "--max-concurrency", "1k"), {}, {"input_tpm": 2_000_000.0, "max_concurrency": 1000}),
        ((), {"RUNNER_TPM": "1G", "RUNNER_CONCURRENCY": "1k"}, {"tpm": 1e9, "concurrency": 1000}),
        (("--deadline", "02:00:00"), {}, {"deadline": 7200.0}),
        (("--deadline", "1-00:00:30", "--silence-s", "2m"), {}, {"deadline": 86_430.0, "timeouts.silence_s": 120.0}),
        ((), {"RUNNER_DEADLINE": "90m", "RUNNER_ATTEMPT_S": "00:10:00"}, {"deadline": 5400.0, "timeouts.attempt_s": 600.0}),
        (("--ok-failed", "2%"), {}, {"ok_failed": "2%"}),
        ((), {"RUNNER_OK_FAILED": "1k"}, {"ok_failed": 1000}),
    ],
)
def test_numbers_and_times_as_people_write_them(
    folder: Path, options: tuple[str, ...], env: dict[str, str], expected: dict[str, object]
) -> None:
    # the job file is weaker, and may be written so too
    (folder / "prompts.toml").write_text('tpm = "3k"\ndeadline = "00:00:09"\nok_failed = "7%"\n')
    shown = run("run", "prompts.jsonl", "--model", "m", "--show-config", "--json", *options, cwd=folder, env=env)
    settings = {key: setting["value"] for key, setting in json.loads(shown.out)["settings"].items()}
    known = {"tpm": 3000.0, "deadline": 9.0, "ok_failed": "7%", **expected}
    assert {key: settings.get(key, settings.get(f"params.{key}")) for key in known} == known


WRONG = """--tpm 100x, --tpm k, --max-tokens 1.5, --max-tokens 0.5k5, --temperature 1k, --seed 1k, --deadline 2:00,
    --deadline soon,
    --ok-failed some, --ok-failed 101%, --ok-failed 1.5, --limit 0, --limit x"""


@pytest.mark.parametrize("options", [tuple(option.split()) for option in WRONG.split(",")], ids=" ".join)
def test_what_is_no_number_is_refused_in_one_sentence(folder: Path, options: tuple[str, ...]) -> None:
    ended = run("run", "prompts.jsonl", "--provider", "simulator", *options, cwd=folder)
    assert (ended.code, ended.out) == (2, "")
    assert options[1] in ended.err
    assert not (folder / "runner.db").exists()


def test_the_simulator_and_the_limit_take_such_numbers_too(folder: Path) -> None:
    with simulator("--tpm", "100k", "--rpm", "1k", "--first-token-s", "0", "--chunk-s", "0ms", "--tokens", "0.01k") as server:
        assert run(*at(server, "--limit", "0.003k"), cwd=folder).code == 0
        assert server.sent() == 3


def test_help_loads_nothing_heavy(folder: Path) -> None:
    code = (
        "import sys; sys.argv = ['runner', '--help']\n"
        "import runner.cli.main as main\n"
        "try: main.main()\n"
        "except SystemExit: pass\n"
        "heavy = {'anyio', 'asyncio', 'msgspec', 'sqlalchemy', 'tqdm', 'aiohttp', 'httpx', 'difflib', 'runner.durations'}\n"
        "print(sorted(heavy & set(sys.modules)), file=sys.stderr)\n"
    )
    ended = subprocess.run(
        [sys.executable, "-c", code], cwd=folder, env=environment(), capture_output=True, text=True, check=True
    )
    assert ended.stderr == "[]\n"
