"""Batched CHGNet against CHGNet's own calculator, finite differences, and single evaluations."""

from __future__ import annotations

import dataclasses
from collections import deque

import numpy as np
import pytest
import torch
from ase.units import GPa
from pymatgen.core import Lattice, Structure

from novelty_metric.reference import open_reference
from novelty_metric.relaxation import RelaxSettings, RelaxTask
from novelty_metric.relaxation.base import Geometry
from novelty_metric.relaxation.chgnet_batch import BatchedChgnet
from novelty_metric.relaxation.in_flight import relax_one
from novelty_metric.relaxation.potentials import Chgnet
from novelty_metric.relaxation.relaxation_run import geometry_of
from novelty_metric.relaxation.relaxer import PotentialRelaxer

NEAR = RelaxSettings(fmax=0.05, max_steps=100, optimizer="bfgs_symmetric")


@pytest.fixture(scope="module")
def batched(chgnet: Chgnet) -> BatchedChgnet:
    return BatchedChgnet(chgnet._weights)


@pytest.fixture(scope="module")
def chgnet_calculator(chgnet: Chgnet):
    """CHGNet's own calculator, with the same interface."""
    return Chgnet("cpu", batched=False).evaluator()


def perturbed(structure: Structure, seed: int) -> Structure:
    """Break the symmetry, and move one site out of the cell."""
    moved = structure.copy()
    moved.perturb(0.1, seed=seed)
    moved.apply_strain(np.random.default_rng(seed).uniform(-0.05, 0.08, 3))
    moved.translate_sites([0], [1, -2, 0], to_unit_cell=False)
    return moved


def prototypes(step: int) -> list[Structure]:
    """Every `step`-th small AFLOW prototype of the package, unchanged and perturbed."""
    reference = open_reference("aflow")
    small = [at for at in range(len(reference)) if reference.n_sites[at] <= 24][::step]
    crystals = [reference.structure(at) for at in small]
    return crystals + [perturbed(one, seed) for seed, one in enumerate(crystals)]


def assert_agree(structures: list[Structure], batched: BatchedChgnet, chgnet_calculator) -> None:
    geometries = [geometry_of(structure) for structure in structures]
    expected = chgnet_calculator.evaluate(geometries)
    found = []
    for start in range(0, len(geometries), 8):
        found += batched.evaluate(geometries[start : start + 8])
    compared = 0
    for geometry, ours, theirs in zip(geometries, found, expected, strict=True):
        assert (ours.error is None) == (theirs.error is None)
        if theirs.error is not None:
            continue
        compared += 1
        scale = max(1.0, float(np.abs(theirs.forces).max()))
        assert abs(ours.energy - theirs.energy) / len(geometry.numbers) < 2e-5
        assert np.abs(ours.forces - theirs.forces).max() < 5e-4 * scale
        assert np.abs(ours.stress - theirs.stress).max() < 5e-3 * GPa * scale
    assert compared > 0.9 * len(structures)


def test_agrees_with_chgnet(batched: BatchedChgnet, chgnet_calculator) -> None:
    assert_agree(prototypes(40), batched, chgnet_calculator)


@pytest.mark.slow
def test_agrees_with_chgnet_on_all_prototypes(batched: BatchedChgnet, chgnet_calculator) -> None:
    assert_agree(prototypes(1), batched, chgnet_calculator)


@pytest.mark.slow
def test_agrees_with_chgnet_on_hundreds_of_real_crystals(
    batched: BatchedChgnet, chgnet_calculator, shared_data
) -> None:
    import pandas as pd

    cifs = pd.read_parquet(shared_data / "mp_20" / "val.parquet", columns=["cif"])["cif"][::30]
    assert_agree([Structure.from_str(cif, fmt="cif") for cif in cifs], batched, chgnet_calculator)


def test_forces_and_stress_are_energy_derivatives_in_double_precision(chgnet: Chgnet) -> None:
    double = BatchedChgnet(chgnet._weights, double=True)
    start = geometry_of(perturbed(prototypes(40)[2], 3))
    found = double.evaluate([start])[0]
    rng = np.random.default_rng(1)
    step = 1e-5
    for _ in range(3):
        along = rng.normal(0, 1, start.positions.shape)
        slope = (
            np.subtract(
                *(
                    double.evaluate(
                        [Geometry(start.numbers, start.cell, start.positions + sign * along)]
                    )[0].energy
                    for sign in (step, -step)
                )
            )
            / 2
            / step
        )
        assert slope == pytest.approx(-(found.forces * along).sum(), rel=1e-5, abs=1e-5)
        strain = rng.normal(0, 1, (3, 3))
        strain += strain.T
        energies = []
        for sign in (step, -step):
            deformation = np.eye(3) + sign * strain
            moved = Geometry(start.numbers, start.cell @ deformation, start.positions @ deformation)
            energies.append(double.evaluate([moved])[0].energy)
        slope = (energies[0] - energies[1]) / 2 / step
        expected = start.volume * (found.stress * strain).sum()
        assert slope == pytest.approx(expected, rel=1e-5, abs=1e-5)


def test_single_precision_is_enough(chgnet: Chgnet, batched: BatchedChgnet) -> None:
    double = BatchedChgnet(chgnet._weights, double=True)
    geometries = [geometry_of(structure) for structure in prototypes(30)]
    for one, two in zip(batched.evaluate(geometries), double.evaluate(geometries), strict=True):
        if one.error is None:
            n_sites = len(one.forces)
            assert abs(one.energy - two.energy) / n_sites < 5e-6
            # The strictest protocol requires forces below 0.001 eV/Å.
            assert np.abs(one.forces - two.forces).max() < 2e-4 * max(1, np.abs(two.forces).max())


def test_batch_agrees_with_single_evaluations(batched: BatchedChgnet) -> None:
    geometries = [geometry_of(structure) for structure in prototypes(30)]
    together = batched.evaluate(geometries)
    for geometry, one in zip(geometries, together, strict=True):
        alone = batched.evaluate([geometry])[0]
        assert one.energy == pytest.approx(alone.energy, abs=1e-5 * len(geometry.numbers))
        assert np.allclose(one.forces, alone.forces, atol=2e-4 * max(1, np.abs(one.forces).max()))
    energies = batched.evaluate(geometries, energy_only=True)
    assert [one.energy for one in energies] == pytest.approx(
        [one.energy for one in together], abs=1e-4
    )


LONELY = Structure(Lattice.cubic(9.5), ["Na"], [[0, 0, 0]])
UNKNOWN = Structure(Lattice.cubic(3.5), ["Cm"], [[0, 0, 0]])
"""CHGNet knows 94 elements; curium is the 96th."""
DIMER = Structure(Lattice.cubic(12), ["Na", "Cl"], [[0, 0, 0], [0.4, 0, 0]])
"""One bond and no angle."""


def test_invalid_crystals_fail_alone(batched: BatchedChgnet) -> None:
    salt = prototypes(60)[0]
    found = batched.evaluate([geometry_of(one) for one in (LONELY, salt, UNKNOWN, DIMER)])
    assert found[0].error is not None and "no neighbour" in found[0].error
    assert found[0].repeatable
    alone = batched.evaluate([geometry_of(salt)])[0]
    assert found[1].energy == pytest.approx(alone.energy, abs=1e-5)
    assert np.isnan(found[2].energy)
    assert found[3].error is None and np.isfinite(found[3].energy)
    assert batched.evaluate([geometry_of(LONELY)])[0].error == found[0].error


def test_crystal_without_angles_agrees_with_chgnet(
    batched: BatchedChgnet, chgnet_calculator
) -> None:
    assert_agree([DIMER], batched, chgnet_calculator)


def test_same_queue_gives_identical_results(chgnet: Chgnet) -> None:
    crystals = [one for one in prototypes(25) if len(one) <= 8][:10]

    def run() -> dict[object, object]:
        queue = deque(RelaxTask(at, one) for at, one in enumerate(crystals))
        results = PotentialRelaxer(chgnet).relax(queue, NEAR)
        return {
            task.key: (r.steps, r.energy_after, r.structure and r.structure.frac_coords.tobytes())
            for task, r in results
        }

    first = run()
    assert first == run()
    assert len(first) == len(crystals)


def test_lbfgs_results_do_not_depend_on_the_other_crystals(chgnet: Chgnet) -> None:
    # Perturbed crystals show rounding early; 12 moves are enough.
    crystals = [one.copy() for one in prototypes(25) if len(one) <= 8][:6]
    for at, one in enumerate(crystals):
        one.perturb(0.05, seed=at)
    wanted = RelaxSettings(fmax=0.001, max_steps=12, optimizer="lbfgs")

    def run(chosen: list[int]) -> dict[object, object]:
        queue = deque(RelaxTask(at, crystals[at]) for at in chosen)
        return {
            task.key: (r.steps, r.energy_after, r.structure and r.structure.frac_coords.tobytes())
            for task, r in PotentialRelaxer(chgnet).relax(queue, wanted)
        }

    together, in_pairs = run([0, 1, 2, 3, 4, 5]), run([5, 0]) | run([3, 2]) | run([1, 4])
    assert together == in_pairs
    assert all(energy is not None for _, energy, _ in together.values())


def test_batched_relaxation_agrees_with_single_relaxation(
    chgnet: Chgnet, chgnet_calculator
) -> None:
    crystals = [one for one in prototypes(25) if len(one) <= 6][:6]
    queue = deque(RelaxTask(at, one) for at, one in enumerate(crystals))
    for task, ours in PotentialRelaxer(chgnet).relax(queue, NEAR):
        theirs = relax_one(task.structure, chgnet_calculator, NEAR)
        assert ours.converged == theirs.converged and ours.error == theirs.error
        if theirs.converged:
            assert ours.energy_after == pytest.approx(theirs.energy_after, abs=2e-3)


def test_number_of_threads_is_restored(chgnet: Chgnet) -> None:
    before = torch.get_num_threads()
    list(PotentialRelaxer(chgnet).energies(prototypes(60)))
    assert torch.get_num_threads() == before


def test_other_architecture_is_refused(chgnet: Chgnet) -> None:
    given = chgnet._weights
    other = dataclasses.replace(given, settings={**given.settings, "n_conv": 3})
    with pytest.raises(ValueError, match="n_conv=3"):
        BatchedChgnet(other)


def test_deterministic_mode_is_used_on_a_gpu_and_restored() -> None:
    from novelty_metric.relaxation.bond_gradients import reproducible

    for kind, inside in (("cpu", False), ("cuda", True)):
        with pytest.raises(RuntimeError, match="on the way"), reproducible(torch.device(kind)):
            assert torch.are_deterministic_algorithms_enabled() is inside
            raise RuntimeError("on the way")
        assert not torch.are_deterministic_algorithms_enabled()


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_gpu_agrees_with_cpu(batched: BatchedChgnet) -> None:
    gpu = BatchedChgnet(Chgnet("cuda")._weights, "cuda")
    geometries = [geometry_of(structure) for structure in prototypes(12)]
    first, again = gpu.evaluate(geometries), gpu.evaluate(geometries)
    for one, two, other in zip(first, again, batched.evaluate(geometries), strict=True):
        assert one.error == other.error
        if one.error is None:
            assert one.energy == two.energy and np.array_equal(one.forces, two.forces)
            scale = max(1.0, float(np.abs(other.forces).max()))
            assert abs(one.energy - other.energy) / len(one.forces) < 2e-5
            assert np.abs(one.forces - other.forces).max() < 5e-4 * scale
