"""Makes the pictures of reports in ``docs/pictures``: two runs against the simulator, with failures, limits and a schema.

Run it by hand, and look at what it made: ``PYTHONPATH=. python tests/support/report_pictures.py`` (two minutes).
"""

import random
import sys
import tempfile
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent))

from browsing import Opened, chromium
from processes import simulator

import runner

PICTURES = Path(__file__).parents[2] / "docs" / "pictures"
_REVIEWS = (
    "The coffee machine leaks after two weeks.",
    "Lovely battery, lasts all week.",
    "Arrived late but works.",
    "Cheap plastic, broke at once.",
    "My kids love it.",
    "Fine for the price.",
    "The manual is in the wrong language.",
    "Support answered in an hour.",
)
_FIELDS = "mood: good|bad|mixed, score: int, stars: 1|2|3|4|5, reason: str, refund: bool"
_PRICES = {"sim-mini": {"input": 0.25, "output": 2}, "sim-large": {"input": 1.25, "output": 10}}
_FAULTS = ("429=0.04", "invalid_json=0.12", "truncate=0.04", "500=0.05")
_SIMULATOR = (
    "--rpm",
    "900",
    "--first-token-s",
    "0.3",
    "--chunk-s",
    "0.015",
    *(word for fault in _FAULTS for word in ("--fault", fault)),
)
_SHOTS: tuple[tuple[str, str, str, int, int], ...] = (
    ("report-light.png", "one.html", "light", 1280, 1000),
    ("report-dark.png", "both.html", "dark", 1280, 1000),
    ("report-phone.png", "one.html", "light", 390, 844),
)


def main() -> None:
    """Send the rows twice, write the reports, and take their pictures."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        _runs(folder)
        runner.report(folder / "one.html", run_ids=[1], db=folder / "runner.db")
        runner.report(folder / "both.html", run_ids=[1, 2], db=folder / "runner.db")
        PICTURES.mkdir(exist_ok=True)
        with chromium() as browser:
            for picture, page, scheme, width, height in _SHOTS:
                size = {"width": width, "height": height}
                with Opened(browser, folder / page, viewport=size, color_scheme=scheme, timezone_id="UTC") as opened:
                    opened.page.screenshot(path=PICTURES / picture)


def _runs(folder: Path) -> None:
    draw = random.Random(4)
    lines = [f'R{row:04},"{draw.choice(_REVIEWS)}",{draw.choice(("de", "en", "fr"))}' for row in range(400)]
    path = folder / "reviews.csv"
    path.write_text("\n".join(["id,text,lang", *lines]) + "\n")
    both: tuple[dict[str, Any], ...] = (
        {"model": "sim-mini", "concurrency": "auto", "repairs": 0},
        {"model": "sim-large", "concurrency": 6},
    )
    for settings in both:
        with simulator(*_SIMULATOR) as server:
            common = {
                "prompt": "Judge this review: {{ text }}",
                "fields": _FIELDS,
                "prices": _PRICES,
                "attempts": 2,
                "max_tokens": 200,
            }
            runner.run(path, db=folder / "runner.db", base_url=server.openai, progress=False, **common, **settings)  # type: ignore[arg-type]


if __name__ == "__main__":
    main()
