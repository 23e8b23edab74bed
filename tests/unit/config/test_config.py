"""A job: options win over the environment, the job file and the defaults; the message for each mistake says where it is."""

import re
from pathlib import Path
from typing import Any

import msgspec
import pytest
from msgspec import structs

from runner.config.endpoint import find_endpoint
from runner.config.job import Job, load_job, restore_job
from runner.config.settings import BY_NAME, SETTINGS, Setting
from runner.errors import UsageError
from runner.model import Params
from runner.session import wiring
from runner.session.checking import Description

ANSWER = {
    "provider", "model", "system",
    "max_tokens", "temperature", "top_p", "stop", "seed", "extra_body", "prompt", "messages",
    "images", "files",
    "schema", "fields", "schema_mode",
}  # fmt: skip
# a file of a template is read, and gives another setting, like the short form of a schema; two have words of their own
ONES = [setting for setting in SETTINGS if setting.name not in ("prompt_file", "fields", "schema_mode", "fallback_on")]
NAMES = [setting.name for setting in ONES]
# of two that exclude each other, one: kinds of templates, ways to name endpoints, and to say when it is to be done
TOGETHER = [setting for setting in ONES if setting.name not in ("messages", "endpoints", "within")]
# Three values per kind, so that the three sources give different results: job file, environment, option.
VALUES: dict[str, tuple[Any, Any, Any]] = {
    "text": ("one", "two", "three"),
    "int": (11, 12, 13),
    "float": (1.5, 2.5, 3.5),
    "texts": (["END", "STOP"], ["A", "B"], ["C", "D"]),
    "json": ({"a": 1}, {"b": [2, None]}, {"c": {"d": "3"}}),
    "slots": (11, "auto", 13),
    "span": (90.0, 1800.0, 5400.0),
    "choice": ("normal", "full", "normal"),
    "bool": (False, True, False),
    "share": (3, "2%", 5),
    "headers": ({"X-A": "${ONE}"}, {"X-A": "Bearer ${TWO}"}, {"X-A": "${THREE}"}),
    "query": ({"v": "1"}, {"v": "2"}, {"v": "3"}),
    "messages": tuple([{"role": "user", "content": text}] for text in ("{{ a }}", "{{ b }}", "{{ c }}")),
    "tables": ([{"base_url": "http://a"}], [{"weight": 2}, {"fallback": True}], [{"api_key_env": ["A", "B"]}]),
    "prices": ({"m": {"input": 1, "output": 2}}, "list", {"m": {"input": 0.5, "output": 2, "from": "2026-10-01"}}),
    "schema": ({"type": "object"}, {"type": "array"}, {"properties": {"a": {"enum": ["x", 1]}}}),
}
TOML = {
    "text": '"one"', "int": "11", "float": "1.5", "texts": '["END", "STOP"]', "json": "{ a = 1 }",
    "slots": "11", "span": '"1m30s"', "choice": '"normal"', "bool": "false", "share": "3",
    "headers": '{ X-A = "${ONE}" }', "query": '{ v = "1" }',
    "messages": '[{ role = "user", content = "{{ a }}" }]', "prices": "{ m = { input = 1, output = 2 } }",
    "schema": '{ type = "object" }', "tables": '[{ base_url = "http://a" }]',
}  # fmt: skip
# they say when a batch run is to be done, and go with no other mode
DUE = ("by", "within")
DUE_MODE = {"mode": "mixed"}
WRONG = {
    "text": ["3", "1.5", "true", "[]", '["a"]', '""', '"  "'],
    "int": ["1.5", '"3"', "true", "[1]", '["a"]'],
    "float": ['"fast"', "true", "nan", "inf", "[]", '["a"]'],
    "texts": ["3", "1.5", "[]", "[1]", "true"],
    "json": ["3", "1.5", "[]", '["a"]', "true"],
    "slots": ["1.5", '"many"', '""', '"1.5"', '"autos"', "true", "[1]"],
    "span": ['"soon"', '"-5m"', '""', '"1x"', "true", "nan", "inf", "[]", '["1m"]'],
    "bool": ['"true"', '"off"', "1", "0", "[]", "[true]"],
    "schema": ["3", "1.5", "true", "[]", '["a"]', '""', "{}"],
    "prices": ['"listed"', "3", "true", "[]", '["list"]'],
    "share": ['"some"', '"-1"', '"101%"', '"1.5"', '""', "-1", "1.5", "true", "nan", "[]", "[1]"],
    "choice": ['"off"', '"FULL"', '""', "1", "true", '["full"]'],
    "headers": ["3", '"X-A"', "true", "[1]", '["X-A"]', "{ X-A = 1 }", '[": x"]'],
    "query": ["3", '"v"', "true", "[1]", '["v"]', "{ v = 1 }", '["=1"]'],
    "tables": ["3", "true", "[]", "[1]", '["a"]'],
    "messages": ["3", "true", "[]", "[1]", '["a"]', '[{ role = "user" }]', "[{ role = 1, content = 2 }]"],
}


@pytest.fixture
def prompts(tmp_path: Path) -> Path:
    path = tmp_path / "prompts.jsonl"
    path.write_text('{"prompt": "hello"}\n')
    return path


def values(setting: Setting) -> tuple[Any, Any, Any]:
    """Return three values of a setting. Those of a choice are of some other settings with the kind ``choice``."""
    own = {"mode": ("batch", "mixed", "batch"), "by": ("07:00", "2030-01-02 03:04", "23:59:59")}
    return own.get(setting.name, VALUES[setting.kind])


def toml(setting: Setting) -> str:
    """Return the first of them as a job file has it."""
    return {"mode": '"batch"', "by": '"07:00"'}.get(setting.name, TOML[setting.kind])


def a_line(setting: Setting, value: str) -> str:
    table, _, name = setting.key.rpartition(".")
    if name in DUE:
        return f'mode = "batch"\n{name} = {value}\n'
    return f"[{table}]\n{name} = {value}\n" if table else f"{name} = {value}\n"


def a_job(folder: Path, text: str = "", *, model: str = 'model = "m"\n') -> Path:
    path = folder / "job.toml"
    path.write_text(f'input = "prompts.jsonl"\n{model}{text}')
    return path


def without_model(setting: Setting) -> str:
    return "" if setting.name == "model" else 'model = "m"\n'


def as_text(setting: Setting, value: Any) -> str:
    return (
        msgspec.json.encode(value).decode()
        if setting.kind in ("json", "texts", "headers", "query", "messages", "tables") or isinstance(value, dict)
        else str(value)
    )


def given(job: Job, name: str) -> Any:
    return plain(name, job.settings()[name])


def plain(name: str, value: Any) -> Any:
    """Return a value as it was given: the one setting that is a path is made absolute."""
    return Path(value).name if name == "files_root" and value is not None else value


@pytest.mark.parametrize("setting", ONES, ids=NAMES)
def test_every_setting_from_the_job_file(prompts: Path, setting: Setting) -> None:
    file = a_job(prompts.parent, a_line(setting, toml(setting)), model=without_model(setting))
    job = load_job(file, {}, {})
    assert given(job, setting.name) == values(setting)[0]
    assert job.sources[setting.name] == str(file)


@pytest.mark.parametrize("setting", ONES, ids=NAMES)
def test_every_setting_from_the_environment_wins_over_the_job_file(prompts: Path, setting: Setting) -> None:
    file = a_job(prompts.parent, a_line(setting, toml(setting)), model=without_model(setting))
    job = load_job(file, {}, {setting.variable: as_text(setting, values(setting)[1])})
    assert given(job, setting.name) == values(setting)[1]
    assert job.sources[setting.name] == f"environment {setting.variable}"


@pytest.mark.parametrize("setting", ONES, ids=NAMES)
def test_every_setting_as_an_option_wins_over_all(prompts: Path, setting: Setting) -> None:
    file = a_job(prompts.parent, a_line(setting, toml(setting)), model=without_model(setting))
    value = values(setting)[2]
    job = load_job(file, {setting.name: value}, {setting.variable: as_text(setting, values(setting)[1])})
    assert given(job, setting.name) == value
    assert job.sources[setting.name] == f"option {setting.option}"


@pytest.mark.parametrize("setting", ONES, ids=NAMES)
def test_an_empty_variable_and_a_missing_option_count_as_not_given(prompts: Path, setting: Setting) -> None:
    file = a_job(prompts.parent, a_line(setting, toml(setting)), model=without_model(setting))
    assert given(load_job(file, {setting.name: None}, {setting.variable: ""}), setting.name) == values(setting)[0]


def test_defaults_and_their_sources(prompts: Path) -> None:
    job = load_job(prompts, {"model": "m"}, {})
    for setting in SETTINGS:
        if setting.name != "model":
            assert given(job, setting.name) == setting.default
            assert job.sources[setting.name] == ("not set" if setting.default is None else "default")
    assert job.input == prompts.resolve()


def test_the_real_environment_is_used_when_none_is_given(prompts: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for setting in SETTINGS:
        monkeypatch.delenv(setting.variable, raising=False)
    monkeypatch.setenv("RUNNER_MODEL", "from-outside")
    assert load_job(prompts, {}).model == "from-outside"


def test_every_setting_has_a_name_an_option_and_a_variable_of_its_own() -> None:
    for words in (
        [d.key for d in SETTINGS],
        [d.name for d in SETTINGS],
        [d.option for d in SETTINGS],
        [d.variable for d in SETTINGS],
    ):
        assert len(set(words)) == len(SETTINGS)
    assert BY_NAME["max_tokens"].option == "--max-tokens"
    assert BY_NAME["connect_s"].variable == "RUNNER_CONNECT_S"


@pytest.mark.parametrize(
    ("line", "meant"),
    [
        ('modle = "m"', "model"),
        ("concurency = 3", "concurrency"),
        ('imput = "x.jsonl"', "input"),
        ("[params]\nmax_token = 3", "params.max_tokens"),
        ("[params]\ntemprature = 3", "params.temperature"),
        ("[timeouts]\nconect_s = 3", "timeouts.connect_s"),
        # the right key in the wrong table
        ("temperature = 0.5", "params.temperature"),
        ("connect_s = 3", "timeouts.connect_s"),
        ("[params]\nconcurrency = 3", "concurrency"),
        ("[timeouts]\nseed = 3", "params.seed"),
        ("[param]\nseed = 3", "params"),
    ],
)
def test_unknown_keys_are_refused_with_the_nearest_right_name(prompts: Path, line: str, meant: str) -> None:
    file = a_job(prompts.parent, line)
    with pytest.raises(UsageError) as caught:
        load_job(file, {}, {})
    words = str(caught.value)
    assert str(file) in words
    assert re.search(rf"did you mean '{re.escape(meant)}", words), words


def test_a_key_like_no_other_is_refused_without_a_guess(prompts: Path) -> None:
    with pytest.raises(UsageError, match="unknown key 'qqqqqq'") as caught:
        load_job(a_job(prompts.parent, "qqqqqq = 1"), {}, {})
    assert "did you mean" not in str(caught.value)


@pytest.mark.parametrize(
    ("value", "expected"),
    [('"auto"', None), ('"AUTO"', None), ("32", 32), ('"32"', 32), ("1", 1)],
    ids=["auto", "in capitals", "32", "text-32", "1"],
)
def test_concurrency_is_a_number_or_auto_in_all_three_ways(prompts: Path, value: str, expected: int | None) -> None:
    word = value.strip('"')
    for job in (
        load_job(a_job(prompts.parent, f"concurrency = {value}"), {}, {}),
        load_job(prompts, {"model": "m"}, {"RUNNER_CONCURRENCY": word}),
        load_job(prompts, {"model": "m", "concurrency": word}, {}),
        load_job(prompts, {"model": "m", "concurrency": expected or "auto"}, {}),
    ):
        assert job.concurrency == expected
        assert job.settings()["concurrency"] == (expected or "auto")


def test_auto_wins_over_a_number_of_the_job_file(prompts: Path) -> None:
    job = load_job(a_job(prompts.parent, "concurrency = 32"), {"concurrency": "auto"}, {})
    assert (job.concurrency, job.sources["concurrency"]) == (None, "option --concurrency")


@pytest.mark.parametrize("value", ["0", "-3", "1.5", "many", "1e3", "true", "autos"])
def test_a_bad_concurrency_says_what_it_must_be(prompts: Path, value: str) -> None:
    for options, environment in (({}, {"RUNNER_CONCURRENCY": value}), ({"concurrency": value}, {})):
        with pytest.raises(UsageError, match="concurrency must be auto or a whole number of 1 or more, not"):
            load_job(prompts, {"model": "m", **options}, environment)


@pytest.mark.parametrize(
    ("value", "seconds"),
    [("90", 90), ("30m", 1800), ("1h30m", 5400), ("8h", 28_800), ("1.5h", 5400), ("0.5", 0.5), ("500ms", 0.5), ("2d", 172_800)],
)
def test_a_deadline_is_seconds_or_a_span_in_all_three_ways(prompts: Path, value: str, seconds: float) -> None:
    for job in (
        load_job(a_job(prompts.parent, f'deadline = "{value}"'), {}, {}),
        load_job(prompts, {"model": "m"}, {"RUNNER_DEADLINE": value}),
        load_job(prompts, {"model": "m", "deadline": value}, {}),
        load_job(prompts, {"model": "m", "deadline": seconds}, {}),
    ):
        assert job.deadline == seconds
        assert isinstance(job.deadline, float)


@pytest.mark.parametrize("value", ["0", "-5", "0s", "-1m", "soon", "1x", "30 m", "1h-5m", "nan", "inf", "9" * 400])
def test_a_bad_deadline_says_what_it_must_be(prompts: Path, value: str) -> None:
    for options, environment in (({}, {"RUNNER_DEADLINE": value}), ({"deadline": value}, {})):
        with pytest.raises(
            UsageError, match="deadline must be a number of seconds or a duration such as 30m, greater than 0, not "
        ) as caught:
            load_job(prompts, {"model": "m", **options}, environment)
        assert value in str(caught.value)


@pytest.mark.parametrize(
    ("options", "tuned", "ceiling"),
    [({}, True, 256), ({"max_concurrency": 40}, True, 40), ({"concurrency": 9}, False, 9)],
)
def test_the_lanes_get_a_fixed_number_or_a_ceiling(prompts: Path, options: dict[str, Any], tuned: bool, ceiling: int) -> None:
    limits, _ = wiring.limits(load_job(prompts, {"model": "m", "rpm": 60, "output_tpm": 5000, **options}, {}))
    assert (limits.tuned, limits.ceiling) == (tuned, ceiling)
    assert limits.per_minute == {"rpm": 60.0, "output_tpm": 5000.0}


def test_an_unknown_argument_is_refused_with_the_nearest_right_name(prompts: Path) -> None:
    with pytest.raises(UsageError, match="unknown setting 'max_token'; did you mean 'max_tokens'"):
        load_job(prompts, {"model": "m", "max_token": 3}, {})


@pytest.mark.parametrize(
    ("setting", "value"),
    [
        pytest.param(setting, value, id=f"{setting.name}={value}")
        for setting in SETTINGS
        for value in WRONG[setting.kind]
        if setting.name != "system"
    ],
)
def test_wrong_kinds_in_the_job_file_name_the_key_and_the_file(prompts: Path, setting: Setting, value: str) -> None:
    file = a_job(prompts.parent, a_line(setting, value), model=without_model(setting))
    with pytest.raises(UsageError, match=re.escape(f"{setting.key} must be ")) as caught:
        load_job(file, {}, {})
    assert f"in {file}" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_delimiter_may_be_blank(prompts: Path) -> None:
    assert load_job(prompts, {"delimiter": "\t", "model": "m"}, {}).delimiter == "\t"


@pytest.mark.parametrize("value", ["3", "1.5", "true", "[]", '["a"]'])
def test_the_system_text_must_be_a_text_but_may_be_empty(prompts: Path, value: str) -> None:
    with pytest.raises(UsageError, match="system must be a string"):
        load_job(a_job(prompts.parent, f"system = {value}"), {}, {})
    assert load_job(a_job(prompts.parent, 'system = ""'), {}, {}).system == ""


@pytest.mark.parametrize(
    "setting",
    [setting for setting in SETTINGS if setting.kind != "text" and setting.kind != "texts"],
    ids=lambda setting: setting.name,
)
def test_wrong_words_in_the_environment_name_the_variable(prompts: Path, setting: Setting) -> None:
    with pytest.raises(UsageError, match=re.escape(f"{setting.key} must be ")) as caught:
        load_job(prompts, {"model": "m"}, {setting.variable: "{not right"})
    assert setting.variable in str(caught.value)


@pytest.mark.parametrize(
    "setting", [setting for setting in SETTINGS if setting.least is not None], ids=lambda setting: setting.name
)
def test_bounds_hold_in_all_three_ways(prompts: Path, setting: Setting) -> None:
    assert setting.least is not None
    outside: list[int | float] = [int(setting.least) - 1, -5] if setting.kind in ("int", "slots") else [-0.5]
    outside += [setting.least] if setting.kind not in ("int", "slots") and not setting.inclusive else []
    for value in outside:
        for file, options, environment, where in (
            (a_job(prompts.parent, a_line(setting, str(value))), {}, {}, "job.toml"),
            (prompts, {"model": "m"}, {setting.variable: str(value)}, setting.variable),
            (prompts, {"model": "m", setting.name: value}, {}, setting.option),
        ):
            with pytest.raises(UsageError, match=re.escape(setting.key)) as caught:
                load_job(file, options, environment)
            assert where in str(caught.value)
    inside = int(setting.least) if setting.kind in ("int", "slots") or setting.inclusive else 0.001
    assert given(load_job(prompts, {"model": "m", **DUE_MODE, setting.name: inside}, {}), setting.name) == inside


@pytest.mark.parametrize("value", ["nan", "inf", "-inf"])
def test_numbers_that_are_none_are_refused_in_the_environment(prompts: Path, value: str) -> None:
    with pytest.raises(UsageError, match="RUNNER_TEMPERATURE"):
        load_job(prompts, {"model": "m"}, {"RUNNER_TEMPERATURE": value})


def test_a_number_too_large_for_a_float_is_a_usage_error(prompts: Path) -> None:
    with pytest.raises(UsageError, match="rpm"):
        load_job(a_job(prompts.parent, f"rpm = 1{'0' * 400}"), {}, {})


def test_a_whole_number_is_good_for_a_float(prompts: Path) -> None:
    job = load_job(a_job(prompts.parent, "rpm = 60\n[params]\ntemperature = 0"), {}, {})
    assert (job.rpm, job.params.temperature) == (60.0, 0.0)
    assert isinstance(job.rpm, float)


def test_stop_takes_one_text_several_or_a_json_list(prompts: Path) -> None:
    def stop(options: dict[str, Any], environment: dict[str, str]) -> Any:
        return load_job(prompts, {"model": "m", **options}, environment).params.stop

    assert stop({"stop": ("END",)}, {}) == "END"
    assert stop({"stop": ("A", "B")}, {}) == ["A", "B"]
    assert stop({}, {"RUNNER_STOP": "END"}) == "END"
    assert stop({}, {"RUNNER_STOP": '["A", "B"]'}) == ["A", "B"]
    assert stop({"stop": ["A"]}, {}) == "A"


def test_extra_body_as_an_option_is_json_text_or_an_object(prompts: Path) -> None:
    for value in ('{"top_k": 5}', {"top_k": 5}):
        assert load_job(prompts, {"model": "m", "extra_body": value}, {}).params.extra_body == {"top_k": 5}
    with pytest.raises(UsageError, match=r"params\.extra_body must be a JSON object.*--extra-body"):
        load_job(prompts, {"model": "m", "extra_body": "{"}, {})


@pytest.mark.parametrize("text", ["nan", "inf", "-inf"])
def test_an_extra_body_with_a_number_that_is_none_is_refused_everywhere(prompts: Path, text: str) -> None:
    """It would be sent as null."""
    words = f"params.extra_body contains {text}, which is no number in JSON"
    prompts.with_suffix(".toml").write_text(f"[params]\nextra_body = {{ a = [1.5, {{ b = {text} }}] }}\n")
    with pytest.raises(UsageError, match=f"{words} .in .*toml"):
        load_job(prompts, {}, {})
    prompts.with_suffix(".toml").unlink()
    spelt = {"nan": "NaN", "inf": "Infinity", "-inf": "-Infinity"}[text]
    with pytest.raises(UsageError, match=f"{words} .in the environment"):
        load_job(prompts, {}, {"RUNNER_EXTRA_BODY": f'{{"a": {spelt}}}'})
    for value in (f'{{"a": {spelt}}}', {"a": (float(text),)}):
        with pytest.raises(UsageError, match=f"{words} .given with --extra-body"):
            load_job(prompts, {"extra_body": value}, {})


def test_an_extra_body_that_json_cannot_hold_is_refused(prompts: Path) -> None:
    with pytest.raises(UsageError, match="contains a value of the type set, which JSON does not have"):
        load_job(prompts, {"extra_body": {"a": {1}}}, {})
    itself: dict[str, Any] = {}
    itself["again"] = itself
    with pytest.raises(UsageError, match="is nested more than 200 levels deep"):
        load_job(prompts, {"extra_body": itself}, {})


def nested(levels: int) -> str:
    return '{"a": ' * levels + "1" + "}" * levels


@pytest.mark.parametrize("levels", [201, 900, 5_000, 100_000])
def test_deep_nesting_is_refused_everywhere(prompts: Path, levels: int) -> None:
    for variable, text in (
        ("EXTRA_BODY", nested(levels)),
        ("EXTRA_BODY", "[" * levels),
        ("HEADERS", "[" * 100_000),
        ("STOP", "[" * 100_000),
    ):
        with pytest.raises(UsageError):
            load_job(prompts, {}, {f"RUNNER_{variable}": text})
    with pytest.raises(UsageError, match=r"params\.extra_body is nested"):
        load_job(prompts, {"extra_body": nested(levels)}, {})
    deep: list[Any] = []
    for _ in range(levels):
        deep = [deep]
    for options in (
        {"extra_body": {"a": deep}},
        {"stop": deep},
        {"headers": deep},
        {"model": deep},
        {"rpm": deep},
        {"ok_failed": deep},
    ):
        with pytest.raises(UsageError):
            load_job(prompts, options, {})


@pytest.mark.parametrize("key", ["params.extra_body", "params.stop", "headers", "model", "input", "nothing"])
def test_deep_nesting_in_a_job_file(prompts: Path, key: str) -> None:
    levels = 5_000
    for text in (
        f"{key} = {'[' * levels}{']' * levels}",
        f"{key} = {'{a=' * levels}1{'}' * levels}",
        f"[{key}{'.a' * levels}]\nb = 1",
    ):
        prompts.with_suffix(".toml").write_text(text)
        with pytest.raises(UsageError, match=r"p.*\.toml is nested too deeply"):
            load_job(prompts, {}, {})


def test_as_many_levels_as_a_body_may_have(prompts: Path) -> None:
    assert load_job(prompts, {"extra_body": nested(200)}, {}).params.extra_body is not None
    prompts.with_suffix(".toml").write_text(f"[params.extra_body{'.a' * 198}]\nb = 1979-05-27\n")
    stored = load_job(prompts, {}, {}).settings()
    assert msgspec.json.decode(msgspec.json.encode(stored))


@pytest.mark.parametrize("table", ["params", "timeouts"])
def test_a_table_that_is_none_is_refused(prompts: Path, table: str) -> None:
    with pytest.raises(UsageError, match=rf"{table} must be a table, \[{table}\], in "):
        load_job(a_job(prompts.parent, f"{table} = 3"), {}, {})


def test_the_toml_beside_a_prompt_file_is_its_job_file(prompts: Path) -> None:
    sibling = prompts.with_suffix(".toml")
    sibling.write_text('model = "beside"\nconcurrency = 3\n')
    job = load_job(prompts, {}, {})
    assert (job.model, job.concurrency, job.input) == ("beside", 3, prompts.resolve())
    assert job.sources["model"] == str(sibling)


def test_another_toml_in_the_folder_is_not(prompts: Path) -> None:
    a_job(prompts.parent, "concurrency = 3")
    assert load_job(prompts, {"model": "m"}, {}).sources["concurrency"] == "default"


def test_input_is_relative_to_the_job_file(prompts: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    folder, elsewhere = tmp_path / "jobs", tmp_path / "elsewhere"
    folder.mkdir()
    elsewhere.mkdir()
    (folder / "job.toml").write_text('input = "../prompts.jsonl"\nmodel = "m"\n')
    monkeypatch.chdir(elsewhere)
    assert load_job(Path("../jobs/job.toml"), {}, {}).input == prompts.resolve()
    (folder / "job.toml").write_text(f'input = "{prompts}"\nmodel = "m"\n')
    assert load_job(folder / "job.toml", {}, {}).input == prompts.resolve()


def test_missing_files_and_folders(tmp_path: Path) -> None:
    for path, words in (
        (tmp_path / "no.jsonl", "there is no file"),
        (tmp_path / "no.toml", "there is no file"),
        (tmp_path / "no-folder" / "no.toml", "there is no file"),
        (tmp_path, "is a folder"),
    ):
        with pytest.raises(UsageError, match=words) as caught:
            load_job(path, {}, {})
        assert str(path) in str(caught.value)


def test_a_folder_with_the_name_of_a_job_file(tmp_path: Path) -> None:
    folder = tmp_path / "job.toml"
    folder.mkdir()
    with pytest.raises(UsageError, match="cannot be read"):
        load_job(folder, {}, {})


@pytest.mark.parametrize("text", ['model = "m"', "input = 3", 'input = ""', "input = []"])
def test_a_job_file_that_names_no_prompt_file(tmp_path: Path, text: str) -> None:
    path = tmp_path / "job.toml"
    path.write_text(text)
    with pytest.raises(UsageError, match="does not name a prompt file"):
        load_job(path, {}, {})


def test_a_job_file_that_names_a_missing_prompt_file(tmp_path: Path) -> None:
    path = tmp_path / "job.toml"
    path.write_text('input = "gone.jsonl"')
    with pytest.raises(UsageError, match="does not exist") as caught:
        load_job(path, {}, {})
    assert str(tmp_path / "gone.jsonl") in str(caught.value)


def test_a_job_file_that_names_a_folder_does_not_say_that_it_does_not_exist(tmp_path: Path) -> None:
    path = tmp_path / "job.toml"
    path.write_text('input = "."')
    with pytest.raises(UsageError) as caught:
        load_job(path, {}, {})
    assert "folder" in str(caught.value)


def test_bad_toml_and_bad_utf8(prompts: Path) -> None:
    path = a_job(prompts.parent, "model = \n")
    with pytest.raises(UsageError, match=r"is not valid TOML: .*line") as caught:
        load_job(path, {}, {})
    assert str(path) in str(caught.value)
    path.write_bytes(b'model = "\xff"')
    with pytest.raises(UsageError, match=r"is not UTF-8 text \(byte 9\)"):
        load_job(path, {}, {})


def test_a_model_must_be_named_before_anything_is_sent_except_for_the_simulator(prompts: Path) -> None:
    job = load_job(prompts, {"base_url": "http://localhost:1"}, {})
    assert job.model is None
    with pytest.raises(UsageError, match="no model is set"):
        find_endpoint(job, {})
    assert load_job(prompts, {"provider": "simulator"}, {}).model == "simulated-model"
    with pytest.raises(UsageError, match="takes no base_url"):
        load_job(prompts, {"provider": "simulator", "base_url": "http://localhost:1"}, {})


def everything(prompts: Path) -> Job:
    return load_job(prompts, {setting.name: values(setting)[0] for setting in TOGETHER}, {})


def vouched(job: Job) -> Job:
    """Return a job without the word on who has said what."""
    fields = {
        kind: tuple(structs.replace(field, unvouched=False) for field in getattr(job, kind)) for kind in ("headers", "query")
    }
    return structs.replace(job, sources={}, unvouched=frozenset(), **fields)


def test_restore_gives_the_same_job_back(prompts: Path) -> None:
    for job in (
        everything(prompts),
        load_job(prompts, {"model": "m"}, {}),
        load_job(prompts, {"provider": "simulator"}, {}),
    ):
        stored = msgspec.json.decode(msgspec.json.encode(job.settings()))
        again = restore_job(stored, {})
        assert vouched(again) == vouched(job)
        assert set(again.sources.values()) <= {"the store", "default", "not set"}


def test_restore_takes_new_settings_of_pace(prompts: Path) -> None:
    again = restore_job(everything(prompts).settings(), {"concurrency": 2, "silence_s": 3})
    assert (again.concurrency, again.silence_s) == (2, 3.0)
    assert again.sources["concurrency"] == "option --concurrency"
    assert again.answer_settings() == everything(prompts).answer_settings()


def test_restore_holds_new_settings_to_their_bounds(prompts: Path) -> None:
    with pytest.raises(UsageError, match="concurrency must be auto or a whole number of 1 or more"):
        restore_job(everything(prompts).settings(), {"concurrency": 0})


def test_restore_refuses_an_unknown_setting(prompts: Path) -> None:
    with pytest.raises(UsageError, match="concurency"):
        restore_job(everything(prompts).settings(), {"concurency": 2})


def test_restore_takes_the_address_and_what_makes_answers_from_options_alone(prompts: Path) -> None:
    """Whether a run may take them is decided by its state."""
    stored = everything(prompts).settings()
    environment = {BY_NAME[name].variable: "http://elsewhere:1" for name in ("base_url", "model", "provider")}
    kept = restore_job(stored, {}, environment)
    assert (kept.settings()["base_url"], kept.model, kept.provider) == (stored["base_url"], stored["model"], stored["provider"])
    moved = restore_job(stored, {"base_url": "http://elsewhere:1", "model": "other"}, {})
    assert (moved.base_url, moved.model, moved.provider) == ("http://elsewhere:1", "other", stored["provider"])


def test_restore_forgets_the_address_of_another_provider(prompts: Path) -> None:
    assert restore_job(everything(prompts).settings(), {"provider": "anthropic"}, {}).base_url is None


def test_a_setting_that_changes_answers_has_no_default() -> None:
    """Else the runs of a version that did not know it would be taken for other runs, and bought again."""
    assert [setting.name for setting in SETTINGS if setting.answer and setting.default is not None] == ["provider"]


def test_answer_holds_what_changes_an_answer_and_nothing_else(prompts: Path) -> None:
    job = everything(prompts)
    assert set(job.answer_settings()) == ANSWER
    assert set(Params.__struct_fields__) <= ANSWER
    assert job.answer_settings().items() <= job.settings().items()
    for setting in TOGETHER:
        other = load_job(prompts, {**{d.name: values(d)[0] for d in TOGETHER}, setting.name: values(setting)[1]}, {})
        assert (other.answer_settings() != job.answer_settings()) == (setting.name in ANSWER), setting.name


def test_settings_hold_the_input_every_setting_and_no_secret(prompts: Path) -> None:
    job = load_job(prompts, {"model": "m", "api_key_env": "MY_KEY"}, {"MY_KEY": "sk-canary-0001"})
    assert list(job.settings()) == ["input", *(setting.name for setting in SETTINGS)]
    assert "canary" not in repr(job)


def test_shown_gives_every_setting_as_json_with_its_source(prompts: Path) -> None:
    shown = Description(job=everything(prompts), key_source=None).shown()
    assert [key for key, _, _ in shown] == [setting.key for setting in SETTINGS]
    found = {key: (msgspec.json.decode(value), where) for key, value, where in shown}
    for setting in TOGETHER:
        value, where = found[setting.key]
        assert (plain(setting.name, value), where) == (values(setting)[0], f"option {setting.option}")
    assert found["messages"] == found["prompt_file"] == (None, "not set")


def test_a_prompt_file_is_known_by_the_place_that_was_given(prompts: Path) -> None:
    """A link may lead to another file tomorrow."""
    link = prompts.with_name("link.jsonl")
    link.symlink_to(prompts)
    assert load_job(link, {"model": "m"}, {}).input == link
    (prompts.parent / "folder").mkdir()
    assert load_job(prompts.parent / "folder" / ".." / prompts.name, {"model": "m"}, {}).input == prompts.resolve()


def test_what_the_user_said_is_told_from_what_was_not_said(prompts: Path) -> None:
    assert not load_job(prompts, {}, {}).said("attempts")
    assert load_job(prompts, {"attempts": 5}, {}).said("attempts")
    assert load_job(prompts, {}, {"RUNNER_ATTEMPTS": "5"}).said("attempts")
    # a session that goes on knows only the values of the one before
    unsaid, said, default = (load_job(prompts, given, {}) for given in ({}, {"attempts": 9}, {"attempts": 5}))
    for restored, expected in ((unsaid, False), (said, True), (default, True)):
        assert restore_job(restored.stored(), {}, {}).said("attempts") == expected
    # a store of an earlier version
    assert not restore_job(default.settings(), {}, {}).said("attempts")
    assert restore_job(said.settings(), {}, {}).said("attempts")
    assert restore_job(unsaid.stored(), {"attempts": 5}, {}).said("attempts")
    # what somebody has written into the store is no reason to fail
    for damaged in ("attempts", 5, {"attempts": 1}, [["attempts"]], None):
        assert not restore_job({**default.settings(), "said": damaged}, {}, {}).said("attempts")


def test_attempts_that_were_said_are_used_up(prompts: Path) -> None:
    default, said = (wiring.policy(load_job(prompts, options, {})) for options in ({}, {"attempts": 7}))
    assert (default.attempts, default.alike) == (5, 3)
    assert (said.attempts, said.alike) == (7, 7)


def test_the_names_of_finish_have_both_parts(prompts: Path) -> None:
    names = [setting for setting in SETTINGS if setting.key.startswith("finish.")]
    assert [(setting.name, setting.option, setting.variable) for setting in names] == [
        ("finish_retry", "--finish-retry", "RUNNER_FINISH_RETRY"),
        ("finish_fail", "--finish-fail", "RUNNER_FINISH_FAIL"),
        ("finish_done", "--finish-done", "RUNNER_FINISH_DONE"),
    ]
    job = load_job(prompts, {"model": "m", "finish_retry": "a", "finish_fail": ["b", "A"], "provider": "simulator"}, {})
    with pytest.raises(UsageError, match=r"'a' is in finish\.retry and in finish\.fail"):
        find_endpoint(job, {})


# -- templates


def test_a_template_of_a_later_source_replaces_the_one_before(prompts: Path) -> None:
    (prompts.parent / "ask.txt").write_text("from the file {{ a }}\n")
    file = a_job(prompts.parent, 'prompt_file = "ask.txt"\n')
    job = load_job(file, {}, {})
    assert (job.prompt, job.prompt_file, job.messages) == ("from the file {{ a }}", None, None)
    assert job.sources["prompt"] == f"ask.txt ({file})"
    messages = [{"role": "user", "content": "{{ c }}"}]
    asked = load_job(file, {"messages": messages}, {"RUNNER_PROMPT": "{{ b }}"})
    assert (asked.prompt, asked.messages) == (None, messages)
    assert load_job(file, {}, {"RUNNER_PROMPT": "{{ b }}"}).prompt == "{{ b }}"
    # a run is asked what it was asked, whatever has become of the file
    (prompts.parent / "ask.txt").unlink()
    assert restore_job(job.settings(), {}, {}).prompt == "from the file {{ a }}"


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"prompt": "a", "prompt_file": "b"}, "prompt and prompt_file exclude each other; choose one of them (option --prompt)"),
        ({"prompt": "a", "messages": [{"role": "user", "content": "b"}]}, "prompt and messages exclude each other"),
        ({"prompt_file": "absent"}, "absent cannot be read: No such file or directory"),
        ({"prompt_file": "."}, "cannot be read: Is a directory"),
        ({"prompt_file": "latin.txt"}, "latin.txt is not UTF-8 text (byte 0)"),
    ],
)
def test_a_template_that_cannot_be_had(prompts: Path, given: dict[str, Any], words: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(prompts.parent)
    Path("latin.txt").write_bytes(b"\xe4")
    with pytest.raises(UsageError) as refused:
        load_job(prompts, given, {})
    assert words in str(refused.value)
