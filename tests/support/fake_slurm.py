"""sbatch, squeue and scancel of a cluster that is this machine: they really start, list and end the tasks of an array.

``python fake_slurm.py FOLDER PROGRAM ARGUMENTS...``; ``clusters.slurm`` puts the programs on a PATH. FOLDER holds what the
controller knows: a file for each task, and ``calls``, the arguments of every call. A file ``hold`` in it keeps tasks waiting,
``away`` makes every call fail as without a controller, ``ageless`` forgets tasks that have ended.
"""

import fcntl
import json
import os
import re
import signal
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

KNOWN = ("job-name", "array", "ntasks", "no-requeue", "output", "parsable", "clusters", "account", "constraint", "cpus-per-task",
         "exclude", "mem", "nodelist", "partition", "qos", "reservation", "time")  # fmt: skip
PARTITIONS = (None, "cpu", "gpu")


def fail(program: str, words: str) -> None:
    print(f"{program}: error: {words}", file=sys.stderr)
    sys.exit(1)


def options(words: list[str]) -> dict[str, str]:
    return {name: value for name, _, value in (word.removeprefix("--").partition("=") for word in words if word.startswith("--"))}


def task_state(task: dict) -> tuple[str, str]:
    if task["pid"] is None:
        return ("CANCELLED", "None") if task["cancelled"] else ("PENDING", "Priority")
    exit_file = Path(task["exit"])
    if exit_file.exists():
        code = exit_file.read_text().strip()
        return ("COMPLETED", "None") if code == "0" else ("FAILED", "NonZeroExitCode")
    return ("CANCELLED", "None") if task["cancelled"] else ("RUNNING", "None")


def start(folder: Path, file: Path) -> None:
    task = json.loads(file.read_text())
    with Path(task["output"]).open("wb") as out:
        # Slurm's environment is that of the shell that has submitted the job
        line = 'sh "$1"; echo $? > "$2.part"; mv "$2.part" "$2"'
        process = subprocess.Popen(
            ["/bin/sh", "-c", line, "sh", task["script"], task["exit"]],
            env={**task["environment"], "SLURM_ARRAY_TASK_ID": str(task["index"]), "SLURM_JOB_ID": task["job"]},
            cwd=task["cwd"], stdin=subprocess.DEVNULL, stdout=out, stderr=out, start_new_session=True,
        )  # fmt: skip
    file.write_text(json.dumps({**task, "pid": process.pid}))


def sbatch(folder: Path, arguments: list[str]) -> None:
    script = Path(arguments[-1])
    text = script.read_text()
    directives = [line.removeprefix("#SBATCH ") for line in text.splitlines() if line.startswith("#SBATCH ")]
    asked = {**options(directives), **options(arguments[:-1])}
    unknown = [name for name in asked if name not in KNOWN]
    if unknown:
        fail("sbatch", f"unrecognized option '--{unknown[0]}'")
    if asked.get("partition") not in PARTITIONS:
        fail(
            "sbatch",
            f"invalid partition specified: {asked['partition']}\n"
            "sbatch: error: Batch job submission failed: Invalid partition name specified",
        )
    job = str(100 + len(list(folder.glob("*.script"))))
    # Slurm keeps a copy of the script
    kept = folder / f"{job}.script"
    kept.write_text(text)
    first, last = map(int, asked["array"].split("-"))
    for index in range(first, last + 1):
        file = folder / f"{job}_{index}.json"
        meant = {"%": "%", "A": job, "a": str(index)}
        output = re.sub("%([%Aa])", lambda found, meant=meant: meant[found[1]], asked["output"])
        file.write_text(json.dumps({
            "job": job, "index": index, "name": asked["job-name"], "script": str(kept), "output": output, "cwd": str(Path.cwd()),
            "exit": str(folder / f"{job}_{index}.exit"), "environment": dict(os.environ), "pid": None, "cancelled": False,
        }))  # fmt: skip
    print(job)


def squeue(folder: Path, asked: dict[str, str]) -> None:
    for file in sorted(folder.glob("*.json")):
        task = json.loads(file.read_text())
        state, reason = task_state(task)
        if task["name"] == asked["name"] and not (state not in ("PENDING", "RUNNING") and (folder / "ageless").exists()):
            print(f"{task['job']}_{task['index']}|{state}|{reason}")


def scancel(folder: Path, asked: dict[str, str]) -> None:
    for file in folder.glob("*.json"):
        task = json.loads(file.read_text())
        if task["name"] == asked["name"] and task_state(task)[0] in ("PENDING", "RUNNING"):
            file.write_text(json.dumps({**task, "cancelled": True}))
            if task["pid"] is not None:
                with suppress(ProcessLookupError):
                    os.killpg(task["pid"], signal.SIGTERM)


def main() -> None:
    folder, program, arguments = Path(sys.argv[1]), sys.argv[2], sys.argv[3:]
    # one call at a time, as a controller has it
    lock = (folder / "lock").open("w")
    fcntl.flock(lock, fcntl.LOCK_EX)
    with (folder / "calls").open("a") as calls:
        calls.write(json.dumps([program, *arguments]) + "\n")
    if (folder / "away").exists():
        fail(program, "Unable to contact slurm controller (connect failure)")
    if program == "sbatch":
        sbatch(folder, arguments)
    elif program == "squeue":
        squeue(folder, options(arguments))
    else:
        scancel(folder, options(arguments))
    if not (folder / "hold").exists():
        for file in folder.glob("*.json"):
            task = json.loads(file.read_text())
            if task["pid"] is None and not task["cancelled"]:
                start(folder, file)


if __name__ == "__main__":
    main()
