"""What every test shares."""

import atexit
import gc
import inspect
import os
import shutil
import signal
import ssl
import subprocess
import sys
import tempfile
import time
from collections.abc import Generator, Iterator
from pathlib import Path
from types import FunctionType
from typing import Any

import compiled_once
import pytest
from hypothesis import settings

# Hundreds of processes load the same files. Where bytecode must not be kept, each of them would compile these first.
sys.dont_write_bytecode = False
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)

CHECKOUT = str(Path(__file__).parents[1])
# The code of this checkout is tested, here and in every child, also where another one is installed.
sys.path.insert(0, CHECKOUT)
os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, (CHECKOUT, os.environ.get("PYTHONPATH"))))
runner_file = __import__("runner").__file__
if Path(runner_file).parents[1] != Path(CHECKOUT):
    pytest.exit(f"the tests of {CHECKOUT} would test {runner_file}", returncode=4)

# A shell that starts us in the background, or nohup, has us ignore these, and our children would ignore them too. What is
# caught is not inherited, and pytest itself goes on as before.
for kind in (signal.SIGINT, signal.SIGHUP):
    if signal.getsignal(kind) is signal.SIG_IGN:
        signal.signal(kind, lambda *_: None)

# Where the variable names what is used without it, each run would load all certificates to check it, which takes 16 ms.
_CERTIFICATES = Path(ssl.get_default_verify_paths().openssl_cafile)
if Path(os.environ.get("SSL_CERT_FILE", "")).resolve() == _CERTIFICATES.resolve():
    del os.environ["SSL_CERT_FILE"]
compiled_once.install()
# until all tests are collected, which makes a million objects that stay
gc.disable()

# no deadline: how long an example takes says more about the machine than about the code
settings.register_profile("runner", deadline=None)
settings.load_profile("runner")

TESTS = Path(__file__).parent
QUICK = ("unit", "shape", "conformance")
"""Folders whose tests are quick, but for those that start a process, and for those below."""
SLOW = {
    # makes a wheel
    "test_wheel.py",
    # outages of ten minutes, and servers that change their mind: 20 s of processor time each, although their clock is virtual
    "test_outage.py",
    "test_slots.py",
    "test_forecast.py",
    # whole runs
    "test_reading.py",
}


LONG = ("test_kills.py", "test_docstrings.py", "test_ten_ways.py", "test_time.py")
"""Files whose tests take longest, up to a minute each."""


# Runs of two test sessions, or of their processes, must not find each other, and the path of a socket must be short.
_RUNTIME = tempfile.mkdtemp(prefix="rt-", dir="/tmp")
os.environ["XDG_RUNTIME_DIR"] = _RUNTIME
atexit.register(shutil.rmtree, _RUNTIME, ignore_errors=True)


@pytest.fixture(scope="session", autouse=True)
def _configuration_of_its_own(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """What tests allow a server must not be remembered for the user who runs them."""
    before = os.environ.get("XDG_CONFIG_HOME")
    os.environ["XDG_CONFIG_HOME"] = str(tmp_path_factory.mktemp("configuration"))
    yield
    # processes of xdist do not call what is registered for their exit
    shutil.rmtree(_RUNTIME, ignore_errors=True)
    del os.environ["XDG_CONFIG_HOME"]
    if before is not None:
        os.environ["XDG_CONFIG_HOME"] = before


@pytest.fixture
def anyio_backend() -> str:
    """Aiolimiter and aiosqlite live on asyncio only, so do we."""
    return "asyncio"


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_collection() -> Generator[None, Any, Any]:
    """Let the first worker compile the tests, and the others load what it has kept: each would do the same work otherwise."""
    worker, run = (os.environ.get(f"PYTEST_XDIST_{name}", "") for name in ("WORKER", "TESTRUNUID"))
    compiled = Path(tempfile.gettempdir()) / f"runner-tests-{run}"
    if worker not in ("", "gw0"):
        # without the first worker, they do it themselves
        end = time.monotonic() + 60
        while not compiled.exists() and time.monotonic() < end:
            time.sleep(0.1)
    try:
        return (yield)
    finally:
        if worker == "gw0":
            compiled.touch()
            atexit.register(compiled.unlink, missing_ok=True)


def pytest_collection_finish() -> None:
    """Take the thousands of tests out of the garbage collector's rounds: that is 5 % of the time."""
    gc.collect()
    gc.freeze()
    gc.enable()


def pytest_runtest_teardown(item: pytest.Item) -> None:
    """Collect the tasks of a property test in which an example was given up.

    asyncio logs each with its traceback when it is collected. Inside of ``ast.parse`` of another test that is a SystemError in
    Python 3.11, as the traceback is parsed too.
    """
    with_loop = "anyio_backend" in getattr(item, "fixturenames", ())
    if with_loop and getattr(getattr(item, "function", None), "is_hypothesis_test", False):
        gc.collect()


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """Pass the folders by in which the inner loop has no test; to look through them takes seconds."""
    passed_by = config.option.markexpr == "quick" and collection_path.parent == TESTS and collection_path.name not in QUICK
    return True if passed_by and collection_path.is_dir() else None


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark the tests of the inner loop."""
    for item in items:
        quick = item.path.relative_to(TESTS).parts[0] in QUICK and item.path.name not in SLOW
        if quick and isinstance(item, pytest.Function) and not _starts_process(inspect.unwrap(item.function), set()):
            item.add_marker("quick")
    items[:] = _long_ones_first(items)


def _long_ones_first(items: list[pytest.Item]) -> list[pytest.Item]:
    """Let each worker begin with its part of the longest tests, then of those that wait for processes, and end with quick ones.

    A worker gets a stretch of the list, and takes over from others when it is done: with quick tests at the end, all are done at
    the same time.
    """
    workers = int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1"))
    long = [item for item in items if item.path.name in LONG]
    flow = [item for item in items if item.path.parent.name == "flow" and item.path.name not in LONG]
    taken = {*long, *flow}
    quick = [item for item in items if item not in taken]
    ordered: list[pytest.Item] = []
    for number in range(workers):
        ordered += long[number::workers]
        for kind in (flow, quick):
            ordered += kind[len(kind) * number // workers : len(kind) * (number + 1) // workers]
    return ordered


def _starts_process(function: FunctionType, seen: set[FunctionType]) -> bool:
    """Return True if a function, or one of the same file that it names, uses ``subprocess`` or ``support/processes.py``."""
    seen.add(function)
    for name in function.__code__.co_names:
        named = function.__globals__.get(name)
        if named is subprocess or getattr(named, "__module__", None) == "processes":
            return True
        own = isinstance(named, FunctionType) and named.__module__ == function.__module__ and named not in seen
        if own and _starts_process(named, seen):
            return True
    return False
