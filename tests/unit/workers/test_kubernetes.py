"""The engine kubernetes: the manifest, where the key and the token come from, and what the pods tell."""

import base64
import json
from collections.abc import Iterator
from pathlib import Path

import anyio
import clusters
import pytest
from clusters import Cluster, eventually

from runner.errors import UsageError
from runner.interfaces import Invitation
from runner.workers.engines import kubernetes

pytestmark = pytest.mark.anyio
IMAGE = "registry.example/runner:1"
INVITATION = Invitation(address="10.0.0.5:7070", token="a-token", variables=(), command=())
WITH_KEY = Invitation(address="10.0.0.5:7070", token="a-token", variables=("HTTPS_PROXY", "WORKER_KEY"), command=())


@pytest.fixture
def cluster(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Cluster]:
    with clusters.kubernetes(tmp_path / "cluster") as made:
        clusters.stand_in(made, made.folder / "bin" / "runner")
        monkeypatch.setenv("PATH", made.path)
        monkeypatch.setattr(kubernetes, "LOOK_S", 0.02)
        monkeypatch.chdir(tmp_path)
        yield made


def kept(cluster: Cluster, kind: str) -> list[dict]:
    return [json.loads(file.read_text()) for file in sorted(cluster.folder.glob(f"{kind}.*.json"))]


async def first(engine: kubernetes.Kubernetes) -> str:
    """Return the first notice."""
    with anyio.fail_after(60):
        async for notice in engine.watch():
            return notice
    raise AssertionError("no notice")


def test_an_image_is_needed() -> None:
    with pytest.raises(UsageError, match="add --engine-option image=IMAGE"):
        kubernetes.make({})


async def test_the_job_is_what_was_asked_for_and_one_failure_ends_no_other_worker(cluster: Cluster) -> None:
    options = {"image": IMAGE, "namespace": "batch", "cpus": "500m", "memory": "1Gi", "address": "prod"}
    engine = kubernetes.make(options)
    await engine.start(2, INVITATION)
    assert all(call[:3] == ["kubectl", "--context=prod", "--namespace=batch"] for call in cluster.calls)
    (job,) = kept(cluster, "job")
    spec = job["spec"]
    assert (spec["parallelism"], spec["completions"], spec["completionMode"], spec["backoffLimitPerIndex"]) == (
        2,
        2,
        "Indexed",
        0,
    )
    assert spec["ttlSecondsAfterFinished"] > 0
    pod = spec["template"]["spec"]
    assert pod["restartPolicy"] == "Never"
    assert pod["containers"][0]["resources"] == {"requests": {"cpu": "500m", "memory": "1Gi"}}
    assert pod["containers"][0]["command"] == ["runner", "worker", "--connect", "10.0.0.5:7070"]
    assert "a-token" not in json.dumps(job)
    (secret,) = kept(cluster, "secret")
    assert base64.b64decode(secret["data"]["token"]) == b"a-token"
    # the Secret goes with the Job, also where the run was killed
    assert [(owner["name"], owner["uid"]) for owner in secret["metadata"]["ownerReferences"]] == [
        (job["metadata"]["name"], job["metadata"]["uid"])
    ]
    await engine.end()
    assert [kept(cluster, kind) for kind in ("job", "secret", "pod")] == [[], [], []]


async def test_the_key_comes_from_a_secret_of_the_user_and_never_from_here(
    cluster: Cluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WORKER_KEY", "sk-of-the-shell")
    with pytest.raises(UsageError, match=r"the workers need WORKER_KEY, .* add --engine-option secret=NAME"):
        await kubernetes.make({"image": IMAGE}).start(1, WITH_KEY)
    (tmp_path / "keys.env").write_text("WORKER_KEY=sk-of-the-cluster\n")
    make = [str(cluster.bin / "kubectl"), "create", "secret", "generic", "keys", "--from-env-file=keys.env"]
    await anyio.run_process(make)
    engine = kubernetes.make({"image": IMAGE, "secret": "keys"})
    await engine.start(2, WITH_KEY)
    await eventually(lambda: len(cluster.workers) == 2, "two workers")
    assert cluster.workers == [["10.0.0.5:7070", "a-token", "sk-of-the-cluster"]] * 2
    await engine.end()
    # the Secret of the user stays
    assert [secret["metadata"]["name"] for secret in kept(cluster, "secret")] == ["keys"]
    assert "sk-of-the-shell" not in (cluster.folder / "calls").read_text()


async def test_a_manifest_that_is_written_can_be_applied_and_is_for_its_owner_alone(cluster: Cluster, tmp_path: Path) -> None:
    engine = kubernetes.make({"image": IMAGE, "manifest": "workers.json"})
    await engine.start(2, INVITATION)
    assert cluster.calls == []
    file = tmp_path / "workers.json"
    assert file.stat().st_mode & 0o777 == 0o600
    assert await first(engine) == "start the workers with: kubectl apply -f workers.json; the same with delete removes them"
    await anyio.run_process([str(cluster.bin / "kubectl"), "apply", "-f", "workers.json"])
    await eventually(lambda: len(cluster.workers) == 2, "two workers")
    assert cluster.workers == [["10.0.0.5:7070", "a-token", "none"]] * 2
    await engine.end()
    await anyio.run_process([str(cluster.bin / "kubectl"), "delete", "-f", "workers.json"])
    await eventually(lambda: not cluster.alive, "the end of the workers")
    # the same again replaces what it has written, and nothing else
    await kubernetes.make({"image": IMAGE, "manifest": "workers.json"}).start(1, INVITATION)
    (tmp_path / "prompts.jsonl").write_text("mine")
    with pytest.raises(UsageError, match=r"^prompts\.jsonl is there already, and no manifest of workers; name another file$"):
        await kubernetes.make({"image": IMAGE, "manifest": "prompts.jsonl"}).start(1, INVITATION)
    assert (tmp_path / "prompts.jsonl").read_text() == "mine"


async def test_pods_that_wait_are_told_of_with_the_reason(cluster: Cluster) -> None:
    cluster.mark("full")
    engine = kubernetes.make({"image": IMAGE})
    await engine.start(1, INVITATION)
    assert (await first(engine)).endswith(" waits for a node: 0/3 nodes are available: 3 Insufficient cpu.")
    await engine.end()
    (cluster.folder / "full").unlink()
    engine = kubernetes.make({"image": "missing:1"})
    await engine.start(1, INVITATION)
    assert (await first(engine)).endswith(" cannot start: ErrImagePull (missing:1: not found)")
    await engine.end()


async def test_a_server_that_is_away_is_told_of_once_and_what_stays_is_named(
    cluster: Cluster, caplog: pytest.LogCaptureFixture
) -> None:
    engine = kubernetes.make({"image": IMAGE})
    await engine.start(1, INVITATION)
    cluster.mark("away")
    refused = "The connection to the server 10.0.0.1:6443 was refused"
    assert (await first(engine)).startswith(f"the pods cannot be looked at: kubectl failed: {refused}")
    await engine.end()
    (message,) = caplog.messages
    selector = cluster.calls[-1][3].removeprefix("--selector=")
    assert message.endswith(f"; this ends what is left: kubectl delete job,secret -l {selector}")


@pytest.mark.parametrize("answer", ["", "null", "[]", "not json", '{"items": [{"metadata": 1}]}', '{"items": 3}'])
async def test_an_answer_that_makes_no_sense_is_a_notice_and_no_failure(cluster: Cluster, answer: str) -> None:
    engine = kubernetes.make({"image": IMAGE})
    await engine.start(1, INVITATION)
    clusters.program(cluster.bin / "kubectl", f"#!/bin/sh\necho '{answer}'\n")
    assert (await first(engine)).startswith("the pods cannot be looked at: ")
    await engine.end()
