"""The scripts that generate pages are next to the pages, outside the package."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest


@pytest.fixture(autouse=True)
def hooks_path(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(Path(__file__).resolve().parents[2] / "docs" / "hooks"))
    for name in ("settings_page", "files_page", "commands_page", "pages", "tables"):
        sys.modules.pop(name, None)
