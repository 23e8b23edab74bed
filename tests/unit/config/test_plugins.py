"""Where the name of a plug-in is searched for, in which order, and the message for each way in which the search fails.

Modules and packages are real files in a folder on the search path; nothing is mocked.
"""

import importlib
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import ModuleType

import pytest
from processes import installed, run

from runner import api
from runner.config import plugins
from runner.errors import UsageError
from runner.session import opening

PROVIDER = "DEFAULT_BASE_URL = 'https://x.example'\nKEY_ENV = 'K'\nBASE_URL_ENV = 'U'\ndef make(*a, **k): return None\n"
EXPORT = "def write(columns, records, out):\n    return out.write('|'.join(columns)) and sum(1 for _ in records)\n"
INPUT = "def read(path, *, limit_bytes=None):\n    return iter(())\n"
KINDS = {"providers": PROVIDER, "exports": EXPORT, "inputs": INPUT}


class Places:
    """site: a folder of installed packages, on the search path. here: the current folder, which is not on it."""

    def __init__(self, folder: Path) -> None:
        self.site, self.here = folder / "site", folder / "here"
        self.site.mkdir()
        self.here.mkdir()

    def module(self, name: str, text: str, *, here: bool = False) -> None:
        path = (self.here if here else self.site) / f"{name}.py"
        path.parent.mkdir(exist_ok=True)
        path.write_text(text)
        importlib.invalidate_caches()

    def package(self, name: str, entry_points: str) -> None:
        """Write the metadata that an installer puts next to a package's modules."""
        info = self.site / f"{name.replace('-', '_')}-1.0.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
        (info / "entry_points.txt").write_text(entry_points)
        importlib.invalidate_caches()

    @property
    def env(self) -> dict[str, str]:
        """The environment in which another process has the same search path."""
        return {"PYTHONPATH": str(self.site)}


@pytest.fixture
def places(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Places]:
    places = Places(tmp_path)
    before = set(sys.modules)
    monkeypatch.setattr(sys, "path", [*sys.path, str(places.site)])
    monkeypatch.chdir(places.here)
    yield places
    for name in set(sys.modules) - before:
        file = getattr(sys.modules[name], "__file__", None)
        if file is None or file.startswith(str(tmp_path)):
            del sys.modules[name]


def refusal(kind: str, name: str) -> str:
    with pytest.raises(UsageError) as caught:
        plugins.load(kind, name)
    return str(caught.value)


def file_of(module: ModuleType) -> Path:
    assert module.__file__ is not None
    return Path(module.__file__)


# -- what is found, and in which order


@pytest.mark.parametrize(("kind", "name"), [("providers", "openai"), ("exports", "csv"), ("inputs", "jsonl")])
def test_a_name_of_ours_wins_over_everything_else(places: Places, kind: str, name: str) -> None:
    places.module("foreign", KINDS[kind])
    places.module(name, KINDS[kind], here=True)
    places.package("foreign", f"[runner.{kind}]\n{name} = foreign\n")
    for found in (plugins.load(kind, name), plugins.registered(kind, name)):
        assert found is not None
        assert found.__name__ == f"{plugins.KINDS[kind].package}.{name}"
    assert "foreign" not in sys.modules


@pytest.mark.parametrize("kind", KINDS)
def test_an_entry_point_is_found_by_its_name_whatever_its_module_is_called(places: Places, kind: str) -> None:
    places.module("inside/deep", KINDS[kind])
    places.package("one-more", f"[runner.{kind}]\nmore-odd.name = inside.deep\n[runner.others]\nmore = nothing\n")
    assert plugins.load(kind, "more-odd.name").__name__ == "inside.deep"
    assert plugins.registered(kind, "more-odd.name") is sys.modules["inside.deep"]
    assert plugins.registered(kind, "more") is None
    assert "more-odd.name" in plugins.known(kind)


def test_an_entry_point_is_imported_only_when_its_name_is_asked_for(places: Places) -> None:
    places.module("explodes", "raise RuntimeError('imported')")
    places.package(
        "loud", "[runner.providers]\nloud = explodes\n[runner.exports]\nloud = explodes\n[runner.inputs]\nloud = explodes\n"
    )
    assert plugins.registered("inputs", "txtt") is None
    assert plugins.load("providers", "anthropic").KEY_ENV == "ANTHROPIC_API_KEY"
    assert "loud" in refusal("providers", "no_such_thing")


def test_an_entry_point_wins_over_a_module_of_the_same_name(places: Places) -> None:
    places.module("twice", PROVIDER)
    places.module("chosen", PROVIDER)
    places.package("chooses", "[runner.providers]\ntwice = chosen\n")
    assert plugins.load("providers", "twice").__name__ == "chosen"


def test_the_same_package_twice_on_the_path_is_one(places: Places, monkeypatch: pytest.MonkeyPatch) -> None:
    places.module("again", PROVIDER)
    places.package("again", "[runner.providers]\nagain = again\n")
    copy = places.site.with_name("copy")
    (copy / "again-1.0.dist-info").mkdir(parents=True)
    for path in (places.site / "again-1.0.dist-info").iterdir():
        (copy / "again-1.0.dist-info" / path.name).write_bytes(path.read_bytes())
    monkeypatch.setattr(sys, "path", [*sys.path, str(copy)])
    assert plugins.load("providers", "again").__name__ == "again"


@pytest.mark.parametrize("kind", ["providers", "exports"])
@pytest.mark.parametrize("name", ["plain", "dotted.inner"])
@pytest.mark.parametrize("here", [False, True])
def test_any_importable_module_with_or_without_a_dot(places: Places, kind: str, name: str, here: bool) -> None:
    """The dotted one is in a folder without __init__.py."""
    places.module(name.replace(".", "/"), KINDS[kind], here=here)
    assert file_of(plugins.load(kind, name)).is_relative_to(places.here if here else places.site)
    assert (sys.path[-1] == str(places.here)) is here
    assert plugins.registered(kind, name) is None


def test_a_module_of_the_current_folder_imports_its_neighbours_also_later(places: Places) -> None:
    places.module("neighbour", "WORD = 'hello'", here=True)
    places.module("early_bird", f"{PROVIDER}\nimport neighbour\ndef later(): import latecomer; return latecomer.WORD", here=True)
    places.module("latecomer", "WORD = 'good night'", here=True)
    module = plugins.load("providers", "early_bird")
    assert (module.neighbour.WORD, module.later()) == ("hello", "good night")
    assert plugins.load("providers", "early_bird") is module
    assert sys.path.count(str(places.here)) == 1


def test_the_current_folder_hides_nothing_that_is_installed(places: Places) -> None:
    """Neither the standard library nor a package. The folder is not on the path until a module of it is loaded."""
    places.module("installed_one", PROVIDER)
    for name in ("installed_one", "tabnanny", "colorsys"):
        places.module(name, PROVIDER, here=True)
    assert file_of(plugins.load("providers", "installed_one")).parent == places.site
    said = refusal("providers", "colorsys")
    assert said.startswith("there is no provider 'colorsys': a module of Python itself has the name colorsys; rename")
    assert str(places.here / "colorsys.py") in said
    assert str(places.here) not in sys.path
    places.module("wanted", PROVIDER, here=True)
    plugins.load("providers", "wanted")
    import tabnanny

    assert file_of(tabnanny).parent == Path(os.__file__).parent


def test_a_package_of_the_current_folder_wins_over_a_mere_folder_elsewhere(places: Places) -> None:
    (places.site / "shared").mkdir()
    places.module("shared/__init__", "", here=True)
    places.module("shared/inner", PROVIDER, here=True)
    assert file_of(plugins.load("providers", "shared.inner")).is_relative_to(places.here)


def test_a_provider_that_is_loaded_already_needs_no_file(places: Places, monkeypatch: pytest.MonkeyPatch) -> None:
    """Such as one defined in a notebook, whose module is ``__main__``."""
    module = ModuleType("typed_in")
    exec(PROVIDER, vars(module))
    monkeypatch.setitem(sys.modules, "typed_in", module)
    assert plugins.load("providers", "typed_in") is module


# -- what is not found


@pytest.mark.parametrize(
    ("kind", "name", "words"),
    [
        ("providers", "opena", "there is no provider 'opena'; did you mean 'openai'?"),
        ("providers", "Simulater", "there is no provider 'Simulater'; did you mean 'simulator'?"),
        ("exports", "csw", "there is no export format 'csw'; did you mean 'csv'?"),
        ("exports", "odt", "there is no export format 'odt', and no module of that name is installed or in the current folder"),
    ],
)
def test_an_unknown_name_gets_the_nearest_name_or_all_names(places: Places, kind: str, name: str, words: str) -> None:
    assert refusal(kind, name).startswith(words)


def test_installed_plugins_are_among_the_available_and_the_nearest(places: Places) -> None:
    places.package("murmurs", "[runner.providers]\nmurmur = murmur\n")
    assert refusal("providers", "murmurr") == "there is no provider 'murmurr'; did you mean 'murmur'?"
    assert refusal("providers", "zzz").endswith("; available: anthropic, murmur, openai, simulator")


@pytest.mark.parametrize("name", [".x", "x.", "a..b", "../x", "./x.py", "a/b", "a b", "a-b", "x\0y", "\N{SNOWMAN}", "1"])
def test_a_name_that_no_module_can_have_is_not_searched_for(places: Places, name: str) -> None:
    assert refusal("providers", name).startswith("there is no provider ")


def test_a_mere_folder_is_no_module(places: Places) -> None:
    """To Python any folder is a package, and the current folder often contains folders."""
    (places.here / "prompts_of_mine").mkdir()
    (places.site / "stray_folder").mkdir()
    for name in ("prompts_of_mine", "stray_folder"):
        assert refusal("providers", name).startswith(f"there is no provider {name!r}, and no module")
    assert refusal("providers", "stray_folder.inner").startswith("the provider module 'stray_folder.inner' cannot be imported")


def test_a_module_named_as_a_file(places: Places) -> None:
    places.module("mine_alone", PROVIDER, here=True)
    hint = "give the module's name without .py: mine_alone"
    assert hint in refusal("providers", "mine_alone.py")
    assert "give the module's name without .py: nowhere" in refusal("providers", "nowhere.py")


@pytest.mark.parametrize(
    ("kind", "name", "missing"),
    [
        ("providers", "pytest", "make, DEFAULT_BASE_URL, KEY_ENV, BASE_URL_ENV"),
        ("providers", "half_done", "KEY_ENV"),
        ("exports", "pytest", "write"),
        # other things of these names
        ("providers", "other_make", "make(base_url, key, version=...), KEY_ENV as a string"),
        ("providers", "no_make", "make(base_url, key, version=...)"),
        ("exports", "other_write", "write(columns, records, out)"),
        ("exports", "written_in_c", "write(columns, records, out)"),
    ],
)
def test_a_module_that_lacks_required_names(places: Places, kind: str, name: str, missing: str) -> None:
    places.module("half_done", PROVIDER.replace("KEY_ENV", "KEYENV"))
    places.module("other_make", PROVIDER.replace("KEY_ENV = 'K'", "KEY_ENV = 5").replace("*a, **k", "base_url"))
    places.module("no_make", f"{PROVIDER}make = 5")
    places.module("other_write", "def write(fd, data): return os.write(fd, data)")
    places.module("written_in_c", "from os import write")
    message = refusal(kind, name)
    assert message.startswith(f"the {plugins.KINDS[kind].word} module {name!r} does not define {missing}")
    assert "); available: " in message


@pytest.mark.parametrize("kind", ["providers", "exports"])
@pytest.mark.parametrize("name", ["json", "json.decoder", "os", "time", "xml", "antigravity"])
def test_a_module_of_python_itself_is_no_plugin_and_is_not_imported(places: Places, kind: str, name: str) -> None:
    message = refusal(kind, name)
    assert message.startswith(f"there is no {plugins.KINDS[kind].word} {name!r}: a module of Python itself has the name ")
    assert "/" not in message
    assert "antigravity" not in sys.modules


def test_a_module_of_ones_own_may_hide_one_of_python(places: Places, monkeypatch: pytest.MonkeyPatch) -> None:
    places.module("antigravity", PROVIDER)
    monkeypatch.setattr(sys, "path", [str(places.site), *sys.path])
    assert file_of(plugins.load("providers", "antigravity")).parent == places.site


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("import no_such_module_of_anybody", "No module named 'no_such_module_of_anybody'"),
        ("x =", "SyntaxError: invalid syntax (breaks.py, line 1)"),
        ("1 / 0", "ZeroDivisionError: division by zero"),
        ("raise SystemExit(7)", "SystemExit: 7"),
        ("raise ImportError", "ImportError"),
        ("raise NotImplementedError", "NotImplementedError"),
    ],
)
@pytest.mark.parametrize("installed", [False, True])
def test_a_module_that_cannot_be_imported(places: Places, text: str, words: str, installed: bool) -> None:
    places.module("breaks", text)
    if installed:
        places.package("bad-one", "[runner.providers]\nbad = breaks\n")
        assert refusal("providers", "bad") == f"the provider 'bad' of the package 'bad-one' cannot be imported: {words}"
    else:
        assert refusal("providers", "breaks") == f"the provider module 'breaks' cannot be imported: {words}"


def test_an_interrupt_while_a_module_is_imported_is_no_error_of_the_module(places: Places) -> None:
    places.module("slow_import", "raise KeyboardInterrupt")
    with pytest.raises(KeyboardInterrupt):
        plugins.load("providers", "slow_import")


@pytest.mark.parametrize("kind", KINDS)
def test_an_entry_point_that_lacks_required_names(places: Places, kind: str) -> None:
    places.module("empty_one", "")
    places.package("hollow", f"[runner.{kind}]\nhollow = empty_one\n")
    word, missing = plugins.KINDS[kind].word, ", ".join(plugins.KINDS[kind].required)
    assert (
        refusal(kind, "hollow") == f"the {word} 'hollow' of the package 'hollow' does not define {missing} (module 'empty_one')"
    )


@pytest.mark.parametrize("value", ["no_such_module_of_anybody", "half_of:nothing", "what is this?", ""])
def test_an_entry_point_that_leads_nowhere(places: Places, value: str) -> None:
    places.module("half_of", "")
    places.package("astray", f"[runner.providers]\nastray = {value}\n")
    assert refusal("providers", "astray").startswith("the provider 'astray' of the package 'astray' cannot be imported: ")


def test_two_packages_with_the_same_name(places: Places) -> None:
    places.module("common", PROVIDER)
    for name in ("second-one", "first-one"):
        places.package(name, "[runner.providers]\ncommon = common\n")
    expected = (
        "the provider 'common' is provided by the package 'first-one' and by the package 'second-one'; uninstall all but one"
    )
    assert refusal("providers", "common") == expected
    # the conflict matters only when the name is loaded
    assert refusal("providers", "commen") == "there is no provider 'commen'; did you mean 'common'?"


def test_a_package_whose_entry_points_cannot_be_read_is_named(places: Places) -> None:
    places.package("rotten", "[runner.providers]\nno value\n")
    assert refusal("providers", "zzz").startswith("the entry points of the package 'rotten' cannot be read (TypeError: ")
    assert plugins.load("providers", "openai").KEY_ENV == "OPENAI_API_KEY"


def test_a_package_whose_entry_points_cannot_be_read_is_in_nobodys_way(places: Places) -> None:
    """What needs no plug-in, and the plug-ins of other packages, work as if it were not installed."""
    places.package("rotten", "[runner.inputs]\nno value\n")
    places.module("reads_it", INPUT)
    places.package("reads", "[runner.inputs]\nmine = reads_it\n")
    for name, fields in (("a.txt", [{"prompt": "x"}]), ("a.mine", [])):
        (places.here / name).write_text('{"prompt": "x"}\n')
        assert [row.fields for row in opening.open_input(places.here / name).read()] == fields
    with pytest.raises(UsageError, match=r"cannot tell the format of .* from its ending; choose csv, jsonl, .* or xlsx with"):
        api.export(places.here / "a.txt", db=places.here / "no.db")


# -- extensions


def test_an_input_format_is_found_by_the_ending_before_gz(places: Places) -> None:
    places.module("reads_it", INPUT)
    places.package("reads", "[runner.inputs]\nmine = reads_it\n")
    for name in ("a.mine", "a.MINE", "a.mine.gz", "a.mine.zst"):
        (places.here / name).write_text("anything")
        assert list(opening.open_input(places.here / name).read()) == []
    (places.here / "a.other").write_text("anything")
    with pytest.raises(UsageError, match=r"a\.other begins with 'anything', which is neither JSON nor a table"):
        opening.open_input(places.here / "a.other")


def test_an_ending_names_no_module(places: Places) -> None:
    """Otherwise the name of a data file would decide which code is run."""
    places.module("mine_too", "raise AssertionError('imported')")
    places.module("mine_too", "raise AssertionError('imported')", here=True)
    for name in ("a.mine_too", "a.json", "a", "a.1", ".mine_too"):
        (places.here / name).write_text('{"prompt": "x"}\n')
        assert [row.fields for row in opening.open_input(places.here / name).read()] == [{"prompt": "x"}], name
    for name in ("a.mine_too", "a.json", "a"):
        with pytest.raises(UsageError, match=r"cannot tell the format of .* from its ending; choose csv, jsonl, .* or xlsx with"):
            api.export(places.here / name, db=places.here / "no.db")


# -- from the command line


def prompts(folder: Path) -> None:
    (folder / "prompts.jsonl").write_text('{"prompt": "x"}\n')


def test_exit_code_2_and_one_sentence(places: Places) -> None:
    prompts(places.here)
    places.module("breaks", "1 / 0", here=True)
    places.module("other", PROVIDER)
    for package in ("one", "two"):
        places.package(package, "[runner.providers]\ncommon = other\n")
    places.package("bad", "[runner.providers]\nbad = no_such_module_of_anybody\n[runner.exports]\nbad = other\n")
    for command, words in (
        (("run", "prompts.jsonl", "--model", "m", "--provider", "breaks"), "ZeroDivisionError"),
        (("check", "prompts.jsonl", "--model", "m", "--provider", "common"), "'one' and by the package 'two'"),
        (("check", "prompts.jsonl", "--model", "m", "--provider", "bad"), "the package 'bad'"),
        (("check", "prompts.jsonl", "--model", "m", "--provider", "json"), "there is no provider 'json': a module of "),
        (("export", "-o", "a.csv", "--format", "os"), "there is no export format 'os': a module of Python itself"),
        (("export", "-o", "a.bad"), "the export format 'bad' of the package 'bad' does not define write"),
        (("export", "-o", "a.txt", "--format", "breaks"), "ZeroDivisionError"),
    ):
        ended = run(*command, cwd=places.here, env=places.env)
        assert (ended.code, ended.out, ended.err.count("\n")) == (2, "", 1), ended
        assert ended.err.startswith("runner: ")
        assert words in ended.err


@pytest.mark.parametrize(
    ("env", "code", "words"),
    [({}, 0, "K"), ({"PYTHONSAFEPATH": "1"}, 2, "and no module of that name is installed; available: ")],
)
def test_the_command_finds_a_module_of_the_current_folder_unless_python_was_told_not_to(
    places: Places, env: Mapping[str, str], code: int, words: str
) -> None:
    prompts(places.here)
    places.module("mine_here", PROVIDER, here=True)
    (places.here / "prompts.toml").write_text('model = "m"\nprovider = "mine_here"\n')
    command = ("check", "prompts.jsonl", "--base-url", "http://localhost:1")
    if code == 0:
        # a job file may not decide alone what code is run
        with installed(*command, cwd=places.here, env={**env, "K": "a-key-of-mine"}) as process:
            ended = process.ended()
        assert (ended.code, "wants to run the module mine_here" in ended.err) == (2, True), ended
    with installed(*command, "--trust", cwd=places.here, env={**env, "K": "a-key-of-mine"}) as process:
        ended = process.ended()
    assert ended.code == code, ended
    assert words in ended.out + ended.err
    # the folder of the job file is not the current one
    with installed("check", "here/prompts.jsonl", cwd=places.here.parent, env=env) as process:
        ended = process.ended()
    assert ended.code == 2
    assert "there is no provider 'mine_here'" in ended.err


@pytest.mark.parametrize("load", ["", "from runner.config import plugins; plugins.load('providers', 'openai')"])
def test_a_name_of_ours_does_not_look_at_the_installed_packages(load: str) -> None:
    """The first case shows that the dialect does not load the metadata either; without it, the second would prove nothing."""
    code = f"import sys, runner.providers.dialects.openai; {load or 'pass'}; print('importlib.metadata' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"
