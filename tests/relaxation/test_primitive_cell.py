"""The exact primitive cell: detection, relaxation in it, and expansion to the given cell."""

from __future__ import annotations

import numpy as np
import pytest
from ase.calculators.emt import EMT
from hypothesis import given
from hypothesis import strategies as st
from pymatgen.analysis.structure_matcher import StructureMatcher
from pymatgen.core import Lattice, Structure

from novelty_metric.relaxation import RelaxSettings
from novelty_metric.relaxation.base import EarlyStopping, Geometry
from novelty_metric.relaxation.evaluators import AseEvaluator
from novelty_metric.relaxation.in_flight import relax_one
from novelty_metric.relaxation.primitive_cell import EXACT, primitive_cell
from novelty_metric.relaxation.relaxation_run import RelaxationRun, geometry_of, right_handed
from novelty_metric.samples import read_samples

TIGHT = RelaxSettings(fmax=0.001, max_steps=300, optimizer="bfgs_symmetric")
MULTIPLES = st.lists(st.lists(st.integers(-2, 2), min_size=3, max_size=3), min_size=3, max_size=3)

COPPER = Structure.from_spacegroup("Fm-3m", Lattice.cubic(3.7), ["Cu"], [[0, 0, 0]])
GOLD_COPPER = Structure(
    Lattice.from_parameters(4.0, 4.1, 5.5, 85, 95, 100),
    ["Cu", "Au", "Cu", "Au"],
    [[0, 0, 0], [0.5, 0.4, 0.1], [0.45, 0.1, 0.55], [0.05, 0.6, 0.6]],
)
"""A triclinic crystal without symmetry other than translations."""


class RecordingEvaluator(AseEvaluator):
    """EMT that records the number of sites of each evaluation."""

    def __init__(self) -> None:
        super().__init__(EMT())
        self.sizes: list[int] = []

    def _evaluate(self, geometry: Geometry, *, energy_only: bool):
        self.sizes.append(len(geometry.numbers))
        return super()._evaluate(geometry, energy_only=energy_only)


def expanded(structure: Structure, multiples: np.ndarray, seed: int = 0) -> Structure:
    """A supercell with permuted sites, some of them outside the cell."""
    cell = structure.make_supercell(multiples, in_place=False)
    random = np.random.default_rng(seed)
    order = random.permutation(len(cell))
    shifts = random.integers(-1, 2, (len(cell), 3))
    return Structure(
        cell.lattice,
        [cell[at].specie for at in order],
        cell.frac_coords[order] + shifts,
        to_unit_cell=False,
    )


@given(MULTIPLES.filter(lambda rows: abs(round(np.linalg.det(rows))) in range(2, 7)))
def test_primitive_cell_of_any_supercell_is_found(rows: list[list[int]]) -> None:
    given_cell = right_handed(geometry_of(expanded(GOLD_COPPER, np.array(rows))))
    found = primitive_cell(given_cell)
    assert found is not None
    assert sorted(found.geometry.numbers) == [29, 29, 79, 79]
    again = found.given_cell(found.geometry)
    assert np.array_equal(again.numbers, given_cell.numbers)
    assert np.allclose(again.cell, given_cell.cell, atol=1e-8)
    assert np.allclose(again.positions, given_cell.positions, atol=1e-5)
    assert np.linalg.det(found.geometry.cell) > 0


@pytest.mark.parametrize(("moved", "found"), [(0.3 * EXACT, True), (10 * EXACT, False)])
def test_translation_must_be_within_the_tolerance(moved: float, found: bool) -> None:
    cell = expanded(GOLD_COPPER, np.diag([2, 1, 1]))
    cell.translate_sites([0], [0, moved, 0], frac_coords=False)
    assert (primitive_cell(right_handed(geometry_of(cell))) is not None) is found


def test_primitive_cell_is_unchanged() -> None:
    assert primitive_cell(geometry_of(GOLD_COPPER)) is None


def test_relaxed_supercell_matches_the_relaxed_primitive_cell() -> None:
    cell = expanded(GOLD_COPPER, np.array([[1, 1, 0], [0, 1, 0], [0, 1, 2]]))
    evaluator, alone = RecordingEvaluator(), RecordingEvaluator()
    result, expected = relax_one(cell, evaluator, TIGHT), relax_one(GOLD_COPPER, alone, TIGHT)
    assert set(evaluator.sizes) == {4}
    assert result.converged and expected.converged
    assert result.structure is not None and expected.structure is not None
    assert [site.specie for site in result.structure] == [site.specie for site in cell]
    # No site moves to a periodic image, which would change maps and distances.
    jumps = result.structure.frac_coords - cell.frac_coords
    assert np.abs(jumps).max() < 0.5
    assert result.energy_after == pytest.approx(expected.energy_after, abs=1e-5)
    assert StructureMatcher(primitive_cell=True).fit(result.structure, expected.structure)
    forces = AseEvaluator(EMT()).evaluate([geometry_of(result.structure)])[0].forces
    assert np.linalg.norm(forces, axis=1).max() < 2 * TIGHT.fmax


def test_ase_optimizers_relax_the_given_cell() -> None:
    evaluator = RecordingEvaluator()
    relax_one(COPPER, evaluator, RelaxSettings(fmax=0.05, max_steps=5, optimizer="lbfgs"))
    assert set(evaluator.sizes) == {4}


def test_early_stopping_sees_the_given_cell() -> None:
    class RecordingStopping(EarlyStopping):
        def __init__(self) -> None:
            self.sizes: list[int] = []
            self.energies: list[float] = []

        def decide(self, look, structure):
            self.sizes.append(len(structure()))
            self.energies.append(look.energy_per_atom)

    look, evaluator = RecordingStopping(), RecordingEvaluator()
    run = RelaxationRun(COPPER, TIGHT, look)
    while run.geometry is not None:
        run.receive(evaluator.evaluate([run.geometry])[0])
    trajectory = run.result().trajectory
    assert trajectory is not None and set(evaluator.sizes) == {1}
    assert set(look.sizes) == {4} and trajectory.positions.shape[1:] == (4, 3)
    first = AseEvaluator(EMT()).evaluate([geometry_of(COPPER)])[0]
    assert look.energies[0] == pytest.approx(first.energy / 4, abs=1e-9)


FILES = [
    "wyckofftransformer/*DiffCSP++.json.gz",
    "crystalformer/CrystalFormer_mp_20.csv.gz",
    "diffcsp_pp/DiffCSP++_mp_20.pt",
]


@pytest.mark.parametrize("pattern", FILES)
def test_primitive_cells_of_generated_crystals_agree_with_pymatgen(shared_data, pattern, thorough):
    """60 crystals of each file (300 with --slow). Between the two tolerances both are correct."""
    (path,) = (shared_data / "generated").glob(pattern)
    smaller = 0
    for sample in read_samples(path, limit=300 if thorough else 60):
        structure = sample.structure
        if structure is None or len(structure) > 60:
            continue
        given_cell = right_handed(geometry_of(structure))
        found = primitive_cell(given_cell)
        if found is None:
            assert len(structure.get_primitive_structure(tolerance=EXACT)) == len(structure)
            continue
        smaller += 1
        expected = structure.get_primitive_structure(tolerance=2 * EXACT)
        assert len(found.geometry.numbers) == len(expected)
        again = found.given_cell(found.geometry)
        assert np.abs(again.positions - given_cell.positions).max() <= EXACT
    assert smaller > 10
