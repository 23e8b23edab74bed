"""The script of docs/guides/slurm.md waits for its server, stops at Slurm's signal and continues; nothing is paid twice."""

import csv
import os
import re
import shlex
import signal
import subprocess
import sys
from pathlib import Path

from processes import count, environment, free_port, simulator, until

GUIDE = (Path(__file__).parents[2] / "docs" / "guides" / "slurm.md").read_text(encoding="utf-8")
(SCRIPT,) = re.findall(r"<!-- file: reviews.sbatch -->\n```sh\n(.*?)^```", GUIDE, re.DOTALL | re.MULTILINE)
ROWS = 60


def started(folder: Path, node: Path) -> "subprocess.Popen[bytes]":
    path = os.pathsep.join([str(folder / "bin"), os.environ["PATH"]])
    env = environment({"TMPDIR": str(node), "PATH": path, "RUNNER_CONCURRENCY": "4"})
    with (folder / "slurm.out").open("ab") as out:
        # a session of its own, as Slurm's
        return subprocess.Popen(["bash", "reviews.sbatch"], cwd=folder, env=env, stdout=out, stderr=out, start_new_session=True)


def test_the_job_waits_for_its_server_stops_at_the_signal_and_continues_when_it_is_queued_again(tmp_path: Path) -> None:
    (tmp_path / "bin").mkdir()
    command = tmp_path / "bin" / "runner"
    command.write_text(f'#!/bin/sh\nexec {shlex.quote(sys.executable)} -m runner "$@"\n')
    command.chmod(0o755)
    # the pauses of the script are shorter here, and noted
    pause = tmp_path / "bin" / "sleep"
    pause.write_text(f"#!/bin/sh\ntouch {shlex.quote(str(tmp_path / 'waited'))}\nexec /bin/sleep 0.1\n")
    pause.chmod(0o755)
    (tmp_path / "reviews.csv").write_text("id,text\n" + "".join(f"r{n},Fine {n}.\n" for n in range(ROWS)))
    nodes = [tmp_path / "node-1", tmp_path / "node-2"]
    for node in nodes:
        node.mkdir()
    port = free_port()
    (tmp_path / "reviews.sbatch").write_text(SCRIPT.replace("http://gpu-node:8000/v1", f"http://127.0.0.1:{port}/v1"))
    job = started(tmp_path, nodes[0])
    until((tmp_path / "waited").exists, "a look for a server that is not there yet")
    with simulator("--first-token-s", "0.1", "--chunk-s", "0", "--tokens", "6", "--port", str(port)) as server:
        until(lambda: count(nodes[0] / "reviews.db", where="status = 'done'") >= 5, "the first answers")
        job.send_signal(signal.SIGUSR1)
        assert job.wait(60) not in (0, 1), "the exit code of runner"
        kept = count(tmp_path / "reviews.db", where="status = 'done'")
        assert 5 <= kept < ROWS, (tmp_path / "slurm.out").read_text()
        with (tmp_path / "answers.csv").open(newline="") as file:
            assert len(list(csv.DictReader(file))) == kept
        assert started(tmp_path, nodes[1]).wait(60) == 0
        assert count(tmp_path / "reviews.db", where="status = 'done'") == ROWS
        assert server.sent() == ROWS
        assert server.invoice()["doubled"] == 0
