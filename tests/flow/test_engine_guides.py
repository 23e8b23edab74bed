"""The guides for workers by Slurm and Kubernetes: their commands and files run, against clusters on this machine."""

import re
import shlex
import sys
from collections.abc import Iterator
from pathlib import Path

import clusters
import pytest
from clusters import Cluster
from doc_blocks import blocks
from processes import Ended, Simulated, Started, count, environment, simulator, until

GUIDES = Path(__file__).parents[2] / "docs" / "guides"
ROWS = 24
HERE = "--listen 127.0.0.1 --engine-option connect=127.0.0.1"
"""What stands here for an address that other machines reach."""


@pytest.fixture
def server() -> Iterator[Simulated]:
    with simulator("--first-token-s", "0.1", "--chunk-s", "0", "--tokens", "6") as started:
        yield started


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    made = tmp_path / "mine"
    made.mkdir()
    (made / "reviews.csv").write_text("id,text\n" + "".join(f"r{n},Fine {n}.\n" for n in range(ROWS)))
    (made / "prompts.jsonl").write_text("".join(f'{{"id": "r{n}", "prompt": "Say {n}."}}\n' for n in range(ROWS)))
    return made


def files(page: str) -> dict[str, str]:
    return {block.notes["file"]: block.text for block in blocks(GUIDES / page) if "file" in block.notes}


def commands(page: str, word: str) -> list[str]:
    """Return the commands of a page that begin with a word."""
    found = [command for block in blocks(GUIDES / page) if block.kind == "shell" for command in block.commands()]
    return [command for command in found if command.startswith(word)]


def shell(text: str, folder: Path, cluster: Cluster, **variables: str) -> Started:
    env = environment({"PATH": cluster.path, "TMPDIR": str(folder.parent), **variables})
    return Started(["bash", "-c", text], cwd=folder, env=env)


def ended(text: str, folder: Path, cluster: Cluster, **variables: str) -> Ended:
    with shell(text, folder, cluster, **variables) as process:
        return process.ended()


def test_the_script_with_workers_by_slurm(folder: Path, server: Simulated, tmp_path: Path) -> None:
    script = files("slurm.md")["workers.sh"]
    assert " --listen login-node " in script
    script = script.replace("--listen login-node", HERE).replace("http://gpu-node:8000/v1", server.base_url("openai"))
    (folder / "workers.sh").write_text(script)
    with clusters.slurm(tmp_path / "cluster") as cluster:
        clusters.real_runner(cluster.bin / "runner")
        done = ended("sh workers.sh", folder, cluster)
        assert done.code == 0, done.err
        (array,) = cluster.folder.glob("*.script")
        assert {"#SBATCH --partition=cpu", "#SBATCH --time=04:00:00", "#SBATCH --array=0-3"} <= set(
            array.read_text().splitlines()
        )
    assert count(tmp_path / "reviews.db", where="status = 'done'") == ROWS
    assert server.sent() == ROWS


def test_pairs_of_a_server_and_a_worker_by_slurm(folder: Path, server: Simulated, tmp_path: Path) -> None:
    pairs = files("slurm.md")["pairs.sbatch"]
    address = re.compile(r"login-node:7070")
    with clusters.slurm(tmp_path / "cluster") as cluster:
        clusters.real_runner(cluster.bin / "runner")
        # the server that stands for vLLM is there already
        clusters.program(cluster.bin / "vllm", "#!/bin/sh\nexec sleep 300\n")
        (run,) = commands("slurm.md", "runner run reviews.csv --prompt")[-1:]
        assert address.search(run)
        run = address.sub("127.0.0.1", run).replace("/tmp/reviews.db", str(tmp_path / "reviews.db"))
        with shell(run, folder, cluster) as going:
            going.until(lambda: list(tmp_path.glob("reviews.db.*.token")), "the token")
            (token,) = tmp_path.glob("reviews.db.*.token")
            where = f"127.0.0.1:{token.name.split('.')[-2]}"
            script = address.sub(where, pairs).replace("http://localhost:8000/v1", server.base_url("openai"))
            (folder / "pairs.sbatch").write_text(script.replace("--gpus-per-task=1", "--ntasks=1"))
            sent = ended(
                f"sbatch --output={shlex.quote(str(tmp_path))}/%A_%a.log pairs.sbatch", folder, cluster, TOKEN_FILE=str(token)
            )
            assert sent.code == 0, sent.err
            done = going.ended()
            assert done.code == 0, done.err + done.out
        # the scripts end their servers
        until(lambda: len(list(cluster.folder.glob("*.exit"))) == 2, "the end of the scripts")
    # the workers sent to the server beside them, and the run never did
    assert server.sent() == ROWS
    assert count(tmp_path / "reviews.db", where="status = 'done'") == ROWS


def test_the_guide_for_kubernetes(folder: Path, server: Simulated, tmp_path: Path) -> None:
    secret = files("kubernetes.md")["keys.env"]
    (folder / "keys.env").write_text(secret.replace("sk-...", "sk-canary-1234567890"))
    (make,) = commands("kubernetes.md", "kubectl create secret")
    run, by_hand = commands("kubernetes.md", "runner run")
    (apply,), (delete,) = commands("kubernetes.md", "kubectl apply"), commands("kubernetes.md", "kubectl delete")
    given = {"OPENAI_API_KEY": "sk-canary-1234567890", "RUNNER_MODEL": "m", "RUNNER_BASE_URL": server.base_url("openai")}
    with clusters.kubernetes(tmp_path / "cluster") as cluster:
        clusters.real_runner(cluster.folder / "bin" / "runner")
        clusters.program(cluster.bin / "runner", f'#!/bin/sh\nexec {shlex.quote(sys.executable)} -m runner "$@"\n')
        assert ended(make, folder, cluster).code == 0
        done = ended(here(run), folder, cluster, **given)
        assert done.code == 0, done.err + done.out
        assert server.sent() == ROWS
        assert [file.name for file in cluster.folder.glob("job.*")] == []
        with shell(f"{here(by_hand)} --new", folder, cluster, RUNNER_REUSE="false", **given) as going:
            going.until((folder / "workers.json").exists, "the manifest")
            assert ended(apply, folder, cluster).code == 0
            done = going.ended()
            assert done.code == 0, done.err + done.out
        assert server.sent() == 2 * ROWS
        assert list(cluster.folder.glob("job.*"))
        assert ended(delete, folder, cluster).code == 0
        assert list(cluster.folder.glob("job.*")) == []
        assert "sk-canary" not in (cluster.folder / "calls").read_text()


def here(command: str) -> str:
    assert "--listen 10.0.0.5 " in command
    return command.replace("--listen 10.0.0.5", HERE)
