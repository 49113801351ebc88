"""Saddle points at the end of a relaxation: detection, escape, and distinction from minima."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from ase.calculators.emt import EMT
from pymatgen.core import Lattice, Structure

from novelty_metric.protocol import Minima
from novelty_metric.relaxation import PotentialInfo, Relaxation, RelaxSettings, RelaxTask
from novelty_metric.relaxation.base import Evaluation, Geometry
from novelty_metric.relaxation.cache import RelaxationCache
from novelty_metric.relaxation.evaluators import AseEvaluator
from novelty_metric.relaxation.minima import (
    LOWER,
    MOST_PRODUCTS,
    SHAKE,
    STRAIN,
    MinimumCheck,
    shaken,
)
from novelty_metric.relaxation.relaxation_run import RelaxationRun, geometry_of
from novelty_metric.relaxation.relaxer import PotentialRelaxer

SETTINGS = RelaxSettings(fmax=0.005, max_steps=200, optimizer="bfgs_symmetric")


class DoubleWell:
    """Two atoms whose distance along x has two minima, at ±`WELL` from the middle of the cell.

    Energy per cell: E = DEPTH ((d/WELL)² − 1)² + springs for y, z and the cell, with d = x₂ − x₁ −
    a/2.
    """

    WELL, DEPTH, SIDE, SPRING = 0.5, 0.4, 4.0, 5.0
    budget = 8.0

    def __init__(self) -> None:
        self.evaluated = 0

    def cost(self, geometry: Geometry) -> float:
        return 1.0

    def evaluate(
        self, geometries: Sequence[Geometry], *, energy_only: bool = False
    ) -> list[Evaluation]:
        self.evaluated += len(geometries)
        return [self._one(geometry) for geometry in geometries]

    def _one(self, geometry: Geometry) -> Evaluation:
        def energy(cell: np.ndarray, positions: np.ndarray) -> float:
            apart = positions[1] - positions[0] - cell.sum(axis=0) / 2
            well = (apart[0] / self.WELL) ** 2 - 1
            side = self.SPRING * (cell - self.SIDE * np.eye(3))
            across = self.SPRING * apart[1:]
            return float(
                self.DEPTH * well**2 + 0.5 * (side**2).sum() + 0.5 * (across * apart[1:]).sum()
            )

        cell, positions = geometry.cell, geometry.positions
        step = 1e-4

        def slope(move: np.ndarray) -> float:
            up, down = np.eye(3) + step * move, np.eye(3) - step * move
            return (energy(cell @ up, positions @ up) - energy(cell @ down, positions @ down)) / (
                2 * step
            )

        stress, forces = np.zeros((3, 3)), np.zeros((2, 3))
        for row in range(3):
            for column in range(3):
                unit = np.zeros((3, 3))
                unit[row, column] += 0.5
                unit[column, row] += 0.5
                stress[row, column] = slope(unit) / geometry.volume
            for atom in range(2):
                unit = np.zeros((2, 3))
                unit[atom, row] = step
                forces[atom, row] = -(
                    energy(cell, positions + unit) - energy(cell, positions - unit)
                ) / (2 * step)
        return Evaluation(energy(cell, positions), forces, stress)


class Potential:
    """The double well with the interface of a potential."""

    device_name = "cpu"
    info = PotentialInfo(name="double-well", version="1", weights_hash="0" * 64)

    def evaluator(self) -> DoubleWell:
        return DoubleWell()


def double_well_crystal(shift: float = 0.0) -> Structure:
    """Saddle point for `shift` = 0 Å; minimum for `shift` = `WELL`."""
    return Structure(
        Lattice.cubic(DoubleWell.SIDE), ["Na", "Cl"], [[0, 0, 0], [0.5 + shift / 4, 0.5, 0.5]]
    )


def relaxed(
    structures: Sequence[Structure], minima: Minima, cache: RelaxationCache | None = None
) -> list[Relaxation]:
    queue = deque(RelaxTask(at, one, minima=minima) for at, one in enumerate(structures))
    found = PotentialRelaxer(Potential(), cache=cache).relax(queue, SETTINGS)
    return [result for _, result in sorted(found, key=lambda pair: pair[0].key)]


def relax_with_emt(structure: Structure, minima: Minima) -> tuple[Relaxation, int]:
    """The result of a relaxation with EMT and its number of evaluations."""
    run, evaluator, count = (
        RelaxationRun(structure, SETTINGS, minima=minima),
        AseEvaluator(EMT()),
        0,
    )
    while run.geometry is not None:
        run.receive(evaluator.evaluate([run.geometry])[0])
        count += 1
    return run.result(), count


def test_saddle_is_kept_by_default() -> None:
    (result,) = relaxed([double_well_crystal()], "keep")
    assert result.converged and (result.saddle, result.energy_below) == (None, None)
    assert result.energy_after == pytest.approx(DoubleWell.DEPTH / 2)


def test_escape_leads_to_the_minimum() -> None:
    (result,) = relaxed([double_well_crystal()], "escape")
    assert result.converged and result.saddle is True
    assert result.energy_after == pytest.approx(0, abs=1e-4)
    assert result.energy_below == pytest.approx(DoubleWell.DEPTH / 2, abs=1e-4)
    assert result.structure is not None
    apart = abs(result.structure.cart_coords[1, 0] - result.structure.cart_coords[0, 0] - 2)
    assert apart == pytest.approx(DoubleWell.WELL, abs=0.01)


def test_check_detects_the_saddle_and_keeps_it() -> None:
    (result,) = relaxed([double_well_crystal()], "check")
    assert result.converged and result.saddle is True
    assert result.energy_after == pytest.approx(DoubleWell.DEPTH / 2)
    assert result.energy_below == pytest.approx(DoubleWell.DEPTH / 2, abs=1e-4)
    assert result.structure is not None and result.structure.matches(double_well_crystal())


def test_escape_from_a_narrow_double_well_uses_a_shorter_step(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # A step of 0.1 Å per atom is higher in energy than the saddle in both directions.
    monkeypatch.setattr(DoubleWell, "WELL", 0.1)
    monkeypatch.setattr(DoubleWell, "DEPTH", 0.02)
    assert (0.2 / DoubleWell.WELL) ** 2 - 1 > 1
    (result,) = relaxed([double_well_crystal()], "escape")
    assert result.converged and result.saddle is True
    assert result.energy_below == pytest.approx(DoubleWell.DEPTH / 2, abs=1e-4)


@pytest.mark.parametrize("escape", [True, False])
def test_random_displacement_finds_the_minimum_without_curvature(
    monkeypatch: pytest.MonkeyPatch, escape: bool
) -> None:
    monkeypatch.setattr("novelty_metric.relaxation.minima.NEGATIVE", -np.inf)
    if not escape:
        monkeypatch.setattr("novelty_metric.relaxation.relaxation_run.STIFF", -np.inf)
    (result,) = relaxed([double_well_crystal()], "escape")
    assert result.converged and result.saddle is escape
    assert result.energy_below == pytest.approx(escape * DoubleWell.DEPTH / 2, abs=1e-4)


@pytest.mark.parametrize(("depth", "saddle"), [(2.2 * LOWER, True), (1.8 * LOWER, False)])
def test_shallow_well_is_not_a_saddle(
    monkeypatch: pytest.MonkeyPatch, depth: float, saddle: bool
) -> None:
    monkeypatch.setattr(DoubleWell, "DEPTH", depth)
    monkeypatch.setattr(DoubleWell, "WELL", 0.1)
    (result,) = relaxed([double_well_crystal()], "escape")
    assert result.converged and result.saddle is saddle
    assert result.energy_below == pytest.approx(saddle * depth / 2, abs=1e-4)
    assert result.energy_before == pytest.approx(depth / 2)


def test_failed_relaxation_after_escape_keeps_the_saddle(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    evaluate = DoubleWell._one

    def fail_far_from_saddle(self: DoubleWell, geometry: Geometry) -> Evaluation:
        apart = geometry.positions[1] - geometry.positions[0] - geometry.cell.sum(axis=0) / 2
        return Evaluation.failed("lost") if abs(apart[0]) > 0.3 else evaluate(self, geometry)

    monkeypatch.setattr(DoubleWell, "_one", fail_far_from_saddle)
    (result,) = relaxed([double_well_crystal()], "escape")
    assert (result.converged, result.saddle, result.error) == (True, False, None)
    assert result.energy_after == pytest.approx(DoubleWell.DEPTH / 2)


def test_random_displacement_moves_all_atoms_equally_and_strains_the_cell() -> None:
    start = geometry_of(double_well_crystal(0.3))
    moved = shaken(start)
    deformation = np.linalg.solve(start.cell, moved.cell)
    assert deformation == pytest.approx(deformation.T)
    assert 0 < np.abs(deformation - np.eye(3)).max() < 4 * STRAIN
    moves = moved.positions - start.positions @ deformation
    assert np.linalg.norm(moves, axis=1) == pytest.approx(SHAKE)
    assert np.array_equal(moved.positions, shaken(start).positions)


@pytest.mark.parametrize("minima", ["check", "escape"])
def test_minimum_is_not_a_saddle(minima: Minima) -> None:
    (kept,) = relaxed([double_well_crystal(DoubleWell.WELL)], "keep")
    (result,) = relaxed([double_well_crystal(DoubleWell.WELL)], minima)
    assert (result.saddle, result.energy_below, result.converged) == (False, 0.0, True)
    assert result.energy_after == kept.energy_after
    assert result.steps <= kept.steps + MOST_PRODUCTS + 2


def test_batch_agrees_with_single_relaxations() -> None:
    starts = [double_well_crystal(shift) for shift in (0.0, 0.5, 0.2, 0.45, 0.0)]
    together = relaxed(starts, "escape")
    alone = [relaxed([start], "escape")[0] for start in starts]
    for one, other in zip(together, alone, strict=True):
        assert (one.energy_after, one.saddle, one.steps) == (
            other.energy_after,
            other.saddle,
            other.steps,
        )


def test_cache_separates_the_settings_of_minima(tmp_path: Path) -> None:
    cache = RelaxationCache(tmp_path / "relaxations.sqlite")
    results: dict[Minima, Relaxation] = {}
    for minima in ("keep", "check", "escape"):
        (first,) = relaxed([double_well_crystal()], minima, cache)
        (results[minima],) = relaxed([double_well_crystal()], minima, cache)
        assert not first.cached and results[minima].cached
        assert (first.saddle, first.energy_below) == (
            results[minima].saddle,
            results[minima].energy_below,
        )
    assert results["escape"].energy_after != results["check"].energy_after


# A known physical case: the Bain path of copper


def body_centred(symbol: str, a: float) -> Structure:
    return Structure.from_spacegroup("Im-3m", Lattice.cubic(a), [symbol], [[0, 0, 0]])


def test_body_centred_copper_becomes_face_centred() -> None:
    result, count = relax_with_emt(body_centred("Cu", 2.9), "escape")
    assert result.structure is not None and result.saddle
    assert result.structure.get_space_group_info(0.05) == ("Fm-3m", 225)
    assert result.steps == count - 1


CRYSTALS = {
    "bcc Al": body_centred("Al", 3.2),
    "L1_2": Structure.from_spacegroup(
        "Pm-3m", Lattice.cubic(3.8), ["Cu", "Au"], [[0, 0.5, 0.5], [0, 0, 0]]
    ),
    "hcp": Structure.from_spacegroup(
        "P6_3/mmc", Lattice.hexagonal(2.6, 4.2), ["Cu"], [[1 / 3, 2 / 3, 0.25]]
    ),
    "diamond": Structure.from_spacegroup("Fd-3m", Lattice.cubic(5.2), ["Cu"], [[0, 0, 0]]),
    "A15": Structure.from_spacegroup(
        "Pm-3n", Lattice.cubic(4.9), ["Cu", "Al"], [[0.25, 0, 0.5], [0, 0, 0]]
    ),
}


@pytest.mark.parametrize("name", CRYSTALS)
def test_lowest_curvature_is_that_of_the_full_hessian(name: str) -> None:
    evaluator = AseEvaluator(EMT())
    rest, _ = relax_with_emt(CRYSTALS[name], "keep")
    assert rest.structure is not None
    geometry = geometry_of(rest.structure)
    check = MinimumCheck(geometry, evaluator.evaluate([geometry])[0])
    expected = lowest_curvature(check, evaluator)
    products = 0
    while check.geometry is not None:
        check.tell(evaluator.evaluate([check.geometry])[0])
        products += 1
    assert products <= MOST_PRODUCTS + 2
    assert (check.way_down is not None) == (expected < 0)
    assert check.curvature >= expected - 0.02
    assert check.curvature == pytest.approx(expected, rel=0.15)


def lowest_curvature(check: MinimumCheck, evaluator: AseEvaluator) -> float:
    """Lowest eigenvalue of the Hessian by central differences of all forces (eV/Å²)."""
    cell, step = check._cell, 1e-3
    size = 3 * cell.n_sites + 9
    moving = np.array([check._moving(unit) for unit in np.eye(size)])
    hessian = np.empty((size, size))
    for at, unit in enumerate(np.eye(size)):
        slopes = []
        for side in (step, -step):
            x = cell.x0 + side * unit.reshape(-1, 3) / check._scale
            there = cell.point(x, evaluator.evaluate([cell.geometry(x)])[0])
            slopes.append((-there.forces / check._scale).ravel())
        hessian[at] = (slopes[0] - slopes[1]) / (2 * step)
    curvatures = np.linalg.eigvalsh(moving @ (hessian + hessian.T) @ moving / 2)
    return float(curvatures[np.abs(curvatures) > 1e-6].min())
