"""The browser of the tests: Debian's Chromium, cut off from everything but this machine."""

import os
from pathlib import Path
from typing import Final

import pytest

CHROMIUM: Final = "/usr/bin/chromium"
LAUNCH: Final = [
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
    "--disable-background-networking", "--disable-component-update", "--disable-sync",
]  # fmt: skip

NO_BROWSER: Final = f"no browser at {CHROMIUM}: apt-get install chromium"


def browser_is_missing() -> bool:
    """Whether tests are to be skipped for want of a browser; in CI they run and fail instead."""
    return not Path(CHROMIUM).exists() and os.environ.get("CI") != "true"


needs_chromium: Final = pytest.mark.skipif(browser_is_missing(), reason=NO_BROWSER)
"""Skips with its reason where there is no browser; in CI a missing browser is a failure."""
