"""What Kubernetes is asked for, and what it tells: a Job of workers, the Secret of their token, and pods. No I/O."""

from collections.abc import Mapping, Sequence

import msgspec
from msgspec import Struct

from runner.model import Json
from runner.text import clean

LABEL = "prompt-runner/workers"
"""The label of all that belongs to one run."""
KEEP_S = 600
"""Seconds for which a Job that has ended stays, where nobody deletes it: a driver was killed."""
_BAD = (
    "ErrImagePull", "ImagePullBackOff", "InvalidImageName", "CreateContainerConfigError", "CreateContainerError",
)  # fmt: skip
"""Reasons why a container waits that no patience mends."""
_REASON = 300


class Wanted(Struct, frozen=True, kw_only=True):
    """What workers are to be. secret: the Secret of the user with the variables that they need, or None."""

    image: str
    command: tuple[str, ...]
    cpus: str
    memory: str | None
    secret: str | None


def job(name: str, run: str, count: int, wanted: Wanted) -> dict[str, Json]:
    """Return the manifest of a Job. One worker that fails ends no other, and is not started again: the run decides that."""
    amounts: dict[str, Json] = {"cpu": wanted.cpus, **({} if wanted.memory is None else {"memory": wanted.memory})}
    container: dict[str, Json] = {
        "name": "worker",
        "image": wanted.image,
        "command": list(wanted.command),
        "env": [{"name": "RUNNER_WORKER_TOKEN", "valueFrom": {"secretKeyRef": {"name": run, "key": "token"}}}],
        "resources": {"requests": amounts},
        "securityContext": {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}},
    }
    if wanted.secret is not None:
        container["envFrom"] = [{"secretRef": {"name": wanted.secret}}]
    labels: dict[str, Json] = {LABEL: run}
    pod: dict[str, Json] = {
        "restartPolicy": "Never",
        "automountServiceAccountToken": False,
        "terminationGracePeriodSeconds": 10,
        "containers": [container],
    }
    return {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": {"name": name, "labels": labels},
        "spec": {
            "parallelism": count,
            "completions": count,
            "completionMode": "Indexed",
            "backoffLimitPerIndex": 0,
            "ttlSecondsAfterFinished": KEEP_S,
            "template": {"metadata": {"labels": labels}, "spec": pod},
        },
    }


def secret(run: str, token: str, owner: tuple[str, str] | None = None) -> dict[str, Json]:
    """Return the manifest of the Secret of a run. owner: name and uid of the Job with which Kubernetes deletes it."""
    metadata: dict[str, Json] = {"name": run, "labels": {LABEL: run}}
    if owner is not None:
        metadata["ownerReferences"] = [{"apiVersion": "batch/v1", "kind": "Job", "name": owner[0], "uid": owner[1]}]
    return {"apiVersion": "v1", "kind": "Secret", "metadata": metadata, "type": "Opaque", "stringData": {"token": token}}


def together(parts: Sequence[Mapping[str, Json]]) -> bytes:
    """Return several manifests as one document. JSON is YAML too."""
    whole = {"apiVersion": "v1", "kind": "List", "items": list(parts)}
    return msgspec.json.format(msgspec.json.encode(whole), indent=2) + b"\n"


class _Wait(Struct):
    reason: str | None = None
    message: str | None = None


class _End(Struct, rename="camel"):
    exit_code: int = 0
    reason: str | None = None


class _State(Struct):
    waiting: _Wait | None = None
    terminated: _End | None = None


class _Container(Struct):
    state: _State = msgspec.field(default_factory=_State)


class _Condition(Struct):
    type: str = ""
    status: str = ""
    message: str | None = None


class _Status(Struct, rename="camel"):
    phase: str = ""
    reason: str | None = None
    conditions: list[_Condition] = []
    container_statuses: list[_Container] = []


class _Metadata(Struct):
    name: str = ""
    uid: str = ""


class Found(Struct):
    """An object of Kubernetes, as far as it matters here."""

    metadata: _Metadata = msgspec.field(default_factory=_Metadata)
    status: _Status = msgspec.field(default_factory=_Status)


class _Pods(Struct):
    items: list[Found] = []


def uid(answer: str) -> str:
    """Return the uid of an object that was made; empty if the answer has none."""
    try:
        return msgspec.json.decode(answer, type=Found).metadata.uid
    except msgspec.DecodeError:
        return ""


def troubles(answer: str) -> tuple[list[tuple[str, str]], int]:
    """Return the pods that have a trouble, with what it is, and how many have ended. Raises msgspec.DecodeError."""
    found, ended = [], 0
    for pod in msgspec.json.decode(answer, type=_Pods).items:
        ended += pod.status.phase in ("Failed", "Succeeded")
        reason = _failed(pod.status) if pod.status.phase == "Failed" else _waiting(pod.status)
        if reason:
            found.append((pod.metadata.name, clean(reason, _REASON)))
    return found, ended


def _failed(status: _Status) -> str:
    ends = [container.state.terminated for container in status.container_statuses if container.state.terminated is not None]
    last = ends[-1] if ends else None
    if last is None:
        return f"has failed ({status.reason or 'no reason is told'})"
    return f"has ended with exit code {last.exit_code} ({status.reason or last.reason or 'Error'})"


def _waiting(status: _Status) -> str:
    if status.phase != "Pending":
        return ""
    for container in status.container_statuses:
        wait = container.state.waiting
        if wait is not None and wait.reason in _BAD:
            return f"cannot start: {wait.reason}" + (f" ({wait.message})" if wait.message else "")
    placed = next((one for one in status.conditions if one.type == "PodScheduled"), None)
    return f"waits for a node: {placed.message}" if placed is not None and placed.status == "False" and placed.message else ""
