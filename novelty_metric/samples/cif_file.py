"""Format ``cif``: a CIF file, every data block a crystal."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from novelty_metric.samples.base import Entry
from novelty_metric.samples.cif_text import cif_entries
from novelty_metric.samples.formats import ReadOptions
from novelty_metric.samples.source import open_text, stem


def read(path: Path, options: ReadOptions) -> Iterator[Entry]:
    """The data blocks in order, read one at a time."""
    with open_text(path) as file:
        yield from cif_entries(file, options.name or stem(path), "")
