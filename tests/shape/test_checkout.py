"""The tests test the code that they stand beside, however they are started."""

import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
PROBE = """
import signal, subprocess, sys
from processes import environment, installed, run, runner
VERSION = "runner, version 0.0.0+copy"
PYTHON = "import runner.version, signal; print(runner.version.__version__, signal.getsignal(signal.SIGINT).__name__)"
HUNG_UP = "import signal; print(signal.getsignal(signal.SIGHUP) is signal.SIG_DFL)"

def test_probe(tmp_path):
    assert run("--version", cwd=tmp_path).out.strip() == VERSION
    with runner("--version", cwd=tmp_path, fresh=True) as process:
        assert process.ended().out.strip() == VERSION
    with installed("--version", cwd=tmp_path, env={"PYTHONPATH": str(tmp_path)}) as process:
        assert process.ended().out.strip() == VERSION
    for env in (None, environment()):
        said = subprocess.run([sys.executable, "-c", PYTHON], cwd=tmp_path, env=env, capture_output=True, text=True).stdout
        assert said.split() == ["0.0.0+copy", "default_int_handler"]
        said = subprocess.run([sys.executable, "-c", HUNG_UP], cwd=tmp_path, env=env, capture_output=True, text=True).stdout
        assert said.strip() == "True"
"""


def test_a_copy_tests_itself_also_in_the_background(tmp_path: Path) -> None:
    """As ``nohup python -m pytest &`` in a copy of the repository, with the package of another one installed."""
    for name in ("runner", "migrations", "tests/support"):
        shutil.copytree(ROOT / name, tmp_path / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "tests/conftest.py"):
        shutil.copy(ROOT / name, tmp_path / name)
    (tmp_path / "runner" / "version.py").write_text('__version__ = "0.0.0+copy"\n')
    (tmp_path / "tests" / "test_probe.py").write_text(PROBE)
    command = ["sh", "-c", 'trap "" INT HUP; exec "$0" -m pytest -n 0 tests', sys.executable]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-3000:]
