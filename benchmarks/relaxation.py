"""Batched relaxation compared with sequential ASE and with CHGNet's `StructOptimizer`.

The crystals are substituted parents of real generated crystals, as in the metric::

    python benchmarks/relaxation.py speed STORE.arrow SAMPLES [SAMPLES ...] --crystals 10
    python benchmarks/relaxation.py agreement STORE.arrow SAMPLES [SAMPLES ...] --crystals 25

``speed`` relaxes the same parents to the same ``fmax`` in three ways, which alternate after a few
crystals, so that other load affects all equally: with the package's default number of workers and
batches; with single-threaded processes of ASE's optimiser, filter and CHGNet's calculator; and with
`StructOptimizer`. ``--device cuda`` runs each on the GPU, the last two in one process.

``evaluation`` needs no samples: it prints the processor time of one evaluation for crystals of the
reference, for each potential of ``--potentials``, with the calculator of its package and in
batches, and the largest differences between the two.

``agreement`` compares final energies and confirmations of the batch with those of plain ASE, and
those of plain ASE with plain ASE after a displacement of 0.001 Å. Every exception is listed.
"""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import io
import multiprocessing
import os
import sys
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

from novelty_metric import crystal, read_samples
from novelty_metric.errors import CrystalError
from novelty_metric.protocol import Protocol
from novelty_metric.reference import open_reference
from novelty_metric.relaxation import RelaxSettings, RelaxTask
from novelty_metric.relaxation.base import Evaluation, Geometry
from novelty_metric.relaxation.loading import quiet
from novelty_metric.relaxation.potentials import Chgnet, make_potential
from novelty_metric.relaxation.relaxation_run import geometry_of
from novelty_metric.relaxation.relaxer import PotentialRelaxer
from novelty_metric.relaxation.symmetry import find_symmetry
from novelty_metric.scoring.substitution import substitute
from novelty_metric.screening.composition import smact_valid
from novelty_metric.search.engine import ParentSearch
from novelty_metric.search.matching import Matching
from novelty_metric.support.cores import usable_cores
from novelty_metric.support.statistics import wilson

if TYPE_CHECKING:
    from pymatgen.core import Structure

SAME_ENERGY = 0.002
"""Difference (eV/atom) above which final energies count as different."""


@dataclass(frozen=True)
class Start:
    """A substituted parent, and the crystal it should become."""

    name: str
    structure: Structure
    generated: Structure


@dataclass(frozen=True)
class End:
    """Result of a start: last geometry, energy (eV/atom), evaluations of the potential."""

    structure: Structure | None
    energy: float | None
    evaluations: int
    converged: bool


def main() -> None:
    """Collect parents and run one of the two comparisons."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("what", choices=("speed", "agreement", "evaluation"))
    parser.add_argument("reference")
    parser.add_argument("samples", nargs="*", type=Path)
    parser.add_argument("--crystals", type=int, default=10, help="read from each file")
    parser.add_argument("--parents", type=int, default=None, help="maximum number")
    parser.add_argument("--max-sites", type=int, default=20, help="maximum per crystal")
    parser.add_argument("--fmax", type=float, default=0.05)
    parser.add_argument("--max-steps", type=int, default=200)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--workers", type=int, default=usable_cores())
    parser.add_argument("--handful", type=int, default=20)
    parser.add_argument(
        "--potentials",
        nargs="+",
        default=["chgnet", "sevennet"],
        help="for `evaluation`: NAME, or NAME:MODEL",
    )
    options = parser.parse_args()
    if options.what == "evaluation":
        compare_evaluations(options)
        return
    starts = list(islice(find_starts(options), options.parents))
    sites = sum(len(start.structure) for start in starts) / len(starts)
    print(f"{len(starts)} parents of {sites:.1f} sites on average, to {options.fmax} eV/Å")
    settings = RelaxSettings(fmax=options.fmax, max_steps=options.max_steps, optimizer="lbfgs")
    if options.what == "speed":
        compare_speed(starts, settings, options)
    else:
        compare_answers(starts, settings, options)


def find_starts(options: argparse.Namespace) -> Iterator[Start]:
    """Substituted parents of the crystals that are not duplicates, from each file in turn."""
    protocol = Protocol.named("fast")
    reference = open_reference(options.reference)
    search = ParentSearch(reference, protocol)
    relaxer = PotentialRelaxer(Chgnet(options.device))
    settings = RelaxSettings(
        fmax=protocol.fmax, max_steps=protocol.max_steps, optimizer=protocol.optimizer
    )
    files = [
        list(islice(small(path, options.max_sites), options.crystals)) for path in options.samples
    ]
    tasks = deque(
        RelaxTask(name, structure) for row in zip(*files, strict=False) for name, structure in row
    )
    order = [task.key for task in tasks]
    relaxed = {task.key: result for task, result in relaxer.relax(tasks, settings)}
    for name in order:
        result = relaxed[name]
        if not result.converged or result.structure is None:
            continue
        generated = crystal.reduce(result.structure)
        if search.duplicate(generated):
            continue
        symmetry = crystal.symmetry(
            generated,
            symprec=protocol.symprec,
            angle_tolerance=protocol.symmetry_angle_tolerance,
        )
        seen = set()
        for parent in search.parents(generated, symmetry).parents:
            key = (parent.index, parent.supercell, parent.elements)
            if key not in seen:
                seen.add(key)
                structure = substitute(reference.structure(parent.index), parent)
                yield Start(f"{name} {parent.route} {parent.rank}", structure, generated)


def small(path: Path, max_sites: int) -> Iterator[tuple[str, Structure]]:
    """The crystals of a file that SMACT accepts, up to a number of sites."""
    for sample in read_samples(path):
        try:
            cleaned = crystal.clean(sample.structure, max_sites=max_sites)
        except (CrystalError, AttributeError, TypeError):
            continue
        if smact_valid(cleaned.composition):
            yield f"{path.parent.name}:{sample.id}", cleaned


# The three ways


class Batched:
    """Relaxation with the package's defaults."""

    def __init__(self, options: argparse.Namespace, settings: RelaxSettings) -> None:
        workers = options.workers if options.device == "cpu" else 1
        self._relaxer = PotentialRelaxer(Chgnet(options.device), workers=workers)
        self._settings = settings

    def relax(self, structures: Sequence[Structure]) -> list[End]:
        """Relax all structures; the results are in order."""
        queue = deque(RelaxTask(at, structure) for at, structure in enumerate(structures))
        ends: dict[object, End] = {}
        for task, result in self._relaxer.relax(queue, self._settings):
            ends[task.key] = End(
                result.structure, result.energy_after, result.steps + 1, result.converged
            )
        return [ends[at] for at in range(len(structures))]

    def close(self) -> None:
        """Stop the workers."""
        self._relaxer.close()


class OneByOne:
    """Processes that relax one crystal after the other with code of other packages."""

    def __init__(
        self,
        job: Callable[[Structure, RelaxSettings], End],
        options: argparse.Namespace,
        settings: RelaxSettings,
    ) -> None:
        self._pool = ProcessPoolExecutor(
            options.workers if options.device == "cpu" else 1,
            mp_context=multiprocessing.get_context("spawn"),
            initializer=_start,
            initargs=(options.device,),
        )
        self._job, self._settings = job, settings

    def relax(self, structures: Sequence[Structure]) -> list[End]:
        """Relax all structures; the results are in order."""
        jobs = [self._pool.submit(self._job, one, self._settings) for one in structures]
        return [job.result() for job in jobs]

    def close(self) -> None:
        """Stop the processes."""
        self._pool.shutdown()


_model: Any = None


def _start(device: str) -> None:
    global _model  # noqa: PLW0603
    import torch

    torch.set_num_threads(1)
    from chgnet.model import CHGNet

    with contextlib.redirect_stdout(io.StringIO()):
        _model = CHGNet.load(use_device=device, verbose=False)


def with_ase(structure: Structure, settings: RelaxSettings) -> End:
    """ASE's L-BFGS and Frechet filter with CHGNet's calculator."""
    from ase.filters import FrechetCellFilter
    from ase.optimize import LBFGS
    from chgnet.model.dynamics import CHGNetCalculator
    from pymatgen.core import Lattice, Structure
    from pymatgen.io.ase import AseAtomsAdaptor

    with quiet():
        atoms = AseAtomsAdaptor.get_atoms(structure, msonable=False)
        if atoms.cell.handedness < 0:  # or CHGNet gives the stress with the wrong sign
            atoms.set_cell(-atoms.cell.array, scale_atoms=False)
        device = str(next(_model.parameters()).device.type)
        atoms.calc = CHGNetCalculator(_model, use_device=device)
        optimizer = LBFGS(FrechetCellFilter(atoms), logfile=None)
        try:
            converged = bool(optimizer.run(fmax=settings.fmax, steps=settings.max_steps))
            energy = float(atoms.get_potential_energy()) / len(atoms)
        except Exception:  # a cell that exploded
            return End(None, None, optimizer.nsteps + 1, False)
    relaxed = Structure(
        Lattice(atoms.cell.array), structure.species, atoms.positions, coords_are_cartesian=True
    )
    return End(relaxed, energy, optimizer.nsteps + 1, converged)


def with_struct_optimizer(structure: Structure, settings: RelaxSettings) -> End:
    """CHGNet's own `StructOptimizer`, with its default optimiser FIRE."""
    import numpy as np
    from chgnet.model import StructOptimizer
    from pymatgen.core import Lattice, Structure

    with quiet():
        if np.linalg.det(structure.lattice.matrix) < 0:  # as above
            structure = Structure(
                Lattice(-structure.lattice.matrix), structure.species, -structure.frac_coords
            )
        device = str(next(_model.parameters()).device.type)
        optimizer = StructOptimizer(_model, use_device=device)
        try:
            found = optimizer.relax(
                structure, fmax=settings.fmax, steps=settings.max_steps, verbose=False
            )
        except Exception:  # as above
            return End(None, None, 0, False)
    evaluations = len(found["trajectory"].energies)
    energy = float(found["trajectory"].energies[-1]) / len(structure)
    return End(found["final_structure"], energy, evaluations, evaluations <= settings.max_steps)


# The two comparisons


def compare_evaluations(options: argparse.Namespace) -> None:
    """Print processor time per evaluation (ms), and the largest differences."""
    import numpy as np
    import torch

    torch.set_num_threads(1)
    reference = open_reference(options.reference)
    chosen = np.random.default_rng(0).choice(len(reference), options.parents or 60, replace=False)
    geometries = [geometry_of(reference.structure(int(at))) for at in chosen]
    sites = sum(len(one.numbers) for one in geometries) / len(geometries)
    print(f"{len(geometries)} crystals of {sites:.1f} sites on average")
    for name in options.potentials:
        key, _, model = name.partition(":")
        settings: dict[str, Any] = {"device": options.device, **({"model": model} if model else {})}
        evaluate_with(name, key, settings, geometries)


def evaluate_with(
    name: str, key: str, settings: dict[str, Any], geometries: list[Geometry]
) -> None:
    """One potential: the calculator of its package, then batches of several sizes."""
    import numpy as np

    own = make_potential(key, batched=False, **settings).evaluator()
    batched = make_potential(key, **settings).evaluator()
    for _ in range(3):  # TorchScript compiles at the first calls
        own.evaluate(geometries[:2])
        batched.evaluate(geometries[:2])

    def timed(
        evaluate: Callable[[Any], list[Evaluation]], size: int, geometries: list[Geometry]
    ) -> list[Evaluation]:
        started = time.process_time()
        found = []
        for begin in range(0, len(geometries), size):
            found += evaluate(geometries[begin : begin + size])
        milliseconds = 1000 * (time.process_time() - started) / len(geometries)
        print(f"{milliseconds:8.1f} ms", end=" ")
        return found

    print(name)
    expected = timed(own.evaluate, 1, geometries)
    print("its package's own calculator")
    symmetric = [dataclasses.replace(one, symmetry=find_symmetry(one)) for one in geometries]
    for size in (1, 2, 4, 8, 16, len(geometries)):
        timed(batched.evaluate, size, geometries)
        found = timed(batched.evaluate, size, symmetric)
        print(
            f"in batches of {size}: all sites, and one of each class that the symmetry makes alike"
        )
    pairs = [(a, b) for a, b in zip(expected, found, strict=True) if not (a.error or b.error)]
    energy = max(abs(a.energy - b.energy) / len(a.forces) for a, b in pairs)
    forces = max(float(np.abs(a.forces - b.forces).max()) for a, b in pairs)
    stress = max(float(np.abs(a.stress - b.stress).max()) for a, b in pairs)
    print(f"largest difference: {energy:.1e} eV/atom, {forces:.1e} eV/Å, {stress:.1e} eV/Å³")


def compare_speed(
    starts: list[Start], settings: RelaxSettings, options: argparse.Namespace
) -> None:
    """Print crystals per minute and evaluations per crystal, for alternating small groups."""
    symmetric = dataclasses.replace(settings, optimizer="bfgs_symmetric")
    ways: dict[str, Batched | OneByOne] = {
        f"ASE {settings.optimizer}, one by one": OneByOne(with_ase, options, settings),
        "StructOptimizer (FIRE)": OneByOne(with_struct_optimizer, options, settings),
        f"batched, {settings.optimizer}": Batched(options, settings),
        "batched, bfgs_symmetric": Batched(options, symmetric),
    }
    structures = [start.structure for start in starts]
    seconds, work = dict.fromkeys(ways, 0.0), dict.fromkeys(ways, 0.0)
    ends: dict[str, list[End]] = {name: [] for name in ways}
    for way in ways.values():  # processes start, libraries load
        way.relax(structures[: 2 * options.workers])
    for begin in range(0, len(structures), options.handful):
        for name, way in ways.items():
            started, busy = time.perf_counter(), processor_seconds()
            ends[name] += way.relax(structures[begin : begin + options.handful])
            seconds[name] += time.perf_counter() - started
            work[name] += processor_seconds() - busy
        print(f"{begin + options.handful} done", file=sys.stderr, flush=True)
    for way in ways.values():
        way.close()
    first = next(iter(ways))
    print(f"{'':28}{'a minute':>9}{'processor s':>13}{'evals each':>12}{'ms each':>9}{'conv.':>7}")
    for name in ways:
        evaluations = sum(end.evaluations for end in ends[name])
        print(
            f"{name:28}{60 * len(starts) / seconds[name]:9.1f}{work[name]:13.1f}"
            f"{evaluations / len(starts):12.1f}{1000 * work[name] / max(1, evaluations):9.1f}"
            f"{sum(end.converged for end in ends[name]):7}"
            f"   {seconds[first] / seconds[name]:.2f} x, in processor time"
            f" {work[first] / max(1e-9, work[name]):.2f} x"
        )


def processor_seconds() -> float:
    """Processor time of this process and its live workers (Linux)."""
    ticks = os.sysconf("SC_CLK_TCK")
    total = time.process_time()
    for child in multiprocessing.active_children():
        with contextlib.suppress(OSError, IndexError):
            fields = Path(f"/proc/{child.pid}/stat").read_text().rsplit(")", 1)[1].split()
            total += (int(fields[11]) + int(fields[12])) / ticks
    return total


def compare_answers(
    starts: list[Start], settings: RelaxSettings, options: argparse.Namespace
) -> None:
    """Compare energies and confirmations: batch with ASE, and ASE with ASE after a displacement."""
    shaken = []
    for seed, start in enumerate(starts):
        moved = start.structure.copy()
        moved.perturb(0.001, seed=seed)
        shaken.append(moved)
    structures = [start.structure for start in starts]
    plain = OneByOne(with_ase, options, settings)
    batched = Batched(options, settings)
    ase: list[End] = []
    again: list[End] = []
    for begin in range(0, len(starts), options.handful):
        end = begin + options.handful
        ase += plain.relax(structures[begin:end])
        again += plain.relax(shaken[begin:end])
        print(f"{end} done", file=sys.stderr, flush=True)
    ours = batched.relax(structures)
    plain.close()
    batched.close()
    matching = Matching(Protocol.named("paper"))
    for what, others in (("batched", ours), ("ASE from a shaken start", again)):
        apart = []
        same_energy = same_answer = 0
        for start, one, other in zip(starts, ase, others, strict=True):
            near = one.energy is not None and other.energy is not None
            near = near and abs(other.energy - one.energy) < SAME_ENERGY  # type: ignore[operator]
            near = near or (one.energy is None and other.energy is None)
            answers = confirms(matching, one, start), confirms(matching, other, start)
            same_energy += near
            same_answer += answers[0] == answers[1]
            if not near or answers[0] != answers[1]:
                apart.append((start, one, other, answers))
        print(f"{what} against ASE: {len(starts)} parents")
        for words, count in (("energy within 2 meV/atom", same_energy), ("answer", same_answer)):
            share = wilson(count, len(starts))
            assert share is not None
            print(f"  same {words}: {count} [{share.low:.3f}-{share.high:.3f}]")
        for start, one, other, answers in apart:
            print(f"    {start.name}: {end_text(one, answers[0])} / {end_text(other, answers[1])}")


def confirms(matching: Matching, end: End, start: Start) -> bool:
    """Whether the last geometry matches the generated crystal."""
    if end.structure is None:
        return False
    try:
        return matching.confirm_rms(crystal.reduce(end.structure), start.generated) is not None
    except CrystalError:
        return False


def end_text(end: End, answer: bool) -> str:
    """Evaluations, energy and confirmation as text."""
    if end.energy is None:
        return f"{end.evaluations} evaluations, failed"
    state = "" if end.converged else ", not converged"
    return (
        f"{end.evaluations} evaluations, {end.energy:.3f} eV/atom{state}, "
        f"{'confirmed' if answer else 'refused'}"
    )


if __name__ == "__main__":
    main()
