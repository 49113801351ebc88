"""Coordinates and optimisers compared step by step with ASE."""

from __future__ import annotations

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk
from ase.calculators.emt import EMT
from ase.filters import FrechetCellFilter
from ase.optimize import FIRE as AseFIRE
from ase.optimize import LBFGS as AseLBFGS

from novelty_metric.relaxation.base import Evaluation, Geometry
from novelty_metric.relaxation.evaluators import AseEvaluator
from novelty_metric.relaxation.frechet import FrechetCell
from novelty_metric.relaxation.optimizers import FIRE, LBFGS, MAX_STEP, make_optimizer
from novelty_metric.relaxation.quasi_newton import SymmetricBFGS


def perturbed(scale: float = 1.05, shake: float = 0.1, seed: int = 3) -> Atoms:
    """A copper cell of four atoms without symmetry, far from cubic."""
    atoms = bulk("Cu", cubic=True)
    rng = np.random.default_rng(seed)
    atoms.set_cell(atoms.cell * scale + rng.normal(0, 0.15, (3, 3)), scale_atoms=True)
    atoms.rattle(shake, rng=rng)
    return atoms


def geometry(atoms: Atoms) -> Geometry:
    return Geometry(atoms.numbers, atoms.cell.array.copy(), atoms.positions.copy())


def test_coordinates_and_forces_agree_with_ase_filter() -> None:
    rng = np.random.default_rng(1)
    atoms = perturbed()
    cell = FrechetCell(geometry(atoms))
    atoms.calc = EMT()
    filtered = FrechetCellFilter(atoms)
    # Some versions of ASE use another origin for the logarithm.
    origin = filtered.get_positions() - cell.x0
    for size in (0.0, 0.05, 0.6):
        # Asymmetric coordinates: L-BFGS reaches them too.
        x = cell.x0 + rng.normal(0, size, cell.x0.shape)
        filtered.set_positions(x + origin)
        there = cell.geometry(x)
        assert np.allclose(there.cell, atoms.cell.array, atol=1e-10)
        assert np.allclose(there.positions, atoms.positions, atol=1e-10)
        point = cell.point(x, AseEvaluator(EMT()).evaluate([there])[0])
        assert np.allclose(point.forces, filtered.get_forces(), atol=1e-8)
        assert point.energy == pytest.approx(atoms.get_potential_energy(), abs=1e-10)
        norms = np.linalg.norm(filtered.get_forces(), axis=1)
        assert point.largest == pytest.approx(norms.max(), abs=1e-8)


def test_forces_are_the_derivative_of_the_energy() -> None:
    cell = FrechetCell(geometry(perturbed()))
    evaluator = AseEvaluator(EMT())
    rng = np.random.default_rng(2)
    x = cell.x0 + rng.normal(0, 0.2, cell.x0.shape)

    def energy(x: np.ndarray) -> float:
        return evaluator.evaluate([cell.geometry(x)])[0].energy

    forces = cell.point(x, evaluator.evaluate([cell.geometry(x)])[0]).forces
    for _ in range(5):
        along = rng.normal(0, 1, x.shape)
        slope = (energy(x + 1e-5 * along) - energy(x - 1e-5 * along)) / 2e-5
        assert slope == pytest.approx(-float((forces * along).sum()), rel=1e-5, abs=1e-6)


@pytest.mark.parametrize(("ours", "theirs"), [(LBFGS, AseLBFGS), (FIRE, AseFIRE)])
@pytest.mark.parametrize(("scale", "shake"), [(1.05, 0.1), (0.9, 0.3), (1.3, 0.02)])
def test_steps_agree_with_ase(
    ours: type, theirs: type, scale: float, shake: float, thorough: bool
) -> None:
    atoms = perturbed(scale, shake)
    cell = FrechetCell(geometry(atoms))
    atoms.calc = EMT()
    judge = theirs(FrechetCellFilter(atoms), logfile=None)
    evaluator = AseEvaluator(EMT())
    optimizer = ours(
        cell, cell.point(cell.x0, evaluator.evaluate([cell.geometry(cell.x0)])[0]), 0.01
    )
    for number, at_rest in enumerate(judge.irun(fmax=0.01, steps=60 if thorough else 25)):
        if number:
            x = optimizer.propose()
            optimizer.tell(cell.point(x, evaluator.evaluate([cell.geometry(x)])[0]))
        there = cell.geometry(optimizer.here.x)
        assert np.allclose(there.cell, atoms.cell.array, atol=1e-6), number
        assert np.allclose(there.positions, atoms.positions, atol=1e-6), number
        assert at_rest == (optimizer.here.largest < 0.01)
    assert number > 5


def test_lbfgs_memory_is_limited_and_zero_curvature_is_harmless() -> None:
    cell = FrechetCell(geometry(perturbed()))
    flat = Evaluation(0.0, np.full((4, 3), 0.3), np.zeros((3, 3)))
    optimizer = LBFGS(cell, cell.point(cell.x0, flat), 0.01)
    for _ in range(LBFGS.MEMORY + 5):
        x = optimizer.propose()
        assert np.isfinite(x).all()
        assert np.linalg.norm(x - optimizer.here.x, axis=1).max() <= MAX_STEP + 1e-12
        optimizer.tell(cell.point(x, flat))


def test_optimizers_have_the_names_of_the_protocol() -> None:
    from novelty_metric.protocol import OPTIMIZERS

    cell = FrechetCell(geometry(perturbed()))
    start = cell.point(cell.x0, AseEvaluator(EMT()).evaluate([cell.geometry(cell.x0)])[0])
    made = {name: type(make_optimizer(name, cell, start, 0.01)) for name in OPTIMIZERS}
    assert made == {"lbfgs": LBFGS, "fire": FIRE, "bfgs_symmetric": SymmetricBFGS}
