"""``runner init``: a job file for a file that was looked at. It says what is true, proposes what works, and replaces nothing."""

import csv
import gzip
import json
import re
import shlex
import tomllib
from pathlib import Path
from typing import Any

import openpyxl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from desk import Desk
from processes import piped, rows, run
from samples import write_files

from runner import api
from runner.cli.commands import cli
from runner.config.job import load_job
from runner.errors import UsageError
from runner.session import starting, survey

REVIEWS = [
    {"nr": f"r{one}", "text": f"It came on day {one}, and it works.", "lang": ["de", "fr"][one % 2]} for one in range(1, 8)
]
OFF = re.compile(r"^#(?=[a-z_]+ = )", re.MULTILINE)


def as_csv(path: Path, records: list[dict[str, Any]], **form: Any) -> None:
    with path.open("w", newline="", encoding=form.pop("encoding", "utf-8")) as file:
        writer = csv.DictWriter(file, list(records[0]), **form)
        writer.writeheader()
        writer.writerows(records)


def begun(path: Path, **given: Any) -> starting.Begun:
    """Write the job file of a file, and check that it can be read, whatever is turned on in it."""
    found = starting.begin(path, None, given)
    assert found.job_file is not None
    text = found.job_file.read_bytes().decode()
    assert text == found.text
    load_job(path, {}, {})
    load_job(found.job_file, {}, {})
    off = [match.start() for match in OFF.finditer(text)]
    assert len(off) > 15
    for one in off:
        found.job_file.write_bytes((text[:one] + text[one + 1 :]).encode())
        load_job(path, {}, {})
    found.job_file.write_bytes(OFF.sub("", text).encode())
    every = load_job(path, {}, {})
    assert every.params.max_tokens == 500
    found.job_file.write_bytes(text.encode())
    return found


def said(found: starting.Begun, name: str) -> Any:
    return tomllib.loads(found.text).get(name)


def test_from_a_table_to_its_answers(desk: Desk) -> None:
    as_csv(desk.folder / "reviews.csv", REVIEWS)
    ended = run("init", "reviews.csv", cwd=desk.folder)
    assert (ended.code, ended.err) == (0, "")
    first, *advised = ended.out.splitlines()
    assert first == "reviews.toml is written for 7 rows; its prompt asks about the column text"
    commands = [line.split(" ", 1)[1] for line in advised if line.startswith(("next: ", "also: "))]
    assert len(commands) == 3
    for command in commands:
        ended = run(*shlex.split(command)[1:], cwd=desk.folder)
        assert ended.code == 0, ended
    with (desk.folder / "answers.csv").open(newline="") as file:
        answers = list(csv.DictReader(file))
    assert [one["prompt"] for one in answers] == [f"Summarize: {one['text']}" for one in REVIEWS]
    assert [one["id"] for one in answers] == [one["nr"] for one in REVIEWS]
    # once a model is named, and a server, the file is all that is needed
    job_file = desk.folder / "reviews.toml"
    text = job_file.read_text().replace('#model = "gpt-5-mini"', 'model = "m"')
    job_file.write_text(text.replace('#base_url = "http://localhost:8000/v1"', f'base_url = "{desk.server.base_url}"'))
    assert run("run", "reviews.toml", cwd=desk.folder).code == 0
    assert sorted(desk.asked) == [f"Summarize: {one['text']}" for one in REVIEWS]


def test_what_it_says_of_the_file(tmp_path: Path) -> None:
    as_csv(tmp_path / "a.tsv", [{**one, "note": "", "url": "https://example.org/" + "x" * 90} for one in REVIEWS], delimiter="\t")
    found = begun(tmp_path / "a.tsv")
    lines = found.text.splitlines()
    size = (tmp_path / "a.tsv").stat().st_size
    assert f"# a.tsv: csv, separated by a tab, UTF-8, {size / 1000:.1f} kB, 7 rows" in lines
    at = lines.index("#   column   typical length   an example")
    assert lines[at + 1 : at + 5] == [
        "#   nr       2 characters     r1",
        "#   text     34 characters    It came on day 1, and it works.",
        "#   lang     2 characters     fr",
        "#   note     empty",
    ] or lines[at + 2].startswith("#   text     31 characters")
    # an address is longer, and nobody wants its summary
    assert said(found, "prompt") == "Summarize: {{ text }}"
    assert (said(found, "id_column"), said(found, "input"), said(found, "model")) == ("nr", "a.tsv", None)
    assert "#where = \"lang == 'fr'\"" in lines


@pytest.mark.parametrize(
    ("name", "content", "told"),
    [
        ("a.jsonl", b'{"id": "1", "prompt": "one"}\n{"id": "2", "prompt": "two"}\n', "a.jsonl: jsonl"),
        ("a.json", b'[{"messages": [{"role": "user", "content": "one"}]},\n "two"]', "a.json: json"),
        ("a.txt", "eins\nzw\xf6lf\n".encode("cp1252"), "a.txt: txt, cp1252"),
        ("a.jsonl.gz", gzip.compress(b'{"prompt": "one"}\n{"prompt": "two"}\n', mtime=0), "a.jsonl.gz: jsonl"),
        (
            "a.jsonl",
            (
                b'{"custom_id": "1", "body": {"messages": [{"role": "user", "content": "one"}], "temperature": 0}}\n'
                b'{"custom_id": "2", "body": {"messages": []}}\n'
            ),
            "a.jsonl: openai-batch",
        ),
    ],
)
def test_rows_with_prompts_of_their_own_need_no_template(tmp_path: Path, name: str, content: bytes, told: str) -> None:
    (tmp_path / name).write_bytes(content)
    found = begun(tmp_path / name)
    assert f"# {told}, {len(content)} bytes, 2 rows" in found.text.splitlines()
    assert (said(found, "prompt"), said(found, "id_column"), said(found, "row_settings")) == (None, None, None)
    assert found.job_file == tmp_path / "a.toml"


def test_parquet_and_sheets(tmp_path: Path) -> None:
    pq.write_table(pa.Table.from_pylist(REVIEWS), tmp_path / "a.parquet")
    assert said(begun(tmp_path / "a.parquet"), "id_column") == "nr"
    book = openpyxl.Workbook()
    for cells in (list(REVIEWS[0]), *(list(one.values()) for one in REVIEWS)):
        book.active.append(cells)
    book.save(tmp_path / "b.xlsx")
    found = begun(tmp_path / "b.xlsx", sheet="1")
    assert (said(found, "prompt"), said(found, "sheet")) == ("Summarize: {{ text }}", "1")


HOSTILE = [
    'a "quoted" name',
    "it's \\ back\\nslash",
    "two\nlines\r\n",
    "{{ braces }} {% if %}",
    "レビュー 本文",
    "three \"\"\" and '''",
    "a ]] = [x] # no comment",
    "not",
    "row",
    "range",
    "bell \x07 esc \x1b[31m del \x7f",
    "\u202e turned",
    "\U0001f600",
    "1st",
    " ",
]


@pytest.mark.parametrize("name", HOSTILE)
def test_names_and_cells_of_any_kind(tmp_path: Path, name: str) -> None:
    cells = ["say \"hi\" \\ and 'x'", "a\nb {{ text }} {% raw %}", "\x1b[31mred \u202e", "「長い文章です」" * 9]
    path = tmp_path / f'{name.replace("/", "")[:20]} "q".jsonl'
    texts = [f"{cell}, said number {number}" for number, cell in enumerate(cells)]
    path.write_text("".join(json.dumps({name: text, "n": 1}) + "\n" for text in texts))
    found = begun(path)
    assert found.survey.text == name
    # no control reaches an editor or a terminal, and no cell ends its comment
    assert found.text.replace("\n", "").isprintable()
    kinds = ("#", "input = ", "id_column = ", 'prompt = """', "Summarize: {{ ", "[params]")
    assert [line for line in found.text.splitlines() if line and not line.startswith(kinds)] == []
    unsent = api.dry_run(load_job(path, {"provider": "simulator"}, {}), 9)
    sent = [json.loads(one.body)["messages"][0]["content"] for one in unsent]
    assert sent == [f"Summarize: {text}" for text in texts]


def test_columns_of_the_same_name_and_without_one(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("text,text,\nx,a long enough text,1\ny,another long text,2\n")
    assert said(begun(tmp_path / "a.csv"), "prompt") == "Summarize: {{ text_2 }}"


def test_a_name_that_no_file_can_hold_is_not_asked_about(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_bytes(b"caf\xe9,b\na long enough text,short text\n")
    assert said(begun(tmp_path / "a.csv", encoding="ascii"), "prompt") == "Summarize: {{ b }}"


def test_columns_that_are_called_like_settings_are_data(desk: Desk) -> None:
    as_csv(desk.folder / "cars.csv", [{"model": "Golf", "seed": "x", "text": f"It goes {one}."} for one in range(3)])
    found = begun(desk.folder / "cars.csv")
    assert (said(found, "row_settings"), "true: model, seed of a row" in found.text) == (False, True)
    desk.run("--where", "text != 'It goes 1.'", command=("run", "cars.csv", *desk.command[2:]))
    assert sorted(desk.asked) == ["Summarize: It goes 0.", "Summarize: It goes 2."]
    # where each row has a prompt, they are what they are called
    (desk.folder / "b.jsonl").write_text('{"prompt": "one", "model": "m"}\n')
    assert said(begun(desk.folder / "b.jsonl"), "row_settings") is None


def test_ids(tmp_path: Path) -> None:
    made = [{"id": one // 2, "user_id": f"u {one}", "ReviewID": 10 + one, "paid": one, "t": "some words"} for one in range(6)]
    as_csv(tmp_path / "a.csv", made)
    # `id` repeats itself, `user_id` has blanks, and nobody calls an id "paid"
    found = begun(tmp_path / "a.csv")
    assert (said(found, "id_column"), found.survey.id_repeats) == ("ReviewID", True)
    as_csv(tmp_path / "b.csv", [{"id": one["id"], "t": one["t"]} for one in made])
    found = begun(tmp_path / "b.csv")
    assert said(found, "id_column") is None
    assert "The column id has a value twice" in found.text
    assert [command for command, _ in found.commands] == [f"runner check {shlex.quote(str(tmp_path / 'b.csv'))}"]
    as_csv(tmp_path / "c.csv", [{"id": one, "other_id": one, "t": "x"} for one in range(6)])
    assert said(begun(tmp_path / "c.csv"), "id_column") is None


PICTURE = "data:image/png;base64,iVBORw0KGgo="


@pytest.mark.parametrize(
    ("rows", "images", "files", "prompt"),
    [
        (["a.png", "b/c d.JPG"], '#images = "it"', None, "Summarize: {{ text }}"),
        (["https://x.example/a.webp?size=1", PICTURE], '#images = "it"', None, "Summarize: {{ text }}"),
        ([["a.png", "b.gif"], {"path": "a.jpeg"}], '#images = "it"', None, "Summarize: {{ text }}"),
        (["a.pdf", "b.png"], None, '#files = "it"', "Summarize: {{ text }}"),
        (["a.mp3", "b.wav"], None, '#files = "it"', "Summarize: {{ text }}"),
        (["png", "jpg"], None, None, "Summarize: {{ text }}"),
        (["https://x.example/", "see the other"], None, None, "Summarize: {{ text }}"),
        (["a.png", 5], None, None, "Summarize: {{ text }}"),
    ],
)
def test_columns_of_files_are_proposed(
    tmp_path: Path, rows: list[Any], images: str | None, files: str | None, prompt: str
) -> None:
    path = tmp_path / "a.jsonl"
    records = [{"id": place, "it": one, "text": "It has come."} for place, one in enumerate(rows)]
    path.write_text("".join(json.dumps(record) + "\n" for record in records))
    found = begun(path)
    lines = found.text.splitlines()
    assert [line for line in lines if "images =" in line] == ([images] if images else [])
    assert [line for line in lines if "files =" in line] == ([files] if files else [])
    assert said(found, "prompt") == prompt


def test_a_table_of_nothing_but_pictures_is_asked_about_them(desk: Desk) -> None:
    write_files(desk.folder)
    as_csv(desk.folder / "photos.csv", [{"id": "a", "photo": "1.png"}, {"id": "b", "photo": "1.png"}])
    found = begun(desk.folder / "photos.csv")
    assert (said(found, "prompt"), said(found, "images")) == ("What is in this picture?", "photo")
    ended = run("run", "photos.csv", "--model", "m", "--provider", "simulator", cwd=desk.folder)
    assert (ended.code, "2 done" in ended.out) == (0, True), ended


def test_a_large_file_is_read_in_part(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(survey, "LOOK_BYTES", 100_000)
    as_csv(tmp_path / "a.csv", [{"nr": one, "text": f"words {one:070}"} for one in range(10_000)])
    found = begun(tmp_path / "a.csv")
    assert (found.survey.counted, "about 10,000 rows" in found.text, said(found, "id_column")) == ("estimated", True, None)
    assert '#id_column = "nr"' in found.text.splitlines()
    (tmp_path / "b.csv.gz").write_bytes(gzip.compress((tmp_path / "a.csv").read_bytes()))
    assert (begun(tmp_path / "b.csv.gz").survey.rows, survey.LOOK_ROWS) == (10_000, 500_000)
    monkeypatch.setattr(survey, "LOOK_ROWS", 2_000)
    found = begun_again(tmp_path / "b.csv.gz")
    assert "more than 2,000 rows" in found.text


def begun_again(path: Path) -> starting.Begun:
    path.with_name("b.toml").unlink()
    return begun(path)


def test_broken_rows_are_told(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("text\nfine words\nfine,too,many\nalso fine\n")
    assert "# 1 row of the 3 that were read cannot be used" in begun(tmp_path / "a.csv").text


@pytest.mark.parametrize(
    ("environment", "provider", "words"),
    [
        ({}, None, "# None was set when this file was written"),
        ({"OPENAI_API_KEY": "sk-canary-0123"}, None, "# OPENAI_API_KEY was set when"),
        ({"ANTHROPIC_API_KEY": "sk-ant-canary"}, "anthropic", '#model = "claude-sonnet-5"'),
        ({"OPENAI_API_KEY": "sk-canary", "ANTHROPIC_API_KEY": "sk-ant-canary"}, None, "# ANTHROPIC_API_KEY was set when"),
        ({"RUNNER_MODEL": "canary"}, None, "# RUNNER_MODEL was set too; it wins over this file."),
    ],
)
def test_the_environment_decides_the_provider_and_no_key_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, environment: dict[str, str], provider: str | None, words: str
) -> None:
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    as_csv(tmp_path / "a.csv", REVIEWS)
    found = begun(tmp_path / "a.csv")
    assert (said(found, "provider"), words in found.text, "canary" in found.text) == (provider, True, False)


def test_options_are_written_into_it(tmp_path: Path) -> None:
    as_csv(tmp_path / "a.txt", REVIEWS, delimiter=";", encoding="cp1252")
    given = ("--input-format", "csv", "--delimiter", ";", "--model", "m", "--prompt", 'Is "{{ lang }}"\\ \na language?"')
    more = ("--max-tokens", "1k", "--fields", "kind: good|bad, why: str", "--max-cost", "2.5")
    ended = run("init", "a.txt", *given, *more, "-o", "job.toml", cwd=tmp_path)
    assert (ended.code, ended.err) == (0, "")
    assert "next: runner check job.toml" in ended.out
    job = load_job(tmp_path / "job.toml", {}, {})
    assert (job.input, job.delimiter, job.model, job.prompt) == (tmp_path / "a.txt", ";", "m", given[7])
    assert (job.params.max_tokens, job.max_cost, list(job.schema["properties"])) == (1000, 2.5, ["kind", "why"])
    assert run("run", "job.toml", "--dry-run", cwd=tmp_path).code == 0


def test_a_job_file_in_another_folder_names_its_input_in_full(tmp_path: Path) -> None:
    for folder in ("data", "jobs"):
        (tmp_path / folder).mkdir()
    as_csv(tmp_path / "data" / "a.csv", REVIEWS)
    for target, named in (("jobs/a.toml", str(tmp_path / "data/a.csv")), ("a.toml", "data/a.csv")):
        assert run("init", "data/a.csv", "-o", target, cwd=tmp_path).code == 0
        assert tomllib.loads((tmp_path / target).read_text())["input"] == named
        assert run("check", target, cwd=tmp_path).code == 0


def test_nothing_is_replaced(tmp_path: Path) -> None:
    as_csv(tmp_path / "a.csv", REVIEWS)
    (tmp_path / "a.toml").write_text("mine")
    (tmp_path / "link.toml").symlink_to("absent.toml")
    for options, name in (((), "a.toml"), (("-o", "a.toml"), "a.toml"), (("-o", "link.toml"), "link.toml")):
        ended = run("init", "a.csv", *options, cwd=tmp_path)
        assert (ended.code, ended.out) == (2, "")
        assert ended.err == (
            f"runner: {name} exists already and is left as it is; -o NAME.toml writes another one, -o - prints it\n"
        )
    assert (tmp_path / "a.toml").read_text() == "mine"
    shown = run("init", "a.csv", "-o", "-", cwd=tmp_path)
    assert (shown.code, shown.err, tomllib.loads(shown.out)["input"]) == (0, "", "a.csv")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.csv", "a.toml", "link.toml"]
    # one that comes while the file is looked at
    with pytest.raises(UsageError, match="exists already"):
        starting._write(tmp_path / "a.toml", "other")


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("absent.csv",), "there is no prompt file absent.csv"),
        (("a.toml",), "a.toml is a job file by its name"),
        (("empty.csv",), "empty.csv"),
        (("head.csv",), "head.csv"),
        (("image.png",), "image.png"),
        (("inner",), "inner is a folder; name a file in it. There are: rows.csv"),
        (("a.csv", "-o", "a.csv"), "a job file ends in .toml, and a.csv does not"),
        (("a.csv", "-o", "absent/a.toml"), "its folder does not exist"),
        (("a.csv", "--delimiter", "ab"), "delimiter must be one character"),
        (("a.csv", "--sheet", "1"), "--sheet means nothing for a.csv"),
        (("caf\udce9.csv",), "is not UTF-8, and the store keeps names as text"),
        (("a.csv", "--prompt", "{{ text"), "prompt is no template"),
        (("a.csv", "--fields", "kind"), "fields: 'kind' has no type"),
        (("a.csv", "--max-tokens", "0"), "max_tokens must be a whole number of 1 or more"),
        (("a.csv", "--id-column", "absent"), "a.csv has no field 'absent' for the id"),
        (
            ("a.csv", "--prompt", "{{ absent }}"),
            "the template names the field 'absent', which no row of a.csv has; its fields: nr, text",
        ),
        (("a.csv", "--system", "{{ absent }}"), "the template names the field 'absent', which no row of a.csv has"),
        (("a.csv", "--prompt", "{text}"), "{{ text }} stands for the field, {text} for itself"),
        (("a.csv", "--provider", "nobody"), "there is no provider 'nobody'"),
        (("a.csv", "absent.csv"), "there is no file absent.csv"),
        (("a.csv", "-"), "standard input (-) cannot be one of several inputs"),
        (("a.csv", "run:1"), "run:1 cannot be one of several inputs"),
        (("a.csv", "a.toml"), "a.toml is a job file, which stands alone"),
        (("absent-*.csv",), "no file matches"),
    ],
)
def test_what_cannot_be_begun_is_one_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, words: tuple[str, ...], told: str
) -> None:
    as_csv(tmp_path / "a.csv", REVIEWS)
    (tmp_path / "inner").mkdir()
    as_csv(tmp_path / "inner" / "rows.csv", REVIEWS)
    (tmp_path / "empty.csv").write_text("")
    (tmp_path / "head.csv").write_text("a,b\n")
    (tmp_path / "image.png").write_bytes(b"\x89PNG\r\n\x1a\n\0\0\0")
    before = sorted(tmp_path.rglob("*"))
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UsageError) as refused:
        cli.main(["init", *words], standalone_mode=False)
    assert refused.value.exit_code == 2
    assert told in str(refused.value)
    assert "\n" not in str(refused.value)
    assert sorted(tmp_path.rglob("*")) == before


def test_several_files_and_patterns_are_one_input(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(desk.folder)
    (desk.folder / "more").mkdir()
    for number, name in enumerate(("a.csv", "more/b-2.csv", "more/b-10.csv")):
        as_csv(desk.folder / name, [{**row, "nr": f"{number}-{row['nr']}"} for row in REVIEWS])
    # job files of single files are neither read nor in the way
    (desk.folder / "a.toml").write_text('prompt = "{{ absent }}"\n')
    ended = run("init", "a.csv", "more/*.csv", cwd=desk.folder)
    assert (ended.code, ended.err) == (0, "")
    assert ended.out.startswith("job.toml is written for 21 rows; its prompt asks about the column text\n")
    job = tomllib.loads((desk.folder / "job.toml").read_text())
    assert job == {"input": ["a.csv", "more/*.csv"], "prompt": "Summarize: {{ text }}", "id_column": "nr", "params": {}}
    assert "# a.csv, more/*.csv: csv, separated by a comma" in (desk.folder / "job.toml").read_text()
    said = desk.run(command=("run", "job.toml", "--model", "m", "--base-url", desk.server.base_url))
    assert "21 done" in said
    # a pattern alone, and a job file among its files
    found = starting.begin(starting.source(["more/*.csv"]), "more/b.toml", {})
    assert tomllib.loads(found.text)["input"] == "*.csv"
    assert found.commands[0][0] == "runner check more/b.toml"
    with pytest.raises(UsageError, match=r"job\.toml exists already"):
        starting.begin(starting.source(["a.csv", "more/b-2.csv"]), None, {})


def test_of_several_files_the_beginning_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(survey, "LOOK_BYTES", 500)
    for name in ("a.jsonl", "b.csv"):
        rows = [{"nr": f"{name}{one}", "text": "It came."} for one in range(100)]
        as_csv(tmp_path / name, rows) if name == "b.csv" else (tmp_path / name).write_text(
            "".join(map("{}\n".format, map(json.dumps, rows)))
        )
    found = starting.begin(starting.source(["a.jsonl", "b.csv"]), None, {})
    assert (found.survey.counted, found.survey.is_whole, found.survey.read < 100, said(found, "id_column")) == (
        "more",
        False,
        True,
        None,
    )
    assert re.search(r"# a.jsonl, b.csv: jsonl and csv, [\d.]+ kB, more than \d+ rows", found.text)


def test_standard_input_is_refused(tmp_path: Path) -> None:
    ended = piped("init", "-", given=b"a,b\n1,2\n", cwd=tmp_path)
    assert (ended.code, ended.err) == (
        2,
        "runner: a job file is for a file, which standard input is not; save the rows to a file first\n",
    )


def test_without_a_file_the_only_one_is_taken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert "no file in this folder looks like rows" in run("init", cwd=tmp_path).err
    (tmp_path / "package.json").write_text('{"name": "x"}')
    (tmp_path / "requirements.txt").write_text("runner\n")
    (tmp_path / "empty.csv").write_text("")
    as_csv(tmp_path / "reviews.csv", REVIEWS)
    ended = run("init", cwd=tmp_path)
    assert (ended.code, ended.err) == (0, "reviews.csv is the only file of rows here\n")
    # it has a job file now, and its answers are no new input
    assert run("run", "reviews.csv", "--provider", "simulator", "-q", "-o", "answers.csv", cwd=tmp_path).code == 0
    assert len(rows(tmp_path / "runner.db", "SELECT 1 FROM items")) == len(REVIEWS)
    monkeypatch.chdir(tmp_path)
    assert starting.candidates(Path()) == []
    for name in ("b.csv", "a b.csv"):
        as_csv(tmp_path / name, REVIEWS)
    ended = run("init", cwd=tmp_path)
    assert ended.code == 2
    assert ended.err == "runner: which file? Name one: `runner init 'a b.csv'`. There are: 'a b.csv', b.csv\n"
