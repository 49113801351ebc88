"""How well the check distinguishes saddle points from minima, with random displacements as truth.

The script relaxes generated crystals with the settings of `fast`, checks each for a saddle point,
and relaxes it again with sites displaced by 0.05 Å and a cell strained by 1 % at random. If this
lowers the energy by more than 0.005 eV/atom, the crystal was on a saddle point. The output is the
number of saddle points that the check finds, the number of minima that it calls saddle points, and
the number of crystals more than 0.02 eV/atom above the displaced result, before and after the
escape. The check itself uses other random displacements::

    python benchmarks/saddles.py SAMPLES [SAMPLES ...] --crystals 20 --max-sites 10
"""

from __future__ import annotations

import argparse
from collections import deque
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from novelty_metric import crystal, read_samples
from novelty_metric.errors import CrystalError
from novelty_metric.protocol import Minima, Protocol
from novelty_metric.relaxation import Relaxation, RelaxSettings, RelaxTask
from novelty_metric.relaxation.cache import RelaxationCache
from novelty_metric.relaxation.minima import LOWER, SHAKE, STRAIN
from novelty_metric.relaxation.potentials import Chgnet
from novelty_metric.relaxation.relaxer import PotentialRelaxer
from novelty_metric.screening.composition import smact_valid
from novelty_metric.support.statistics import wilson

if TYPE_CHECKING:
    from pymatgen.core import Structure

FURTHER = range(9000, 9016)
"""Seeds of further displacements, for crystals that only the check calls saddle points."""

FAR = 0.02
"""Decrease (eV/atom) after a displacement from a relevant saddle point; from any, `LOWER`."""


def main() -> None:
    """Relax, check, displace, print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("samples", nargs="+", type=Path)
    parser.add_argument("--crystals", type=int, default=20, help="crystals of each file")
    parser.add_argument("--skip", type=int, default=0, help="crystals of each file")
    parser.add_argument("--max-sites", type=int, default=10)
    parser.add_argument(
        "--seed", type=int, default=0, help="for the displacement of the first crystal"
    )
    options = parser.parse_args()
    cells = [
        cell
        for path in options.samples
        for cell in islice(chosen(path, options), options.skip, options.skip + options.crystals)
    ]
    relaxer = PotentialRelaxer(Chgnet(), workers=1, cache=RelaxationCache())
    rests = [rest for rest in relaxed(relaxer, cells) if rest.converged and rest.structure]
    at_rest = [rest.structure for rest in rests if rest.structure is not None]
    escaped = relaxed(relaxer, at_rest, "escape")
    starts = [shake(cell, seed) for seed, cell in enumerate(at_rest, options.seed)]
    shaken = relaxed(relaxer, starts)
    rows = [
        (
            one.structure.composition.reduced_formula if one.structure is not None else "",
            one.energy_after - other.energy_after,
            two.energy_after - other.energy_after,
            two.saddle,
            two.steps + 1,
        )
        for one, two, other in zip(rests, escaped, shaken, strict=True)
        if one.energy_after is not None
        and two.energy_after is not None
        and other.energy_after is not None
        and other.converged
    ]
    for formula, before, after, saddle, evaluations in rows:
        if saddle or before > LOWER:
            print(
                f"  {formula}: saddle {saddle}, {before:.4f} eV/atom above the shaken one,"
                f" {after:.4f} after the escape, {evaluations} evaluations"
            )
    print_share("saddles found", [saddle for _, before, _, saddle, _ in rows if before > LOWER])
    print_share(
        "minima called saddles", [saddle for _, before, _, saddle, _ in rows if before <= LOWER]
    )
    print_share(
        f"of these, lowered by one of {len(FURTHER)} further shakes",
        [
            any(before - after > LOWER for after in ends)
            for before, ends in further_shakes(relaxer, rests, escaped, shaken)
        ],
    )
    print_share("far above the shaken one, before", [before > FAR for _, before, _, _, _ in rows])
    print_share("far above the shaken one, after", [after > FAR for _, _, after, _, _ in rows])
    for what in (True, False):
        evaluations = [count for *_, saddle, count in rows if bool(saddle) is what]
        print(
            f"evaluations where a {'saddle' if what else 'minimum'} is found:"
            f" {np.mean(evaluations):.1f} (median {np.median(evaluations):.0f})"
        )


def chosen(path: Path, options: argparse.Namespace) -> Iterator[Structure]:
    """The small crystals of a file that pass SMACT, in their primitive cells."""
    for sample in read_samples(path):
        try:
            cell = crystal.reduce(crystal.clean(sample.structure))
        except CrystalError:
            continue
        if len(cell) <= options.max_sites and smact_valid(cell.composition):
            yield cell


def relaxed(
    relaxer: PotentialRelaxer, cells: list[Structure], minima: Minima = "keep"
) -> list[Relaxation]:
    """Relax each crystal with the settings of `fast`, in order."""
    fast = Protocol.named("fast")
    settings = RelaxSettings(fmax=fast.fmax, max_steps=fast.max_steps, optimizer=fast.optimizer)
    queue = deque(RelaxTask(at, cell, minima=minima) for at, cell in enumerate(cells))
    found = {task.key: result for task, result in relaxer.relax(queue, settings)}
    return [found[at] for at in range(len(cells))]


def further_shakes(
    relaxer: PotentialRelaxer,
    rests: list[Relaxation],
    escaped: list[Relaxation],
    shaken: list[Relaxation],
) -> Iterator[tuple[float, list[float]]]:
    """Energies of saddle-point candidates: relaxed, and after each displacement (eV/atom)."""
    for rest, one, other in zip(rests, escaped, shaken, strict=True):
        before, after = rest.energy_after, other.energy_after
        if not one.saddle or before is None or after is None or before - after > LOWER:
            continue
        assert rest.structure is not None
        ends = relaxed(relaxer, [shake(rest.structure, seed) for seed in FURTHER])
        yield before, [end.energy_after for end in ends if end.energy_after and end.converged]


def shake(cell: Structure, seed: int) -> Structure:
    """The crystal with randomly displaced sites and a strained cell."""
    numbers = np.random.default_rng(seed)
    strain = numbers.normal(scale=STRAIN, size=(3, 3))
    moved = type(cell)(
        cell.lattice.matrix @ (np.eye(3) + (strain + strain.T) / 2), cell.species, cell.frac_coords
    )
    moves = numbers.normal(size=(len(cell), 3))
    moves *= SHAKE / np.linalg.norm(moves, axis=1, keepdims=True)
    for site, move in enumerate(moves):
        moved.translate_sites([site], move, frac_coords=False)
    return moved


def print_share(what: str, answers: list[bool | None]) -> None:
    """Print a share with its 95 % interval."""
    n = sum(map(bool, answers))
    share = wilson(n, len(answers))
    interval = "" if share is None else f" [{share.low:.2f}-{share.high:.2f}]"
    print(f"{what}: {n} of {len(answers)}{interval}")


if __name__ == "__main__":
    main()
