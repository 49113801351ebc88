"""Evaluation of one member of each symmetry class agrees with evaluation of all members."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from pymatgen.core import Lattice, Structure
from pymatgen.symmetry.analyzer import SpacegroupAnalyzer

from novelty_metric.reference import open_reference
from novelty_metric.relaxation.base import Evaluation, Geometry
from novelty_metric.relaxation.chgnet_batch import BatchedChgnet
from novelty_metric.relaxation.distinct import find_distinct
from novelty_metric.relaxation.potentials import Chgnet
from novelty_metric.relaxation.relaxation_run import geometry_of, right_handed
from novelty_metric.relaxation.symmetry import EXACT, Symmetry, find_symmetry

GOLD = Structure.from_spacegroup("Fm-3m", Lattice.cubic(4.1), ["Au"], [[0, 0, 0]])
RUTILE = Structure.from_spacegroup(
    "P4_2/mnm", Lattice.tetragonal(4.6, 2.96), ["Ti", "O"], [[0, 0, 0], [0.305, 0.305, 0]]
)
QUARTZ = Structure.from_spacegroup(
    "P3_221",
    Lattice.hexagonal(4.91, 5.4),
    ["Si", "O"],
    [[0.47, 0, 2 / 3], [0.413, 0.267, 0.786]],
)


@pytest.fixture(scope="module")
def double(chgnet: Chgnet) -> BatchedChgnet:
    return BatchedChgnet(chgnet._weights, double=True)


def with_symmetry(structure: Structure) -> Geometry:
    geometry = right_handed(geometry_of(structure))
    return replace(geometry, symmetry=find_symmetry(geometry))


def moved(geometry: Geometry, seed: int) -> Geometry:
    """Apply a random symmetric strain and displacement, and shift the sites out of the cell."""
    rng = np.random.default_rng(seed)
    assert geometry.symmetry is not None
    rotations = geometry.symmetry.cartesian(geometry.cell)
    moves = rng.normal(0, 0.1, geometry.positions.shape)
    moves = (moves[geometry.symmetry.images] @ rotations).mean(axis=0)
    strain = rng.normal(0, 0.03, (3, 3))
    strain = (rotations.transpose(0, 2, 1) @ (strain + strain.T) @ rotations).mean(axis=0)
    deformation = np.eye(3) + strain
    positions = (geometry.positions + moves) @ deformation + rng.normal(0, 1, 3)
    return replace(geometry, cell=geometry.cell @ deformation, positions=positions)


def prototypes(step: int) -> list[Geometry]:
    reference = open_reference("aflow")
    small = [at for at in range(len(reference)) if reference.n_sites[at] <= 16][::step]
    return [moved(with_symmetry(reference.structure(at)), at) for at in small]


def assert_equal(ours: list[Evaluation], theirs: list[Evaluation], tolerance: float) -> None:
    for one, other in zip(ours, theirs, strict=True):
        assert one.error == other.error
        if one.error is None and np.isfinite(other.energy):  # CHGNet does not know some elements
            scale = max(1.0, float(np.abs(other.forces).max()))
            assert abs(one.energy - other.energy) < tolerance * len(one.forces)
            assert np.abs(one.forces - other.forces).max() < tolerance * scale
            assert np.abs(one.stress - other.stress).max() < tolerance * scale


def assert_symmetry_changes_nothing(
    geometries: list[Geometry], evaluator: BatchedChgnet, tolerance: float
) -> None:
    without = [replace(geometry, symmetry=None) for geometry in geometries]
    assert_equal(evaluator.evaluate(geometries), evaluator.evaluate(without), tolerance)


def test_classes_agree_with_all_sites(double: BatchedChgnet) -> None:
    crystals = [moved(with_symmetry(one), seed) for seed, one in enumerate([GOLD, RUTILE, QUARTZ])]
    assert_symmetry_changes_nothing(crystals, double, 1e-7)
    # Coordinates of prototypes are rounded, so their symmetry is approximate.
    crystals = prototypes(40)
    found = find_distinct(crystals, double.neighbors(crystals))
    assert found is not None and sum(found.symmetric) > 0.8 * len(crystals)
    assert_symmetry_changes_nothing(crystals, double, 1e-3)


@pytest.mark.slow
def test_classes_agree_with_all_sites_on_hundreds_of_crystals(chgnet: Chgnet) -> None:
    crystals = prototypes(1)
    single = BatchedChgnet(chgnet._weights)
    for start in range(0, len(crystals), 16):
        assert_symmetry_changes_nothing(crystals[start : start + 16], single, 1e-3)


@pytest.mark.parametrize("repeat", [(1, 1, 1), (2, 1, 1)])
@pytest.mark.parametrize("structure", [GOLD, RUTILE, QUARTZ])
def test_classes_of_sites_are_the_orbits_of_the_space_group(
    structure: Structure, repeat: tuple[int, int, int], double: BatchedChgnet
) -> None:
    crystal = moved(with_symmetry(structure * repeat), 3)
    neighbors = double.neighbors([crystal])
    found = find_distinct([crystal], neighbors)
    assert found is not None and found.symmetric == (True,)
    # pymatgen gives the orbits.
    dataset = SpacegroupAnalyzer(structure * repeat).get_symmetry_dataset()
    assert len(found.sites.sizes) == len(set(dataset.equivalent_atoms))
    lengths = np.linalg.norm(neighbors.vectors, axis=1)
    for number in range(len(found.bonds.sizes)):
        assert np.ptp(lengths[found.bonds.of == number]) < 1e-9
    assert found.bonds.sizes.sum() == neighbors.n_bonds
    assert found.angles.sizes.sum() == neighbors.n_pairs
    assert len(found.bonds.sizes) < neighbors.n_bonds / 3
    assert found.n_short == len(set(found.bonds.of[: neighbors.n_short].tolist()))


def test_each_neighbour_shell_of_gold_is_one_class(double: BatchedChgnet) -> None:
    crystal = with_symmetry(GOLD.get_primitive_structure())
    found = find_distinct([crystal], double.neighbors([crystal]))
    assert found is not None
    # 12, 6, 24 and 12 neighbours at 2.9, 4.1, 5.0 and 5.8 Å; each bond counts once.
    assert sorted(found.bonds.sizes.tolist()) == [3, 6, 6, 12]


def test_wrong_symmetry_is_ignored(double: BatchedChgnet) -> None:
    crystal = with_symmetry(RUTILE)
    displaced = crystal.positions.copy()
    displaced[3] += [0.0, 20 * EXACT, 0.0]
    strained = crystal.cell.copy()
    strained[0] *= 1.0001
    wrong = [
        replace(crystal, positions=displaced),
        replace(crystal, cell=strained),
        replace(
            with_symmetry(QUARTZ), positions=moved(with_symmetry(QUARTZ), 1).positions[::-1].copy()
        ),
    ]
    assert find_distinct(wrong, double.neighbors(wrong)) is None
    assert_symmetry_changes_nothing(wrong, double, 1e-12)


def test_batch_agrees_with_single_evaluations(double: BatchedChgnet) -> None:
    shaken = QUARTZ.copy()
    shaken.perturb(0.2, seed=1)
    crystals = [moved(with_symmetry(RUTILE), 1), geometry_of(shaken), moved(with_symmetry(GOLD), 2)]
    together = double.evaluate(crystals)
    alone = [double.evaluate([crystal])[0] for crystal in crystals]
    assert_equal(together, alone, 1e-9)


def test_symmetry_reduces_the_cost(double: BatchedChgnet) -> None:
    crystal = moved(with_symmetry(RUTILE), 1)
    assert 4 * double.cost(crystal) < double.cost(replace(crystal, symmetry=None))


@pytest.mark.parametrize("structure", [GOLD, RUTILE, QUARTZ, RUTILE * (2, 1, 1)])
def test_generators_generate_the_group(structure: Structure) -> None:
    found = find_symmetry(geometry_of(structure))
    operations = SpacegroupAnalyzer(structure, symprec=0.01).get_symmetry_operations()
    assert len(found.images) == len(operations)
    assert 0 < len(found.generators) <= 5
    reached = {(np.eye(3, dtype=np.int64).tobytes(), np.arange(len(structure)).tobytes())}
    frontier = list(reached)
    while frontier:
        rotation, image = (np.frombuffer(part, np.int64) for part in frontier.pop())
        for generator in found.generators:
            product = (
                (rotation.reshape(3, 3) @ found.rotations[generator]).tobytes(),
                image[found.images[generator]].tobytes(),
            )
            if product not in reached:
                reached.add(product)
                frontier.append(product)
    assert len(reached) == len(operations)


def test_triclinic_crystal_has_no_generators() -> None:
    shaken = QUARTZ.copy()
    shaken.perturb(0.2, seed=1)
    found = find_symmetry(geometry_of(shaken))
    assert len(found.images) == 1 and len(found.generators) == 0
    assert np.array_equal(Symmetry.none(9).images, found.images)
