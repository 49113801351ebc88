"""Options and data that all tests share."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

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
