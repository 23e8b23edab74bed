"""Which secret may go to which server, and which code may run, on whose word."""

import importlib
import os
import stat
import sys
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest
from unprivileged import unwritable

from runner.config import plugins, remembered, trust
from runner.config.endpoint import files_grant, find_endpoint, provider_of, ungranted, with_base_url
from runner.config.job import Job, load_job, restore_job
from runner.errors import UsageError

FOREIGN = "https://far.example/v1"
ENV = {"OPENAI_API_KEY": "k" * 20, "MINE": "m" * 20, "OTHER": "o" * 20}
Load = Callable[..., Job]


@pytest.fixture
def env(tmp_path: Path) -> dict[str, str]:
    return {**ENV, "XDG_CONFIG_HOME": str(tmp_path / "configuration")}


@pytest.fixture
def load(tmp_path: Path, env: dict[str, str]) -> Load:
    def load(table: str, environment: Mapping[str, str] | None = None, **options: object) -> Job:
        (tmp_path / "p.jsonl").write_text('{"prompt": "x"}\n')
        (tmp_path / "p.toml").write_text(f'model = "m"\n{table}')
        return load_job(tmp_path / "p.jsonl", options, {**env, **(environment or {})})

    return load


def starts(job: Job, env: Mapping[str, str]) -> bool:
    try:
        find_endpoint(with_base_url(job, env), env)
    except UsageError as refused:
        words = str(refused)
        assert "you have not allowed that; if you trust it, add --trust" in words
        assert all(value not in words for value in ENV.values())
        return False
    return True


URL = f'base_url = "{FOREIGN}"\n'
NAMED = 'api_key_env = "MINE"\n'
HEADER = '[headers]\nX-A = "${OTHER}"\n'
MAY_START = [
    ("", {}, {}),
    (NAMED, {}, {}),
    (HEADER, {}, {}),
    ('base_url = "https://api.openai.com/v1/"', {}, {}),
    ('base_url = "https://api.openai.com:443/v1"\n' + NAMED, {}, {}),
    ('provider = "anthropic"\n[params]\nmax_tokens = 1', {"ANTHROPIC_API_KEY": "a" * 20}, {}),
    ('base_url = "http://localhost:8000/v1"\n' + NAMED, {}, {}),
    ('base_url = "http://127.0.0.1:8000/v1"\n' + HEADER, {}, {}),
    ('base_url = "http://[::1]:8000/v1"\n' + NAMED, {}, {}),
    ("", {}, {"base_url": FOREIGN}),
    ("", {}, {"base_url": FOREIGN, "api_key_env": "MINE"}),
    (NAMED + URL, {}, {"base_url": FOREIGN, "api_key_env": "MINE"}),
    (URL, {"RUNNER_BASE_URL": FOREIGN}, {}),
    (NAMED, {"RUNNER_API_KEY_ENV": "MINE", "OPENAI_BASE_URL": FOREIGN}, {}),
    ("", {"OPENAI_BASE_URL": FOREIGN}, {}),
    # no key is set, so none is sent
    (URL, {"OPENAI_API_KEY": ""}, {}),
    # what the file itself brings is no secret of the user
    (URL + '[headers]\nX-A = "mine own"\n', {"OPENAI_API_KEY": ""}, {}),
    (URL, {"OPENAI_API_KEY": ""}, {"query": {"v": "1"}}),
]
MUST_NOT = [
    (URL, {}, {}),
    (URL + NAMED, {}, {}),
    (URL + 'api_key_env = "AWS_SECRET_ACCESS_KEY"', {"AWS_SECRET_ACCESS_KEY": "w" * 20}, {}),
    (URL, {}, {"api_key_env": "MINE"}),
    (NAMED, {}, {"base_url": FOREIGN}),
    (NAMED, {"OPENAI_BASE_URL": FOREIGN}, {}),
    (URL + HEADER, {"OPENAI_API_KEY": ""}, {}),
    (HEADER, {}, {"base_url": FOREIGN}),
    (URL, {"OPENAI_API_KEY": ""}, {"headers": {"X-A": "${OTHER}"}}),
    (URL, {"OPENAI_API_KEY": ""}, {"headers": {"X-A": "typed"}}),
    (URL, {"OPENAI_API_KEY": "", "RUNNER_HEADERS": "X-A: typed"}, {}),
    (URL + 'query = { key = "${OTHER}" }', {"OPENAI_API_KEY": ""}, {}),
    # another server than the provider's own: the scheme, the port, a name that only looks alike
    ('base_url = "http://api.openai.com/v1"', {}, {}),
    ('base_url = "https://api.openai.com:8443/v1"', {}, {}),
    ('base_url = "https://api.openai.com.far.example/v1"', {}, {}),
    ('base_url = "http://127.0.0.1.far.example/v1"', {}, {}),
    ('base_url = "http://localhost.far.example/v1"', {}, {}),
    # a resolver may ask the network for it
    ('base_url = "http://x.localhost/v1"', {}, {}),
    ('provider = "anthropic"\nbase_url = "https://api.openai.com/v1"', {"ANTHROPIC_API_KEY": "a" * 20}, {}),
]


@pytest.mark.parametrize(("table", "environment", "options"), MAY_START)
def test_what_needs_no_word(
    load: Load, env: dict[str, str], table: str, environment: dict[str, str], options: dict[str, object]
) -> None:
    assert starts(load(table, environment, **options), {**env, **environment})


@pytest.mark.parametrize(("table", "environment", "options"), MUST_NOT)
def test_what_a_file_may_not_decide_alone(
    load: Load, env: dict[str, str], table: str, environment: dict[str, str], options: dict[str, object]
) -> None:
    env |= environment
    job = load(table, environment, **options)
    assert not starts(job, env)
    allowed = trust.allowed(job)
    assert starts(allowed, env)
    endpoint = find_endpoint(with_base_url(allowed, env), env)
    assert trust.remember(allowed, endpoint.grants, env) == []
    # once allowed, not asked again; the store's word for it is enough then
    assert starts(job, env)
    stored = with_base_url(job, env).settings()
    given = {name: value for name, value in options.items() if name == "headers"}
    assert starts(restore_job(stored, given, env), {**env, "RUNNER_BASE_URL": "", "OPENAI_BASE_URL": ""})


def test_a_run_whose_user_named_both_is_resumed_without_a_question(load: Load, env: dict[str, str]) -> None:
    job = load("", base_url=FOREIGN, api_key_env="MINE", headers={"X-A": "Bearer ${OTHER}"})
    stored = with_base_url(job, env).settings()
    assert not starts(restore_job(stored, {}, env), env)
    endpoint = find_endpoint(with_base_url(job, env), env)
    assert trust.remember(job, endpoint.grants, env) == []
    assert starts(restore_job(stored, {}, env), env)
    # a store that somebody sent names another server, or another variable
    assert not starts(restore_job({**stored, "base_url": "https://evil.example/v1"}, {}, env), env)
    assert not starts(restore_job({**stored, "api_key_env": "OPENAI_API_KEY"}, {}, env), env)


def test_a_server_that_moves_gets_a_variable_that_was_let_out_before(load: Load, env: dict[str, str]) -> None:
    job = load("", base_url=FOREIGN, api_key_env="MINE")
    trust.remember(job, find_endpoint(with_base_url(job, env), env).grants, env)
    moved = load(NAMED, base_url="https://moved.example/v1")
    assert starts(moved, env)
    assert not starts(load('base_url = "https://moved.example/v1"\n' + NAMED), env)


def test_what_is_remembered_is_for_its_owner_alone(load: Load, env: dict[str, str]) -> None:
    job = load("", base_url=FOREIGN)
    trust.remember(job, find_endpoint(with_base_url(job, env), env).grants, env)
    path = remembered.remembered_in(env)
    assert path is not None
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert {one.name for one in path.parent.iterdir()} <= {path.name, f".{path.name}.lock"}
    assert all(stat.S_IMODE(one.stat().st_mode) == 0o600 for one in path.parent.iterdir())
    again = load(URL)
    assert starts(again, env)
    # others could have written it
    path.chmod(0o666)
    assert not starts(again, env)
    path.chmod(0o600)
    if os.geteuid() == 0:
        os.chown(path, 12345, -1)
        assert not starts(again, env)
        os.chown(path, 0, -1)
        assert starts(again, env)
    path.write_bytes(b"{ damaged")
    assert not starts(again, env)


def test_a_folder_that_cannot_be_written_is_a_note(load: Load, env: dict[str, str]) -> None:
    job = load("", base_url=FOREIGN)
    grants = find_endpoint(with_base_url(job, env), env).grants
    with unwritable() as folder:
        (note,) = trust.remember(job, grants, {**env, "XDG_CONFIG_HOME": str(folder)})
    assert "could not be remembered" in note
    assert "Permission denied" in note


def test_no_folder_is_a_note(load: Load, env: dict[str, str], tmp_path: Path) -> None:
    (tmp_path / "configuration").write_text("a file")
    _assert_noted(load, env)


def _assert_noted(load: Load, env: dict[str, str]) -> None:
    job = load("", base_url=FOREIGN)
    (note,) = trust.remember(job, find_endpoint(with_base_url(job, env), env).grants, env)
    assert "could not be remembered" in note


@pytest.mark.parametrize("relative", ["", "relative/path"])
def test_the_folder_is_the_systems_own_without_the_variable(relative: str) -> None:
    path = remembered.remembered_in({"XDG_CONFIG_HOME": relative})
    assert path is not None
    assert path.is_absolute()


# -- code

MODULE = """
from pathlib import Path
Path({mark!r}).write_text("ran")
DEFAULT_BASE_URL, KEY_ENV, BASE_URL_ENV = "https://plug.example", "PLUG_KEY", "PLUG_URL"
def make(*_, **__): ...
"""


@pytest.mark.parametrize("name", ["sent_module", "sent_package.inner"])
def test_code_runs_only_on_the_users_word(
    load: Load, env: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    unique = name.replace("sent", f"sent_{tmp_path.name[-3:].replace('-', '_')}_{name[5:8]}")
    mark = tmp_path / "ran"
    file = tmp_path / f"{unique.replace('.', '/')}.py"
    file.parent.mkdir(exist_ok=True)
    if "." in unique:
        (file.parent / "__init__.py").write_text("")
    file.write_text(MODULE.format(mark=str(mark)))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.path", [*__import__("sys").path])
    job = load(f'provider = "{unique}"')
    with pytest.raises(UsageError, match=r"p\.toml wants to run the module"):
        with_base_url(job, env)
    assert [grant.kind for grant in ungranted(job, env)] == ["code"]
    stored = {**job.settings(), "base_url": "https://plug.example"}
    with pytest.raises(UsageError, match="the stored run wants to run the module"):
        provider_of(restore_job(stored, {}, env), env)
    assert not mark.exists()
    # the module is the user's choice, and from then on this file at this place may run
    chosen = load("", provider=unique)
    assert provider_of(chosen, env).KEY_ENV == "PLUG_KEY"
    assert mark.exists()
    trust.remember(chosen, trust.code_grants(chosen), env)
    assert provider_of(job, env).KEY_ENV == "PLUG_KEY"
    assert provider_of(restore_job(stored, {}, env), env).KEY_ENV == "PLUG_KEY"


def test_a_module_of_the_same_name_elsewhere_is_another_one(load: Load, env: dict[str, str]) -> None:
    job = load('provider = "pytest"')
    trust.remember(job, [trust.Grant(kind="code", what="pytest", where="/elsewhere/pytest.py", vouched=True)], env)
    with pytest.raises(UsageError, match="wants to run the module pytest"):
        provider_of(job, env)


@pytest.mark.parametrize("names", [["spread.bad"], ["spread.deep.bad"], ["spread.pack.inner", "spread.pack"]])
@pytest.mark.parametrize("here", [False, True])
@pytest.mark.parametrize("loaded", [False, True])
def test_the_question_names_the_place_from_which_code_runs(
    load: Load, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, names: list[str], here: bool, loaded: bool
) -> None:
    """A folder without __init__.py may lie in several places, of which the first was named, and the code was in another."""
    site, folder = tmp_path / "site", tmp_path / "here"
    for place in (site, folder):
        (place / "spread" / "deep").mkdir(parents=True)
        (place / "spread" / "other.py").write_text("")
    where = folder if here else site
    file = where / f"{names[0].replace('.', '/')}.py"
    file.parent.mkdir(exist_ok=True)
    file.write_text(MODULE.format(mark=str(tmp_path / "ran")))
    for package in names[1:]:
        (where / package.replace(".", "/") / "__init__.py").write_text("")
    monkeypatch.chdir(folder)
    monkeypatch.setattr("sys.path", [*sys.path, str(site)])
    importlib.invalidate_caches()
    try:
        if loaded:
            importlib.import_module("spread.other")
            sys.path.append(str(folder))
        (grant,) = trust.code_grants(load(f'provider = "{names[0]}"'))
        module = plugins.load("providers", names[0])
    finally:
        for name in [name for name in sys.modules if name.partition(".")[0] == "spread"]:
            del sys.modules[name]
    assert module.__file__ == str(file)
    # a package begins with its own file
    assert grant.where == str(file if len(names) == 1 else file.with_name("__init__.py"))


def test_a_package_here_goes_before_a_mere_folder_elsewhere(load: Load, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "site" / "mixed").mkdir(parents=True)
    (tmp_path / "site" / "mixed" / "bad.py").write_text("")
    (tmp_path / "here" / "mixed").mkdir(parents=True)
    (tmp_path / "here" / "mixed" / "__init__.py").write_text("")
    monkeypatch.chdir(tmp_path / "here")
    monkeypatch.setattr("sys.path", [*sys.path, str(tmp_path / "site")])
    (grant,) = trust.code_grants(load('provider = "mixed.bad"'))
    assert grant.where == str(tmp_path / "here" / "mixed" / "__init__.py")


def test_a_module_of_python_itself_is_no_question(load: Load, env: dict[str, str]) -> None:
    for name in ("json", "os", "time", "json.decoder"):
        with pytest.raises(UsageError, match=f"there is no provider '{name}': a module of Python itself has the name"):
            provider_of(load(f'provider = "{name}"'), env)


def test_a_name_that_is_nothing_is_no_question_of_trust(load: Load, env: dict[str, str]) -> None:
    with pytest.raises(UsageError, match="there is no provider 'opnai'; did you mean 'openai'"):
        provider_of(load('provider = "opnai"'), env)


def test_files_of_rows_go_where_the_user_has_said(load: Load, env: dict[str, str], tmp_path: Path) -> None:
    def may(job: Job) -> bool:
        job = with_base_url(job, env)
        return trust.refusal(job, files_grant(job, env), env) is None

    assert may(load(""))
    assert may(load('base_url = "http://127.0.0.1:8000/v1"'))
    assert may(load("", base_url=FOREIGN))
    assert may(load(URL, base_url=FOREIGN))
    assert may(load(URL, files_root=".", base_url=FOREIGN))
    assert not may(load(URL))
    # a wider folder is a word of its own
    assert not may(load('files_root = "/"', base_url=FOREIGN))
    assert may(trust.allowed(load(URL)))
    job = with_base_url(load("", base_url=FOREIGN), env)
    grant = files_grant(job, env)
    assert grant is not None
    assert grant.what == f"the files in {tmp_path}"
    trust.remember(job, [grant], env)
    assert may(load(URL))
    assert may(restore_job(job.stored(), {}, env))
    assert not may(load(URL + 'files_root = ".."'))
    # a job that names fields of files will send some, so that is asked at its start
    named = load('base_url = "https://other.example/v1"\nimages = "photo"')
    (asked,) = [grant for grant in ungranted(named, env) if grant.what.startswith("the files in")]
    assert may(trust.granting(named, [asked]))
    assert ungranted(load('base_url = "https://other.example/v1"\n[headers]'), {}) == []
