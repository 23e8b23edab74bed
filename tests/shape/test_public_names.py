"""Everything that a person can reach has a name of its own and says what it is."""

import ast
import functools
import inspect
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
import pytest

import runner
from runner.cli.commands import cli
from runner.cli.typed import ORDER
from runner.config.settings import SETTINGS
from runner.errors import ADVICE
from runner.providers.http import Timeouts

PACKAGE = Path(runner.__file__).parent
MODULES = sorted(PACKAGE.rglob("*.py"))
FORBIDDEN = {"util", "utils", "helper", "helpers", "base", "common", "manager", "managers"}
NAMES = [str(path.relative_to(PACKAGE)) for path in MODULES]


def tree(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"))


def public(body: list[ast.stmt], prefix: str = "") -> Iterator[tuple[str, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef]]:
    """Functions, classes and their methods, but nothing inside a function or below a private name."""
    for node in body:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef) and not node.name.startswith("_"):
            # only the last of the forms of a function has a docstring
            if "overload" not in {one.id for one in node.decorator_list if isinstance(one, ast.Name)}:
                yield f"{prefix}{node.name}", node
            if isinstance(node, ast.ClassDef):
                yield from public(node.body, f"{prefix}{node.name}.")


@pytest.mark.parametrize("name", runner.__all__)
def test_public_names_resolve_and_say_what_they_are(name: str) -> None:
    value = getattr(runner, name)
    if not isinstance(value, str):
        assert (inspect.getdoc(value) or "").strip()
        # a class without a docstring would show its parent's
        assert value.__doc__


def test_public_names_are_complete_sorted_and_nothing_else() -> None:
    assert sorted(runner.__all__) == dir(runner)
    assert len(set(runner.__all__)) == len(runner.__all__)
    with pytest.raises(AttributeError, match="has no attribute 'nothing'"):
        _ = runner.nothing


def test_the_lazy_names_are_those_that_type_checkers_see() -> None:
    seen = {
        alias.name
        for node in ast.walk(tree(PACKAGE / "__init__.py"))
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("runner.")
        for alias in node.names
    }
    assert seen == set(runner.__all__)


def test_every_module_and_every_public_function_class_and_method_says_what_it_is_for() -> None:
    assert len(MODULES) > 100
    silent = []
    for path, name in zip(MODULES, NAMES, strict=True):
        module = tree(path)
        for inside, node in (("", module), *public(module.body)):
            if not (ast.get_docstring(node) or "").strip():
                silent.append(f"{name} {inside}".strip())
    assert silent == []


def test_no_name_means_anything_and_everything() -> None:
    paths = [path for path in PACKAGE.rglob("*") if "__pycache__" not in path.parts]
    assert [path for path in paths if FORBIDDEN.intersection(path.stem.split("_"))] == []


def commands() -> dict[str, click.Command]:
    return {"": cli, **cli.commands}


@pytest.mark.parametrize("name", commands())
def test_every_command_and_every_option_has_help(name: str) -> None:
    command = commands()[name]
    assert (command.help or "").strip()
    with click.Context(command, info_name="runner") as context:
        for parameter in command.get_params(context):
            if isinstance(parameter, click.Option):
                assert (parameter.help or "").strip(), parameter.name


def test_every_command_has_its_place_in_the_help() -> None:
    assert sorted(ORDER) == sorted(cli.commands)


def test_every_setting_is_an_option_of_run_of_check_and_of_try() -> None:
    for command in (cli.commands["run"], cli.commands["check"], cli.commands["try"]):
        options = {word for parameter in command.params for word in parameter.opts}
        assert {setting.option for setting in SETTINGS} <= options


# --- error codes ------------------------------------------------------------------------------------------------------


def texts(node: ast.AST) -> set[str]:
    return {one.value for one in ast.walk(node) if isinstance(one, ast.Constant) and isinstance(one.value, str)}


def calls(module: ast.Module) -> Iterator[ast.Call]:
    return (node for node in ast.walk(module) if isinstance(node, ast.Call))


def name_of(call: ast.Call) -> str:
    return call.func.id if isinstance(call.func, ast.Name) else getattr(call.func, "attr", "")


def given(call: ast.Call, keyword: str) -> ast.expr | None:
    return next((one.value for one in call.keywords if one.arg == keyword), None)


def plain(node: ast.expr | None) -> set[str]:
    """The texts that an expression may be: itself, or the arms of a choice."""
    if isinstance(node, ast.IfExp):
        return plain(node.body) | plain(node.orelse)
    return {node.value} if isinstance(node, ast.Constant) and isinstance(node.value, str) else set()


def assigned(module: ast.Module, name: str) -> ast.expr:
    for node in module.body:
        target: Any = (
            node.target if isinstance(node, ast.AnnAssign) else node.targets[0] if isinstance(node, ast.Assign) else None
        )
        if isinstance(target, ast.Name) and target.id == name and isinstance(node, ast.Assign | ast.AnnAssign):
            assert node.value is not None
            return node.value
    raise AssertionError(f"{name} is not assigned")


@functools.cache
def codes() -> set[str]:
    """Every error code that the package can produce, read off its source; the simulator is the other side."""
    found = texts(assigned(tree(PACKAGE / "providers" / "rules.py"), "Code"))
    for name in ("BAD_ROW", "ATTACHMENT", "INVALID_OUTPUT", "STOPPED_BY_RULE"):
        found |= texts(assigned(tree(PACKAGE / "errors.py"), name))
    found |= texts(assigned(tree(PACKAGE / "engine" / "giving_up.py"), "CANCELLED"))
    # AttemptTimeoutError makes its code from the timeout that expired
    found |= {f"timeout_{name.removesuffix('_s')}" for name in Timeouts.__struct_fields__ if name.endswith("_s")}
    for path in MODULES:
        if "simulator" in path.parts:
            continue
        for call in calls(tree(path)):
            found |= plain(given(call, "code")) | plain(given(call, "error_code"))
            if name_of(call) == "Ruling":
                found |= plain(call.args[0])
    return found


def test_the_codes_are_found() -> None:
    assert {"auth", "bad_row", "cut", "dns", "timeout_silence", "truncated", "internal"} <= codes()
    assert len(codes()) > 20


def test_every_error_code_has_advice() -> None:
    assert codes() - set(ADVICE) == set()


def test_no_advice_is_for_a_code_that_does_not_exist() -> None:
    assert set(ADVICE) - codes() == set()


@pytest.mark.parametrize("code", sorted(ADVICE))
def test_advice_is_one_sentence_and_names_only_commands_and_options_that_exist(code: str) -> None:
    words = ADVICE[code]
    assert words.endswith(".")
    parameters = [parameter for command in commands().values() for parameter in command.params]
    options = {option for parameter in parameters for option in (*parameter.opts, *parameter.secondary_opts)}
    for word in re.sub(r"[,;.`]", " ", words).split():
        if word.startswith("--"):
            assert word in options
    for part in words.split("`")[1::2]:
        assert part.split()[0] == "runner"
        assert part.split()[1] in cli.commands
