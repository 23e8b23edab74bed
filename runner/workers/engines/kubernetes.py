"""The engine kubernetes: workers are the pods of a Job, which it makes, follows and deletes with kubectl, or writes to a file.

The token is a Secret, which the pods name. Keys come from a Secret of the user's, which the pods name too.
"""

import logging
import os
import secrets
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path

import anyio
import msgspec

from runner.errors import UsageError
from runner.model import Json
from runner.placing import Invitation
from runner.text import clean
from runner.workers import engine_options, pods
from runner.workers.programs import output

logger = logging.getLogger("runner")

OPTIONS = ("address", "connect", "cpus", "image", "manifest", "memory", "namespace", "runner", "secret")
"""Names of the options that this engine takes. address: the context of kubectl."""
LOOK_S = 10.0
"""Seconds between two looks at the pods."""


def make(options: Mapping[str, object]) -> "Kubernetes":
    """Make the engine. Raises UsageError without an image, or for a value that no manifest can hold."""
    return Kubernetes(options)


class Kubernetes:
    """Makes Jobs of workers, all with one label, which is unique."""

    def __init__(self, options: Mapping[str, object]) -> None:
        self._options = options
        found = {name: engine_options.text(options, name, "kubernetes") for name in OPTIONS if name not in ("runner", "manifest")}
        image = found["image"]
        if image is None:
            raise UsageError("the engine kubernetes needs an image in which runner is installed; add --engine-option image=IMAGE")
        self._wanted = pods.Wanted(
            image=image,
            command=engine_options.program(options, "kubernetes", ("runner",)),
            cpus=found["cpus"] or "1",
            memory=found["memory"],
            secret=found["secret"],
        )
        places = (("context", "address"), ("namespace", "namespace"))
        self._kubectl = ["kubectl", *(f"--{word}={found[name]}" for word, name in places if found[name] is not None)]
        self._run = f"runner-{secrets.token_hex(6)}"
        self._jobs = 0
        # pods that were asked for, and those that have ended
        self._placed = self._gone = 0
        self._seen: set[tuple[str, str]] = set()
        self._silent = self._making = False
        self._notices: list[str] = []
        self._over = anyio.Event()

    async def start(self, count: int, invitation: Invitation) -> None:
        """Make a Job of so many workers, or write it to the file ``manifest``. Raises UsageError."""
        address = engine_options.reachable(self._options, "kubernetes", invitation.address)
        self._check(invitation.variables)
        command = tuple(engine_options.worker(self._wanted.command, address))
        self._jobs += 1
        name = f"{self._run}-{self._jobs}"
        job = pods.job(name, self._run, count, msgspec.structs.replace(self._wanted, command=command))
        if self._options.get("manifest") is not None:
            self._write([pods.secret(self._run, invitation.token), job])
            return
        # pods wait for their Secret, which is no trouble
        self._making = True
        try:
            answer = await self._created(job, "-o", "json")
            self._placed += count
            if self._jobs == 1:
                # it belongs to the Job: so no killed run leaves it behind
                owner = pods.uid(answer)
                await self._created(pods.secret(self._run, invitation.token, (name, owner) if owner else None))
        finally:
            self._making = False

    async def watch(self) -> AsyncIterator[str]:
        """Yield what the pods tell: why they wait, why they have failed. It ends with the last pod."""
        while True:
            while self._notices:
                yield self._notices.pop(0)
            with anyio.move_on_after(LOOK_S):
                await self._over.wait()
            if self._over.is_set():
                return
            if self._options.get("manifest") is None and not self._making:
                placed = self._placed
                self._notices += await self._look()
                if self._over.is_set():
                    return
                if 0 < placed <= self._gone and placed == self._placed and not self._making:
                    break
        while self._notices:
            yield self._notices.pop(0)

    async def end(self) -> None:
        """Delete the Jobs, with their pods, and the Secret. What stands in a file is the user's to delete."""
        self._over.set()
        jobs, self._jobs = self._jobs, 0
        if not jobs or self._options.get("manifest") is not None:
            return
        delete = ["delete", "job,secret", f"--selector={pods.LABEL}={self._run}", "--ignore-not-found", "--wait=false"]
        with anyio.CancelScope(shield=True):
            try:
                await output([*self._kubectl, *delete])
            except UsageError as error:
                logger.warning("%s; this ends what is left: kubectl delete job,secret -l %s=%s", error, pods.LABEL, self._run)

    def _check(self, variables: Sequence[str]) -> None:
        """Refuse workers that would have no key. A pod inherits nothing from the shell that starts the run."""
        keys = [name for name in variables if not name.lower().endswith("_proxy")]
        if keys and self._wanted.secret is None:
            raise UsageError(
                f"the workers need {' and '.join(keys)}, and pods have only what a Secret gives them; make one "
                "(docs/guides/kubernetes.md) and add --engine-option secret=NAME"
            )

    async def _created(self, part: Mapping[str, Json], *more: str) -> str:
        """Give a manifest to kubectl, by its standard input: it may hold the token."""
        return await output([*self._kubectl, "create", "-f", "-", *more], given=msgspec.json.encode(part))

    def _write(self, parts: Sequence[Mapping[str, Json]]) -> None:
        file = Path(str(self._options["manifest"]))
        file = file if self._jobs == 1 else file.with_name(f"{file.stem}-{self._jobs}{file.suffix}")
        try:
            with suppress(FileNotFoundError):
                if pods.LABEL.encode() not in file.read_bytes():
                    raise UsageError(f"{clean(str(file))} is there already, and no manifest of workers; name another file")
                file.unlink()
            handle = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
            with os.fdopen(handle, "wb") as out:
                out.write(pods.together(parts))
        except (OSError, ValueError) as error:
            reason = getattr(error, "strerror", None) or error
            raise UsageError(f"the manifest {clean(str(file))} cannot be written ({reason})") from error
        self._notices.append(f"start the workers with: kubectl apply -f {clean(str(file))}; the same with delete removes them")

    async def _look(self) -> list[str]:
        """Return the troubles of pods that were not told yet."""
        try:
            answer = await output([*self._kubectl, "get", "pods", f"--selector={pods.LABEL}={self._run}", "-o", "json"])
            found, self._gone = pods.troubles(answer)
        except (UsageError, msgspec.DecodeError) as error:
            # once, and not every ten seconds
            news, self._silent = [f"the pods cannot be looked at: {error}"] if not self._silent else [], True
            return news
        self._silent = False
        new = [trouble for trouble in found if trouble not in self._seen]
        self._seen.update(new)
        return [f"Kubernetes: the worker {pod} {trouble}" for pod, trouble in new]
