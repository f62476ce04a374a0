"""A real Chromium for the tests of the HTML report: found on PATH, without network access."""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

NAMES = ("chromium", "chromium-browser", "google-chrome")
FLAGS = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)
MISSING = "no Chromium on PATH: apt-get install -y chromium, or ./scripts/bootstrap"


def executable() -> str | None:
    """Return the path of an installed Chromium; None without one."""
    return next((path for name in NAMES if (path := shutil.which(name))), None)


@dataclass
class Visit:
    """One loaded page with its requests and errors."""

    page: Any
    requests: list[str] = field(default_factory=list)
    complaints: list[str] = field(default_factory=list)


@contextmanager
def chromium(path: str) -> Iterator[Any]:
    """Start a browser without a window; it ends with the block."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=list(FLAGS))
        try:
            yield browser
        finally:
            browser.close()


@contextmanager
def visit(browser: Any, file: Path, scheme: Literal["light", "dark"] = "light") -> Iterator[Visit]:
    """Open ``file`` and collect its requests, console errors and uncaught exceptions."""
    page = browser.new_page(viewport={"width": 1280, "height": 900}, color_scheme=scheme)
    found = Visit(page)
    page.on("request", lambda request: found.requests.append(request.url))
    page.on("pageerror", lambda error: found.complaints.append(str(error)))
    page.on(
        "console",
        lambda line: found.complaints.append(line.text) if line.type in ("error", "warning") else None,
    )
    try:
        page.goto(file.as_uri())
        yield found
    finally:
        page.close()
