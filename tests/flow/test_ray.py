"""The engine ray, on real clusters of two nodes: `make ray`. They need a network namespace of their own, and 250 MB of Ray."""

import importlib.util
import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

SCRIPT = Path(__file__).parents[1] / "support" / "ray_cluster.py"
ALONE = ("unshare", *(() if os.geteuid() == 0 else ("-r",)), "-n", "-p", "-f", "--mount-proc", "--kill-child")
"""Starts a command with no network but loopback, and ends all that it starts. Not as root: where users may have namespaces."""


def _missing() -> str | None:
    if importlib.util.find_spec("ray") is None:
        return "not run: the extra ray is not installed; `make ray` installs it elsewhere and runs this"
    if shutil.which("unshare") is None or subprocess.run([*ALONE, "true"], capture_output=True, check=False).returncode:
        return "not run: a network namespace of its own is needed, as Ray listens on all interfaces"
    return None


pytestmark = pytest.mark.skipif(_missing() is not None, reason=_missing() or "")


@pytest.fixture
def folder() -> Iterator[Path]:
    # the sockets of Ray have long names, for which a folder of pytest has no room
    with tempfile.TemporaryDirectory(prefix="r") as made:
        yield Path(made)


def result(scenario: str, folder: Path) -> dict[str, Any]:
    done = subprocess.run(
        [*ALONE, sys.executable, str(SCRIPT), scenario, str(folder)], capture_output=True, text=True, timeout=600, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr + "".join(file.read_text() for file in folder.glob("run.*"))
    found: dict[str, Any] = json.loads((folder / "result.json").read_text())
    return found


def test_a_run_has_its_workers_in_a_cluster_of_two_nodes_on_one_machine(folder: Path) -> None:
    found = result("plain", folder)
    assert (found["code"], found["sent"], found["left"], found["actors"]) == (0, 60, 0, 0), found["words"]
    assert found["cluster_lives"]
    # nothing of Ray is on the terminal
    assert "raylet" not in found["words"]
    assert "core_worker" not in found["words"]


def test_a_killed_actor_a_frozen_worker_and_a_killed_raylet_cost_what_was_out(folder: Path) -> None:
    found = result("faults", folder)
    assert found["code"] == 0, found["words"]
    assert "900 done, 0 failed of 900 rows" in found["words"]
    # each worker that was lost had all slots at most; on a busy machine more are lost than the two
    assert 900 <= found["sent"] <= 900 + found["words"].count(" was lost: ") * 16
    assert found["killed_at"] < 900
    assert (found["left"], found["actors"]) == (0, 0)
    assert found["cluster_lives"]
    # the key of the nodes is in no memory of the control store, and in no log
    assert found["key_in_control"] == [False]
    assert found["logs"] == []
    print({name: found[name] for name in ("killed_s", "frozen_s")})


def test_when_the_run_is_killed_its_actors_end_with_its_workers(folder: Path) -> None:
    found = result("killed", folder)
    assert (found["left"], found["actors"]) == (0, 0)


def test_what_cannot_be_is_one_sentence(folder: Path) -> None:
    found = result("refused", folder)
    start = "start one (ray start --head), or name it: --address HOST:PORT"
    assert found["nobody"] == f"runner: no Ray cluster is found at 127.0.0.1:6555; {start}\n"
    assert "and these cannot reach 127.0.0.1:" in found["loopback"]
    assert (found["nobody_code"], found["loopback_code"], found["lame_code"]) == (2, 2, 3)
    assert "ended with exit code 1: /no/such/runner: No such file or directory" in found["lame"]
