"""Lists of crystals in ``.pt`` and JSON files: records of arrays, and lists beside other keys."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from pymatgen.core import Structure
from test_samples_tensors import assert_same, saved

from novelty_metric.errors import InputError
from novelty_metric.samples import read_samples


def record(crystal: Structure, kind: Any, *cell: str) -> dict[str, Any]:
    arrays = {
        "frac_coords": crystal.frac_coords,
        "atom_types": np.array(crystal.atomic_numbers),
        "lengths": np.array(crystal.lattice.abc),
        "angles": np.array(crystal.lattice.angles),
        **dict.fromkeys(("lattice", "cell", "lattices"), crystal.lattice.matrix),
    }
    names = ("frac_coords", "atom_types", *cell)
    return {"material_id": "x", "energy": None} | {name: kind(arrays[name]) for name in names}


@pytest.mark.parametrize("kind", [torch.tensor, np.array, np.ndarray.tolist])
@pytest.mark.parametrize("cell", [("lengths", "angles"), ("lattice",), ("cell",), ("lattices",)])
def test_list_of_records_is_read(
    kind: Any, cell: tuple[str, ...], crystals: list[Structure], tmp_path: Path
) -> None:
    path = saved(tmp_path, [record(crystal, kind, *cell) for crystal in crystals])
    assert_same(list(read_samples(path)), crystals, 1e-9)


def test_list_of_batches_is_read(crystals: list[Structure], tmp_path: Path) -> None:
    from sample_layouts import diffcsp_arrays

    path = saved(tmp_path, [diffcsp_arrays(crystals[:3]), diffcsp_arrays(crystals[3:])])
    assert_same(list(read_samples(path)), crystals, 1e-9)


def test_damaged_record_harms_no_other(crystals: list[Structure], tmp_path: Path) -> None:
    good = [record(crystal, torch.tensor, "lengths", "angles") for crystal in crystals]
    bad: list[Any] = [
        None,
        good[0] | {"frac_coords": torch.zeros(5, 3)},
        good[0] | {"atom_types": ["Na", "Cl"]},
        good[0] | {"atom_types": torch.tensor([0] * 8)},
        {"frac_coords": torch.zeros(1, 3), "atom_types": torch.tensor([1])},
        good[0] | {"lengths": torch.tensor([1.0, 2.0])},
    ]
    *damaged, first, second, third, fourth = read_samples(saved(tmp_path, bad + good))
    assert_same([first, second, third, fourth], crystals, 1e-9)
    assert [sample.structure for sample in damaged] == [None] * len(bad)
    reasons = [sample.error or "" for sample in damaged]
    assert reasons[0] == reasons[4] == "atom_types, frac_coords, or the cell is missing"
    assert "frac_coords has the shape (5, 3)" in reasons[1]
    assert "atom_types is an array of <U2" in reasons[2]
    assert "atomic number 0 is not an element" in reasons[3]
    assert "lengths has the shape (1, 2)" in reasons[5]
    radians = good[0] | {"angles": torch.deg2rad(good[0]["angles"])}
    with pytest.raises(InputError, match="look like radians"):
        read_samples(saved(tmp_path, [radians]))


def test_list_of_structures_beside_other_keys_is_read(
    crystals: list[Structure], tmp_path: Path
) -> None:
    path = tmp_path / "x.json"
    made = [crystal.as_dict() for crystal in crystals]
    others = {"model": "mine", "settings": {"steps": 3}, "seeds": [1, 2], "none": []}
    for wrapped in ({"structures": made}, others | {"samples": [*made, "damaged"]}):
        path.write_text(json.dumps(wrapped))
        samples = list(read_samples(path))
        assert_same(samples[:4], crystals, 1e-12)
        assert [sample.id for sample in samples[:2]] == ["x-0", "x-1"]
        assert all(sample.error for sample in samples[4:])
    path.write_text(json.dumps({"generated": made, "reference": made}))
    with pytest.raises(InputError, match=r"several lists contain crystals \(generated, reference"):
        read_samples(path)
