"""The notebook of the guides shows what is committed, and an interrupt of the kernel stops a run as Ctrl-C stops the command."""

import json
import re
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import nbformat
import notebook_page
import pytest
from jupyter_client.manager import KernelManager
from processes import HANG_S, count, environment, rows, simulator, until

SLOW = ("--first-token-s", "0.2", "--chunk-s", "0.005", "--tokens", "20")


@pytest.fixture(scope="module")
def committed() -> Any:
    return nbformat.read(notebook_page.PAGE, as_version=4)


def test_a_new_execution_shows_what_is_committed(committed: Any, tmp_path: Path) -> None:
    fresh = notebook_page.executed(committed, tmp_path)
    for then, now in zip(notebook_page.texts(committed), notebook_page.texts(fresh), strict=True):
        assert [*map(notebook_page.without_times, now)] == [*map(notebook_page.without_times, then)]


def test_what_a_reader_sees_has_progress_tables_and_no_traceback(committed: Any) -> None:
    nbformat.validate(committed)
    outputs = [output for cell in committed.cells if cell.cell_type == "code" for output in cell.outputs]
    assert not [output for output in outputs if output.output_type == "error" or output.get("name") == "stderr"]
    shown = "\n".join(text for cell in notebook_page.texts(committed) for text in cell)
    assert re.search(r"run 1: reviews\.csv, 4 rows\nrun 1 finished: 4 done, 0 failed of 4 rows in 0:0\d", shown)
    tables = [output.data["text/html"] for output in outputs if "text/html" in output.get("data", {})]
    assert len(tables) == 4
    assert sum('class="dataframe"' in table for table in tables) == 2
    raw = notebook_page.PAGE.read_text(encoding="utf-8")
    assert "/tmp/" not in raw
    assert str(notebook_page.ROOT) not in raw
    assert [cell.execution_count for cell in committed.cells if cell.cell_type == "code"] == [*range(1, 12)]


@pytest.fixture
def kernel(tmp_path: Path) -> Iterator[tuple[Any, Any]]:
    # its sockets are files: a port that was free when it was chosen may be another test's when the kernel begins
    with tempfile.TemporaryDirectory(prefix="rt-", dir="/tmp") as place:
        manager: Any = KernelManager(transport="ipc", ip=f"{place}/kernel")
        manager.start_kernel(cwd=str(tmp_path), env=environment())
        client = manager.blocking_client()
        client.start_channels()
        try:
            client.wait_for_ready(timeout=HANG_S)
            yield manager, client
        finally:
            client.stop_channels()
            manager.shutdown_kernel(now=True)


def ended(client: Any, message: str) -> tuple[dict[str, Any], str]:
    """Wait for the end of a cell; return its reply, and the last text of each of its outputs."""
    outputs: dict[str, str] = {}
    while True:
        heard = client.get_iopub_msg(timeout=HANG_S)
        if heard["parent_header"].get("msg_id") != message:
            continue
        content = heard["content"]
        if heard["msg_type"] == "status" and content["execution_state"] == "idle":
            break
        if "data" in content:
            outputs[content.get("transient", {}).get("display_id", heard["msg_type"])] = content["data"]["text/plain"]
    while (reply := client.get_shell_msg(timeout=HANG_S))["parent_header"].get("msg_id") != message:
        pass
    return reply["content"], "\n".join(outputs.values())


def test_an_interrupt_lets_open_requests_finish_and_the_same_cell_goes_on(kernel: tuple[Any, Any], tmp_path: Path) -> None:
    manager, client = kernel
    store = tmp_path / "runner.db"
    with simulator(*SLOW) as server:
        texts = json.dumps([f"number {number}" for number in range(60)])
        cell = f"import runner\nrunner.run({texts}, model='m', base_url={server.openai!r}, concurrency=8).done"
        message = client.execute(cell)
        until(lambda: store.exists() and count(store) > 8, "the first rows")
        manager.interrupt_kernel()
        reply, shown = ended(client, message)
        assert (reply["status"], reply["ename"]) == ("error", "KeyboardInterrupt")
        assert "stopped by Ctrl-C; waiting up to 30 s for " in shown
        assert "run 1 not finished: " in shown
        kept = count(store)
        assert 8 < kept < 60
        assert server.sent() == kept == count(store, "attempts")
        assert rows(store, "SELECT stop_reason FROM runs") == [("stopped by Ctrl-C",)]
        reply, shown = ended(client, client.execute(cell))
        assert reply["status"] == "ok", reply
        assert f"{kept} already done" in shown
        assert shown.endswith("60")
        assert server.sent() == 60
