"""Format ``jsonl``: a pymatgen structure, or a record that holds one, on every line."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

from novelty_metric.errors import InputError
from novelty_metric.samples.base import Sample
from novelty_metric.samples.crystals import GENE_MESSAGE, is_gene
from novelty_metric.samples.formats import ReadOptions
from novelty_metric.samples.json_values import json_sample
from novelty_metric.samples.source import MAX_MEMBER_BYTES, one_line, open_text, stem


def read(path: Path, options: ReadOptions) -> Iterator[Sample]:
    """The lines in order, read one at a time; blank lines are not counted.

    Raises
    ------
    InputError
        If the first line is a gene without coordinates.
    """
    name = stem(path)
    with open_text(path) as file:
        position = 0
        while line := file.readline(MAX_MEMBER_BYTES):
            too_long = len(line) == MAX_MEMBER_BYTES and not line.endswith("\n")
            while too_long and (rest := file.readline(MAX_MEMBER_BYTES)):
                if rest.endswith("\n"):
                    break
            if not line.strip():
                continue
            default_id, source = f"{name}-{position}", f"{path.name}:row {position}"
            position += 1
            if too_long:
                error = f"more than {MAX_MEMBER_BYTES / 1e6:.0f} MB in one line"
                yield Sample(default_id, None, error, source)
                continue
            try:
                value = json.loads(line)
            except (ValueError, RecursionError) as error:
                yield Sample(default_id, None, f"not JSON ({one_line(error)})", source)
                continue
            if position == 1 and is_gene(value):
                raise InputError(f"{path}: {GENE_MESSAGE}")
            yield json_sample(value, default_id, source, options.energies)
