"""The row of a sample as JSON text with all its evidence, and its reader; nothing is lost."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from typing import Any

import numpy as np

from novelty_metric.crystal_records import CrystalRecord, CrystalRecords
from novelty_metric.verdict import CrystalResult, Kind, Parent, Route, TriedParent, Verdict

ENUMS = {"verdict": Verdict, "verdict_second": Verdict, "route": Route, "kind": Kind}
"""Fields of rows and parents whose values are from an enumeration."""


def row_to_json(row: CrystalResult) -> str:
    """One line of JSON.

    Raises
    ------
    ValueError
        If a number is not finite: `NoveltyReport.from_results` makes rows plain.
    """
    content = _fields(row)
    content["parents"] = [
        {**_fields(tried), "parent": _fields(tried.parent)} for tried in row.parents
    ]
    if row.structures is not None:
        content["structures"] = {
            name: {
                "lattice": record.lattice.tolist(),
                "numbers": record.numbers.tolist(),
                "frac_coords": record.frac_coords.tolist(),
            }
            for name, record in _fields(row.structures).items()
            if record is not None
        }
    return json.dumps(content, allow_nan=False, separators=(",", ":"))


def row_from_json(text: str | bytes) -> CrystalResult:
    """The row that `row_to_json` wrote.

    Raises
    ------
    ValueError, KeyError, TypeError
        If the text is not such a row.
    """
    content = json.loads(text)
    structures = content.pop("structures")
    parents = tuple(_tried(line) for line in content.pop("parents"))
    return CrystalResult(
        **_with_enums(content),
        parents=parents,
        structures=None
        if structures is None
        else CrystalRecords(**{name: record_from(kept) for name, kept in structures.items()}),
    )


def _fields(item: Any) -> dict[str, Any]:
    return {field.name: getattr(item, field.name) for field in dataclasses.fields(item)}


def _with_enums(content: Mapping[str, Any]) -> dict[str, Any]:
    return {
        name: ENUMS[name](value) if name in ENUMS and value is not None else value
        for name, value in content.items()
    }


def _tried(content: dict[str, Any]) -> TriedParent:
    parent = content.pop("parent")
    if parent["supercell"] is not None:
        parent["supercell"] = tuple(tuple(line) for line in parent["supercell"])
    parent["elements"] = tuple(parent["elements"])
    return TriedParent(parent=Parent(**_with_enums(parent)), **content)


def record_from(content: Mapping[str, Any]) -> CrystalRecord:
    """A crystal from plain values, nested or flat, by the names of its fields."""
    return CrystalRecord(
        np.array(content["lattice"], dtype=np.float64).reshape(3, 3),
        np.array(content["numbers"], dtype=np.uint8),
        np.array(content["frac_coords"], dtype=np.float64).reshape(-1, 3),
    )
