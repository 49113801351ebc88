"""Format ``jsonl``: a pymatgen structure, or a record that holds one, on every line."""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import IO, Any

from novelty_metric.errors import InputError
from novelty_metric.samples.base import Entry
from novelty_metric.samples.crystals import GENE_MESSAGE, is_gene
from novelty_metric.samples.formats import ReadOptions
from novelty_metric.samples.ids import SAMPLED_RECORDS, check_names
from novelty_metric.samples.json_values import json_entry
from novelty_metric.samples.source import MAX_MEMBER_BYTES, one_line, open_text


def read(path: Path, options: ReadOptions) -> Iterator[Entry]:
    """The lines in order, read one at a time; blank lines are not counted.

    Raises
    ------
    InputError
        If the first line is a gene without coordinates, or the key of the ids is in no line.
    """
    with open_text(path) as file:
        values = _values(file)
        first = list(itertools.islice(values, SAMPLED_RECORDS))
        if first and is_gene(first[0]):
            raise InputError(f"{path}: {GENE_MESSAGE}")
        check_names(
            path,
            (v for v in first if isinstance(v, Mapping)),
            id_column=options.id_column,
            energies=options.energies,
        )
        for position, value in enumerate(itertools.chain(first, values)):
            place = f"row {position}"
            if isinstance(value, _Unreadable):
                yield Entry.unreadable(None, place, value.reason)
            else:
                yield json_entry(value, place, options)


class _Unreadable:
    """A line without a value, with the reason."""

    def __init__(self, reason: str) -> None:
        self.reason = reason


def _values(file: IO[str]) -> Iterator[Any]:
    """The value of each line."""
    while line := file.readline(MAX_MEMBER_BYTES):
        if len(line) == MAX_MEMBER_BYTES and not line.endswith("\n"):
            while (rest := file.readline(MAX_MEMBER_BYTES)) and not rest.endswith("\n"):
                pass
            yield _Unreadable(f"more than {MAX_MEMBER_BYTES / 1e6:.0f} MB in one line")
        elif line.strip():
            try:
                yield json.loads(line)
            except (ValueError, RecursionError) as error:
                yield _Unreadable(f"not JSON ({one_line(error)})")
