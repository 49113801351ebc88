"""Tests that every potential of the registry must pass; a new one needs only its entry."""

from __future__ import annotations

import pickle
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from ase.units import GPa
from pymatgen.core import Lattice, Structure
from tiny_mace import write_tiny_mace

from novelty_metric import Protocol, SubstitutionNovelty
from novelty_metric.reference import open_reference
from novelty_metric.relaxation import RelaxSettings
from novelty_metric.relaxation.base import Evaluation, Geometry
from novelty_metric.relaxation.evaluators import AseEvaluator, Evaluator
from novelty_metric.relaxation.in_flight import InFlight, relax_one
from novelty_metric.relaxation.potentials import (
    POTENTIALS,
    Mace,
    Potential,
    RegisteredPotential,
    make_potential,
)
from novelty_metric.relaxation.relaxation_run import geometry_of
from novelty_metric.relaxation.workers import single_points

FEW_STEPS = RelaxSettings(fmax=0.001, max_steps=3, optimizer="bfgs_symmetric")


@dataclass
class PotentialUnderTest:
    """A potential under test, its evaluator, and its library's own calculator."""

    potential: Potential
    evaluator: Evaluator
    own: Evaluator


CASES = [  # the default model of each potential; all models with --slow
    pytest.param(
        (potential, model.setting),
        id=model.name,
        marks=[] if model is potential.models[0] else [pytest.mark.slow],
    )
    for potential in POTENTIALS.values()
    for model in potential.models
]


@pytest.fixture(scope="module", params=CASES)
def subject(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> PotentialUnderTest:
    registered, setting = request.param
    pytest.importorskip(registered.module, reason=f"{registered.package} is not installed")
    if registered.key == "mace":
        return tiny_mace(tmp_path_factory.mktemp("mace"))
    settings = {} if registered.key == "chgnet" else {"model": setting}
    potential = make_potential(registered.key, device="cpu", **settings)
    own = make_potential(registered.key, device="cpu", batched=False, **settings).evaluator()
    return PotentialUnderTest(potential, potential.evaluator(), own)


def tiny_mace(folder: Path) -> PotentialUnderTest:
    """MACE with random weights and mace-torch's own architecture; real weights need a download."""
    from mace.calculators import MACECalculator

    path = write_tiny_mace(folder / "tiny.model")
    potential = Mace(model=str(path), device="cpu", allow_pickle=True)
    own = MACECalculator(model_paths=str(path), device="cpu", default_dtype="float64")
    return PotentialUnderTest(potential, potential.evaluator(), AseEvaluator(own))


@pytest.fixture(scope="module")
def crystals() -> list[Structure]:
    """Perturbed prototypes of the package, with one site outside the cell."""
    reference = open_reference("aflow")
    small = [
        at
        for at in range(len(reference))
        if reference.n_sites[at] <= 6 and reference.numbers[reference.sites(at)].max() < 90
    ][3::25]
    return [perturbed(reference.structure(at), seed) for seed, at in enumerate(small)]


def perturbed(structure: Structure, seed: int) -> Structure:
    moved = structure.copy()
    moved.perturb(0.1, seed=seed)
    moved.apply_strain(np.random.default_rng(seed).uniform(-0.05, 0.08, 3))
    moved.translate_sites([0], [1, -2, 0], to_unit_cell=False)
    return moved


def evaluated(
    crystals: list[Structure], *found: list[Evaluation]
) -> Iterator[tuple[Geometry, list[Evaluation]]]:
    """Yield the crystals that every evaluation accepts, which must be more than 80 %."""
    count = 0
    for structure, *evaluations in zip(crystals, *found, strict=True):
        if all(one.error is None for one in evaluations):
            count += 1
            yield geometry_of(structure), evaluations
    assert count > 0.8 * len(crystals)


def test_agrees_with_its_library(subject: PotentialUnderTest, crystals: list[Structure]) -> None:
    geometries = [geometry_of(structure) for structure in crystals]
    ours, theirs = subject.evaluator.evaluate(geometries), subject.own.evaluate(geometries)
    for geometry, (one, other) in evaluated(crystals, ours, theirs):
        scale = max(1.0, float(np.abs(other.forces).max()))
        assert abs(one.energy - other.energy) / len(geometry.numbers) < 2e-5
        assert np.abs(one.forces - other.forces).max() < 5e-4 * scale
        assert np.abs(one.stress - other.stress).max() < 5e-3 * GPa * scale


def energy_slope(evaluator: Evaluator, geometries: tuple[Geometry, Geometry], step: float) -> float:
    """Central difference of the energy between two geometries, in eV per unit of the step."""
    ahead, behind = (evaluator.evaluate([one])[0].energy for one in geometries)
    return (ahead - behind) / (2 * step)


def test_forces_agree_with_finite_differences(
    subject: PotentialUnderTest, crystals: list[Structure]
) -> None:
    geometries = [geometry_of(structure) for structure in crystals]
    found = subject.evaluator.evaluate(geometries)
    for seed, (start, (one,)) in enumerate(evaluated(crystals, found)):
        along = np.random.default_rng(seed).normal(0, 1, start.positions.shape)
        along /= np.linalg.norm(along)
        step = 0.01
        moved = [
            Geometry(start.numbers, start.cell, start.positions + sign * along)
            for sign in (step, -step)
        ]
        expected = -float((one.forces * along).sum())
        scale = max(1.0, float(np.abs(one.forces).max()))
        assert energy_slope(subject.evaluator, (moved[0], moved[1]), step) == pytest.approx(
            expected, abs=0.01 * scale
        )


def test_stress_agrees_with_finite_differences(
    subject: PotentialUnderTest, crystals: list[Structure]
) -> None:
    geometries = [geometry_of(structure) for structure in crystals]
    found = subject.evaluator.evaluate(geometries)
    for seed, (start, (one,)) in enumerate(evaluated(crystals, found)):
        strain = np.random.default_rng(seed).normal(0, 1, (3, 3))
        strain = (strain + strain.T) / np.linalg.norm(strain + strain.T)
        step = 0.002
        moved = []
        for sign in (step, -step):
            deformation = np.eye(3) + sign * strain
            moved.append(
                Geometry(start.numbers, start.cell @ deformation, start.positions @ deformation)
            )
        expected = start.volume * float((one.stress * strain).sum())
        scale = max(1.0, start.volume * float(np.abs(one.stress).max()))
        assert energy_slope(subject.evaluator, (moved[0], moved[1]), step) == pytest.approx(
            expected, abs=0.02 * scale
        )


def test_batch_agrees_with_single_evaluations(
    subject: PotentialUnderTest, crystals: list[Structure]
) -> None:
    geometries = [geometry_of(structure) for structure in crystals]
    together = subject.evaluator.evaluate(geometries)
    alone = [subject.evaluator.evaluate([geometry])[0] for geometry in geometries]
    energies = subject.evaluator.evaluate(geometries, energy_only=True)
    for geometry, (one, other, energy) in evaluated(crystals, together, alone, energies):
        scale = max(1.0, float(np.abs(other.forces).max()))
        assert one.energy == pytest.approx(other.energy, abs=1e-5 * len(geometry.numbers))
        assert energy.energy == pytest.approx(other.energy, abs=1e-5 * len(geometry.numbers))
        assert np.abs(one.forces - other.forces).max() < 2e-4 * scale
        assert np.abs(one.stress - other.stress).max() < 1e-3 * GPa * scale


UNKNOWN_ELEMENT = "an element of no training set"
ODD = {
    "alone": Structure(Lattice.cubic(30), ["Na"], [[0, 0, 0]]),
    "one of three alone": Structure(
        Lattice.cubic(40), ["Na", "Na", "Cl"], [[0, 0, 0], [0.07, 0, 0], [0.5, 0.5, 0.5]]
    ),
    UNKNOWN_ELEMENT: Structure(Lattice.cubic(4), ["Og"], [[0, 0, 0]]),
}


@pytest.mark.parametrize("odd", ODD)
def test_unusual_crystal_does_not_affect_others(
    subject: PotentialUnderTest, crystals: list[Structure], odd: str
) -> None:
    geometries = [geometry_of(one) for one in (crystals[0], ODD[odd], crystals[1])]
    flight = InFlight(subject.evaluator)
    before, found, after = flight.evaluate(geometries)
    if found.error is None:  # a relaxation refuses non-finite values
        assert found.forces.shape == (len(ODD[odd]), 3)
        assert np.isnan(found.energy) == (odd == UNKNOWN_ELEMENT)
    else:
        assert ("Og" if odd == UNKNOWN_ELEMENT else "no neighbour") in found.error
        assert "\n" not in found.error
    for geometry, evaluation in ((geometries[0], before), (geometries[2], after)):
        alone = subject.evaluator.evaluate([geometry])[0]
        assert evaluation.error is None
        assert evaluation.energy == pytest.approx(alone.energy, abs=1e-4)


def test_left_handed_cell_agrees_with_right_handed_cell(
    subject: PotentialUnderTest, crystals: list[Structure]
) -> None:
    right = crystals[1]
    assert np.linalg.det(right.lattice.matrix) > 0
    left = Structure(Lattice(-right.lattice.matrix), right.species, -right.frac_coords)
    assert np.allclose(left.cart_coords, right.cart_coords)
    energies = single_points(InFlight(subject.evaluator), [left, right])
    assert energies[0] == pytest.approx(energies[1], abs=1e-5)
    ends = [relax_one(one, subject.evaluator, FEW_STEPS) for one in (left, right)]
    assert ends[0].error is None and ends[0].steps == ends[1].steps > 0
    assert ends[0].energy_after == pytest.approx(ends[1].energy_after, abs=1e-4)
    volumes = [one.structure.volume for one in ends if one.structure is not None]
    assert volumes[0] == pytest.approx(volumes[1], rel=1e-4)


def test_pickle_contains_only_settings(subject: PotentialUnderTest) -> None:
    packed = pickle.dumps(subject.potential)
    assert len(packed) < 2000
    assert pickle.loads(packed) == subject.potential


def test_weights_have_the_registered_hash(subject: PotentialUnderTest) -> None:
    info = subject.potential.info
    assert subject.potential.device_name == "cpu"
    if info.name.startswith("mace-file-"):
        assert info.name == "mace-file-tiny" and len(info.weights_hash) == 64
        return
    expected = [one for each in POTENTIALS.values() for one in each.models if one.name == info.name]
    assert [one.weights_hash for one in expected] == [info.weights_hash]


@pytest.mark.parametrize("registered", POTENTIALS.values(), ids=POTENTIALS)
def test_metric_accepts_the_name(
    registered: RegisteredPotential, crystals: list[Structure]
) -> None:
    pytest.importorskip(registered.module, reason=f"{registered.package} is not installed")
    if registered.key == "mace":
        pytest.skip("the published weights of MACE have to be downloaded")
    protocol = Protocol(max_steps=2)
    metric = SubstitutionNovelty(
        "aflow", protocol, relaxer=registered.key, hull="none", device="cpu", cache=False
    )
    context = metric([crystals[1]]).context
    assert context.potential == make_potential(registered.key, device="cpu").info
    title = registered.models[0].title
    assert context.protocol_text == (
        f"paper settings (modified: max_steps=2), {title} in place of MACE-MPA-0"
    )


def test_sevennet_refuses_only_crystals_with_too_many_bonds(
    crystals: list[Structure],
) -> None:
    pytest.importorskip("sevenn", reason="sevenn is not installed")
    flight = InFlight(make_potential("sevennet", device="cpu").evaluator())
    crowd = Structure(Lattice.cubic(6), ["C"] * 200, np.random.default_rng(0).random((200, 3)))
    good, bad = flight.evaluate([geometry_of(crystals[0]), geometry_of(crowd)])
    assert good.error is None
    assert bad.error is not None and "too crowded" in bad.error


@pytest.mark.parametrize("registered", POTENTIALS.values(), ids=POTENTIALS)
def test_missing_device_is_one_clear_error(registered: RegisteredPotential) -> None:
    from novelty_metric.errors import InputError

    pytest.importorskip(registered.module, reason=f"{registered.package} is not installed")
    if registered.key == "mace":
        pytest.skip("the published weights of MACE have to be downloaded")
    with pytest.raises(InputError, match="nonsense") as caught:
        make_potential(registered.key, device="nonsense").evaluator()
    assert "\n" not in str(caught.value)
