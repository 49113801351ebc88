"""Relaxation compared with ASE: all outcomes, the worker pool and the cache."""

from __future__ import annotations

import multiprocessing
import os
import sqlite3
import threading
from collections import deque
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from ase.build import bulk
from ase.calculators.calculator import all_changes
from ase.calculators.emt import EMT
from ase.filters import FrechetCellFilter
from ase.optimize import LBFGS
from pymatgen.core import Lattice, Structure
from pymatgen.io.ase import AseAtomsAdaptor

from novelty_metric.errors import InputError
from novelty_metric.relaxation import PotentialInfo, RelaxSettings, RelaxTask
from novelty_metric.relaxation.cache import RelaxationCache
from novelty_metric.relaxation.evaluators import AseEvaluator
from novelty_metric.relaxation.in_flight import relax_one
from novelty_metric.relaxation.potentials import Chgnet
from novelty_metric.relaxation.relaxer import PotentialRelaxer

TIGHT = RelaxSettings(fmax=0.001, max_steps=500, optimizer="lbfgs")


def copper(scale: float = 1.05) -> Structure:
    """A strained, perturbed copper cell of four atoms."""
    atoms = bulk("Cu", cubic=True)
    atoms.set_cell(atoms.cell * scale, scale_atoms=True)
    atoms.rattle(0.05, seed=3)
    structure = AseAtomsAdaptor.get_structure(atoms)
    return Structure(structure.lattice, structure.species, structure.frac_coords)


def salt(a: float = 5.3) -> Structure:
    return Structure.from_spacegroup(
        "Fm-3m", Lattice.cubic(a), ["Na", "Cl"], [[0, 0, 0], [0.5, 0.5, 0.5]]
    ).get_primitive_structure()


@dataclass
class Emt:
    """ASE's effective-medium theory: fast, without weights, with real forces and stress."""

    deadly: bool = False

    @property
    def info(self) -> PotentialInfo:
        return PotentialInfo(name="emt", version="1", weights_hash="0" * 64)

    @property
    def device_name(self) -> str:
        return "cpu"

    def evaluator(self) -> AseEvaluator:
        return AseEvaluator(_KillsProcess() if self.deadly else EMT())


class _KillsProcess(EMT):
    """EMT that kills its process when it evaluates gold."""

    def calculate(self, atoms=None, properties=("energy",), system_changes=all_changes):
        if "Au" in atoms.get_chemical_symbols():
            os._exit(9)
        super().calculate(atoms, properties, system_changes)


def relax_with_ase(structure, calculator, settings):
    return relax_one(structure, AseEvaluator(calculator), settings)


def energy_with_ase(structure, calculator):
    atoms = AseAtomsAdaptor.get_atoms(structure, msonable=False)
    atoms.calc = calculator
    return atoms.get_potential_energy() / len(atoms)


def run(relaxer, structures, settings=TIGHT):
    queue = deque(RelaxTask(key, structure) for key, structure in enumerate(structures))
    return {task.key: result for task, result in relaxer.relax(queue, settings)}


def test_reaches_the_minimum_of_ase():
    structure = copper()
    ours = relax_with_ase(structure, EMT(), TIGHT)
    atoms = AseAtomsAdaptor.get_atoms(structure)
    atoms.calc = EMT()
    optimizer = LBFGS(FrechetCellFilter(atoms), logfile=None)
    converged = optimizer.run(fmax=TIGHT.fmax, steps=TIGHT.max_steps)
    assert ours.converged and converged
    assert ours.steps == optimizer.nsteps
    assert ours.energy_after == pytest.approx(atoms.get_potential_energy() / 4, abs=1e-12)
    assert ours.energy_before == pytest.approx(energy_with_ase(structure, EMT()), abs=1e-12)
    assert ours.structure.volume == pytest.approx(atoms.get_volume(), abs=1e-9)
    assert np.abs(FrechetCellFilter(atoms).get_forces()).max() <= TIGHT.fmax


def test_last_geometry_is_kept_after_the_maximum_of_steps():
    result = relax_with_ase(
        copper(), EMT(), RelaxSettings(fmax=1e-9, max_steps=2, optimizer="fire")
    )
    assert not result.converged and result.steps == 2 and result.error is None
    assert result.structure is not None and result.structure != copper()


def test_minimum_needs_no_step():
    relaxed = relax_with_ase(copper(), EMT(), TIGHT).structure
    again = relax_with_ase(relaxed, EMT(), RelaxSettings(fmax=0.01, max_steps=0, optimizer="lbfgs"))
    assert again.converged and again.steps == 0


@pytest.mark.parametrize(
    ("structure", "reason"),
    [
        (copper(0.3), "collapsed"),
        (copper(9.0), "flew apart"),
        (Structure(Lattice.cubic(4), ["Fe"], [[0, 0, 0]]), "Fe"),
    ],
)
def test_failure_is_a_result_with_its_reason(structure, reason):
    result = relax_with_ase(structure, EMT(), TIGHT)
    assert result.structure is None and not result.converged
    assert reason in result.error and "\n" not in result.error


class _RisingEnergy(EMT):
    """EMT whose energy rises at every evaluation, as in an exploding crystal."""

    calls = 0
    rise = 0.5

    def calculate(self, atoms=None, properties=("energy",), system_changes=all_changes):
        super().calculate(atoms, properties, system_changes)
        self.calls += 1
        self.results["energy"] += self.rise * self.calls * len(atoms)


def test_explosion_ends_the_relaxation_but_overshooting_does_not():
    endless = RelaxSettings(fmax=1e-9, max_steps=200, optimizer="fire")
    result = relax_with_ase(copper(), _RisingEnergy(), endless)
    assert result.structure is None and "exploded" in result.error
    assert 25 <= result.steps < 60
    gentle = _RisingEnergy()
    gentle.rise = 0.01
    assert relax_with_ase(copper(), gentle, endless).error is None


def test_tasks_can_be_added_while_results_are_read():
    queue = deque([RelaxTask(0, copper())])
    seen = []
    for task, result in PotentialRelaxer(Emt()).relax(queue, TIGHT):
        seen.append(task.key)
        assert result.converged
        if task.key < 3:
            queue.append(RelaxTask(task.key + 1, copper(1.02)))
    assert seen == [0, 1, 2, 3]


def test_workers_agree_with_one_process_and_a_dead_one_loses_only_its_crystal():
    gold = Structure.from_spacegroup("Fm-3m", Lattice.cubic(4.08), ["Au"], [[0, 0, 0]])
    structures = [copper(1.01), gold, *(copper(1 + step / 100) for step in range(5))]
    many = [copper(1 + step / 100) for step in range(40)]
    here = PotentialRelaxer(Emt())
    alone, energies = run(here, structures), list(here.energies(many))
    pool = PotentialRelaxer(Emt(deadly=True), workers=2)
    assert list(pool.energies(many)) == energies  # the workers start with this call
    together = run(pool, structures)
    assert list(pool.energies(structures[:1])) == list(here.energies(structures[:1]))
    pool.close()
    assert not multiprocessing.active_children()
    assert sorted(together) == sorted(alone)
    died, expected = together.pop(1), alone.pop(1)
    assert expected.error is None and died.error == "the worker process died"
    for key, result in alone.items():
        assert together[key].energy_after == result.energy_after
        assert together[key].steps == result.steps


@pytest.mark.slow
@pytest.mark.parametrize("count", [1, 6])
def test_new_workers_give_energies(count: int) -> None:
    structures = [copper(1 + step / 100) for step in range(count)]
    pool = PotentialRelaxer(Emt(), workers=2)
    found = list(pool.energies(structures))
    pool.close()
    assert found == list(PotentialRelaxer(Emt()).energies(structures))


@pytest.mark.slow
def test_idle_workers_do_not_block(tmp_path: Path) -> None:
    """All results are in the cache, so that no worker sends a message."""
    structures = [copper(1 + step / 100) for step in range(6)]
    rounds: list[int] = []

    def work() -> None:
        cache = RelaxationCache(tmp_path / "cache.sqlite")
        relaxer = PotentialRelaxer(Emt(), workers=2, cache=cache)
        for _ in range(6):
            queue = deque(RelaxTask(at, one) for at, one in enumerate(structures))
            rounds.append(len(list(relaxer.relax(queue, TIGHT))))
        relaxer.close()
        cache.close()

    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    thread.join()
    assert rounds == [6] * 6


def test_cache_returns_the_same_crystal(tmp_path):
    cache = RelaxationCache(tmp_path / "cache.sqlite")
    first = run(PotentialRelaxer(Emt(), cache=cache), [copper()])[0]
    second = run(PotentialRelaxer(Emt(), cache=cache), [copper()])[0]
    assert not first.cached and second.cached and len(cache) == 1
    assert second.energy_after == first.energy_after and second.steps == first.steps
    assert np.array_equal(second.structure.frac_coords, first.structure.frac_coords)
    assert np.array_equal(second.structure.lattice.matrix, first.structure.lattice.matrix)
    other = RelaxSettings(fmax=0.002, max_steps=500, optimizer="lbfgs")
    assert not run(PotentialRelaxer(Emt(), cache=cache), [copper()], other)[0].cached
    assert not run(PotentialRelaxer(Emt(), cache=cache), [copper(1.01)])[0].cached


def test_cache_keeps_only_repeatable_results(tmp_path):
    cache = RelaxationCache(tmp_path / "cache.sqlite")
    iron = Structure(Lattice.cubic(4), ["Fe"], [[0, 0, 0]])  # EMT raises an error for iron
    failed = run(PotentialRelaxer(Emt(), cache=cache), [iron, copper(0.3)])
    assert failed[0].error and not failed[0].repeatable
    assert "collapsed" in failed[1].error and failed[1].repeatable
    assert len(cache) == 1


def test_two_processes_write_one_cache(tmp_path, start_python):
    script = """
import sys
from novelty_metric.relaxation.cache import RelaxationCache
from novelty_metric.relaxation import PotentialInfo, Relaxation, RelaxSettings, RelaxTask
from pymatgen.core import Structure
cache = RelaxationCache(sys.argv[1])
info = PotentialInfo(name="x", version="1", weights_hash="0")
settings = RelaxSettings(fmax=0.1, max_steps=1, optimizer="lbfgs")
start = int(sys.argv[2])
for step in range(start, start + 100):
    s = Structure([[3 + step / 1000, 0, 0], [0, 3, 0], [0, 0, 3]], ["H"], [[0, 0, 0]])
    cache.put(RelaxTask(step, s), info, settings, Relaxation(structure=s, converged=True))
"""
    path = tmp_path / "shared.sqlite"
    writers = [start_python("-c", script, path, start) for start in (0, 50)]
    assert [writer.wait() for writer in writers] == [0, 0]
    assert len(RelaxationCache(path)) == 150


def test_file_that_is_not_a_cache_is_one_clear_error(tmp_path):
    path = tmp_path / "cache.sqlite"
    path.write_bytes(b"not a database" * 100)
    with pytest.raises(InputError, match="cache=false"):
        RelaxationCache(path)
    with pytest.raises(sqlite3.DatabaseError):
        sqlite3.connect(path).execute("SELECT 1 FROM sqlite_master")


def test_chgnet_relaxes_salt_and_gives_the_hash_of_its_weights(chgnet):
    assert chgnet.info.name == "chgnet" and len(chgnet.info.weights_hash) == 64
    relaxer = PotentialRelaxer(chgnet)
    result = run(relaxer, [salt()])[0]
    assert result.converged
    # CHGNet's lattice parameter of NaCl agrees with experiment (5.64 Å) within 2 %.
    assert (4 * result.structure.volume) ** (1 / 3) == pytest.approx(5.64, rel=0.02)
    assert result.energy_after < result.energy_before


def test_chgnet_refuses_an_isolated_atom(chgnet):
    lonely = Structure(Lattice.cubic(9.5), ["Na"], [[0, 0, 0]])
    result = run(PotentialRelaxer(chgnet), [lonely])[0]
    assert result.structure is None and "no neighbour" in result.error


def test_unknown_device_is_an_input_error():
    with pytest.raises(InputError, match="device"):
        Chgnet("no-such-device").evaluator()
