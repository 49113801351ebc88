"""The packaged sample: crystals whose correct verdict is known.

Made by ``scripts/make_sample.py`` of the repository; the names of its crystals say what they are.
"""

from __future__ import annotations

from pathlib import Path

from novelty_metric.support.folders import DATA_FOLDER


def packaged_samples_path() -> Path:
    """The archive of CIFs that `novelty-metric score` uses if no samples are named."""
    return DATA_FOLDER / "sample.zip"
