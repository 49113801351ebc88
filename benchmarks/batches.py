"""Whether the other crystals of a batch change a relaxation, and what it costs if they do not.

Evaluates generated crystals in batches of eight, alone, and alone again. Then it relaxes a few with
the settings of `paper`, once all in one queue and once in groups of three in the opposite order:
with batches, and with each crystal evaluated by itself, as relaxations by L-BFGS are. Prints how
many crystals get the same bits, how far apart the others are, and the processor time::

    python benchmarks/batches.py SAMPLES [SAMPLES ...] --crystals 20 --max-sites 8 --relax 12
"""

from __future__ import annotations

import argparse
import time
from collections import deque
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from saddles import chosen

from novelty_metric.protocol import Protocol
from novelty_metric.relaxation import Relaxation, RelaxSettings, RelaxTask, in_flight
from novelty_metric.relaxation.base import Evaluation
from novelty_metric.relaxation.optimizers import EVALUATED_ALONE
from novelty_metric.relaxation.potentials import Chgnet
from novelty_metric.relaxation.relaxation_run import geometry_of
from novelty_metric.relaxation.relaxer import PotentialRelaxer

if TYPE_CHECKING:
    from pymatgen.core import Structure

FAR = 0.001
"""eV/atom between two ends that are not the same minimum."""


def main() -> None:
    """Relax in two kinds of company, with and without batches, and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("samples", nargs="+", type=Path)
    parser.add_argument("--crystals", type=int, default=20, help="from each file")
    parser.add_argument("--max-sites", type=int, default=8)
    parser.add_argument("--relax", type=int, default=12, help="how many are relaxed")
    options = parser.parse_args()
    cells = [
        cell for path in options.samples for cell in islice(chosen(path, options), options.crystals)
    ]
    potential = Chgnet("cpu")
    evaluate(potential, cells)
    cells = cells[:: max(1, len(cells) // options.relax)][: options.relax]
    order = list(reversed(range(len(cells))))
    for name, alone in (("batches", frozenset()), ("each by itself", EVALUATED_ALONE)):
        in_flight.EVALUATED_ALONE = alone
        started = time.process_time()
        together = relaxed(potential, cells)
        seconds = time.process_time() - started
        apart: dict[int, Relaxation] = {}
        for start in range(0, len(order), 3):
            some = order[start : start + 3]
            apart |= dict(zip(some, relaxed(potential, [cells[at] for at in some]), strict=True))
        pairs = [(one, apart[at]) for at, one in enumerate(together)]
        same = sum(bits(one) == bits(other) for one, other in pairs)
        gaps = np.array(
            [
                abs(one.energy_after - other.energy_after)
                for one, other in pairs
                if one.energy_after is not None and other.energy_after is not None
            ]
        )
        evaluations = sum(one.steps + 1 for one in together)
        print(
            f"{name}: the same bits for {same} of {len(pairs)} crystals; "
            f"{(gaps > FAR).sum()} end more than {FAR} eV/atom apart, at most {gaps.max():.4f}; "
            f"{evaluations} evaluations, {1000 * seconds / evaluations:.1f} ms each",
            flush=True,
        )


def evaluate(potential: Chgnet, cells: list[Structure]) -> None:
    """One evaluation of each crystal, in batches and alone, and print."""
    evaluator = potential.evaluator()
    geometries = [geometry_of(cell) for cell in cells]
    evaluator.evaluate(geometries[:1])  # the first one compiles
    found: dict[str, list[Evaluation]] = {}
    for name, size in (("batches", 8), ("alone", 1), ("again", 1)):
        given = geometries[::-1] if name == "again" else geometries
        started = time.process_time()
        groups = [given[at : at + size] for at in range(0, len(given), size)]
        found[name] = [one for group in groups for one in evaluator.evaluate(group)]
        print(f"{name}: {1000 * (time.process_time() - started) / len(cells):.1f} ms each")
    found["again"].reverse()
    for name in ("batches", "again"):
        pairs = [
            (one, other)
            for one, other in zip(found["alone"], found[name], strict=True)
            if one.error is None
        ]
        same = sum(
            one.energy == other.energy and np.array_equal(one.forces, other.forces)
            for one, other in pairs
        )
        energy = max(abs(one.energy - other.energy) for one, other in pairs)
        force = max(np.abs(one.forces - other.forces).max() for one, other in pairs)
        print(
            f"alone and {name}: the same bits for {same} of {len(pairs)}; at most {energy:.1e} eV "
            f"and {force:.1e} eV/Å apart",
            flush=True,
        )


def relaxed(potential: Chgnet, cells: list[Structure]) -> list[Relaxation]:
    """Each crystal relaxed with the settings of `paper`, in order, without a cache."""
    paper = Protocol.named("paper")
    settings = RelaxSettings(fmax=paper.fmax, max_steps=paper.max_steps, optimizer=paper.optimizer)
    queue = deque(RelaxTask(at, cell) for at, cell in enumerate(cells))
    found = {
        task.key: result for task, result in PotentialRelaxer(potential).relax(queue, settings)
    }
    return [found[at] for at in range(len(cells))]


def bits(result: Relaxation) -> tuple[object, ...]:
    """What a relaxation ended with, to the last digit."""
    end = result.structure
    cell = None if end is None else (end.lattice.matrix.tobytes(), end.frac_coords.tobytes())
    return result.steps, result.converged, result.energy_after, result.error, cell


if __name__ == "__main__":
    main()
