"""Runs the blocks of a page in a folder of its own, against the simulator in place of the servers that it names."""

import os
import re
import shlex
import shutil
import subprocess
import sys
import sysconfig
from contextlib import ExitStack
from pathlib import Path
from typing import Self

from doc_blocks import Block
from doc_files import furnish
from doc_shell import CAMPAIGN, NOT_HERE, SHELL_WORDS, plain, read_by_click, runner_commands
from processes import HANG_S, QUICK, Ended, Simulated, Started, assert_clean, environment, rows, run, simulator

ADDRESSES = (
    (r"https://api\.anthropic\.com", "anthropic"),
    (r"https://api\.openai\.com/v1", "openai"),
    (r"https://openrouter\.ai/api/v1", "openai"),
    (r"https://[\w-]+\.openai\.azure\.com/openai/(?:v1/?|deployments/[\w.-]+)", "openai"),
    (r"https://[\w-]+\.services\.ai\.azure\.com/openai/v1/?", "openai"),
    (r"http://(?:localhost|127\.0\.0\.1|[\w-]+):(?:8000|8001|8080|11434)/v1", "openai"),
)
"""Servers that the documents name, as patterns, and the dialect of the simulator that stands for each."""

READS_A_STORE = {
    *("status", "list", "export", "errors", "show", "retry", "resume", "delete"),
    *("report", "compare", "vacuum", "tag"),
}
_KEYS = ("OPENAI_API_KEY", "ANTHROPIC_API_KEY", "AZURE_OPENAI_API_KEY", "OPENROUTER_API_KEY")


class Stock:
    """A store for commands that read one, made when it is first wanted. Its newest run has failed rows and cut-off answers."""

    def __init__(self, folder: Path) -> None:
        """Make it in this empty folder."""
        self._folder = folder

    def bring(self, to: Path) -> None:
        """Copy the store, in place of one that is there."""
        path = self._folder / "runner.db"
        if not path.exists():
            _fill(self._folder)
        shutil.copy(path, to)


def _fill(folder: Path) -> None:
    furnish(folder)
    with simulator(*QUICK, "--fault", "truncate=0.2", "--fault", "length=0.2") as server:
        for name in ("reviews.csv", "prompts.jsonl", "mine.jsonl"):
            words = ["run", name, "--model", "m", "--base-url", server.openai, "--attempts", "1"]
            table = ["--prompt", "Good, bad or mixed? {{ text }}", "--fields", "mood: good|bad|mixed, score: int"]
            ended = run(*words, *(table if name.endswith(".csv") else []), cwd=folder)
            assert ended.code == 1, ended


class Sitting:
    """A folder in which the blocks of one page run, in their order. It lasts until the ``with`` block is left."""

    def __init__(self, folder: Path, server: Simulated, store: Stock) -> None:
        """Write the files into the folder. server: stands for the servers that the page names."""
        furnish(folder)
        self.folder, self._server, self._store = folder, server, store
        self._open = ExitStack()
        self._at_ports: dict[str, Simulated] = {}
        self._programs: list[Block] = []
        scripts = folder.parent / f"{folder.name}-bin"
        scripts.mkdir()
        for name in ("runner", "python", "python3"):
            module = " -m runner" if name == "runner" else ""
            (scripts / name).write_text(f'#!/bin/sh\nexec {shlex.quote(sys.executable)}{module} "$@"\n')
            (scripts / name).chmod(0o755)
        path = os.pathsep.join([str(scripts), sysconfig.get_path("scripts"), os.environ["PATH"]])
        self.env = {
            "PATH": path,
            "COLUMNS": "160",
            "HOME": str(folder),
            "XDG_CONFIG_HOME": str(folder / ".config"),
            "OPENAI_BASE_URL": server.openai,
            "ANTHROPIC_BASE_URL": server.anthropic,
            # at the vendors' own addresses list prices hold without it
            "RUNNER_PRICES": "list",
            # keys and inputs go to the simulator, which stands for servers that need no word for it
            **dict.fromkeys(_KEYS, "none"),
        }

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._open.close()

    def do(self, block: Block) -> None:
        """Run a block, or check what can be checked of it."""
        if block.kind != "python":
            self.end_of_programs()
        text = block.notes.get("not run")
        if text is not None:
            assert text, f"{block.place}: why is it not run? <!-- not run: reason -->"
            for words in runner_commands(block.text):
                read_by_click(words, block.place)
        elif block.kind == "file":
            path = self.folder / block.notes["file"]
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(self.here(block.text) + "\n", encoding="utf-8")
        elif block.kind == "python":
            self._programs.append(block)
        elif block.kind in ("shell", "session"):
            self._needs(block)
            whole = block.kind == "shell" and SHELL_WORDS.search(block.text)
            for command in [block.text] if whole else block.commands():
                self._command(block, command)
        else:
            assert block.kind == "shown", f"{block.place}: in which language is it? (sh, console, python, text, json, toml, ...)"

    def here(self, text: str) -> str:
        """Return a text with the simulator in place of the servers that it names."""
        for port, server in self._at_ports.items():
            text = re.sub(rf"http://(?:127\.0\.0\.1|localhost):{port}(?!\d)", server.anthropic, text)
        # a second server of a fleet has another address
        text = re.sub(r"http://n2:8000/v1", f"{self._server.openai}?node=2", text)
        for pattern, dialect in ADDRESSES:
            text = re.sub(pattern, self._server.base_url(dialect), text)
        (runs,) = rows(self.folder / "runner.db", "SELECT max(id) FROM runs")[0] if "run:" in text else (0,)
        return re.sub(r"\brun:(\d+)", lambda found: f"run:{min(int(found[1]), runs or 0)}", text)

    def end_of_programs(self) -> None:
        """Run the Python blocks that came one after another, in one process and with the same names, as in a notebook."""
        if not self._programs:
            return
        # with the lines of the page before it, so that a traceback names lines of the page
        texts = [("\n" * (one.line - 1) + self.here(one.text), one.place) for one in self._programs]
        lines = [f"exec(compile({text!r}, {place!r}, 'exec'))" for text, place in texts]
        place, self._programs = self._programs[0].place, []
        command = [sys.executable, "-W", "ignore", "-c", "\n".join(lines)]
        with Started(command, cwd=self.folder, env=environment(self.env)) as started:
            ended = started.ended()
        assert ended.code == 0, f"{place}\n{ended.out[-2000:]}\n{ended.err[-4000:]}"

    def _needs(self, block: Block) -> None:
        needs = block.notes.get("needs")
        if needs is not None:
            assert needs.startswith("a store"), f"{block.place}: nobody knows {needs!r}; 'a store' or 'a store as NAME'"
            self._store.bring(self.folder / (needs.removeprefix("a store").removeprefix(" as ") or "runner.db"))

    def _command(self, block: Block, command: str) -> None:
        for words in runner_commands(command):
            read_by_click(words, block.place)
        first = next((word for word in command.split() if not re.match(r"\w+=", word)), "")
        if first in NOT_HERE or CAMPAIGN.match(command):
            return
        self._look_at_store(command)
        command = self.here(command)
        if plain(command):
            words = shlex.split(command.replace("\\\n", " "), comments=True)
            if words[0] == "export" and all("=" in word for word in words[1:]):
                self.env |= dict(word.split("=", 1) for word in words[1:])
                return
            if words[0] == "runner":
                self._runner(block, command, words[1:])
                return
        done = subprocess.run(
            ["/bin/sh", "-e", "-c", command],
            cwd=self.folder,
            env=environment(self.env),
            capture_output=True,
            text=True,
            timeout=HANG_S,
            stdin=subprocess.DEVNULL,
            check=False,
        )
        self._judge(block, command, Ended(done.returncode, done.stdout, done.stderr))

    def _runner(self, block: Block, command: str, words: list[str]) -> None:
        if words[0] == "simulate":
            self._simulate(words[1:])
            return
        self._judge(block, command, run(*words, cwd=self.folder, env=self.env))

    def _look_at_store(self, command: str) -> None:
        """Bring the store from which a command reads, if the page has made none yet."""
        names = {words[0] for words in runner_commands(command)}
        reads = READS_A_STORE & names or re.search(r"\brun:\d|\brunner\.db\b", command)
        if reads and not (self.folder / "runner.db").exists():
            self._store.bring(self.folder / "runner.db")

    def _simulate(self, words: list[str]) -> None:
        """Serve as the page says, on a free port; what the page sends to its port goes there."""
        port = "8399"
        if "--port" in words:
            at = words.index("--port")
            port = words[at + 1]
            del words[at : at + 2]
        self._at_ports[port] = self._open.enter_context(simulator(*words, "--first-token-s", "0", "--chunk-s", "0", env=self.env))

    def _judge(self, block: Block, command: str, ended: Ended) -> None:
        assert_clean(ended)
        allowed = {0, *map(int, re.findall(r"\d+", block.notes.get("exit code", "")))}
        if self._at_ports:
            # with the faults that the page orders, rows may fail
            allowed.add(1)
        said = f"{ended.out[-2000:]}\n{ended.err[-2000:]}"
        assert ended.code in allowed, f"{block.place}: {command}\nexit code {ended.code}\n{said}"
