"""Real crystals for the tests of the search."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from crystal_changes import substituted_copy
from oracle import read_diffcsp
from pymatgen.core import Structure

from novelty_metric.crystal import clean, reduce
from novelty_metric.errors import CrystalError
from novelty_metric.protocol import Protocol
from novelty_metric.reference import Reference


@pytest.fixture(scope="session")
def protocol() -> Protocol:
    return Protocol()


@pytest.fixture(scope="session")
def reference(shared_data: Path) -> Reference:
    """Every 40th crystal of MP-20's validation set (227 crystals)."""
    import pyarrow.parquet as pq

    table = pq.read_table(
        shared_data / "mp_20" / "val.parquet", columns=["material_id", "cif"]
    ).take(list(range(0, 9047, 40)))
    structures = [Structure.from_str(cif, fmt="cif") for cif in table["cif"].to_pylist()]
    return Reference.from_structures(structures, ids=table["material_id"].to_pylist())


@pytest.fixture(scope="session")
def diffcsp(shared_data: Path) -> list[Structure]:
    """The first 60 usable crystals of DiffCSP, cleaned and reduced."""
    found = []
    path = shared_data / "generated" / "diffcsp" / "DiffCSP_mp_20.pt"
    for structure in read_diffcsp(path, 80):
        try:
            found.append(reduce(clean(structure)))
        except CrystalError:
            continue
        if len(found) == 60:
            break
    return found


@pytest.fixture(scope="session")
def substituted(reference: Reference) -> list[Structure]:
    """Every 6th reference crystal with exchanged elements, perturbed sites and a strained cell."""
    rng = np.random.default_rng(7)
    return [substituted_copy(reference.structure(i), rng) for i in range(0, len(reference), 6)]
