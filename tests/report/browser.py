"""A Chromium for the page's tests, wherever this machine has one."""

import os
import shutil
import subprocess
from pathlib import Path

from playwright.sync_api import Playwright

ARGUMENTS = (
    "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync",
)  # fmt: skip
HOW_TO_INSTALL = (
    "no Chromium found: set TSQ_TEST_BROWSER to one, install the package chromium, or run playwright install chromium"
)


def find_browser(playwright: Playwright) -> str | None:
    """Path of a Chromium that starts: TSQ_TEST_BROWSER, one on PATH, or playwright's own."""
    named = os.environ.get("TSQ_TEST_BROWSER")
    if named:
        return named
    for name in ("chromium", "chromium-browser", "google-chrome"):
        path = shutil.which(name)
        # Some systems put a script there that only says how to install the browser.
        if path and subprocess.run([path, "--version"], capture_output=True, check=False).returncode == 0:
            return path
    own = playwright.chromium.executable_path
    return own if Path(own).exists() else None
