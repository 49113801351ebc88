"""The report of a run, its rows and files, and the figures computed from them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from novelty_metric.support.lazy import lazily

if TYPE_CHECKING:
    from novelty_metric.report.breakdown import Group
    from novelty_metric.report.context import RunContext
    from novelty_metric.report.novelty_report import NoveltyReport

__all__ = ["Group", "NoveltyReport", "RunContext"]

__getattr__ = lazily(
    __name__,
    {"breakdown": ["Group"], "context": ["RunContext"], "novelty_report": ["NoveltyReport"]},
)
