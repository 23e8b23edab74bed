"""The batch jobs of Fireworks: requests and results are datasets of an account, and a job has an id that its maker chooses.

So nothing is made twice: the dataset and the job are called by the token, and a second creation of either is refused. The
model is that of the job, and is left out of the lines. There is no way to cancel a job but to delete it, with what it has
answered; so a cancel only waits, and a row that can wait no longer is sent elsewhere. Sources: docs/reference/batch-apis.md.
"""

from collections.abc import AsyncIterator, Iterator, Sequence
from pathlib import Path
from typing import Any

import anyio
import anyio.to_thread
import msgspec
from msgspec import Raw, Struct

from runner.batches import BatchCounts, BatchResult, Fault, Remote
from runner.errors import ProviderError, StoreError
from runner.model import HttpCall, Json
from runner.providers.batch.download import download
from runner.providers.batch.errors import no_json
from runner.providers.batch.lines import id_maker, line_maker, openai_results
from runner.providers.batch.remotes import instant
from runner.providers.batch.rules import End, Phase, Vendor
from runner.providers.batch.transport import GONE, Transport, segment
from runner.providers.lenient_json import count, decode_json, json_text, table, word
from runner.providers.refusal import quote
from runner.text import Redactor

_PREFIX = "runner-"
_REFUSED = (400, 409, 412, 422)
"""What may mean that something of this name is there. How it is said is not documented: so what is there is looked for."""
_ANSWERS, _ERRORS = "BIJOutputSet.jsonl", "error-data"
_READY_S, _LOOK_S = 60.0, 1.0
_PAGE, _MOST_PAGES = 200, 1000
_STATES: dict[str, tuple[Phase, End | None]] = {
    **dict.fromkeys(("running", "writing_results"), ("working", None)),
    "completed": ("ended", "completed"),
    "failed": ("ended", "failed"),
    **dict.fromkeys(("expired", "early_stopped"), ("ended", "expired")),
    "cancelling": ("cancelling", None),
    **dict.fromkeys(("cancelled", "deleting", "deleting_cleaning_up", "deleted", "archived"), ("ended", "cancelled")),
}
"""The words for the states of a job, without ``JOB_STATE_``. Any other one is waiting."""


class FireworksBatches:
    """The batch jobs of one account. transport: entered by who made this; its address is that of the accounts."""

    def __init__(self, transport: Transport, vendor: Vendor, base_url: str, account: str) -> None:
        self.rules, self.base_url, self.account = vendor.rules, base_url, account
        self._transport = transport
        self.custom_id = id_maker(vendor.rules.custom_id)
        self._line = line_maker(b'"body":')
        # the account of the key, such as accounts/me; empty: not known yet
        self._of = ""

    def line(self, custom_id: str, call: HttpCall) -> bytes:
        """Return the line of a file of requests. It names its model, which is left out when it is uploaded."""
        return self._line(custom_id, call.body)

    async def upload(self, path: Path, token: str) -> str | None:
        """Make a dataset of a file of requests, and wait until it can be used."""
        name, sent = f"{_PREFIX}{token}", path.with_suffix(".sent")
        datasets = f"/{await self._account()}/datasets"
        try:
            lines = await anyio.to_thread.run_sync(_without_model, path, sent)
            body: dict[str, Json] = {"datasetId": name, "dataset": {"userUploaded": {}, "exampleCount": str(lines)}}
            try:
                await self._transport.call("upload", "POST", datasets, json=body)
            except ProviderError as error:
                if error.status not in _REFUSED or await self._there(f"{datasets}/{name}") is None:
                    raise
            await self._transport.upload_form(f"{datasets}/{name}:upload", sent, f"{name}.jsonl", {})
        finally:
            with anyio.CancelScope(shield=True):
                await anyio.to_thread.run_sync(lambda: sent.unlink(missing_ok=True))
        with anyio.move_on_after(_READY_S):
            # else the job says what it has against it
            while True:
                if await self.find_upload(token) is not None:
                    break
                await anyio.sleep(_LOOK_S)
        return name

    async def find_upload(self, token: str) -> str | None:
        """Return the dataset of a token, if all of it is there."""
        name = f"{_PREFIX}{token}"
        found = await self._there(f"/{await self._account()}/datasets/{name}")
        return name if found is not None and word(found.get("state")) == "READY" else None

    async def create(self, path: Path, upload_id: str | None, token: str) -> Remote:
        """Make the job of a dataset. One that is there already is that job: something on the way has sent the request again."""
        account, name = await self._account(), f"{_PREFIX}{token}"
        body: dict[str, Json] = {
            "model": await anyio.to_thread.run_sync(_model_in, path),
            "inputDatasetId": f"{account}/datasets/{upload_id}",
            "outputDatasetId": f"{account}/datasets/{name}-out",
        }
        jobs = f"/{account}/batchInferenceJobs"
        try:
            made = await self._transport.call("create", "POST", jobs, json=body, query={"batchInferenceJobId": name})
        except ProviderError as error:
            made = await self._there(f"{jobs}/{name}") if error.status in _REFUSED else None
            if made is None:
                raise
        return await self._remote(table(made))

    async def find(self, token: str, rows: int, since: float) -> Sequence[Remote]:  # noqa: ARG002 - the protocol's
        """Return the job of a token."""
        found = await self._there(f"/{await self._account()}/batchInferenceJobs/{_PREFIX}{token}")
        return () if found is None else (await self._remote(found),)

    async def look(self, remote_id: str) -> Remote:
        """Return a job as it is now."""
        job = await self._transport.call("batch", "GET", f"/{await self._account()}/batchInferenceJobs/{segment(remote_id)}")
        return await self._remote(table(job))

    async def cancel(self, remote_id: str) -> Remote:
        """Return a job as it is: to delete it would delete what it has answered, which is paid for."""
        return await self.look(remote_id)

    async def download(self, source: str, path: Path) -> None:
        """Download a file of a dataset of results."""
        dataset, _, name = source.partition("/")
        found = (await self._files(dataset)).get(name)
        if found is None:
            raise ProviderError(f"{name} is not among the results", code="batch_not_found", verdict="retry", status=404)
        await download(self._transport, found, path)

    def results(self, path: Path) -> Iterator[BatchResult]:
        """Read a file of results line by line. Never raises for a line."""
        return openai_results(path)

    async def forget(self, upload_id: str) -> None:
        """Delete a dataset of requests. One that is gone is no error."""
        await self._transport.delete(f"/{await self._account()}/datasets/{segment(upload_id)}")

    async def all(self, since: float) -> AsyncIterator[Remote]:
        """Yield the jobs of the account since an instant."""
        query: dict[str, str | int] = {"pageSize": _PAGE}
        for _ in range(_MOST_PAGES):
            answer = table(await self._transport.call("list", "GET", f"/{await self._account()}/batchInferenceJobs", query=query))
            jobs = answer.get("batchInferenceJobs")
            for job in map(table, jobs if isinstance(jobs, list) else []):
                if (instant(job.get("createTime")) or since) >= since:
                    yield await self._remote(job)
            query["pageToken"] = word(answer.get("nextPageToken")) or ""
            if not query["pageToken"]:
                return

    # -- what it says

    async def _account(self) -> str:
        """Return the account of the key. Raises ProviderError if it has none, or several: nobody knows which one is meant."""
        if not self._of:
            listed = table(await self._transport.call("list", "GET", "/accounts")).get("accounts")
            names = [name for one in listed if (name := word(table(one).get("name")))] if isinstance(listed, list) else []
            if len(names) != 1:
                several = f"several accounts ({', '.join(names[:3])})" if names else "no account"
                words = f"the key belongs to {several} at Fireworks; use one that belongs to one account"
                raise ProviderError(words, code="batch_unsupported", verdict="stop", status=200)
            self._of = names[0]
        return self._of

    async def _there(self, path: str) -> dict[str, Any] | None:
        """Return what is at a path; None: nothing."""
        try:
            return dict(table(await self._transport.call("batch", "GET", path)))
        except ProviderError as error:
            if error.status in GONE:
                return None
            raise

    async def _files(self, dataset: str) -> dict[str, str]:
        """Return the addresses of the files of a dataset, which hold for some minutes, by their names."""
        found = await self._there(f"/{await self._account()}/datasets/{segment(dataset)}:getDownloadEndpoint") or {}
        urls = table(found.get("filenameToSignedUrls"))
        return {name.rpartition("/")[2]: url for name, url in urls.items() if isinstance(url, str)}

    async def _remote(self, job: "dict[str, Any] | Any") -> Remote:
        name = (word(job.get("name")) or "").rpartition("/")[2]
        if not name:
            raise no_json("batch", b"")
        own = (word(job.get("state")) or "").removeprefix("JOB_STATE_").lower()
        phase, end = _STATES.get(own, ("waiting", None))
        done = table(job.get("jobProgress"))
        counts = {key: count(done.get(key)) or 0 for key in ("totalInputRequests", "totalProcessedRequests", "failedRequests")}
        finished = count(done.get("successfullyProcessedRequests")) or 0
        results: tuple[str, ...] = ()
        if phase == "ended":
            dataset = (word(job.get("outputDatasetId")) or f"{name}-out").rpartition("/")[2]
            files = list(await self._files(dataset))
            if all(file == _ERRORS for file in files) and (finished or (end == "completed" and not files)):
                # there are answers, which are not to be seen: to ask for them says so, and nothing is sent again
                files.append(_ANSWERS)
            results = tuple(f"{dataset}/{file}" for file in files)
        status = table(job.get("status"))
        said = quote(json_text(status.get("message")), Redactor(())) if end == "failed" and status.get("message") else ""
        return Remote(
            id=name,
            phase=phase,
            end=end,
            counts=BatchCounts(
                # the first one is what the dataset was said to hold, which nobody checks
                total=max(counts["totalInputRequests"], counts["totalProcessedRequests"]),
                done=finished,
                failed=counts["failedRequests"],
            ),
            created_at=instant(job.get("createTime")),
            expires_at=instant(job.get("expireTime")),
            ended_at=instant(job.get("updateTime")) if phase == "ended" else None,
            results=results,
            # the lines that it names are not those of the file
            faults=(Fault(line=None, code=word(status.get("code")) or "", message=said),) if said else (),
            token=name.removeprefix(_PREFIX) if name.startswith(_PREFIX) else None,
            word=own,
        )


class _Line(Struct):
    custom_id: str
    body: dict[str, Raw]


def _without_model(path: Path, sent: Path) -> int:
    """Write the requests of a file to another one, without their models and else as they are. Return how many there are."""
    decode, encode, lines = msgspec.json.Decoder(_Line).decode, msgspec.json.encode, 0
    try:
        with path.open("rb") as file, sent.open("wb") as out:
            for lines, text in enumerate(file, 1):  # noqa: B007 - the last one counts
                line = decode(text)
                line.body.pop("model", None)
                out.write(encode(line) + b"\n")
    except FileNotFoundError:
        raise
    except OSError as error:
        raise StoreError(f"the requests cannot be written to {sent}: {error.strerror or error}") from error
    return lines


def _model_in(path: Path) -> Json:
    """Return the model of the first request of a file."""
    with path.open("rb") as file:
        line, _ = decode_json(file.readline())
    return table(table(line).get("body")).get("model")
