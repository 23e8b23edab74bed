"""A Ray cluster of two nodes in a network namespace of its own, and a run in it: prints what became of it as JSON.

``python ray_cluster.py SCENARIO FOLDER``, started by ``test_ray.py`` behind ``unshare``: Ray listens on all interfaces, whatever
it is told, and here is none but loopback. The namespace of processes ends with this one, and with it all that it has started.
"""

import fcntl
import json
import os
import signal
import socket
import struct
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

KEY = "sk-canary-of-the-node-5b1e7d"
"""The key in the environment of the nodes."""
RAY_TOKEN = "0123456789abcdef" * 4
PORT = 6399
ROOT = Path(__file__).parents[2]


def loopback_up() -> None:
    """Turn on the only interface of the namespace."""
    with socket.socket() as any_socket:
        # SIOCSIFFLAGS with IFF_UP and IFF_RUNNING
        fcntl.ioctl(any_socket, 0x8914, struct.pack("16sh14x", b"lo", 0x41))


def until(condition: Callable[[], object], what: str, seconds: float = 90) -> None:
    end = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > end:
            sys.exit(f"waited in vain for {what}")
        time.sleep(0.05)


def processes(*words: str) -> list[int]:
    """Return the processes whose command line has all these words; the arguments are separated by spaces."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            line = (folder / "cmdline").read_bytes().decode(errors="replace").replace("\0", " ")
        except OSError:
            continue
        if all(word in line for word in words) and int(folder.name) != os.getpid():
            found.append(int(folder.name))
    return sorted(found)


def workers() -> list[int]:
    return processes("runner worker --connect")


def actors() -> list[int]:
    return processes("ray::Hand")


def parent(process: int) -> int:
    return int(Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[1])


def ray(*arguments: str) -> None:
    """Call ``ray``, with the environment of a node: it has the key."""
    program = Path(sys.executable).with_name("ray")
    environment = {**os.environ, "OPENAI_API_KEY": KEY}
    done = subprocess.run([program, *arguments], env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(f"ray {' '.join(arguments)}: {done.stdout}{done.stderr}")


def started_nodes(folder: Path) -> None:
    """Start two nodes with ``ray start``, which have a token."""
    head = ("--head", "--port", str(PORT), "--node-ip-address", "127.0.0.1", "--include-dashboard", "false")
    ray("start", *head, "--num-cpus", "2", "--temp-dir", str(folder / "ray"), "--disable-usage-stats")
    ray("start", "--address", f"127.0.0.1:{PORT}", "--node-ip-address", "127.0.0.2", "--num-cpus", "3")


def cluster_in_process(folder: Path) -> str:
    """Start two nodes with ``ray.cluster_utils``; return their address."""
    os.environ["OPENAI_API_KEY"] = KEY
    from ray.cluster_utils import Cluster

    cluster = Cluster(
        initialize_head=True, head_node_args={"num_cpus": 2, "include_dashboard": False, "temp_dir": str(folder / "ray")}
    )
    cluster.add_node(num_cpus=2)
    # no node ends with this function
    globals()["kept"] = cluster
    return str(cluster.address)


def simulator(folder: Path) -> str:
    """Start a server; return its base URL."""
    out = (folder / "server.out").open("w+b")
    command = [
        sys.executable,
        "-m",
        "runner",
        "simulate",
        "--port",
        "0",
        "--first-token-s",
        "0.4",
        "--chunk-s",
        "0",
        "--tokens",
        "6",
    ]
    subprocess.Popen(command, stdout=out, stderr=out, env={**os.environ, "PYTHONPATH": str(ROOT)})
    read = Path(out.name).read_text
    until(lambda: "/v1" in read(), "the server")
    return next(
        word.strip("`'\".,;") for word in read().split() if word.startswith("http://") and word.rstrip("`'\".,;").endswith("/v1")
    )


def sent(base_url: str) -> int:
    import urllib.request

    with urllib.request.urlopen(base_url.removesuffix("/v1") + "/stats") as answer:
        return int(json.load(answer)["requests"])


def run(folder: Path, base_url: str, address: str, *options: str, rows: int = 60) -> "subprocess.Popen[bytes]":
    """Start a run with four workers; it has the key of the nodes, as its own."""
    lines = (json.dumps({"id": f"r{n}", "prompt": f"Say {n}."}) for n in range(rows))
    (folder / "p.jsonl").write_text("\n".join(lines))
    given = (
        "--model",
        "m",
        "--base-url",
        base_url,
        "--concurrency",
        "16",
        "--engine",
        "ray",
        "--workers",
        "4",
        "--address",
        address,
    )
    command = [sys.executable, "-m", "runner", "run", "p.jsonl", *given, *options]
    environment = {**os.environ, "OPENAI_API_KEY": KEY, "PYTHONPATH": str(ROOT)}
    with (folder / "run.out").open("wb") as out, (folder / "run.err").open("wb") as err:
        return subprocess.Popen(command, cwd=folder, env=environment, stdout=out, stderr=err, stdin=subprocess.DEVNULL)


def held(process: int, *texts: str) -> bool:
    """Return True if the memory of a process holds one of these texts, apart from its own environment."""
    wanted = [text.encode() for text in texts]
    try:
        areas = Path(f"/proc/{process}/maps").read_text().splitlines()
        with Path(f"/proc/{process}/mem").open("rb", 0) as memory:
            for area in areas:
                bounds, mode = area.split()[:2]
                begin, end = (int(bound, 16) for bound in bounds.split("-"))
                if "w" not in mode or "[stack]" in area or end - begin > 1 << 30:
                    continue
                memory.seek(begin)
                try:
                    block = memory.read(end - begin)
                except OSError:
                    continue
                if any(text in block for text in wanted):
                    return True
    except (OSError, ValueError):
        pass
    return False


def told(folder: Path, server: str, ended: int, **more: object) -> dict[str, object]:
    words = (folder / "run.out").read_text() + (folder / "run.err").read_text()
    return {"code": ended, "sent": sent(server), "words": words, "left": len(workers()), "actors": len(actors()), **more}


def faults(folder: Path) -> dict[str, object]:
    """Kill an actor, freeze a worker, kill a raylet, while a run goes on."""
    started_nodes(folder)
    server = simulator(folder)
    going = run(folder, server, f"127.0.0.1:{PORT}", "--engine-option", "connect=127.0.0.1", rows=900)
    joined = lambda: (folder / "run.out").read_text().count("has joined")  # noqa: E731
    until(lambda: joined() >= 4, "four workers")
    control = processes("gcs_server")
    in_control = [held(process, KEY) for process in control]
    until(lambda: sent(server) >= 30, "requests")
    times = {}
    (head,) = processes("raylet/raylet", "--node_ip_address=127.0.0.1")
    (other,) = processes("raylet/raylet", "--node_ip_address=127.0.0.2")
    os.kill(next(actor for actor in actors() if parent(actor) == other), signal.SIGKILL)
    begun = time.monotonic()
    until(lambda: "was lost" in (folder / "run.out").read_text(), "the news of the killed actor")
    times["killed_s"] = round(time.monotonic() - begun, 2)
    until(lambda: joined() >= 5, "its successor")
    until(lambda: sent(server) >= 60, "more requests")
    # Ray itself ends the frozen one with its actor, where its raylet lives
    os.kill(next(worker for worker in workers() if parent(parent(worker)) == head), signal.SIGSTOP)
    begun = time.monotonic()
    until(lambda: (folder / "run.out").read_text().count("was lost") >= 2, "the news of the frozen worker")
    times["frozen_s"] = round(time.monotonic() - begun, 2)
    # Ray takes the actors of this node for dead, and they live: what is lost is for the run to say
    os.kill(other, signal.SIGKILL)
    times["killed_at"] = sent(server)
    code = going.wait(180)
    until(lambda: not workers() and not actors(), "the end of the workers")
    logs = [file.name for file in (folder / "ray").rglob("*") if file.is_file() and KEY.encode() in file.read_bytes()]
    cluster_lives = bool(processes("gcs_server")) and bool(processes("raylet/raylet", "--node_ip_address=127.0.0.1"))
    return told(folder, server, code, key_in_control=in_control, logs=logs, cluster_lives=cluster_lives, **times)


def plain(folder: Path) -> dict[str, object]:
    """A run on two nodes of one machine, for which loopback is enough; its neighbours of Ray stay."""
    address = cluster_in_process(folder)
    server = simulator(folder)
    code = run(folder, server, address).wait(180)
    return told(folder, server, code, cluster_lives=len(processes("raylet/raylet")) == 2)


def killed(folder: Path) -> dict[str, object]:
    """Kill the run: workers, actors and the process that speaks to Ray end."""
    started_nodes(folder)
    server = simulator(folder)
    going = run(folder, server, f"127.0.0.1:{PORT}", "--engine-option", "connect=127.0.0.1", rows=900)
    until(lambda: sent(server) >= 30, "requests")
    going.kill()
    code = going.wait(10)
    begun = time.monotonic()
    until(lambda: not workers(), "the end of the workers")
    until(lambda: not processes("runner.workers.actors"), "the end of the process that speaks to Ray")
    until(lambda: not actors(), "the end of the actors")
    return told(folder, server, code, gone_s=round(time.monotonic() - begun, 2))


def refused(folder: Path) -> dict[str, object]:
    """No cluster; loopback in a cluster of several machines; nodes without runner."""
    server = simulator(folder)
    words: dict[str, object] = {}
    words["nobody_code"] = run(folder, server, "127.0.0.1:6555").wait(180)
    words["nobody"] = (folder / "run.err").read_text()
    started_nodes(folder)
    words["loopback_code"] = run(folder, server, f"127.0.0.1:{PORT}").wait(180)
    words["loopback"] = (folder / "run.err").read_text()
    lame = ("--engine-option", "connect=127.0.0.1", "--engine-option", "runner=/no/such/runner")
    words["lame_code"] = run(folder, server, f"127.0.0.1:{PORT}", *lame).wait(180)
    words["lame"] = (folder / "run.err").read_text()
    return words


if __name__ == "__main__":
    loopback_up()
    where = Path(sys.argv[2])
    os.environ.update(
        HOME=str(where), RAY_AUTH_MODE="token", RAY_AUTH_TOKEN=RAY_TOKEN, RAY_USAGE_STATS_ENABLED="0", PYTHONPATH=str(ROOT)
    )
    # there Ray notes which cluster was started last, and makes no folder for that
    (where / "ray").mkdir()
    os.environ["RAY_TMPDIR"] = str(where)
    os.environ.pop("OPENAI_API_KEY", None)
    result = {"faults": faults, "plain": plain, "killed": killed, "refused": refused}[sys.argv[1]](where)
    (where / "result.json").write_text(json.dumps(result))
