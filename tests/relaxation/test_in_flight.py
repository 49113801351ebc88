"""Simultaneous relaxations: exchange of crystals, isolated failures, lack of memory."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import pytest
from ase.calculators.emt import EMT
from hypothesis import given, settings
from hypothesis import strategies as st
from pymatgen.core import Structure

from novelty_metric.relaxation import PotentialInfo, RelaxSettings, RelaxTask
from novelty_metric.relaxation.base import Evaluation, Geometry
from novelty_metric.relaxation.evaluators import AseEvaluator
from novelty_metric.relaxation.in_flight import out_of_memory, relax_one
from novelty_metric.relaxation.relaxer import PotentialRelaxer

NEAR = RelaxSettings(fmax=0.02, max_steps=100, optimizer="bfgs_symmetric")


def copper(scale: float = 1.02, seed: int = 1, element: str = "Cu") -> Structure:
    structure = Structure.from_spacegroup("Fm-3m", np.eye(3) * 3.61 * scale, [element], [[0, 0, 0]])
    structure.perturb(0.05, seed=seed)
    return structure


@dataclass
class RecordingEvaluator:
    """Batched EMT that records batch sizes; it can fail or run out of memory on request."""

    budget: float = 3.0
    costs: float = 1.0
    fits: int = 10**6
    breaks_on: int = 0
    raises: Exception = field(default_factory=lambda: MemoryError("no room"))
    sizes: list[int] = field(default_factory=list)
    refused: list[int] = field(default_factory=list)

    def cost(self, geometry: Geometry) -> float:
        return self.costs

    def evaluate(
        self, geometries: Sequence[Geometry], *, energy_only: bool = False
    ) -> list[Evaluation]:
        if any(self.breaks_on in geometry.numbers for geometry in geometries):
            self.refused.append(len(geometries))
            raise RuntimeError("index out of range\nin layer 3")
        if len(geometries) > self.fits:
            self.refused.append(len(geometries))
            raise self.raises
        self.sizes.append(len(geometries))
        return AseEvaluator(EMT()).evaluate(geometries, energy_only=energy_only)


@dataclass
class Potential:
    watched: RecordingEvaluator
    device_name: str = "cpu"

    @property
    def info(self) -> PotentialInfo:
        return PotentialInfo(name="emt", version="1", weights_hash="0" * 64)

    def evaluator(self) -> RecordingEvaluator:
        return self.watched


def run(watched: RecordingEvaluator, structures: Sequence[Structure], wanted: RelaxSettings = NEAR):
    queue = deque(RelaxTask(key, structure) for key, structure in enumerate(structures))
    relaxer = PotentialRelaxer(Potential(watched))
    return {task.key: result for task, result in relaxer.relax(queue, wanted)}


CROWD = [copper(0.95 + 0.02 * at, seed=at) for at in range(7)]


@settings(max_examples=5)
@given(st.integers(1, 9), st.permutations(range(7)))
def test_results_do_not_depend_on_the_other_crystals(budget: int, order: list[int]):
    watched = RecordingEvaluator(budget=budget)
    together = run(watched, [CROWD[at] for at in order])
    assert max(watched.sizes) <= budget
    for place, at in enumerate(order):
        alone = relax_one(CROWD[at], AseEvaluator(EMT()), NEAR)
        assert together[place].steps == alone.steps and together[place].converged
        assert together[place].energy_after == alone.energy_after
        assert np.array_equal(together[place].structure.frac_coords, alone.structure.frac_coords)
    assert sum(watched.sizes) == sum(result.steps + 1 for result in together.values())


def test_waiting_crystals_replace_finished_ones():
    watched = RecordingEvaluator(budget=3.0)
    run(watched, CROWD)
    # Batches are full while crystals wait.
    until = next(at for at, size in enumerate(watched.sizes) if size < 3)
    assert all(size < 3 for size in watched.sizes[until:])
    assert sum(watched.sizes[:until]) > 0.7 * sum(watched.sizes)


def test_crystal_above_the_budget_is_evaluated_alone():
    watched = RecordingEvaluator(budget=1.0, costs=5.0)
    assert all(result.converged for result in run(watched, CROWD[:3]).values())
    assert set(watched.sizes) == {1}


@pytest.mark.parametrize(("device", "largest"), [("cpu", 1), ("cuda", 3)])
def test_lbfgs_evaluates_crystals_alone_on_a_cpu(device: str, largest: int):
    watched = RecordingEvaluator(budget=3.0)
    watched.device = device
    wanted = RelaxSettings(fmax=0.02, max_steps=5, optimizer="lbfgs")
    together = run(watched, CROWD[:4], wanted)
    assert max(watched.sizes) == largest
    assert sum(watched.sizes) == sum(result.steps + 1 for result in together.values())


def test_tasks_can_be_added_during_a_run():
    watched = RecordingEvaluator(budget=2.0)
    relaxer = PotentialRelaxer(Potential(watched))
    queue = deque([RelaxTask(0, CROWD[0])])
    seen = []
    for task, _ in relaxer.relax(queue, NEAR):
        seen.append(task.key)
        if task.key < 4:
            queue.append(RelaxTask(task.key + 1, CROWD[task.key + 1]))
    assert seen == [0, 1, 2, 3, 4]


def test_abandoned_run_leaves_no_tasks():
    relaxer = PotentialRelaxer(Potential(RecordingEvaluator(budget=5.0)))
    for _ in relaxer.relax(deque(RelaxTask(("old", at), CROWD[at]) for at in range(5)), NEAR):
        break
    new = [task.key for task, _ in relaxer.relax(deque([RelaxTask("new", CROWD[5])]), NEAR)]
    assert new == ["new"]


def test_crystal_that_raises_fails_alone():
    watched = RecordingEvaluator(budget=10.0, breaks_on=47)
    crystals = [*CROWD[:4], copper(1.1, element="Ag"), *CROWD[4:]]
    results = run(watched, crystals)
    assert results[4].structure is None and results[4].error == "index out of range"
    assert not results[4].repeatable
    assert all(results[at].converged for at in (0, 1, 2, 3, 5, 6, 7))


@pytest.mark.parametrize(
    "error",
    [
        MemoryError(),
        RuntimeError("CUDA out of memory. Tried to allocate 2.00 GiB"),
        RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 8 bytes"),
    ],
)
def test_lack_of_memory_halves_the_batch(error: Exception):
    assert out_of_memory(error)
    watched = RecordingEvaluator(budget=7.0, fits=3, raises=error)
    results = run(watched, [*CROWD, *CROWD])
    assert len(results) == 14 and all(result.converged for result in results.values())
    # The budget stays reduced, so later steps do not fail again.
    assert watched.refused == [7, 4]
    assert max(watched.sizes) <= 3


def test_crystal_too_large_for_memory_is_unfinished_and_can_be_repeated():
    results = run(RecordingEvaluator(budget=4.0, fits=0), CROWD[:2])
    for result in results.values():
        assert result.structure is None and result.error == "out of memory"
        assert not result.repeatable


def test_collapsed_crystal_fails_alone():
    wanted = RelaxSettings(fmax=0.02, max_steps=60, optimizer="lbfgs")
    results = run(RecordingEvaluator(budget=5.0), [CROWD[0], copper(0.28), CROWD[1]], wanted)
    assert results[1].structure is None and "collapsed" in results[1].error
    assert results[0].converged and results[2].converged


def test_crystal_with_nan_fails_alone():
    class NanForSilver(RecordingEvaluator):
        def evaluate(self, geometries, *, energy_only=False):
            found = super().evaluate(geometries, energy_only=energy_only)
            return [
                Evaluation(np.nan, one.forces, one.stress) if 47 in geometry.numbers else one
                for geometry, one in zip(geometries, found, strict=True)
            ]

    results = run(NanForSilver(budget=5.0), [CROWD[0], copper(1.1, element="Ag"), CROWD[1]])
    assert results[1].error == "the energy is not finite"
    assert results[0].converged and results[2].converged
