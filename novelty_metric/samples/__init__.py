"""Readers for the files of generative models: they return crystals with ids.

Importing this package loads the standard library alone; torch, pymatgen, ASE and pyarrow are
loaded when a file that needs them is read.
"""

from novelty_metric.samples.base import Sample
from novelty_metric.samples.detect import detect_format
from novelty_metric.samples.formats import FORMATS, ArrayConvention, Format
from novelty_metric.samples.reading import count_hint, read_samples

__all__ = [
    "FORMATS",
    "ArrayConvention",
    "Format",
    "Sample",
    "count_hint",
    "detect_format",
    "read_samples",
]
