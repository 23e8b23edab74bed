"""The tools of an agent that start sessions, and those that read what came of them. Each returns an object."""

from pathlib import Path
from typing import Annotated, Any, Literal

from msgspec import structs
from pydantic import BeforeValidator, Field

from runner import api
from runner.errors import RunnerError
from runner.inputs import overwriting
from runner.integrations import mcp_guard, mcp_told
from runner.integrations.mcp_cap import Cap, Grant
from runner.integrations.mcp_files import FORMATS, SPECIAL, Root
from runner.integrations.mcp_guard import Human
from runner.integrations.mcp_launch import Launched, Launcher, notes_of, refused
from runner.integrations.mcp_session import Order
from runner.money import PICO
from runner.session.options import SessionOptions
from runner.session.outputs import files_read
from runner.session.restoring import resumed, retried
from runner.store.lock import held
from runner.store.reader import StoreReader

_MARGIN = 1.25
"""How much more than the highest estimate a session is given: failed attempts come on top."""

Input = Annotated[
    str | list[str],
    Field(
        description="A file of rows (.jsonl, .csv, .txt, ...), a job file (.toml), a list of files, a pattern such as "
        "data/*.csv, or run:12 for the answers of run 12. Relative names begin in the root folder."
    ),
]


def _number(run: Any) -> Any:
    """Return the number of a run that was given as a string, as some clients do. No name of a run is a number."""
    return int(run) if isinstance(run, str) and run.isascii() and run.isdecimal() else run


Named = Annotated[
    int | str | None, BeforeValidator(_number), Field(description="The number or the name of a run. Default: the newest run.")
]
Settings = Annotated[
    dict[str, Any] | None,
    Field(description="Settings by name, such as model, prompt, max_tokens, concurrency. They override the job file."),
]
Dollars = Annotated[
    float | None,
    Field(
        gt=0,
        description="Dollars that this session may spend at most. It can only lower what is left of the person's cap. "
        "Default: what the estimate says, or all that is left.",
    ),
]
Limit = Annotated[int | None, Field(ge=1, description="Use only the first so many rows of the input.")]
Accept = Annotated[bool, Field(description="Also send answered rows again whose prompt has changed since. This costs money.")]
Only = Annotated[
    list[str] | None,
    Field(description="Which rows: done, failed, length, content_filter, empty, whole, or error codes. Default: all."),
]


class Tools:
    """What an agent can do with the runs of a store."""

    def __init__(self, root: Root, store: Path, cap: Cap, human: Human) -> None:
        self.root, self.store, self.cap, self.human = root, store, cap, human
        self.launcher = Launcher(cap)

    # -- what costs money

    def submit(
        self,
        file: Input,
        settings: Settings = None,
        max_cost: Dollars = None,
        limit: Limit = None,
        new: Annotated[
            bool, Field(description="Start a new run, even if there is one to continue. This pays for all rows again.")
        ] = False,
        accept_changes: Accept = False,
        name: Annotated[str | None, Field(description="A name for the run, by which other tools find it.")] = None,
    ) -> dict[str, Any]:
        """Start a run of a file, or continue the one there is."""
        given = mcp_guard.settings_of(settings)
        job = mcp_guard.load(self.root, file, given, self.human)
        free = not self._counts(mcp_guard.costs_something(job))
        wanted = max_cost if free or max_cost is not None else self._expected(job, SessionOptions(limit=limit, new=new))

        def ordered(grant: Grant, lock: int) -> Order:
            order = self._order(grant, lock, given, accept_changes=accept_changes)
            return structs.replace(order, input=file, limit=limit, new=new, name=name)

        return self._started(self.launcher.start(ordered, wanted, free=free))

    def retry(
        self,
        run: Named = None,
        classes: Annotated[
            list[str] | None, Field(description="Which rows: codes as `errors` tells them, or groups such as timeout, network.")
        ] = None,
        ids: Annotated[list[str] | None, Field(description="Only rows with these ids, done or failed.")] = None,
        settings: Settings = None,
        max_cost: Dollars = None,
    ) -> dict[str, Any]:
        """Send rows of a run again."""
        given = mcp_guard.settings_of(settings)
        number = mcp_told.run_of(self.store, run, counted=False).id
        which = mcp_guard.which(classes, ids)
        job, _ = retried(self.store, number, given, which)
        return self._again(mcp_guard.checked(job, self.root, self.human), number, given, max_cost, which=which)

    def resume(self, run: int, max_cost: float | None, *, accept_changes: bool) -> dict[str, Any]:
        """Start a session that goes on with what is left of a run."""
        job, _ = resumed(self.store, run, {}, accept_changes=accept_changes)
        job = mcp_guard.checked(job, self.root, self.human)
        return self._again(job, run, {}, max_cost, accept_changes=accept_changes)

    def _again(
        self,
        job: Any,
        run: int,
        given: dict[str, Any],
        max_cost: float | None,
        *,
        which: Any = None,
        accept_changes: bool = False,
    ) -> dict[str, Any]:
        free = not self._counts(mcp_guard.costs_something(job))

        def ordered(grant: Grant, lock: int) -> Order:
            order = structs.replace(self._order(grant, lock, given, accept_changes=accept_changes), run=run)
            if which is None:
                return order
            return structs.replace(order, retry=True, classes=which.classes, ids=which.ids)

        return self._started(self.launcher.start(ordered, max_cost, free=free))

    def _order(self, grant: Grant, lock: int, settings: dict[str, Any], *, accept_changes: bool) -> Order:
        return Order(
            grant=grant.id,
            lock=lock,
            share=grant.share,
            root=str(self.root.path),
            db=str(self.store),
            human=self.human,
            settings=settings,
            accept_changes=accept_changes,
        )

    def _counts(self, costs: bool) -> bool:
        """Return True if a session has a part of the cap. Without a cap, only what costs nothing comes here."""
        return costs and self.cap.cap is not None

    def _expected(self, job: Any, options: SessionOptions) -> float | None:
        """Return what a session will cost at most by the estimate, in dollars; None if that is not known."""
        found = api.estimate_job(job, self.store, options)
        cost = found.cost_left or found.cost
        return cost.high * _MARGIN if cost is not None and cost.high else None

    def _started(self, launched: Launched) -> dict[str, Any]:
        """Tell what came of a start. Raises the error with which the session was refused."""
        number = launched.run
        if launched.error is not None and number is None:
            number = launched.error.get("locked")
            if number is None:
                raise refused(launched)
        # a session that has nothing to do has no lock, and is about to end
        running = launched.alive if number is None else self.is_running(number)
        grant = next((one for one in self.cap.grants() if one.id == launched.grant), None)
        share = None if grant is None or grant.share is None else grant.share / PICO
        told = self._told_run(number) if number is not None else {"run": None}
        return {
            **told,
            "running": running,
            "max_cost": share,
            "next": self._next(number, running=running),
            "budget": self.budget(),
        }

    def _told_run(self, number: int) -> dict[str, Any]:
        return {"run": mcp_told.brief(mcp_told.run_of(self.store, number)), "notes": notes_of(self.cap, number)}

    def _next(self, number: int | None, *, running: bool) -> str:
        if number is None:
            return "the input is still being read; `runs` lists the run as soon as it has begun"
        if running:
            return f"the run goes on by itself, also if this server ends: `watch` with run {number} waits for it, `stop` ends it"
        return f"nothing is running any more: `status` with run {number} says how it stands, `results` reads the answers"

    # -- what costs nothing

    def estimate(
        self,
        file: Input,
        settings: Settings = None,
        limit: Limit = None,
        new: Annotated[bool, Field(description="Estimate a new run, even if there is one to continue.")] = False,
    ) -> dict[str, Any]:
        """Say what a run will take. Nothing is sent."""
        job = mcp_guard.load(self.root, file, mcp_guard.settings_of(settings), self.human)
        found = api.estimate_job(job, self.store, SessionOptions(limit=limit, new=new))
        return {"estimate": mcp_told.plain(found), "budget": self.budget()}

    def budget(self) -> dict[str, Any]:
        """Return what is left of the cap."""
        told: dict[str, Any] = mcp_told.plain(self.cap.state())
        return told

    def runs(self, limit: Annotated[int, Field(description="The newest so many: 1 to 1000.")] = 20) -> dict[str, Any]:
        """List runs."""
        return mcp_told.runs(self.store, limit)

    def status(self, run: Named = None) -> dict[str, Any]:
        """Return one run in full."""
        told = mcp_told.status(self.store, run)
        return {**told, "notes": notes_of(self.cap, told["run"]["id"])}

    def errors(self, run: Named = None) -> dict[str, Any]:
        """Return what went wrong, by cause."""
        return mcp_told.errors(self.store, run)

    def show(
        self,
        row: Annotated[str, Field(description="The id of a row, or its line; of several files, b.csv:17.")],
        run: Named = None,
    ) -> dict[str, Any]:
        """Return one row whole."""
        return mcp_told.show(self.store, run, row)

    def results(
        self,
        run: Named = None,
        only: Only = None,
        after: Annotated[str | None, Field(description="`next` of the page before. Default: the first page.")] = None,
        limit: Annotated[int, Field(description="Rows of a page, at most: 1 to 1000.")] = 20,
        max_bytes: Annotated[int, Field(description="Bytes of a page, at most: 1 to 200000.")] = 20_000,
        prompts: Annotated[bool, Field(description="Also return what each row asked.")] = False,
    ) -> dict[str, Any]:
        """Return a page of finished rows."""
        return mcp_told.results(
            self.store, run, chosen=only or (), after=after, limit=limit, most_bytes=max_bytes, prompts=prompts
        )

    def export(
        self,
        file: Annotated[str, Field(description=f"The file to write, in the root folder; it ends in {', '.join(FORMATS)}.")],
        run: Named = None,
        only: Only = None,
        columns: Annotated[list[str] | None, Field(description="Columns to write, in this order. Default: all.")] = None,
        form: Annotated[
            Literal["openai-batch", "messages"] | None,
            Field(description="Write .jsonl in this form: results of a batch, or chats for fine-tuning."),
        ] = None,
        overwrite: Annotated[bool, Field(description="Replace a file that is there.")] = False,
    ) -> dict[str, Any]:
        """Write finished rows to a file."""
        self._refuse_own(file)
        found, notes = mcp_told.run_of(self.store, run), list[str]()
        kind = FORMATS.get(Path(file).suffix.lower(), "")
        if form is not None and (kind != "jsonl" or form not in SPECIAL):
            raise RunnerError(f"the form {form} is written to a file that ends in .jsonl, and {file} does not")
        flags: Any = {"only": ",".join(only) if only else None, "columns": ",".join(columns) if columns else None}

        def write(path: Path) -> int:
            return api.export(path, run_id=found.id, db=self.store, format=form or kind, notes=notes, **flags)

        rows = self.root.write(file, write, overwrite=overwrite)
        files = [{"file": file, "format": form or kind, "rows": rows, "manifest": None}]
        return {"run": found.id, "rows": found.rows, "files": files, "notes": notes}

    def _refuse_own(self, file: str) -> None:
        """Raise RunnerError for a file of the store itself, and for one that holds prompts."""
        folder, last = self.root.target(file)
        in_account = folder.is_relative_to(self.cap.folder.resolve())
        if in_account or (folder == self.store.parent and last.startswith(self.store.name)):
            raise RunnerError(f"{last} belongs to the store {self.store.name}; name another file")
        with StoreReader(self.store) as reader:
            overwriting.refuse_own(folder / last, self.store, files_read(reader))

    def is_running(self, run: int) -> bool:
        """Return True if a process works on a run."""
        return held(self.store, run)
