"""The row of a sample with plain values, and as JSON text with all its evidence; nothing is lost.

Plain values are finite numbers and printable text, which files store without change.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from dataclasses import asdict, fields, is_dataclass, replace
from enum import Enum
from typing import Any, TypeVar

import numpy as np

from novelty_metric.crystal_records import CrystalRecord, CrystalRecords
from novelty_metric.verdict import CrystalResult, Kind, Parent, Route, TriedParent, Verdict

_ENUMS = {"verdict": Verdict, "verdict_second": Verdict, "route": Route, "kind": Kind}
"""Fields of rows and parents whose values are from an enumeration."""

_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")
_Row = TypeVar("_Row")


def row_to_json(row: CrystalResult) -> str:
    """One line of JSON.

    `ValueError` if a number is not finite: `NoveltyReport.from_results` makes rows plain.
    """
    return json.dumps(
        asdict(row), allow_nan=False, separators=(",", ":"), default=lambda array: array.tolist()
    )


def row_from_json(text: str | bytes) -> CrystalResult:
    """The row that `row_to_json` wrote.

    `ValueError` or `KeyError` or `TypeError` if the text is not such a row.
    """
    content = with_enums(json.loads(text))
    content["parents"] = tuple(
        tried_parent_from({**tried, **tried["parent"]}) for tried in content["parents"]
    )
    if content["structures"] is not None:
        records = {role: kept and record_from(kept) for role, kept in content["structures"].items()}
        content["structures"] = CrystalRecords(**records)
    return CrystalResult(**content)


def with_enums(content: Mapping[str, Any]) -> dict[str, Any]:
    """Plain values, with those of an enumeration as its members."""
    return {
        name: _ENUMS[name](value) if name in _ENUMS and value is not None else value
        for name, value in content.items()
    }


def tried_parent_from(content: Mapping[str, Any]) -> TriedParent:
    """A candidate parent from plain values, by the names of its own fields and the parent's."""
    values = with_enums(content)
    if values["supercell"] is not None:
        values["supercell"] = tuple(map(tuple, values["supercell"]))
    values["elements"] = tuple(values["elements"])
    values["parent"] = Parent(**{one.name: values[one.name] for one in fields(Parent)})
    known = [one.name for one in fields(TriedParent) if one.name in values]
    return TriedParent(**{name: values[name] for name in known})


def record_from(content: Mapping[str, Any]) -> CrystalRecord:
    """A crystal from plain values, nested or flat, by the names of its fields."""
    return CrystalRecord(
        np.array(content["lattice"], dtype=np.float64).reshape(3, 3),
        np.array(content["numbers"], dtype=np.uint8),
        np.array(content["frac_coords"], dtype=np.float64).reshape(-1, 3),
    )


# Plain values


def plain_row(result: CrystalResult) -> CrystalResult:
    """The row with plain Python numbers (None if not finite) and valid UTF-8 text."""
    parents = tuple(_plain_row(tried, parent=_plain_row(tried.parent)) for tried in result.parents)
    return _plain_row(result, parents=parents)


def _plain_row(row: _Row, **ready: Any) -> _Row:
    changed = dict(ready)
    for column in fields(row):  # type: ignore[arg-type]
        if column.name not in ready:
            value = getattr(row, column.name)
            made_plain = _plain_scalar(value)
            if made_plain is not value:
                changed[column.name] = made_plain
    return replace(row, **changed) if changed else row  # type: ignore[type-var]


def _plain_scalar(value: Any) -> Any:
    """The value as plain Python: numbers of NumPy and invalid text are converted."""
    if isinstance(value, Enum) or value is None:
        return value
    if not isinstance(value, str) and hasattr(value, "item"):
        value = value.item()
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return printable_text(value) if isinstance(value, str) else value


def plain(value: Any) -> Any:
    """Values that JSON stores without change; a dataclass becomes a mapping."""
    if is_dataclass(value) and not isinstance(value, type):
        return {column.name: plain(getattr(value, column.name)) for column in fields(value)}
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if hasattr(value, "tolist"):
        value = value.tolist()
    if isinstance(value, (list, tuple)):
        return [plain(item) for item in value]
    value = _plain_scalar(value.value if isinstance(value, Enum) else value)
    return (
        value
        if isinstance(value, (str, int, float, bool, type(None)))
        else printable_text(str(value))
    )


def printable_text(text: str) -> str:
    """Text that UTF-8 can encode, without control characters; other characters are escaped.

    File names may carry bytes that are not characters, and strangers' names a terminal's commands.
    """
    return _CONTROL.sub(lambda found: found[0].encode("unicode_escape").decode(), text)
