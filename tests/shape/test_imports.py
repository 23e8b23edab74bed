"""Help and import cost nothing: the heavy libraries are loaded when a command needs them."""

import subprocess
import sys

import pytest

HEAVY = {
    "sqlalchemy",
    "alembic",
    "aiosqlite",
    "httpx",
    "aiohttp",
    "tqdm",
    "msgspec",
    "anyio",
    "uvloop",
    "aiolimiter",
    "opentelemetry",
}

REPORT = """
import sys
{code}
print(*sorted({{name.partition(".")[0] for name in sys.modules}}), file=sys.stderr)
"""

MAIN = """
import runner.cli.main
sys.argv = {argv!r}
try:
    runner.cli.main.main()
except SystemExit as end:
    assert end.code == 0, end.code
"""


def loaded(code: str) -> set[str]:
    """Run code in a fresh interpreter and give the top-level modules it has loaded."""
    done = subprocess.run([sys.executable, "-c", REPORT.format(code=code)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return set(done.stderr.split())


def test_the_measure_works() -> None:
    assert HEAVY & loaded("import runner.api")


def test_importing_the_package_loads_nothing_heavy() -> None:
    assert loaded("import runner") & HEAVY == set()


@pytest.mark.parametrize("arguments", ["--help", "--version", "run --help", "export --help", "simulate --help"])
def test_help_loads_nothing_heavy(arguments: str) -> None:
    assert loaded(MAIN.format(argv=["runner", *arguments.split()])) & HEAVY == set()


def test_errors_can_be_named_without_anything_heavy() -> None:
    assert loaded("from runner import RunnerError, StoreError, UsageError") & HEAVY == set()


def test_commands_that_only_read_load_no_http_library_and_no_migrations() -> None:
    assert loaded("import runner.store.reader, runner.cli.output") & {"alembic", "aiosqlite"} == set()


def test_a_run_loads_no_server_no_migrations_and_no_report() -> None:
    code = "import sys, runner.api, runner.cli.foreground; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    other = {"jinja2", "runner.simulator", "runner.exports.report", "runner.session.comparing", "aiohttp.web", "alembic"}
    assert (other | {"opentelemetry"}) & set(done.stdout.split()) == set()


def test_a_module_run_is_the_command() -> None:
    done = subprocess.run([sys.executable, "-m", "runner", "--help"], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert "Usage: " in done.stdout
