"""The substituted parent must match the generated crystal within the reported RMS."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from pymatgen.core import Element, Lattice, Structure

from novelty_metric.crystal import clean, reduce, symmetry
from novelty_metric.protocol import Protocol
from novelty_metric.reference import Reference
from novelty_metric.scoring.substitution import substitute
from novelty_metric.search.engine import ParentSearch
from novelty_metric.search.matching import Matching
from novelty_metric.verdict import Route


@pytest.fixture(scope="module")
def protocol() -> Protocol:
    return Protocol()


@pytest.fixture(scope="module")
def reference(shared_data: Path) -> Reference:
    import pyarrow.parquet as pq

    table = pq.read_table(shared_data / "mp_20" / "test.parquet", columns=["cif"])
    cifs = table.take(list(range(0, 9046, 90)))["cif"].to_pylist()
    return Reference.from_structures([Structure.from_str(cif, fmt="cif") for cif in cifs])


def colourful(parent: Structure, rng: np.random.Generator) -> Structure:
    """A strained, perturbed copy with random elements, which break the symmetry."""
    palette = rng.choice(np.arange(3, 90), size=4, replace=False)
    changed = Structure(
        parent.lattice.matrix @ (np.eye(3) + rng.normal(0, 0.005, (3, 3))),
        [Element.from_Z(int(z)) for z in rng.choice(palette, size=len(parent))],
        parent.frac_coords,
    )
    changed.perturb(0.02, seed=int(rng.integers(2**31)))
    return reduce(clean(changed))


def test_unrelaxed_parent_matches_the_generated_crystal(
    reference: Reference, protocol: Protocol
) -> None:
    # A wrong site order would exchange random elements, so no match would remain.
    rng = np.random.default_rng(11)
    search, matching = ParentSearch(reference, protocol), Matching(protocol)
    checked = supercells = smaller = 0
    for i in range(len(reference)):
        base = reference.structure(i)
        if i % 3 == 1 and len(base) <= 8:
            base = base * [2, 1, 1]
        generated = colourful(base, rng)
        for parent in search.parents(generated, None).parents:
            if parent.match_rms is None or parent.match_rms > 0.05:
                continue
            cell = reference.structure(parent.index)
            before = cell.copy()
            made = substitute(cell, parent)
            assert cell == before
            rms = matching.duplicate_rms(generated, made)
            assert rms == pytest.approx(parent.match_rms, abs=1e-3)
            checked += 1
            supercells += parent.supercell is not None
            smaller += len(generated) < len(made)
            assert len(made) == max(len(generated), len(cell))
    assert checked > 80
    assert supercells > 15


def test_larger_parents_get_the_elements_too() -> None:
    # pymatgen takes the first match, not the best; a strict tolerance allows only the exact one.
    protocol = Protocol(stol=0.05)
    rng = np.random.default_rng(4)
    small = Structure(
        Lattice.from_parameters(4.1, 4.6, 5.3, 84, 97, 103),
        ["Li", "Be", "B"],
        [[0.02, 0.11, 0.3], [0.41, 0.52, 0.77], [0.66, 0.88, 0.13]],
    )
    large = small * [2, 1, 1]
    large.replace(0, "Na")
    large.replace(5, "Al")
    large = reduce(clean(large.perturb(0.02, seed=int(rng.integers(99)))))
    assert len(large) == 6
    reference = Reference.from_structures([large])
    (parent,) = ParentSearch(reference, protocol).parents(reduce(clean(small)), None).parents
    assert parent.supercell is None
    made = substitute(reference.structure(0), parent)
    assert made.composition.reduced_formula == small.composition.reduced_formula
    assert Matching(protocol).duplicate_rms(reduce(clean(small)), made) < 0.05


def test_wyckoff_parent_gets_the_elements_by_orbit(protocol: Protocol) -> None:
    spinel = Structure.from_spacegroup(
        "Fd-3m",
        Lattice.cubic(8.08),
        ["Mg", "Al", "O"],
        [[0.125, 0.125, 0.125], [0.5, 0.5, 0.5], [0.2624, 0.2624, 0.2624]],
    )
    other = Structure.from_spacegroup(
        "Fd-3m",
        Lattice.cubic(10.4),
        ["Zn", "Cr", "Se"],
        [[0.125, 0.125, 0.125], [0.5, 0.5, 0.5], [0.2594, 0.2594, 0.2594]],
    )
    reference = Reference.from_structures([spinel])
    generated = reduce(clean(other))
    found = symmetry(generated, symprec=0.01, angle_tolerance=5.0)
    parents = ParentSearch(reference, protocol).parents(generated, found).parents
    (parent,) = (p for p in parents if p.route is Route.WYCKOFF)
    assert parent.element_map == {
        old: {new: int(generated.composition[new])}
        for old, new in (("Mg", "Zn"), ("Al", "Cr"), ("O", "Se"))
    }
    made = substitute(reference.structure(0), parent)
    made.scale_lattice(generated.volume)
    assert Matching(protocol).duplicate_rms(generated, made) < 0.02


def test_parent_of_another_crystal_is_refused(reference: Reference, protocol: Protocol) -> None:
    (parent, *_) = ParentSearch(reference, protocol).parents(reference.structure(0), None).parents
    wrong = next(s for s in reference if len(s) != len(parent.elements))
    with pytest.raises(ValueError, match="sites"):
        substitute(wrong, parent)
