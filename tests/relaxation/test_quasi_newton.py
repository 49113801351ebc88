"""The quasi-Newton optimiser: comparison with ASE's minima, symmetry, and failures."""

from __future__ import annotations

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk
from ase.calculators.calculator import all_changes
from ase.calculators.emt import EMT
from ase.data import covalent_radii
from ase.filters import FrechetCellFilter
from ase.optimize import LBFGS
from hypothesis import example, given, settings
from hypothesis import strategies as st
from pymatgen.core import Lattice, Structure
from pymatgen.io.ase import AseAtomsAdaptor
from pymatgen.symmetry.analyzer import SpacegroupAnalyzer

from novelty_metric.protocol import Protocol
from novelty_metric.relaxation import RelaxSettings
from novelty_metric.relaxation.evaluators import AseEvaluator
from novelty_metric.relaxation.frechet import FrechetCell, Point
from novelty_metric.relaxation.in_flight import relax_one
from novelty_metric.relaxation.quasi_newton import (
    CROWDED,
    ENERGY_NOISE,
    LARGEST_EXPANSION,
    MAX_DISPLACEMENT,
    MAX_STRAIN,
    ROOMY,
    SymmetricBFGS,
    free_coordinates,
    room_needed,
)
from novelty_metric.relaxation.relaxation_run import geometry_of
from novelty_metric.relaxation.symmetry import find_symmetry

TIGHT = RelaxSettings(fmax=0.001, max_steps=300, optimizer="bfgs_symmetric")


def relax_with_ase(structure, calculator, settings):
    return relax_one(structure, AseEvaluator(calculator), settings)


class OptimizerRun:
    """Run the optimiser on a crystal, and keep its cell and state."""

    def __init__(self, structure: Structure, calculator: EMT, fmax: float, steps: int) -> None:
        self.cell = FrechetCell(geometry_of(structure))
        self._evaluator = AseEvaluator(calculator)
        self.optimizer = SymmetricBFGS(self.cell, self._evaluate(self.cell.x0), fmax)
        self.n_moves = 0
        while self.optimizer.here.largest >= fmax and self.n_moves < steps:
            self.n_moves += 1
            self.optimizer.tell(self._evaluate(self.optimizer.propose()))

    def _evaluate(self, x: np.ndarray) -> Point:
        return self.cell.point(x, self._evaluator.evaluate([self.cell.geometry(x)])[0])

    @property
    def atoms(self) -> Atoms:
        """The current geometry of the optimiser."""
        geometry = self.cell.geometry(self.optimizer.here.x)
        return Atoms(geometry.numbers, geometry.positions, cell=geometry.cell, pbc=True)


class RecordingEmt(EMT):
    """EMT that records every energy and geometry."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[float] = []
        self.geometries: list[Atoms] = []

    def calculate(self, atoms=None, properties=("energy",), system_changes=all_changes):
        super().calculate(atoms, properties, system_changes)
        self.seen.append(self.results["energy"])
        self.geometries.append(atoms.copy())


def plain(atoms: Atoms) -> Structure:
    structure = AseAtomsAdaptor.get_structure(atoms)
    return Structure(structure.lattice, structure.species, structure.frac_coords)


def rattled(scale: float = 1.05, seed: int = 3) -> Structure:
    """A copper cell of four atoms without symmetry."""
    atoms = bulk("Cu", cubic=True)
    atoms.set_cell(atoms.cell * scale, scale_atoms=True)
    atoms.rattle(0.05, seed=seed)
    return plain(atoms)


def gold_copper(a: float = 4.1, c: float = 3.4) -> Structure:
    """Tetragonal CuAu3 (P4/mmm) away from its minimum."""
    return Structure.from_spacegroup(
        "P4/mmm",
        Lattice.tetragonal(a, c),
        ["Cu", "Au", "Au"],
        [[0, 0, 0], [0.5, 0.5, 0], [0, 0.5, 0.5]],
    )


def free_site(z: float = 0.21) -> Structure:
    """Three layers of CuAu2 (P4/mmm) with one free coordinate."""
    return Structure.from_spacegroup(
        "P4/mmm", Lattice.tetragonal(2.9, 10.4), ["Cu", "Au"], [[0, 0, 0], [0.5, 0.5, z]]
    )


def space_group(structure: Structure, symprec: float = 1e-3) -> int:
    return SpacegroupAnalyzer(structure, symprec=symprec).get_space_group_number()


def filtered(structure: Structure, calculator: EMT | None = None) -> FrechetCellFilter:
    atoms = AseAtomsAdaptor.get_atoms(structure, msonable=False)
    atoms.calc = calculator or EMT()
    return FrechetCellFilter(atoms)


def largest_force(structure: Structure) -> float:
    return float(np.linalg.norm(filtered(structure).get_forces(), axis=1).max())


@pytest.mark.parametrize(
    "structure",
    [
        rattled(),
        rattled(0.9, seed=5),
        gold_copper(),
        Structure(Lattice.cubic(2.8), ["Cu"], [[0.1, 0.2, 0.3]]),
        Structure(Lattice.from_parameters(2.4, 2.7, 2.6, 62, 57, 64), ["Cu"], [[0, 0, 0]]),
    ],
    ids=["rattled", "compressed", "tetragonal", "one atom, cubic", "one atom, triclinic"],
)
def test_reaches_the_minimum_of_ase_in_at_most_as_many_steps(structure):
    ours = relax_with_ase(structure, EMT(), TIGHT)
    ase = relax_with_ase(
        structure, EMT(), RelaxSettings(fmax=0.001, max_steps=300, optimizer="lbfgs")
    )
    assert ours.error is None and ours.converged and ase.converged
    assert ours.energy_after == pytest.approx(ase.energy_after, abs=2e-6)
    assert ours.structure.volume == pytest.approx(ase.structure.volume, rel=2e-3)
    assert ours.steps <= ase.steps


def test_convergence_agrees_with_ase():
    calculator = RecordingEmt()
    drive = OptimizerRun(rattled(), calculator, fmax=0.02, steps=200)
    assert drive.optimizer.here.largest < 0.02
    assert 0 < drive.n_moves < 200 and drive.n_moves == len(calculator.seen) - 1
    # The filter starts from the original cell: from a deformed one its cell forces differ slightly.
    start = AseAtomsAdaptor.get_atoms(rattled(), msonable=False)
    judged = FrechetCellFilter(start)
    start.set_cell(drive.atoms.cell)
    start.set_positions(drive.atoms.positions)
    start.calc = EMT()
    judge = LBFGS(judged, logfile=None)
    assert judge.run(fmax=0.02, steps=0)
    assert not judge.run(fmax=0.99 * drive.optimizer.here.largest, steps=0)


@pytest.mark.parametrize(
    ("structure", "groups"),
    [(gold_copper(), (123, 221)), (free_site(), (123,))],  # CuAu3 can become cubic
    ids=["axes", "axes and a site"],
)
def test_symmetry_is_preserved(structure, groups):
    assert space_group(structure) == 123
    result = relax_with_ase(structure, EMT(), TIGHT)
    assert result.converged and result.steps > 0
    assert space_group(result.structure) in groups
    assert space_group(result.structure, 1e-8) in groups


class NoisyEmt(EMT):
    """EMT with small asymmetric errors of forces and stress, like single precision."""

    def calculate(self, atoms=None, properties=("energy",), system_changes=all_changes):
        super().calculate(atoms, properties, system_changes)
        noise = np.random.default_rng(len(atoms))
        self.results["forces"] = self.results["forces"] + 5e-4 * noise.standard_normal(
            (len(atoms), 3)
        )
        self.results["stress"] = self.results["stress"] + 1e-6 * noise.standard_normal(6)


def test_noise_does_not_break_the_symmetry():
    settings = RelaxSettings(fmax=0.01, max_steps=100, optimizer="bfgs_symmetric")
    result = relax_with_ase(free_site(), NoisyEmt(), settings)
    assert result.converged
    assert space_group(result.structure, 1e-7) == space_group(free_site())


def test_number_of_free_coordinates():
    counts = {}
    for name, structure in {
        "cubic": Structure.from_spacegroup("Fm-3m", Lattice.cubic(4.1), ["Au"], [[0, 0, 0]]),
        "layers": free_site(),
        "triclinic": rattled(),
    }.items():
        geometry = geometry_of(structure)
        basis = free_coordinates(geometry, find_symmetry(geometry))
        assert np.allclose(basis.T @ basis, np.eye(basis.shape[1]), atol=1e-12)
        counts[name] = basis.shape[1]
    # Cubic: one lattice parameter. Layers: a, c and z. Triclinic: all but rotations of the cell.
    assert counts == {"cubic": 1, "layers": 3, "triclinic": 3 * 4 + 6}


def test_forces_are_in_the_space_of_free_coordinates():
    geometry = geometry_of(free_site())
    basis = free_coordinates(geometry, find_symmetry(geometry))
    forces = filtered(free_site()).get_forces().ravel()
    assert np.linalg.norm(forces) > 1
    assert np.allclose(basis @ (basis.T @ forces), forces, atol=1e-9)


def test_nearly_symmetric_start_converges():
    structure = free_site()
    structure.translate_sites([0], [0.003, 0.001, 0.0], frac_coords=True)
    assert space_group(structure, 0.05) == 123
    near = RelaxSettings(fmax=0.0005, max_steps=300, optimizer="bfgs_symmetric")
    result = relax_with_ase(structure, EMT(), near)
    assert result.converged
    assert largest_force(result.structure) < 0.0005


@settings(max_examples=15)
@example(scale=0.875, seed=2, shake=0.375, max_steps=2)  # the cell grows much
@given(
    scale=st.floats(0.8, 1.35),
    seed=st.integers(0, 1000),
    shake=st.floats(0.0, 0.4),
    max_steps=st.integers(0, 25),
)
def test_steps_are_limited_counted_and_lower_the_energy(scale, seed, shake, max_steps):
    atoms = bulk("Cu", cubic=True)
    atoms.set_cell(atoms.cell * scale, scale_atoms=True)
    atoms.rattle(shake, seed=seed)
    calculator = RecordingEmt()
    drive = OptimizerRun(plain(atoms), calculator, fmax=0.01, steps=max_steps)
    assert drive.n_moves <= max_steps
    assert len(calculator.seen) == drive.n_moves + 1
    kept = calculator.geometries[0]
    expanded_first = room_needed(drive.cell.start) > 1
    energy = lowest = calculator.seen[0]
    for tried, its_energy in zip(calculator.geometries[1:], calculator.seen[1:], strict=True):
        deformation = np.linalg.solve(kept.cell.array, tried.cell.array)
        stretched = np.linalg.svd(deformation, compute_uv=False)
        # Moves are sums of logarithms; those differ from strains that do not commute.
        if not expanded_first:
            assert np.abs(np.log(stretched)).max() <= MAX_STRAIN * 1.2
        # Displacements refer to the starting cell.
        moved = tried.positions - kept.positions @ deformation
        moved = moved @ np.linalg.solve(tried.cell.array, calculator.geometries[0].cell.array)
        assert np.linalg.norm(moved, axis=1).max() <= MAX_DISPLACEMENT * (1 + 1e-6)
        expanded_first = False
        if its_energy <= lowest + ENERGY_NOISE * len(atoms):
            kept, energy, lowest = tried, its_energy, min(lowest, its_energy)
    assert np.allclose(drive.atoms.positions, kept.positions, atol=1e-9)
    assert drive.optimizer.here.energy == pytest.approx(energy, abs=1e-9)
    assert energy <= calculator.seen[0] + 1.001 * ENERGY_NOISE * len(atoms)


def crowded(scale: float) -> Structure:
    structure = Structure.from_spacegroup("Fm-3m", Lattice.cubic(3.61 * scale), ["Cu"], [[0, 0, 0]])
    return structure.get_primitive_structure()


def test_crowded_cell_is_expanded_first():
    calculator = RecordingEmt()
    result = relax_with_ase(crowded(0.57), calculator, TIGHT)
    assert result.converged
    assert len(calculator.geometries) == result.steps + 1
    ratio = calculator.geometries[1].get_volume() / calculator.geometries[0].get_volume()
    contacts = 3.61 * 0.57 / np.sqrt(2) / (2 * covalent_radii[29])
    assert contacts < CROWDED
    assert ratio ** (1 / 3) == pytest.approx(min(LARGEST_EXPANSION, ROOMY / contacts), rel=1e-6)
    roomy = relax_with_ase(crowded(1.0), EMT(), TIGHT)
    assert result.energy_after == pytest.approx(roomy.energy_after, abs=1e-5)


def test_only_crowded_cells_are_expanded():
    assert room_needed(geometry_of(crowded(1.0))) == 1
    assert room_needed(geometry_of(crowded(0.3))) == LARGEST_EXPANSION
    assert room_needed(geometry_of(crowded(6.0))) == 1


def test_expansion_that_raises_the_energy_is_rejected():
    class UnderPressure(RecordingEmt):
        def calculate(self, atoms=None, properties=("energy",), system_changes=all_changes):
            super().calculate(atoms, properties, system_changes)
            # Under this strong pressure the crowded cell has the lower energy.
            self.results["energy"] += 40.0 * atoms.get_volume()
            self.results["stress"][:3] += 40.0
            self.seen[-1] = self.results["energy"]

    calculator = UnderPressure()
    drive = OptimizerRun(crowded(0.57), calculator, fmax=1e-6, steps=1)
    assert drive.n_moves == 1 and drive.optimizer.n_rejected == 1
    assert calculator.seen[1] > calculator.seen[0]
    assert drive.atoms.get_volume() == pytest.approx(crowded(0.57).volume)


def test_zero_steps():
    result = relax_with_ase(
        rattled(), EMT(), RelaxSettings(fmax=0.001, max_steps=0, optimizer="bfgs_symmetric")
    )
    assert not result.converged and result.steps == 0
    assert result.energy_after == result.energy_before


def test_same_input_gives_identical_results():
    one, other = (relax_with_ase(rattled(), EMT(), TIGHT) for _ in range(2))
    assert one.steps == other.steps
    assert np.array_equal(one.structure.frac_coords, other.structure.frac_coords)
    assert np.array_equal(one.structure.lattice.matrix, other.structure.lattice.matrix)


class FailingEmt(EMT):
    """Raise an error, or return NaN, at the third evaluation."""

    calls = 0
    says: str | None = None

    def calculate(self, atoms=None, properties=("energy",), system_changes=all_changes):
        super().calculate(atoms, properties, system_changes)
        self.calls += 1
        if self.calls == 3:
            if self.says is not None:
                raise RuntimeError(self.says)
            for name in ("energy", "forces", "stress"):
                self.results[name] = self.results[name] * np.nan


@pytest.mark.parametrize("says", ["no such neighbour\nat all", None])
def test_failure_of_the_potential_is_a_result(says):
    calculator = FailingEmt()
    calculator.says = says
    result = relax_with_ase(rattled(), calculator, TIGHT)
    assert result.structure is None and not result.converged
    assert ("no such neighbour" if says else "not finite") in result.error
    assert "\n" not in result.error


class WrongForces(EMT):
    """EMT with forces and stress of the wrong sign: every move raises the energy."""

    def calculate(self, atoms=None, properties=("energy",), system_changes=all_changes):
        super().calculate(atoms, properties, system_changes)
        self.results["forces"] = -self.results["forces"]
        self.results["stress"] = -self.results["stress"]


def test_wrong_forces_do_not_raise_the_energy():
    result = relax_with_ase(rattled(), WrongForces(), TIGHT)
    assert not result.converged and result.error is None
    assert result.energy_after <= result.energy_before + 1.001 * ENERGY_NOISE
    assert result.structure.volume == pytest.approx(rattled().volume, rel=0.05)


@pytest.mark.parametrize("optimizer", ["lbfgs", "bfgs_symmetric"])
def test_left_handed_cell_agrees_with_right_handed_cell(optimizer, chgnet):
    salt = Structure.from_spacegroup(
        "Fm-3m", Lattice.cubic(5.3), ["Na", "Cl"], [[0, 0, 0], [0.5, 0.5, 0.5]]
    ).get_primitive_structure()
    left = Structure(-salt.lattice.matrix, salt.species, -salt.frac_coords)
    assert np.linalg.det(left.lattice.matrix) < 0 < np.linalg.det(salt.lattice.matrix)
    near = RelaxSettings(fmax=0.01, max_steps=50, optimizer=optimizer)
    calculator = chgnet.calculator()
    ours, other = (relax_with_ase(one, calculator, near) for one in (left, salt))
    assert ours.converged and ours.steps == other.steps
    assert ours.energy_after == pytest.approx(other.energy_after, abs=1e-6)
    assert ours.energy_after < ours.energy_before
    # Changing the handedness of the cell moves no atom.
    again = relax_with_ase(
        left, calculator, RelaxSettings(fmax=9, max_steps=0, optimizer=optimizer)
    )
    assert np.allclose(again.structure.cart_coords, left.cart_coords)


def test_protocol_accepts_the_optimizer():
    assert Protocol(optimizer="bfgs_symmetric").optimizer == "bfgs_symmetric"
