"""The commands of docs/reference/stream-api.md and docs/guides/stream-in-a-page.md, as they stand but for their ports."""

import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import httpx
import pytest
from doc_blocks import ROOT, blocks
from processes import HANG_S, Started, environment, free_port, run, runner

PAGE, GUIDE = ROOT / "docs/reference/stream-api.md", ROOT / "docs/guides/stream-in-a-page.md"


def commands(page: Path, port: int, backend: int) -> list[str]:
    found = [one for block in blocks(page) if block.kind == "shell" for one in block.commands()]
    return [
        one.replace(":8377", f":{port}").replace("--port 8377", f"--port {port}").replace("8000", str(backend)) for one in found
    ]


@pytest.mark.skipif(shutil.which("curl") is None, reason="not run: there is no curl")
def test_the_commands_of_the_pages(tmp_path: Path) -> None:
    port, backend = free_port(), free_port()
    (ask,) = commands(PAGE, port, backend)
    serve, behind = commands(GUIDE, port, backend)
    (tmp_path / "job.jsonl").write_text('{"prompt": "x"}\n')
    assert run("run", "job.jsonl", "--provider", "simulator", cwd=tmp_path).code == 0
    assert serve.endswith(" &")
    with runner(*serve.removesuffix(" &").split()[1:], cwd=tmp_path) as web:
        web.until(lambda: "?token=" in web.out, "the address")
        token = web.out.partition("token=")[2].split()[0]
        told = subprocess.run(ask, shell=True, env={**os.environ, "TOKEN": token}, capture_output=True, text=True, timeout=HANG_S)
        kinds = [line.removeprefix("event: ") for line in told.stdout.splitlines() if line.startswith("event: ")]
        assert (kinds[0], kinds[-1], "token" in kinds) == ("metadata", "done", True), told
        words = behind.replace("RUNNER_TOKEN=... python", "python").split()
        assert words[:4] == ["python", "-m", "uvicorn", "backend:app"]
        env = environment({"RUNNER_TOKEN": token, "RUNNER_URL": f"http://127.0.0.1:{port}"})
        with Started([sys.executable, *words[1:]], cwd=ROOT / "docs/guides/stream-in-a-page", env=env) as page:
            page.until(lambda: "running on" in page.err, "the backend")
            with httpx.Client(base_url=f"http://127.0.0.1:{backend}", timeout=HANG_S) as client:
                assert "importmap" in client.get("/").text
                assert "EventDecoder" in client.get("/static/runner-stream.js").text
                answered = client.post("/api/stream", json={"prompt": "x"})
            assert json.loads(answered.text.strip().splitlines()[-1].removeprefix("data: "))["finish_reason"] == "stop"
        # Ctrl-C ends the server at once, and its books are in order
        os.kill(web.pid, signal.SIGINT)
        assert web.ended().code == 0
    listed = json.loads(run("list", "--json", cwd=tmp_path).out)
    assert [(one["done"], one["active"]) for one in listed] == [(1, False), (2, False)]
    assert json.loads(run("status", "--json", cwd=tmp_path).out)["run"]["id"] == 1
