"""kubectl for a cluster that is this machine: a Job's pods are processes, with the environment that a pod would have.

``python fake_kubectl.py FOLDER ARGUMENTS...``; ``clusters.kubernetes`` puts it on a PATH. FOLDER holds a file for each object,
``calls`` with the arguments of every call, and ``bin``, which is the PATH of every image. A file ``full`` in it leaves pods with
no node, ``away`` makes every call fail as without a server. An image that is not in ``IMAGES`` cannot be pulled.
"""

import base64
import fcntl
import json
import os
import signal
import subprocess
import sys
from contextlib import suppress
from pathlib import Path
from typing import Any

IMAGES = ("registry.example/runner:1", "registry.example/runner:2")


def fail(words: str) -> None:
    print(words, file=sys.stderr)
    sys.exit(1)


def objects(folder: Path, kind: str, label: str | None = None) -> list[dict[str, Any]]:
    found = [json.loads(file.read_text()) for file in sorted(folder.glob(f"{kind}.*.json"))]
    return [one for one in found if label is None or label in [f"{k}={v}" for k, v in one["metadata"].get("labels", {}).items()]]


def save(folder: Path, one: dict[str, Any]) -> dict[str, Any]:
    one["metadata"].setdefault("uid", f"uid-{one['metadata']['name']}")
    (folder / f"{one['kind'].lower()}.{one['metadata']['name']}.json").write_text(json.dumps(one))
    return one


def create(folder: Path, text: str) -> list[dict[str, Any]]:
    whole = json.loads(text)
    made = []
    for one in whole["items"] if whole["kind"] == "List" else [whole]:
        if (folder / f"{one['kind'].lower()}.{one['metadata']['name']}.json").exists():
            fail(f'Error from server (AlreadyExists): {one["kind"].lower()}s "{one["metadata"]["name"]}" already exists')
        if one["kind"] == "Secret":
            more = {name: base64.b64encode(value.encode()).decode() for name, value in one.pop("stringData", {}).items()}
            one["data"] = {**one.get("data", {}), **more}
        made.append(save(folder, one))
        if one["kind"] == "Job":
            for index in range(one["spec"]["completions"]):
                template = one["spec"]["template"]
                name = f"{one['metadata']['name']}-{index}-x7k2p"
                metadata = {**template["metadata"], "name": name, "job": one["metadata"]["name"]}
                save(folder, {"kind": "Pod", "metadata": metadata, "spec": template["spec"], "pid": None})
    return made


def value(folder: Path, name: str, key: str | None) -> dict[str, str] | None:
    for secret in objects(folder, "secret"):
        if secret["metadata"]["name"] == name:
            plain = {one: base64.b64decode(data).decode() for one, data in secret["data"].items()}
            return plain if key is None else {key: plain[key]}
    return None


def run(folder: Path, pod: dict[str, Any]) -> None:
    """Start the container of a pod, once its image and all that its environment names are there."""
    container = pod["spec"]["containers"][0]
    if container["image"] not in IMAGES or (folder / "full").exists():
        return
    environment = {"PATH": f"{folder / 'bin'}:/usr/bin:/bin", "HOME": "/nonexistent"}
    for source in container.get("envFrom", []):
        found = value(folder, source["secretRef"]["name"], None)
        if found is None:
            return
        environment |= found
    for one in container["env"]:
        reference = one["valueFrom"]["secretKeyRef"]
        found = value(folder, reference["name"], reference["key"])
        if found is None:
            return
        environment[one["name"]] = found[reference["key"]]
    name = pod["metadata"]["name"]
    line = '"$@"; code=$?; echo $code > "$0.part"; mv "$0.part" "$0"'
    with (folder / f"{name}.log").open("wb") as out:
        process = subprocess.Popen(
            ["/bin/sh", "-c", line, str(folder / f"{name}.exit"), *container["command"]],
            env=environment, cwd="/", stdin=subprocess.DEVNULL, stdout=out, stderr=out, start_new_session=True,
        )  # fmt: skip
    save(folder, {**pod, "pid": process.pid})


def status(folder: Path, pod: dict[str, Any]) -> dict[str, Any]:
    container = pod["spec"]["containers"][0]
    ended = folder / f"{pod['metadata']['name']}.exit"
    if ended.exists():
        code = int(ended.read_text())
        state = {"terminated": {"exitCode": code, "reason": "Error" if code else "Completed"}}
        return {"phase": "Failed" if code else "Succeeded", "containerStatuses": [{"name": "worker", "state": state}]}
    if pod["pid"] is not None:
        return {"phase": "Running", "containerStatuses": [{"name": "worker", "state": {"running": {}}}]}
    if (folder / "full").exists():
        message = "0/3 nodes are available: 3 Insufficient cpu."
        return {"phase": "Pending", "conditions": [{"type": "PodScheduled", "status": "False", "message": message}]}
    if container["image"] not in IMAGES:
        wait = {"reason": "ErrImagePull", "message": f"{container['image']}: not found"}
    else:
        wait = {"reason": "CreateContainerConfigError", "message": "a secret is not found"}
    return {"phase": "Pending", "containerStatuses": [{"name": "worker", "state": {"waiting": wait}}]}


def delete(folder: Path, kind: str, chosen: list[dict[str, Any]]) -> None:
    for one in chosen:
        name = one["metadata"]["name"]
        (folder / f"{kind}.{name}.json").unlink()
        print(f'{kind} "{name}" deleted')
        if kind == "job":
            owned = [
                s for s in objects(folder, "secret") if any(o["name"] == name for o in s["metadata"].get("ownerReferences", []))
            ]
            delete(folder, "secret", owned)
            delete(folder, "pod", [pod for pod in objects(folder, "pod") if pod["metadata"]["job"] == name])
        if kind == "pod" and one["pid"] is not None:
            with suppress(ProcessLookupError):
                os.killpg(one["pid"], signal.SIGTERM)


def main() -> None:
    folder, arguments = Path(sys.argv[1]), sys.argv[2:]
    # one call at a time, as a controller has it
    lock = (folder / "lock").open("w")
    fcntl.flock(lock, fcntl.LOCK_EX)
    with (folder / "calls").open("a") as calls:
        calls.write(json.dumps(["kubectl", *arguments]) + "\n")
    if (folder / "away").exists():
        fail("The connection to the server 10.0.0.1:6443 was refused - did you specify the right host or port?")
    words = [word for word in arguments if not word.startswith(("--context=", "--namespace="))]
    named = {
        name: given for name, _, given in (word.removeprefix("--").partition("=") for word in words if word.startswith("--"))
    }
    file = words[words.index("-f") + 1] if "-f" in words else None
    text = "" if file is None else sys.stdin.read() if file == "-" else Path(file).read_text()
    if words[:3] == ["create", "secret", "generic"]:
        lines = Path(named["from-env-file"]).read_text().split()
        data = {name: base64.b64encode(given.encode()).decode() for name, _, given in (line.partition("=") for line in lines)}
        save(folder, {"kind": "Secret", "metadata": {"name": words[3]}, "data": data})
    elif words[0] in ("create", "apply"):
        made = create(folder, text)
        print(json.dumps(made[0]) if "json" in words else "created")
    elif words[0] == "get":
        pods = objects(folder, "pod", named["selector"])
        print(json.dumps({"kind": "List", "items": [{**pod, "status": status(folder, pod)} for pod in pods]}))
    elif words[0] == "delete" and file is not None:
        whole = json.loads(text)
        for one in whole["items"]:
            delete(
                folder,
                one["kind"].lower(),
                [o for o in objects(folder, one["kind"].lower()) if o["metadata"]["name"] == one["metadata"]["name"]],
            )
    elif words[0] == "delete":
        for kind in words[1].split(","):
            delete(folder, kind, objects(folder, kind, named["selector"]))
    for pod in objects(folder, "pod"):
        if pod["pid"] is None:
            run(folder, pod)


if __name__ == "__main__":
    main()
