"""Test whether a generative model of crystals discovers new materials.

The public names load on first use, so that importing the package costs almost nothing.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from novelty_metric.comparison.compare import Comparison, compare
    from novelty_metric.errors import CrystalError, InputError, NoveltyMetricError, StoreError
    from novelty_metric.metric import SubstitutionNovelty
    from novelty_metric.protocol import Protocol
    from novelty_metric.reference import Reference, build_reference, open_reference
    from novelty_metric.report.novelty_report import NoveltyReport
    from novelty_metric.samples import Sample, read_samples
    from novelty_metric.verdict import CrystalResult, Verdict

__version__ = "0.1.0"

_HOME = {
    "Comparison": "comparison.compare",
    "CrystalError": "errors",
    "CrystalResult": "verdict",
    "InputError": "errors",
    "NoveltyMetricError": "errors",
    "NoveltyReport": "report.novelty_report",
    "Protocol": "protocol",
    "Reference": "reference",
    "Sample": "samples",
    "StoreError": "errors",
    "SubstitutionNovelty": "metric",
    "Verdict": "verdict",
    "build_reference": "reference",
    "compare": "comparison.compare",
    "open_reference": "reference",
    "read_samples": "samples",
}

__all__ = [
    "Comparison",
    "CrystalError",
    "CrystalResult",
    "InputError",
    "NoveltyMetricError",
    "NoveltyReport",
    "Protocol",
    "Reference",
    "Sample",
    "StoreError",
    "SubstitutionNovelty",
    "Verdict",
    "build_reference",
    "compare",
    "open_reference",
    "read_samples",
]


def __getattr__(name: str) -> Any:
    if name in _HOME:
        return getattr(import_module(f"novelty_metric.{_HOME[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
