"""Test whether a generative model of crystals discovers new materials.

The public names load on first use, so that importing the package costs almost nothing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from novelty_metric.support.lazy import lazily

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


__getattr__ = lazily(
    __name__,
    {
        "comparison.compare": ["Comparison", "compare"],
        "errors": ["CrystalError", "InputError", "NoveltyMetricError", "StoreError"],
        "metric": ["SubstitutionNovelty"],
        "protocol": ["Protocol"],
        "reference": ["Reference", "build_reference", "open_reference"],
        "report.novelty_report": ["NoveltyReport"],
        "samples": ["Sample", "read_samples"],
        "verdict": ["CrystalResult", "Verdict"],
    },
)


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
