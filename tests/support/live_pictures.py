"""Makes the pictures of the live view in ``docs/pictures``: a run against the simulator, with limits, failures and a schema.

Run it by hand, and look at what it made: ``PYTHONPATH=. python tests/support/live_pictures.py`` (two minutes).
"""

import random
import sys
import tempfile
from contextlib import closing
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent))

from browsing import chromium
from live_pages import Served, Tab
from processes import runner, simulator

PICTURES = Path(__file__).parents[2] / "docs" / "pictures"
_REVIEWS = (
    "The coffee machine leaks after two weeks.",
    "Lovely battery, lasts all week.",
    "Arrived late but works.",
    "Cheap plastic, broke at once.",
    "My kids love it.",
    "Support answered in an hour.",
)
_JOB = """
input = "reviews.csv"
prompt = "Judge this review: {{ text }}"
fields = "mood: good|bad|mixed, score: int, reason: str, refund: bool"
model = "sim-mini"
concurrency = 24
attempts = 2
repairs = 0
[params]
max_tokens = 200
[prices."sim-mini"]
input = 0.25
output = 2
"""
_FAULTS = ("429=0.03", "invalid_json=0.02", "500=0.12")
_SIMULATOR = ("--rpm", "480", "--first-token-s", "0.9", "--chunk-s", "0.08")
_SHOTS: tuple[tuple[str, str, str, int, int], ...] = (
    ("live-light.png", "main", "light", 1280, 1000),
    ("live-dark.png", "charts-title", "dark", 1280, 860),
    ("live-phone.png", "main", "light", 390, 844),
)


def main() -> None:
    """Send the rows, open the page while they are under way, and take its pictures."""
    draw = random.Random(4)
    lines = [f'R{row:04},"{draw.choice(_REVIEWS)}",{draw.choice(("de", "en", "fr"))}' for row in range(1500)]
    with tempfile.TemporaryDirectory() as name, simulator(*_SIMULATOR, *(w for f in _FAULTS for w in ("--fault", f))) as server:
        folder = Path(name)
        (folder / "reviews.csv").write_text("\n".join(["id,text,lang", *lines]) + "\n")
        (folder / "job.toml").write_text(_JOB)
        with runner("run", "job.toml", "--name", "reviews", "--base-url", server.openai, cwd=folder) as process:
            process.until(lambda: server.sent() > 400, "the first answers")
            with Served(folder) as web, chromium() as browser:
                for shot in _SHOTS:
                    _take(browser, web, *shot)


def _take(browser: Any, web: Served, picture: str, at: str, scheme: str, width: int, height: int) -> None:
    size = {"width": width, "height": height}
    with closing(browser.new_context(viewport=size, color_scheme=scheme, timezone_id="UTC")) as context:
        tab = Tab(context, f"{web.url}#/runs/1")
        tab.wait("document.querySelectorAll('.answer').length > 0 && document.querySelectorAll('.curve').length > 0")
        tab.page.wait_for_timeout(6000)
        tab.page.evaluate(f"document.getElementById('{at}').scrollIntoView()")
        tab.page.wait_for_timeout(300)
        tab.page.screenshot(path=PICTURES / picture)


if __name__ == "__main__":
    main()
