"""What a report says of requests that have not ended: while a run goes on, after a kill, and once the run went on after it."""

import html
import json
import re
from pathlib import Path

import pytest
from bought import MOST, PRICES
from half_answering import Half
from processes import run
from processes import runner as started
from raw_server import RawServer, in_thread
from reported import stored

import runner


def told(folder: Path) -> str:
    """Return the text of a report of the newest run, in one line."""
    runner.report(folder / "report.html", db=folder / "runner.db")
    main = (folder / "report.html").read_text().partition("<main")[2].partition("</main>")[0]
    return " ".join(html.unescape(re.sub("<[^>]+>", " ", main)).split())


@pytest.mark.parametrize("budget", [[], ["--max-cost", "1"]], ids=["no budget", "budget"])
def test_requests_that_were_sent_are_in_a_report_before_one_has_ended(tmp_path: Path, budget: list[str]) -> None:
    desk, kind = Half(tmp_path, first=0), "open when the process ended"
    desk.write(map(str, range(6)))
    with in_thread(RawServer(desk)) as server:
        words = ["run", "p.jsonl", "--model", "m", "--base-url", server.base_url, "--prices", json.dumps(PRICES)]
        words += ["--max-tokens", str(MOST), "--concurrency", "3", *budget]
        with started(*words, cwd=tmp_path) as process:

            def in_flight() -> int:
                pace = runner.status(1, db=desk.store)[0].pace if desk.store.exists() and desk.hanging else None
                return sum(lane.in_flight for lane in pace.lanes) if pace is not None else 0

            process.until(lambda: in_flight() == 3, "all slots")
            text = told(tmp_path)
            assert "No request has ended yet: 3 requests are open." in text
            assert "open now 3" in text
            assert "Nothing was sent" not in text
            process.killed()
        text, status = told(tmp_path), run("status", cwd=tmp_path).out
        (perhaps,) = re.findall(r"perhaps up to \$[\d.]+ more, for [\w ]+ended", status)
        short = perhaps.partition(", for")[0]
        most = "" if budget else " (at most)"
        assert f"0 of 6 rows done, 6 left, for $0.00, {short}. {'3' if budget else 'Up to 3'} requests were {kind}." in text
        assert f"P{perhaps[1:]}." in text
        assert text.count(short) == 2
        assert f"{kind}{most} 3 {short.split()[3]}" in text
        assert "Nothing was sent" not in text
        desk.hangs = False
        assert run(*words, cwd=tmp_path).code == 0
    text = told(tmp_path)
    assert f"6 of 6 rows done, with {9 if budget else 6} requests" in text
    assert short in text
    assert ("killed 3" if budget else f"{kind} (at most) 3") in text


def test_a_run_that_sent_nothing_says_so(tmp_path: Path) -> None:
    stored(tmp_path / "runner.db", [], rows=3)
    assert told(tmp_path).count("Nothing was sent.") == 2
