"""Validity of structures; stable, unique and novel (S.U.N.) crystals by plain matching."""

from __future__ import annotations

from typing import Any

import pytest

from novelty_metric.report.quality import quality, stable, structurally_valid
from novelty_metric.support.statistics import Bounds, wilson
from novelty_metric.verdict import CrystalResult


def crystal(**changes: Any) -> CrystalResult:
    """A valid, stable crystal that no reference crystal matches."""
    values: dict[str, Any] = {
        "id": "g",
        "n_sites": 2,
        "shortest_distance": 2.5,
        "volume_per_atom": 20.0,
        "smact_valid": True,
        "converged": True,
        "e_above_hull": 0.05,
        "novel_by_matching": True,
    }
    return CrystalResult(**{**values, **changes})


@pytest.mark.parametrize(
    ("changes", "valid"),
    [
        ({}, True),
        ({"shortest_distance": 0.5}, True),
        ({"shortest_distance": 0.499}, False),
        ({"volume_per_atom": 0.05}, True),  # 0.1 Å³ for the cell
        ({"volume_per_atom": 0.049}, False),
        ({"shortest_distance": None, "volume_per_atom": None}, False),
    ],
)
def test_thresholds_of_a_valid_structure(changes: dict[str, Any], valid: bool) -> None:
    assert structurally_valid(crystal(**changes)) is valid


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({}, True),
        ({"e_above_hull": 0.1}, True),
        ({"e_above_hull": 0.1001}, False),
        ({"e_above_hull": -3.0}, True),
        ({"e_above_hull": None}, None),
        ({"converged": False}, None),
        ({"n_sites": None, "converged": None, "e_above_hull": None}, False),
    ],
)
def test_stability_is_unknown_without_data(changes: dict[str, Any], expected: bool | None) -> None:
    assert stable(crystal(**changes), 0.1) is expected


def test_figures_calculated_by_hand() -> None:
    rows = [
        crystal(id="new", matching_group=0, e_above_hull=-0.01),
        crystal(id="new again", matching_group=0),
        crystal(id="on the way", matching_group=1, converged=False),
        crystal(id="copy", matching_group=2, novel_by_matching=False),
        crystal(id="high", matching_group=3, e_above_hull=0.4, smact_valid=False),
        crystal(id="crowded", matching_group=4, e_above_hull=0.4, shortest_distance=0.3),
        CrystalResult(id="broken", readable=False),
    ]
    found = quality(rows, n_generated=10, threshold=0.1, has_hull=True)
    assert found.structurally_valid == wilson(5, 7)
    assert found.smact_valid == wilson(5, 7)
    assert found.valid == wilson(4, 7)
    assert found.unique == wilson(5, 10)
    assert found.novel == wilson(5, 10)
    assert found.stable == wilson(3, 10)
    assert found.sun == wilson(1, 10)  # both new crystals are equal
    assert found.sun_on_hull == wilson(1, 10)
    assert found.sun_bounds == Bounds(0.1, 0.2)  # the unconverged one could be another


def test_stability_is_unknown_without_a_hull() -> None:
    found = quality([crystal()], n_generated=1, threshold=0.1, has_hull=False)
    assert (found.stable, found.sun, found.sun_bounds, found.sun_on_hull) == (None,) * 4
    assert found.novel == wilson(1, 1)


def test_no_generated_crystals() -> None:
    found = quality([], n_generated=0, threshold=0.1, has_hull=True)
    assert found.valid is None
    assert (found.novel.value, found.novel.low, found.novel.high) == (0.0, 0.0, 1.0)
