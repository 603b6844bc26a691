"""A headless Chromium for tests of the page; skips with the reason where there is none."""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Iterator

import pytest

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")


@contextlib.contextmanager
def chromium() -> Iterator:
    """A running browser, driven by Playwright; ``WSIS_CHROMIUM`` names its program."""
    api = pytest.importorskip("playwright.sync_api", reason="needs Playwright: pip install wsis[browser]")
    program = os.environ.get("WSIS_CHROMIUM") or next(filter(None, map(shutil.which, NAMES)), None)
    if program is None:
        pytest.skip("needs a Chromium: apt-get install chromium, or name one in WSIS_CHROMIUM")
    with api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=program, args=["--no-sandbox", "--disable-gpu"])
        yield browser
        browser.close()
