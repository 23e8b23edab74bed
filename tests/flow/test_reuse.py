"""``--reuse``: a new run takes over what earlier runs have answered to the very same requests, and sends the rest."""

import base64
import csv
import json
import signal
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import anyio
import pytest
from desk import Asked, Desk
from processes import count, rows, run
from processes import runner as started
from raw_server import RawServer, Received, Reply, in_thread, openai_answer, whole

import runner
from runner.config.job import load_job
from runner.engine.stop import Stop
from runner.event_types import Event, Started
from runner.inputs.options import ReadOptions
from runner.session import prepare, reuse
from runner.session.opening import open_input
from runner.session.options import SessionOptions
from runner.store.checkpoint import RunStore
from runner.store.reuse import TakenOver, take_over

TEMPLATE = "Hello {{ name }}{% if lang == 'de' %}, antworte kruz{% endif %}"
MENDED = TEMPLATE.replace("kruz", "kurz")
REFUSED = whole("400 Bad Request", {"error": {"message": "too odd", "type": "invalid_request_error"}})
PNG = base64.b64decode("iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg==")
PEOPLE = [{"name": name, "lang": "de" if name == "Dora" else "en"} for name in ("Anna", "Bert", "Carl", "Dora")]
SLOW = """
    CREATE TRIGGER slow AFTER INSERT ON reused WHEN (SELECT count(*) FROM reused) = 1050 BEGIN
        SELECT count(*) FROM (WITH RECURSIVE c(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM c WHERE x < 1e9) SELECT x FROM c);
    END
"""


class Counting(Asked):
    """A server no two of whose answers are alike."""

    def __call__(self, request: Received) -> Reply:
        content = request.json["messages"][-1]["content"]
        prompt = content if isinstance(content, str) else json.dumps(content)
        self[prompt] += 1
        return self.refused.get(prompt) or openai_answer(f"{self.total()}: {prompt}")


class Bench(Desk):
    """A folder with a table of people, and what a session there has said."""

    said: tuple[str, ...] = ()

    def table(self, people: list[dict[str, Any]], name: str = "people.csv") -> str:
        with (self.folder / name).open("w", newline="") as file:
            writer = csv.DictWriter(file, list(people[0]))
            writer.writeheader()
            writer.writerows(people)
        return name

    def ask(self, name: str = "people.csv", **given: Any) -> runner.Summary:
        """Run a file of the folder in this process."""
        settings = {"model": "m", "base_url": self.server.base_url, "concurrency": 1, **given}
        if name.endswith(".csv"):
            settings.setdefault("prompt", TEMPLATE)
        return runner.run(self.folder / name, db=self.store, observe=self._observe, **settings)

    def _observe(self, event: Event) -> None:
        if isinstance(event, Started):
            self.said = event.notes

    def told(self) -> list[str]:
        """The sentences about answers that were taken over."""
        return [note for note in self.said if "taken over" in note]

    def results(self, run_id: int | None = None) -> list[runner.Result]:
        return list(runner.results(run_id, db=self.store))


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    """A table of four people, whom a run has asked."""
    asked = Counting()
    with in_thread(RawServer(asked)) as server:
        bench = Bench(tmp_path, server, asked)
        bench.table(PEOPLE)
        assert bench.ask().reused == 0
        yield bench


def test_a_mended_branch_of_a_template_sends_the_rows_of_that_branch(bench: Bench) -> None:
    end = bench.ask(prompt=MENDED)
    assert (end.done, end.reused, end.done_now, end.skipped, end.attempts_now) == (4, 3, 1, 3, 1)
    assert bench.told() == ["3 of 4 rows have the same request as in run 1: their answers are taken over (--new sends all rows)"]
    assert not any("sent again" in note for note in bench.said)
    assert bench.asked["Hello Dora, antworte kurz"] == 1
    assert bench.asked.total() == 5
    before, after = bench.results(1), bench.results(2)
    assert [one.text for one in after[:3]] == [one.text for one in before[:3]]
    assert [one.reused_from for one in after] == [1, 1, 1, None]
    assert [one.reused_from for one in before] == [None] * 4
    bought = (
        "served_model",
        "input_tokens",
        "output_tokens",
        "time_to_first_token_s",
        "duration_s",
        "prompt",
        "line",
        "metadata",
    )
    for name in bought:
        assert [getattr(one, name) for one in after[:3]] == [getattr(one, name) for one in before[:3]]
    # this run paid for one answer
    shown, books = runner.status(db=bench.store)
    assert (shown.done, shown.reused, books.attempts, [one.attempts for one in after]) == (4, 3, 1, [0, 0, 0, 1])
    assert [one.reused for one in runner.runs(db=bench.store)] == [0, 3]
    assert rows(bench.store, "SELECT attempts FROM spend WHERE run_id = 2") == [(1,)]
    # and it is finished
    again = bench.ask(prompt=MENDED)
    assert (again.run, again.attempts_now, again.reused, bench.asked.total()) == (2, 0, 0, 5)


def test_what_was_taken_over_is_marked_wherever_it_is_shown(bench: Bench) -> None:
    bench.ask(prompt=MENDED)
    key = bench.results()[0].id
    answers = bench.results()[0].text
    assert f"taken over from run 1, row {key}: " in bench.run(command=("show", str(key)))
    told = json.loads(bench.run(command=("show", str(key), "--json")))
    assert (told["taken_from"]["from_run"], told["attempts"], told["text"]) == (1, [], answers)
    assert "4 done (3 taken over from earlier runs), 0 failed" in bench.run(command=("status",))
    run("export", "-o", "answers.csv", cwd=bench.folder)
    with (bench.folder / "answers.csv").open(newline="") as file:
        assert [row["reused_from"] for row in csv.DictReader(file)] == ["1", "1", "1", ""]
    view = "SELECT text, served_model, prompt, template, reused_from FROM answers WHERE run_id = 2 AND key = ?"
    assert rows(bench.store, view, key) == [(answers, bench.results()[0].served_model, None, MENDED, 1)]


@pytest.mark.parametrize(
    "how", ["rows were mended", "a column was added", "the rows have ids now", "in another order", "as JSON"]
)
def test_rows_that_ask_the_same_in_another_file_are_not_bought_again(bench: Bench, how: str) -> None:
    people, name = [{**one} for one in PEOPLE], "fixed.csv"
    if how == "rows were mended":
        people[1]["name"] = "Berta"
    if how == "a column was added":
        people = [{**one, "born": 1900 + place} for place, one in enumerate(people)]
    if how == "the rows have ids now":
        people = [{"id": f"p{place}", **one} for place, one in enumerate(people)]
    if how == "in another order":
        people = [*people[::-1], {"name": "Emil", "lang": "en"}]
    if how == "as JSON":
        (bench.folder / "fixed.jsonl").write_text("".join(f"{json.dumps(one)}\n" for one in people[:3]))
        end = bench.ask("fixed.jsonl", prompt=TEMPLATE)
    else:
        end = bench.ask(bench.table(people, name))
    sent = {"rows were mended": 1, "in another order": 1}.get(how, 0)
    assert (end.run, end.failed, end.done_now, bench.asked.total()) == (2, 0, sent, 4 + sent)
    assert end.done == end.reused + sent
    for one in bench.results():
        assert str(one.text).endswith(
            f": Hello {one.metadata['name']}{', antworte kruz' if one.metadata['lang'] == 'de' else ''}"
        )
    assert bench.results()[0].metadata.keys() == people[0].keys() - {"id"}


def test_rows_with_prompts_of_their_own_are_taken_over_from_a_copy(bench: Bench) -> None:
    lines = [{"prompt": "one"}, {"messages": [{"role": "user", "content": "two"}]}, {"prompt": "3", "temperature": 0.5, "n": 1}]
    (bench.folder / "one.jsonl").write_text("".join(f"{json.dumps(line)}\n" for line in lines))
    bench.ask("one.jsonl")
    more = [*({**line, "n": 2} for line in lines), {"prompt": "3", "temperature": 0.7}, {"prompt": "3", "model": "other"}]
    (bench.folder / "two.jsonl").write_text("".join(f"{json.dumps(line)}\n" for line in more))
    end = bench.ask("two.jsonl")
    assert (end.reused, end.done_now, bench.asked["3"]) == (3, 2, 3)


@pytest.mark.parametrize(
    "given", [{"model": "n"}, {"max_tokens": 5}, {"temperature": 0}, {"system": "Be kind."}, {"extra_body": {"a": 1}}]
)
def test_another_request_is_another_answer(bench: Bench, given: dict[str, Any]) -> None:
    end = bench.ask(prompt=MENDED, **given)
    assert (end.reused, end.done_now, bench.told()) == (0, 4, [])


def test_another_address_is_another_answer(bench: Bench) -> None:
    with in_thread(RawServer(bench.asked)) as elsewhere:
        assert bench.ask(prompt=MENDED, base_url=elsewhere.base_url).reused == 0
        # a run that has moved has answers of both
        bench.ask(prompt=f"{TEMPLATE}!", limit=2)
        runner.resume(3, db=bench.store, base_url=elsewhere.base_url)
        assert [one.reused_from for one in bench.results(3)] == [None] * 4
        end = bench.ask(bench.table([*PEOPLE, PEOPLE[0]], "five.csv"), prompt=f"{TEMPLATE}!", base_url=elsewhere.base_url)
    assert (end.run, end.reused, end.done_now) == (4, 2, 3)
    assert [one.reused_from for one in bench.results(4)] == [None, None, 3, 3, None]


@pytest.mark.parametrize(
    ("given", "taken"),
    [({"reuse": False}, 0), ({"new": True}, 0), ({"new": True, "reuse": True}, 3)],
    ids=["--no-reuse", "--new", "--new --reuse"],
)
def test_whoever_wants_new_answers_gets_them(bench: Bench, given: dict[str, Any], taken: int) -> None:
    end = bench.ask(prompt=MENDED, limit=3, **given)
    assert (end.reused, bench.asked.total()) == (taken, 4 + 3 - taken)
    # nor does a later session of that run take answers over
    later = bench.ask(prompt=MENDED)
    assert (later.run, later.reused, later.done_now) == (end.run, 0, 1)


def test_a_job_file_says_so_once(bench: Bench) -> None:
    job, words = bench.folder / "people.toml", f'input = "people.csv"\nprompt = {json.dumps(MENDED)}\n'
    job.write_text(f"{words}reuse = false\n")
    assert bench.ask("people.toml").reused == 0
    job.write_text(f"{words}reuse = true\n")
    # the file says what is usual; --new is for this time
    assert bench.ask("people.toml", new=True).reused == 0


def test_behind_a_limit_the_next_session_goes_on(bench: Bench) -> None:
    first = bench.ask(prompt=MENDED, limit=2)
    assert (first.reused, first.done, first.left) == (2, 2, 2)
    second = bench.ask(prompt=MENDED)
    assert (second.run, second.reused, second.done_now, bench.asked.total()) == (first.run, 1, 1, 5)
    assert "continuing run 2" in bench.said


@pytest.mark.parametrize("part", [{"where": "name != 'Bert'"}, {"sample": 3, "sample_seed": 1}])
def test_who_tries_a_part_of_the_rows_first_does_not_pay_for_the_others_again(bench: Bench, part: dict[str, Any]) -> None:
    first = bench.ask(prompt=MENDED, **part)
    second = bench.ask(prompt=MENDED)
    assert (second.run, first.rows, first.done, second.done) == (first.run, 3, 3, 4)
    assert first.reused + second.reused == 3
    assert bench.asked.total() == 5


@pytest.mark.parametrize("named", ["{{ id }}", "{{ row.id }}", "{{ row }}"])
@pytest.mark.parametrize("given", [{}, {"keep_rows": False}])
def test_an_id_that_is_a_float_is_taken_over_and_shown_as_it_was_sent(bench: Bench, named: str, given: dict[str, Any]) -> None:
    people = [{"id": float(place), "name": one["name"]} for place, one in enumerate(PEOPLE, 1)]
    path = bench.folder / "floats.jsonl"
    path.write_text("".join(json.dumps(one) + "\n" for one in people))
    prompt = f"Who is {named}?"
    bench.ask(prompt=f"{prompt}{{% if false %}}!{{% endif %}}", name=path.name, **given)
    asked = [one for one in bench.asked if one.startswith("Who is")]
    assert "1.0" in asked[0]
    if not given:
        assert [one.prompt for one in bench.results()] == asked
    end = bench.ask(prompt=prompt, name=path.name, **given)
    assert (end.reused, end.done_now) == (4, 0)
    assert [one.id for one in bench.results()] == [1, 2, 3, 4]
    answers = open_input(Path(f"run:{end.run}"), ReadOptions(asked=frozenset({"id"})), bench.store)
    assert [str((row.fields or {})["id"]) for row in answers.read()] == ["1", "2", "3", "4"]


def test_rows_that_are_added_later_are_sent(bench: Bench) -> None:
    bench.ask(prompt=MENDED, limit=None)
    bench.ask(bench.table([{"name": "Emil", "lang": "en"}], "late.csv"))
    bench.table([*PEOPLE, {"name": "Emil", "lang": "en"}])
    end = bench.ask(prompt=MENDED)
    assert (end.run, end.reused, end.done_now) == (2, 0, 1)


def test_one_answer_is_taken_over_by_one_row(bench: Bench) -> None:
    twice = bench.table([PEOPLE[0], PEOPLE[0]], "twice.csv")
    assert (bench.ask(twice).reused, bench.asked["Hello Anna"]) == (1, 2)
    texts = {one.text for one in bench.results()}
    assert len(texts) == 2
    # both are found in run 2, and run 1 has one of them too
    end = bench.ask(bench.table([{**PEOPLE[0], "n": n} for n in range(3)], "three.csv"))
    assert (end.reused, end.done_now, bench.asked["Hello Anna"]) == (2, 1, 3)
    assert len({one.text for one in bench.results()}) == 3
    assert [one.reused_from for one in bench.results()] == [1, 2, None]


def test_an_answer_that_a_row_has_taken_is_taken_by_no_other_in_a_later_session(bench: Bench) -> None:
    twice = bench.table([PEOPLE[0], PEOPLE[0]], "twice.csv")
    assert bench.ask(twice, limit=1, prompt=MENDED).reused == 1
    assert (bench.ask(twice, prompt=MENDED).reused, bench.asked["Hello Anna"]) == (0, 2)


def test_a_row_takes_the_answer_of_its_own_id(bench: Bench) -> None:
    same = [{"id": f"p{place}", "name": "Zoe", "lang": "en"} for place in range(3)]
    bench.ask(bench.table(same, "zoe.csv"))
    end = bench.ask(bench.table(same[::-1], "eoz.csv"), prompt=MENDED)
    assert end.reused == 3
    assert {one.id: one.text for one in bench.results(2)} == {one.id: one.text for one in bench.results(3)}


def test_a_failed_row_has_no_answer(bench: Bench) -> None:
    bench.asked.refused = {"Hello Zoe": REFUSED}
    people = [PEOPLE[0], {"name": "Zoe", "lang": "en"}]
    bench.ask(bench.table(people, "zoe.csv"))
    bench.asked.refused = {}
    end = bench.ask(bench.table([*people, {"name": "New", "lang": "en"}], "again.csv"), prompt=MENDED)
    assert (end.reused, end.done_now, end.failed) == (1, 2, 0)


def test_an_answer_that_this_run_would_not_count_is_none(bench: Bench) -> None:
    end = bench.ask(prompt=MENDED, finish_fail="stop")
    assert (end.reused, end.failed_now) == (0, 4)


def test_answers_of_a_retry_have_its_settings(bench: Bench) -> None:
    bench.asked.refused = {"Hello Zoe": REFUSED}
    people = [{"name": name, "lang": "en"} for name in ("Yves", "Zoe")]
    bench.ask(bench.table(people, "zoe.csv"))
    bench.asked.refused = {}
    runner.retry(2, db=bench.store, max_tokens=7)
    assert [one.status for one in bench.results(2)] == ["done", "done"]
    assert bench.ask("zoe.csv", prompt=MENDED).reused == 1
    # the answer of the retry belongs to these settings, and to no others
    end = bench.ask("zoe.csv", prompt=MENDED, max_tokens=7)
    assert (end.reused, [one.reused_from for one in bench.results()]) == (1, [None, 2])
    # settings that nobody can read any more are those of no request
    with closing(sqlite3.connect(bench.store)) as connection:
        connection.execute("UPDATE variants SET settings = '{'")
        connection.commit()
    (bench.folder / "yx.csv").write_text("name,lang,n\nYves,en,1\nZoe,en,1\n")
    runner.delete([3, 4], db=bench.store)
    assert [bench.ask("yx.csv", prompt=MENDED).reused, *(one.reused_from for one in bench.results())] == [1, 2, None]


@pytest.mark.parametrize("given", [{"keep_rows": False}, {"columns": "n"}])
def test_a_row_that_is_not_stored_whole_cannot_be_compared(bench: Bench, given: dict[str, Any]) -> None:
    line = json.dumps({"prompt": "one", "temperature": 0.5, "n": 1})
    (bench.folder / "one.jsonl").write_text(line)
    bench.ask("one.jsonl", **given)
    # the same prompt without the temperature must not get that answer
    (bench.folder / "two.jsonl").write_text('{"prompt": "one", "n": 2}\n' + line.replace("1}", "2}"))
    end = bench.ask("two.jsonl")
    assert (end.reused, end.done_now) == (0, 2)


def test_a_row_with_a_picture_is_sent(bench: Bench) -> None:
    """The file may have been another one then."""
    (bench.folder / "a.png").write_bytes(PNG)
    line = {"prompt": "one", "images": "a.png"}
    (bench.folder / "one.jsonl").write_text(json.dumps(line))
    bench.ask("one.jsonl")
    (bench.folder / "a.png").write_bytes(PNG + b"another")
    (bench.folder / "two.jsonl").write_text(json.dumps({**line, "n": 2}) + '\n{"prompt": "one"}')
    end = bench.ask("two.jsonl")
    assert (end.reused, end.done_now, end.failed) == (0, 2, 0)


def test_what_a_changed_row_had_answered_before_is_gone(bench: Bench) -> None:
    changed = [{"id": "p", "name": "Zoe", "lang": "en"}]
    bench.ask(bench.table(changed, "zoe.csv"))
    changed[0]["name"] = "Yves"
    assert bench.ask(bench.table(changed, "zoe.csv"), accept_changes=True).done_now == 1
    both = [{"name": name, "lang": "en"} for name in ("Zoe", "Yves")]
    end = bench.ask(bench.table(both, "both.csv"), prompt=MENDED)
    assert [one.reused_from for one in bench.results(end.run)] == [None, 2]
    # a row that has taken over an answer is the run's own once it was sent
    both[1]["name"] = "Xaver"
    people = [{"id": place, **one} for place, one in enumerate(both)]
    bench.ask(bench.table(people, "ids.csv"))
    people[0]["name"] = "Wim"
    bench.ask(bench.table(people, "ids.csv"), accept_changes=True)
    assert ([one.reused_from for one in bench.results()], runner.status(db=bench.store)[0].reused) == ([None, None], 0)
    # and whoever takes that over has it from this run
    bought = bench.results()[0]
    bench.ask(bench.table([{"name": "Wim", "lang": "en"}], "wim.csv"), prompt=MENDED)
    assert [(one.text, one.reused_from) for one in bench.results()] == [(bought.text, runner.runs(db=bench.store)[-2].id)]


def test_what_was_taken_over_outlives_the_run_that_bought_it(bench: Bench) -> None:
    bench.ask(prompt=MENDED)
    before = bench.results(2)
    runner.delete([1], db=bench.store, vacuum=True)
    assert bench.results(2) == before
    # and the copy is taken over in its turn
    end = bench.ask(bench.table(PEOPLE, "copy.csv"), prompt=TEMPLATE)
    assert (end.reused, [one.reused_from for one in bench.results()]) == (3, [1, 1, 1, None])
    assert [one.output_tokens for one in bench.results()[:3]] == [one.output_tokens for one in before[:3]]
    runner.delete([2], db=bench.store)
    assert count(bench.store, "reused", "run_id = 2") == 0


def test_fields_that_a_template_names_anew_are_compared_by_the_request(bench: Bench) -> None:
    """Its fingerprints are others then, and so are the keys of rows that have ids now."""
    bench.table([{"id": one["name"], **one} for one in PEOPLE], "ids.csv")
    end = bench.ask("ids.csv", prompt="Hello {{ row['name'] }}{% if row['lang'] == 'de' %}, antworte kruz{% endif %}")
    assert (end.reused, end.done_now) == (4, 0)


def test_the_id_of_a_row_may_be_part_of_its_request(bench: Bench) -> None:
    ids = bench.table([{"id": "a", "n": 1}, {"id": "b", "n": 2}], "ids.csv")
    bench.ask(ids, prompt="{{ id }}{% if n == '2' %} tow{% endif %}")
    assert bench.ask(ids, prompt="{{ id }}{% if n == '2' %} two{% endif %}").reused == 1
    # the key that a row without one gets is none
    bench.ask(prompt="{{ id | default(name) }}")
    assert bench.ask(prompt="{{ id | default(name) }}{# mended #}").reused == len(PEOPLE)


def test_a_damaged_row_of_an_earlier_run_is_passed_over(bench: Bench) -> None:
    with closing(sqlite3.connect(bench.store)) as connection:
        connection.execute("UPDATE items SET metadata = '{\"name\": ' WHERE position = 2")
        connection.execute('UPDATE items SET metadata = \'{"name": "Carl"}\' WHERE position = 3')
        connection.commit()
    end = bench.ask(prompt=MENDED)
    assert (end.reused, end.done_now) == (1, 3)


class Looked(Stop):
    """No stop, but who looks whether there is one, which is between two steps of the comparison, has edited the file."""

    def __init__(self, edit: Callable[[], object]) -> None:
        super().__init__()
        self._edit = edit

    @property
    def requested(self) -> bool:
        self._edit()
        return False


def test_a_row_that_is_edited_while_it_is_compared_takes_over_nothing(bench: Bench) -> None:
    """Its old answer would stand beside another question."""
    people = [{"id": place, **one} for place, one in enumerate(PEOPLE)]
    bench.ask(bench.table(people, "ids.csv"), prompt=TEMPLATE, reuse=False)
    asked = {"model": "m", "base_url": bench.server.base_url, "prompt": MENDED}
    edited = [{**people[0], "name": "Anka"}, *people[1:]]

    async def taken_over() -> int:
        plan = await prepare.prepare(load_job(bench.folder / "ids.csv", asked), bench.store, SessionOptions())
        assert isinstance(plan, prepare.Plan)
        async with RunStore.own(bench.store, plan.run.id) as store:
            stop = Looked(lambda: bench.table(edited, "ids.csv"))
            return sum((await reuse.take_over(plan, store, stop, lambda _: None)).values())

    assert anyio.run(taken_over) == 2
    assert [one.text.partition(": ")[2] for one in bench.results() if one.text] == ["Hello Bert", "Hello Carl"]


def test_rows_whose_settings_are_plain_data_are_taken_over(bench: Bench) -> None:
    cars = bench.table([{"name": "Anna", "lang": "en", "model": "Beetle"}], "cars.csv")
    bench.ask(cars, prompt="Hi {{ name }}", row_settings=False)
    assert bench.ask(cars, prompt="Hi {{ name }}{# mended #}", row_settings=False).reused == 1
    # as settings they ask another model
    assert bench.ask(cars, prompt="Hi {{ name }}{# again #}").reused == 0


def test_an_answer_is_copied_only_if_all_is_still_as_it_was_compared(bench: Bench) -> None:
    """The row has no answer of its own meanwhile, and another process has not had the earlier row answered anew."""
    bench.ask(prompt=MENDED)
    ((item, fingerprint),) = rows(bench.store, "SELECT id, fingerprint FROM items WHERE run_id = 1 AND position = 2")
    ((key, position),) = rows(bench.store, "SELECT key, position FROM items WHERE run_id = 2 AND attempt_id IS NOT NULL")
    before = bench.results()
    with closing(sqlite3.connect(bench.store)) as connection:
        answered = TakenOver(key, position, fingerprint, None, item, fingerprint, 1)
        replaced = TakenOver("another", 99, fingerprint, None, item, fingerprint + 1, 1)
        # numbers of deleted entries are given again, and the answer of another model may have it now
        deleted = TakenOver("third", 99, fingerprint, None, item, fingerprint, 7)
        assert take_over(connection, 2, [answered, replaced, deleted]) == [False] * 3
        assert take_over(connection, 2, [replaced._replace(item_fingerprint=fingerprint)]) == [True]
        connection.rollback()
    assert bench.results() == before


def test_a_stop_before_the_rows_were_compared_leaves_that_to_the_next_session(bench: Bench) -> None:
    stop = runner.StopHandle()
    stop.request()
    first = bench.ask(prompt=MENDED, stop=stop)
    assert (first.finished, first.reused, first.attempts_now) == (False, 0, 0)
    second = bench.ask(prompt=MENDED)
    assert (second.run, second.reused, second.done_now, bench.asked.total()) == (first.run, 3, 1, 5)


def test_a_kill_while_answers_are_taken_over_costs_nothing(bench: Bench) -> None:
    many = [{"name": f"n{place}", "lang": "de" if place == 40 else "en"} for place in range(1_100)]
    bench.ask(bench.table(many, "many.csv"), concurrency=64)
    with closing(sqlite3.connect(bench.store)) as connection:
        connection.execute(SLOW)
    command = ("run", "many.csv", "--model", "m", "--base-url", bench.server.base_url, "--prompt", MENDED)
    with started(*command, cwd=bench.folder) as process:
        process.until(lambda: count(bench.store, "reused") > 0, "answers that were taken over")
        process.signal(signal.SIGKILL)
        process.ended()
    taken = count(bench.store, "reused")
    assert 0 < taken < len(many) - 1
    with closing(sqlite3.connect(bench.store)) as connection:
        connection.execute("DROP TRIGGER slow")
    spent = bench.asked.total()
    end = bench.ask("many.csv", prompt=MENDED)
    assert (end.run, end.reused, end.done_now, bench.asked.total()) == (3, len(many) - 1 - taken, 1, spent + 1)
    before, after = bench.results(2), bench.results(3)
    assert [one.text for one in after if one.reused_from] == [one.text for one in before if one.metadata["lang"] == "en"]
    assert len({one.text for one in after}) == len(many)
