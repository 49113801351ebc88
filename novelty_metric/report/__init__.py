"""The report of a run, its rows and files, and the figures computed from them."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from novelty_metric.report.breakdown import Group
    from novelty_metric.report.context import RunContext
    from novelty_metric.report.novelty_report import NoveltyReport

__all__ = ["Group", "NoveltyReport", "RunContext"]

_HOME = {
    "Group": "breakdown",
    "NoveltyReport": "novelty_report",
    "RunContext": "context",
}


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_HOME[name]}"), name)
