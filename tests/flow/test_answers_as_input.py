"""``run:12`` as an input: the answered rows of a run with their own fields and their answers, for a judge or a next step."""

import json
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from desk import Asked, Desk
from processes import count, run, runner
from raw_server import HANG, RawServer, Reply, in_thread, openai_answer, whole

import runner as package
from runner.errors import UsageError
from runner.event_types import Started

FAULTY = whole("400 Bad Request", {"error": {"message": "too odd", "type": "invalid_request_error"}})
JUDGE = "Right? {{ text }} = {{ answer }}"


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[Desk]:
    """A folder with a table of six rows, and a server that echoes."""
    asked = Asked()
    with in_thread(RawServer(asked)) as server:
        desk = Desk(tmp_path, server, asked)
        write(desk, 6)
        yield desk


def write(desk: Desk, rows: int, **more: Any) -> None:
    lines = [{"id": f"r{number}", "text": f"text {number}", **more} for number in range(rows)]
    desk.prompts.write_text("".join(f"{json.dumps(line)}\n" for line in lines))


def ask(desk: Desk, source: str | Path, prompt: str | None = "Say {{ text }}", **more: Any) -> package.Summary:
    given = {"model": "m", "base_url": desk.server.base_url, **more}
    return package.run(source, db=desk.store, prompt=prompt, **given)


def judged(number: int) -> str:
    return f"Right? text {number} = echo Say text {number}"


def refused(desk: Desk, *arguments: str) -> str:
    ended = run(*arguments, cwd=desk.folder)
    assert (ended.code, ended.out, ended.err.count("\n")) == (2, "", 1), ended
    return ended.err


def command(desk: Desk, source: str, *more: str) -> tuple[str, ...]:
    return ("run", source, "--prompt", JUDGE, "--model", "m", "--base-url", desk.server.base_url, *more)


def test_the_answers_of_a_run_are_judged_and_joined_by_id(desk: Desk) -> None:
    ask(desk, desk.prompts)
    said = desk.run(command=command(desk, "run:1", "-o", "judged.jsonl"))
    assert "run 2: the answers of run 1, 6 rows" in said
    assert desk.asked == dict.fromkeys([*(f"Say text {n}" for n in range(6)), *map(judged, range(6))], 1)
    lines = [json.loads(line) for line in (desk.folder / "judged.jsonl").read_text().splitlines()]
    assert [(one["id"], one["input_text"], one["answer"], one["line"]) for one in lines] == [
        (f"r{n}", f"text {n}", f"echo Say text {n}", n + 1) for n in range(6)
    ]
    assert "file" not in lines[0]
    assert "the answers of run 1" in desk.run(command=("list",))
    assert "run 2 is finished and run 1 has not changed: nothing is sent" in desk.run(command=command(desk, "run:1"))
    desk.run(command=("resume", "2"))
    (desk.folder / "judge.toml").write_text(f'input = "run:1"\nprompt = "{JUDGE}"\nmodel = "m"\n')
    assert "nothing is sent" in desk.run(command=("run", "judge.toml", "--base-url", desk.server.base_url))
    assert desk.asked.total() == 12
    # a chain: both answers are there
    ended = ask(desk, "run:2", "{{ id }}: {{ answer_2 }}, {{ answer }}", where="id == 'r3'")
    assert (ended.rows, desk.asked[f"r3: echo Say text 3, echo {judged(3)}"]) == (1, 1)


def test_what_is_not_answered_yet_comes_later_and_what_failed_is_left_out(desk: Desk) -> None:
    desk.asked.refused = {"Say text 1": FAULTY}
    ask(desk, desk.prompts, limit=3)
    said = desk.run(command=command(desk, "run:1"))
    assert "run 1 is not finished: 2 of 6 rows are answered so far" in said
    assert "1 failed row of run 1 is left out" in said
    assert "run 2 finished: 2 done" in said
    desk.asked.refused = {}
    ask(desk, desk.prompts)
    package.retry(1, db=desk.store)
    said = desk.run(command=("resume", "2"))
    assert "is not finished" not in said
    assert "left out" not in said
    assert "run 2 finished: 6 done" in said
    assert [one.id for one in package.results(2, db=desk.store)] == [f"r{n}" for n in range(6)]
    assert all(desk.asked[judged(n)] == 1 for n in range(6))


def test_it_reads_while_the_other_run_goes_on(desk: Desk) -> None:
    desk.asked.refused = {"Say text 4": Reply((HANG,))}
    first = ("run", "prompts.jsonl", "--prompt", "Say {{ text }}", "--model", "m", "--base-url", desk.server.base_url)
    with runner(*first, "--concurrency", "1", cwd=desk.folder) as process:
        process.until(lambda: desk.store.exists() and count(desk.store) == 4, "four answers")
        assert ask(desk, "run:1", JUDGE).done == 4
        process.signal(signal.SIGKILL)
        process.ended()
    desk.asked.refused = {}
    package.resume(1, db=desk.store)
    assert ask(desk, "run:1", JUDGE).done_now == 2
    assert all(desk.asked[judged(n)] == 1 for n in range(6))


def test_what_its_rows_set_was_for_their_own_requests(desk: Desk) -> None:
    lines = [{"id": n, "prompt": f"p{n}", "model": "theirs", "params": {"temperature": 2}, "answer": "known"} for n in (1, 2)]
    desk.prompts.write_text("".join(f"{json.dumps(line)}\n" for line in lines))
    ask(desk, desk.prompts, None)
    ended = run("run", "run:1", "--prompt", "{{ answer }} {{ answer_2 }}", "--model", "judge", "--dry-run", cwd=desk.folder)
    body = json.loads(ended.out)
    assert (body["model"], body["messages"][0]["content"], "temperature" in body) == ("judge", "echo p1 known", False)
    said = desk.run(command=("run", "run:1", "--prompt", "{{ answer_2 }}!", "--model", "m", "--base-url", desk.server.base_url))
    assert "the rows of run 1 have a field answer of their own, which is called answer_2 here" in said
    assert [one.metadata["answer_2"] for one in package.results(2, db=desk.store)] == ["known", "known"]
    assert [one.id for one in package.results(2, db=desk.store)] == [1, 2]
    # without a template, the same prompts go to another model
    assert ask(desk, "run:1", None, model="other").done == 2
    assert desk.asked["p1"] == 2


def test_rows_without_ids_and_rows_that_were_not_kept(desk: Desk) -> None:
    desk.prompts.write_text('{"prompt": "same"}\n{"prompt": "same"}\n')
    ask(desk, desk.prompts, None, keep_rows=False)
    keys = [str(one.id) for one in package.results(1, db=desk.store)]
    with pytest.raises(UsageError, match=r"run 1 has no column prompt; its columns: id, answer"):
        ask(desk, "run:1", None)
    said = desk.run(command=("run", "run:1", "--prompt", "{{ answer }}", "--model", "m", "--base-url", desk.server.base_url))
    assert "run 1 has not kept what its rows asked (keep_rows = false)" in said
    assert [one.id for one in package.results(2, db=desk.store)] == keys
    with pytest.raises(UsageError, match="names the field 'prompt', which no row of run 1 has; its fields: id, answer"):
        ask(desk, "run:1", "{{ prompt }}")


def test_the_places_of_its_files_come_along(desk: Desk) -> None:
    for name in ("a", "b"):
        (desk.folder / f"{name}.csv").write_text(f"id,text\n{name}1,x\n{name}2,y\n")
    ask(desk, [desk.folder / "a.csv", desk.folder / "b.csv"])  # type: ignore[arg-type]
    ask(desk, "run:1", JUDGE)
    assert [(one.id, one.file, one.line) for one in package.results(2, db=desk.store)][1:3] == [
        ("a2", "a.csv", 3),
        ("b1", "b.csv", 2),
    ]
    assert "(run 1, b.csv, line 3," not in (said := desk.run(command=("check", "run:1", "--prompt", JUDGE, "--model", "m")))
    assert "first request (run 1, a.csv, line 2," in said


def test_what_is_no_run_to_read_is_one_sentence(desk: Desk) -> None:
    assert "there is no store at" in refused(desk, *command(desk, "run:1"))
    desk.asked.refused = {f"Say text {n}": FAULTY for n in range(6)}
    ask(desk, desk.prompts)
    assert "run 1 has no answers yet" in refused(desk, *command(desk, "run:1"))
    desk.asked.refused = {}
    package.retry(1, db=desk.store)
    for name in ("run:", "run:1,2", "run:a b", "run:" + 30 * "9"):
        assert "names no run; an input of answers is run: and the number or the name of a run" in refused(
            desk, *command(desk, name)
        ), name
    assert "there is no run 2 in" in refused(desk, *command(desk, "run:2"))
    assert "there is no run 0 in" in refused(desk, *command(desk, "run:0"))
    # a file of that name is a file
    (desk.folder / "run:1").write_text('{"prompt": "file"}\n')
    assert package.check(desk.folder / "run:1").rows == 1
    assert json.loads(run("check", "./run:1", "--json", cwd=desk.folder).out)["rows"] == 1


def test_no_run_reads_itself_whatever_happens_to_its_file(desk: Desk) -> None:
    ask(desk, desk.prompts)
    desk.prompts.unlink()
    # the same settings and the same rows: without the rule this would continue run 1
    assert ask(desk, "run:1").run == 2
    assert [run.input for run in package.runs(db=desk.store)] == [str(desk.prompts), "run:1"]
    assert ask(desk, "run:2").run == 3
    desk.prompts.write_text("".join(f'{{"id": "r{n}", "text": "text {n}"}}\n' for n in range(6)))
    assert ask(desk, desk.prompts).run == 1


def test_a_program_that_deletes_such_a_run_is_warned(desk: Desk) -> None:
    ask(desk, desk.prompts)
    ask(desk, "run:1", JUDGE, limit=2)
    words = r"run 2 reads the answers of run 1: without them it cannot be continued; its results stay"
    # warnings are errors here, so nothing is deleted
    with pytest.raises(UserWarning, match=words):
        package.delete([1], db=desk.store)
    with pytest.raises(package.UsageError, match="run 9"):
        package.delete([1, 9], db=desk.store)
    assert [run.id for run in package.runs(db=desk.store)] == [1, 2]
    with pytest.warns(UserWarning, match=words) as told:
        package.delete([1], db=desk.store)
    assert [Path(warning.filename).name for warning in told] == [Path(__file__).name]
    package.delete([2], db=desk.store)
    assert package.runs(db=desk.store) == []


def test_a_run_that_another_one_reads_is_deleted_with_a_word(desk: Desk) -> None:
    ask(desk, desk.prompts)
    ask(desk, "run:1", JUDGE, limit=2)
    ended = run("delete", "1", "--yes", cwd=desk.folder)
    assert "run 2 reads the answers of run 1: without them it cannot be continued; its results stay" in ended.err
    for again in ("resume", "retry"):
        assert "run 2 reads the answers of run 1, which was deleted; `runner export 2 -o answers.csv`" in refused(
            desk, again, "2"
        )
    assert "there is no run 1 in" in refused(desk, *command(desk, "run:1"))
    assert len(list(package.results(2, db=desk.store))) == 2


def test_a_job_file_that_somebody_sent_asks_before_answers_leave(desk: Desk) -> None:
    ask(desk, desk.prompts)
    (desk.folder / "sent.toml").write_text(
        'input = "run:1"\nmodel = "m"\nprompt = "{{ answer }}"\nbase_url = "http://192.0.2.1/v1"\n'
    )
    assert "sent.toml wants to send the answers of run:1 to http://192.0.2.1" in refused(desk, "run", "sent.toml")
    (desk.folder / "sent.toml").write_text('input = ["../*side/prompts.jsonl"]\nmodel = "m"\nbase_url = "http://192.0.2.1/v1"\n')
    (desk.folder.parent / "aside").mkdir()
    (desk.folder.parent / "aside" / "prompts.jsonl").write_text('{"prompt": "secret"}\n')
    assert "wants to send the file" in refused(desk, "run", "sent.toml")


def test_the_fields_of_answers_with_a_schema_are_fields_of_the_rows(desk: Desk) -> None:
    """A field of the row that has such a name keeps another one; the answer is there as a whole too."""
    write(desk, 3, answer_mood="own")
    answer = '{"mood": "good", "number": 7, "tags": ["a"]}'
    desk.asked.refused = {f"Say text {n}": openai_answer(answer) for n in range(3)}
    ask(desk, desk.prompts, fields="mood: good|bad, number: int, tags: list[str]", schema_mode="none")
    prompt = "{{ answer_mood }} {{ answer_answer_number }} {{ answer_tags[0] }} {{ answer_mood_2 }} {{ answer }}"
    notes = list[str]()

    def observe(event: object) -> None:
        notes.extend(event.notes if isinstance(event, Started) else [])

    ended = ask(desk, "run:1", prompt, where="answer_answer_number == 7 and id != 'r2'", observe=observe)
    assert (ended.done, ended.rows) == (2, 2)
    assert desk.asked[f"good 7 a own {answer}"] == 2
    assert any("have a field answer_mood of their own, which is called answer_mood_2 here" in note for note in notes)
