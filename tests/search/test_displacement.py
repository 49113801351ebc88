"""RMS displacement during relaxation: the value of pymatgen's `get_rms_dist`."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pymatgen.core import Lattice, Structure
from pymatgen.core.structure_matcher import StructureMatcher

from novelty_metric import read_samples
from novelty_metric.relaxation.base import Relaxation
from novelty_metric.report.quality import quality
from novelty_metric.samples.base import Sample
from novelty_metric.samples.packaged import packaged_samples_path
from novelty_metric.scoring.case import Case
from novelty_metric.search import displacement
from novelty_metric.search.compiled import TooMuchToCompareError
from novelty_metric.search.displacement import rms_displacement
from novelty_metric.verdict import CrystalResult

MATBENCH_DISCOVERY = StructureMatcher(stol=1.0, scale=False)
SITES = [[0, 0, 0], [0.5, 0.5, 0.5]]
SALT = Structure(Lattice.cubic(4.0), ["Cs", "Cl"], SITES)


def by_pymatgen(generated: Structure, relaxed: Structure) -> float | None:
    found = MATBENCH_DISCOVERY.get_rms_dist(generated, relaxed)
    return None if found is None else float(found[0])


def moved(structure: Structure, seed: int) -> Structure:
    """The crystal after an imitated relaxation."""
    generator = np.random.default_rng(seed)
    strained = structure.apply_strain(generator.normal(0, 0.02, 3), inplace=False)
    return strained.perturb(0.15, seed=seed)


def test_values_calculated_by_hand() -> None:
    # Both atoms are half of the shift from the mean position.
    shifted = Structure(Lattice.cubic(4.0), ["Cs", "Cl"], [[0, 0, 0], [0.5, 0.5, 0.55]])
    assert rms_displacement(SALT, shifted) == pytest.approx(0.1 / (64 / 2) ** (1 / 3))
    # A larger cell does not move sites.
    larger = Structure(Lattice.cubic(4.2), ["Cs", "Cl"], SITES)
    assert rms_displacement(SALT, larger) == pytest.approx(0, abs=1e-9)


def test_packaged_crystals_agree_with_pymatgen() -> None:
    for sample in read_samples(packaged_samples_path()):
        if sample.structure is not None and len(sample.structure) <= 6:
            relaxed = moved(sample.structure, 1)
            expected = by_pymatgen(sample.structure, relaxed)
            assert rms_displacement(sample.structure, relaxed) == expected, sample.id


@pytest.mark.slow
def test_generated_crystals_agree_with_pymatgen(shared_data: Path) -> None:
    folder = shared_data / "generated" / "flowmm"
    n_compared = 0
    for sample in read_samples(next(folder.glob("*withcif.csv")), limit=100):
        case = Case(sample)
        case.check(300)
        if case.cleaned is not None:
            relaxed = moved(case.cleaned, 3)
            expected = by_pymatgen(case.cleaned, relaxed)
            assert rms_displacement(case.cleaned, relaxed) == expected, sample.id
            n_compared += 1
    assert n_compared > 90


@settings(max_examples=25)
@given(
    st.tuples(*[st.floats(-1, 1)] * 3),
    st.permutations(range(5)),
)
def test_origin_and_order_do_not_matter(
    shift: tuple[float, float, float], order: list[int]
) -> None:
    perovskite = Structure(
        Lattice.cubic(3.9),
        ["Sr", "Ti", "O", "O", "O"],
        [[0, 0, 0], [0.5] * 3, [0.5, 0.5, 0], [0.5, 0, 0.5], [0, 0.5, 0.5]],
    )
    relaxed = moved(perovskite, 4)
    expected = rms_displacement(perovskite, relaxed)
    other = Structure.from_sites([relaxed[at] for at in order])
    other.translate_sites(range(5), shift)
    assert rms_displacement(perovskite, other) == pytest.approx(expected, abs=1e-7)


def test_smaller_primitive_cell_is_not_a_match() -> None:
    doubled = SALT * (1, 1, 2)
    distorted = doubled.copy()
    distorted.translate_sites([0], [0, 0, 0.06])
    assert rms_displacement(distorted, doubled) is by_pymatgen(distorted, doubled) is None


def relaxed_case(relaxation: Relaxation) -> Case:
    case = Case(Sample("a", SALT))
    case.check(None)
    case.take_relaxation(relaxation)
    case.measure_relaxation()
    return case


def test_row_contains_energy_and_displacement() -> None:
    shifted = Structure(Lattice.cubic(4.0), ["Cs", "Cl"], [[0, 0, 0], [0.5, 0.5, 0.55]])
    case = relaxed_case(
        Relaxation(structure=shifted, energy_before=-3.0, energy_after=-3.25, converged=True)
    )
    row = case._sample_fields() | case._screening_fields(displacement._matcher()[1])
    assert row["relaxation_energy"] == -0.25
    assert row["relaxation_rmsd"] == pytest.approx(0.1 / 32 ** (1 / 3))
    copied = case.normalised(with_symmetry=False)
    assert copied.relaxation_rmsd == case.relaxation_rmsd


def test_displacement_is_unknown_after_failure_or_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    assert relaxed_case(Relaxation(structure=None, error="it broke")).relaxation_rmsd is None
    monkeypatch.setattr("novelty_metric.search.matching.MOST_MATCHES", 0.0)
    with pytest.raises(TooMuchToCompareError):
        rms_displacement(SALT, SALT)
    assert relaxed_case(Relaxation(structure=SALT, converged=True)).relaxation_rmsd is None


def test_report_contains_the_means() -> None:
    rows = [
        CrystalResult(id="a", relaxation_energy=-0.1, relaxation_rmsd=0.2),
        CrystalResult(id="b", relaxation_energy=-0.3),
        CrystalResult(id="c"),
    ]
    found = quality(rows, n_generated=3, threshold=0.1, has_hull=False)
    assert found.relaxation_energy is not None and found.relaxation_rmsd is not None
    assert found.relaxation_energy.value == pytest.approx(-0.2)
    assert found.relaxation_rmsd.value == 0.2
