"""Options and data that all tests share."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

pytest_plugins = ["pytester"]


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--slow", action="store_true", help="also run the minutes-long checks")


def pytest_configure(config: pytest.Config) -> None:
    """Keep what the tests relax out of the user's cache."""
    if "NOVELTY_METRIC_CACHE" not in os.environ:
        folder = tempfile.TemporaryDirectory(prefix="novelty-metric-tests-")
        os.environ["NOVELTY_METRIC_CACHE"] = folder.name
        config.add_cleanup(folder.cleanup)
    if not config.pluginmanager.has_plugin("novelty"):
        config.addinivalue_line("markers", "novelty: of the project's own plugin, switched off")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if not config.pluginmanager.has_plugin("novelty"):
        off = pytest.mark.skip(reason="the project's own plugin is switched off")
        for item in items:
            if "novelty" in item.keywords or item.path.parent.name == "testing":
                item.add_marker(off)
    if config.getoption("--slow"):
        return
    skip = pytest.mark.skip(reason="slow check: run with --slow")
    for item in items:
        if "slow" in item.keywords:
            item.add_marker(skip)


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Folder of real crystals that is kept beside the checkout, never inside it."""
    default = Path(__file__).resolve().parent.parent / "shared"
    folder = Path(os.environ.get("NOVELTY_METRIC_SHARED", default)) / "data"
    if not folder.is_dir():
        pytest.skip(f"real data not found at {folder} (set NOVELTY_METRIC_SHARED)")
    return folder


@pytest.fixture
def open_page() -> Iterator[Callable[..., Any]]:
    """Open a local page in headless Chromium: `open_page(path, width=1280, height=900)`.

    The test fails if a page says anything wrong on its console, or asks for anything that is not
    on this disk.
    """
    program = shutil.which("chromium") or shutil.which("google-chrome")
    if program is None:
        pytest.skip("no Chromium on this machine (install the package chromium)")
    playwright = pytest.importorskip("playwright.sync_api")
    problems: list[str] = []

    def requested(request: Any) -> None:
        if not request.url.startswith(("file:", "data:", "blob:")):
            problems.append(f"asked for {request.url}")

    def said(message: Any) -> None:
        if message.type in ("error", "warning"):
            problems.append(f"{message.type} on the console: {message.text}")

    with playwright.sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=program, args=["--no-sandbox"])

        def open_one(path: Path, *, width: int = 1280, height: int = 900) -> Any:
            page = browser.new_page(viewport={"width": width, "height": height})
            page.on("request", requested)
            page.on("console", said)
            page.on("pageerror", lambda error: problems.append(f"error in the page: {error}"))
            page.goto(path.resolve().as_uri())
            return page

        yield open_one
        browser.close()
    assert not problems, problems
