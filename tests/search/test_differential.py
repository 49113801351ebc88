"""The search of the package compared with the simple implementation for each crystal."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from oracle import answers, disagreements, plain_orbits
from pymatgen.core import Structure

from novelty_metric.crystal import symmetry
from novelty_metric.protocol import Protocol
from novelty_metric.reference import Reference
from novelty_metric.search.engine import ParentSearch


def test_same_answers_on_a_small_reference(
    reference: Reference,
    diffcsp: list[Structure],
    substituted: list[Structure],
    protocol: Protocol,
    thorough: bool,
) -> None:
    every = 1 if thorough else 5
    search = ParentSearch(reference, protocol)
    references = list(reference)
    orbits = [plain_orbits(structure) for structure in references]
    duplicates = parents = 0
    for structure in [*diffcsp[:12], *substituted[:12], *references[:100:10]][::every]:
        found = search.parents(structure, symmetry(structure, symprec=0.01, angle_tolerance=5.0))
        duplicate = search.duplicate(structure)
        assert found.unfinished == ()
        assert not disagreements(answers(structure, references, orbits), duplicate, found.parents)
        duplicates += duplicate is not None
        parents += len(found.parents)
    assert duplicates >= 10 / every
    assert parents > 60 / every


@pytest.mark.slow
def test_same_answers_on_mp_20(
    shared_data: Path, tmp_path: Path, run_python: Callable[..., Any]
) -> None:
    """60 crystals of DiffCSP against 18,093 crystals of MP-20 (validation and test sets)."""
    import pyarrow.parquet as pq

    cifs, ids = [], []
    for name in ("val", "test"):
        table = pq.read_table(
            shared_data / "mp_20" / f"{name}.parquet", columns=["material_id", "cif"]
        )
        ids += table["material_id"].to_pylist()
        cifs += table["cif"].to_pylist()
    structures = (Structure.from_str(cif, fmt="cif") for cif in cifs)
    reference = Reference.from_structures(structures, ids=ids)
    assert len(reference) == 18093
    store = tmp_path / "mp_20.arrow"
    reference.save(store)
    script = Path(__file__).parent / "oracle.py"
    done = run_python(
        *(script, "60", "--reference", store, "--out", tmp_path / "answers.jsonl"),
        env={"NOVELTY_METRIC_SHARED": str(shared_data.parent)},
    )
    assert done.returncode == 0, done.stdout + done.stderr
