"""A real Chromium, without a head and without a network, that opens the pages of a test."""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Self

import pytest
from playwright import sync_api as api

FLAGS = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)
_NAMES = ("chromium", "chromium-browser", "google-chrome")


def path() -> str | None:
    """Return the browser of this machine: Debian's, or that which RUNNER_TEST_CHROMIUM names."""
    return os.environ.get("RUNNER_TEST_CHROMIUM") or next(filter(None, map(shutil.which, _NAMES)), None)


@contextmanager
def chromium() -> Iterator[Any]:
    """Yield a browser. Skips the test where there is none."""
    found = path()
    if found is None:
        pytest.skip("not run: there is no chromium")
    with api.sync_playwright() as play:
        try:
            browser = play.chromium.launch(executable_path=found, headless=True, args=list(FLAGS))
        except api.Error as error:
            pytest.skip(f"not run: chromium does not start here ({str(error).splitlines()[0]})")
        try:
            yield browser
        finally:
            browser.close()


class Opened:
    """A page that was opened, with what it wrote to its console and what it asked the network for.

    before: a script that runs before those of the page.
    """

    def __init__(self, browser: Any, file: Path, *, before: str = "", **options: Any) -> None:
        self._context = browser.new_context(**{"viewport": {"width": 1280, "height": 900}, **options})
        self.page = self._context.new_page()
        self.said: list[str] = []
        self.asked: list[str] = []
        self.page.on("console", lambda message: self.said.append(f"{message.type}: {message.text}"))
        self.page.on("pageerror", lambda error: self.said.append(f"error: {error}"))
        self.page.on("request", lambda request: self.asked.append(request.url))
        if before:
            self.page.add_init_script(before)
        self.page.goto(file.as_uri())

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._context.close()
