"""Whether the other crystals of a batch change a relaxation, and what it costs if they do not.

Relaxes generated crystals with the settings of `paper`, once all in one queue and once in groups of
three in the opposite order. First with batches, then with each crystal evaluated by itself, as
relaxations by L-BFGS are. Prints how many crystals end with the same bits, how far apart the
others end, and the processor time::

    python benchmarks/batches.py SAMPLES [SAMPLES ...] --crystals 4 --max-sites 8
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
from novelty_metric.relaxation.optimizers import EVALUATED_ALONE
from novelty_metric.relaxation.potentials import Chgnet
from novelty_metric.relaxation.relaxer import PotentialRelaxer

if TYPE_CHECKING:
    from pymatgen.core import Structure

FAR = 0.001
"""eV/atom between two ends that are not the same minimum."""


def main() -> None:
    """Relax in two kinds of company, with and without batches, and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("samples", nargs="+", type=Path)
    parser.add_argument("--crystals", type=int, default=4, help="from each file")
    parser.add_argument("--max-sites", type=int, default=8)
    options = parser.parse_args()
    cells = [
        cell for path in options.samples for cell in islice(chosen(path, options), options.crystals)
    ]
    potential = Chgnet("cpu")
    relaxed(potential, cells[:1])  # the first one compiles
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
