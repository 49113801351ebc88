"""What each optimiser makes of the same substituted parents: steps, energies, answers.

Takes the eligible crystals of each file that are not duplicates, relaxed with the first optimiser
named, finds their parents in the reference, and relaxes those with every optimiser::

    python benchmarks/optimizers.py STORE.arrow SAMPLES [SAMPLES ...] --crystals 20 --max-sites 14

Relaxations are cached, so an interrupted run goes on where it was. A step is one evaluation of the
potential; the first evaluation, which all share, is not counted.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING

from novelty_metric import crystal, read_samples
from novelty_metric.errors import CrystalError
from novelty_metric.protocol import OPTIMIZERS, Protocol
from novelty_metric.reference import open_reference
from novelty_metric.reference.energies import reference_energies
from novelty_metric.relaxation import Relaxation, RelaxSettings, RelaxTask
from novelty_metric.relaxation.cache import RelaxationCache
from novelty_metric.relaxation.potentials import Chgnet
from novelty_metric.relaxation.relaxer import PotentialRelaxer
from novelty_metric.scoring.substitution import substitute
from novelty_metric.screening.composition import smact_valid
from novelty_metric.screening.hull import ReferenceHull
from novelty_metric.search.engine import ParentSearch
from novelty_metric.search.matching import Matching
from novelty_metric.verdict import Parent

if TYPE_CHECKING:
    from pymatgen.core import Structure

NOTEWORTHY = 0.005
"""Final energies that differ by more (eV/atom) are different minima, or no minima."""


@dataclass(frozen=True)
class Start:
    """A substituted parent, and the crystal it should become."""

    sample: str
    parent: Parent
    structure: Structure
    generated: Structure


def main() -> None:
    """Collect parents, relax them with each optimiser, print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("reference")
    parser.add_argument("samples", nargs="+", type=Path)
    parser.add_argument("--crystals", type=int, default=20, help="read from each file")
    parser.add_argument("--skip", type=int, default=0, help="crystals at the start of each file")
    parser.add_argument("--parents", type=int, default=3, help="per crystal and route")
    parser.add_argument("--min-sites", type=int, default=1, help="of a parent")
    parser.add_argument("--max-sites", type=int, default=14, help="of a parent")
    parser.add_argument("--optimizers", nargs="+", default=list(OPTIMIZERS), choices=OPTIMIZERS)
    parser.add_argument("--fmax", type=float, default=0.05)
    parser.add_argument("--max-steps", type=int, default=200)
    parser.add_argument("--cache", type=Path, default=None)
    parser.add_argument("--each", action="store_true", help="also a line for each parent")
    options = parser.parse_args()

    protocol = Protocol.named("fast")
    cache = RelaxationCache(options.cache)
    relaxer = PotentialRelaxer(Chgnet("cpu"), cache=cache)
    starts = [
        start
        for start in find_starts(options, protocol, relaxer)
        if options.min_sites <= len(start.structure) <= options.max_sites
    ]
    results = {}
    for name in options.optimizers:
        settings = RelaxSettings(fmax=options.fmax, max_steps=options.max_steps, optimizer=name)
        results[name] = relax_all(relaxer, [start.structure for start in starts], settings, name)
    cache.close()
    compare(starts, results, Matching(protocol), each=options.each)


def find_starts(
    options: argparse.Namespace, protocol: Protocol, relaxer: PotentialRelaxer
) -> Iterator[Start]:
    """Substituted parents of the eligible crystals that are not duplicates."""
    reference = open_reference(options.reference)
    search = ParentSearch(reference, protocol)
    hull = ReferenceHull(reference, reference_energies(reference, relaxer))
    settings = RelaxSettings(
        fmax=protocol.fmax, max_steps=protocol.max_steps, optimizer=options.optimizers[0]
    )
    for path in options.samples:
        for sample in islice(read_samples(path), options.skip, options.skip + options.crystals):
            try:
                cleaned = crystal.clean(sample.structure, max_sites=80)
            except CrystalError:
                continue
            if not smact_valid(cleaned.composition):
                continue
            relaxed = relax_all(relaxer, [cleaned], settings)[0]
            if not relaxed.converged or relaxed.structure is None or relaxed.energy_after is None:
                continue
            above = hull.e_above_hull(cleaned.composition, relaxed.energy_after)
            generated = crystal.reduce(relaxed.structure)
            if above is None or above > protocol.metastable or search.duplicate(generated):
                continue
            symmetry = crystal.symmetry(
                generated,
                symprec=protocol.symprec,
                angle_tolerance=protocol.symmetry_angle_tolerance,
            )
            seen = set()
            for parent in search.parents(generated, symmetry).parents:
                key = (parent.index, parent.supercell, parent.elements)
                if parent.rank <= options.parents and key not in seen:
                    seen.add(key)
                    structure = substitute(reference.structure(parent.index), parent)
                    yield Start(f"{path.parent.name}:{sample.id}", parent, structure, generated)


def relax_all(
    relaxer: PotentialRelaxer, structures: list[Structure], settings: RelaxSettings, said: str = ""
) -> list[Relaxation]:
    """The relaxations in order, with a line now and then on standard error."""
    queue = deque(RelaxTask(at, structure) for at, structure in enumerate(structures))
    results: dict[object, Relaxation] = {}
    told = time.monotonic()
    for task, result in relaxer.relax(queue, settings):
        results[task.key] = result
        if said and time.monotonic() - told > 30:
            told = time.monotonic()
            print(time.strftime("%H:%M:%S"), said, len(results), len(structures), file=sys.stderr)
    return [results[at] for at in range(len(structures))]


def confirms(matching: Matching, relaxed: Relaxation, generated: Structure) -> bool:
    """Whether the last geometry matches the generated crystal."""
    if relaxed.structure is None:
        return False
    try:
        return matching.confirm_rms(crystal.reduce(relaxed.structure), generated) is not None
    except CrystalError:
        return False


def compare(
    starts: list[Start],
    results: dict[str, list[Relaxation]],
    matching: Matching,
    *,
    each: bool,
) -> None:
    """Print a table for all parents and for each route, against the first optimiser."""
    answers = {
        name: [
            confirms(matching, result, start.generated)
            for start, result in zip(starts, relaxations, strict=True)
        ]
        for name, relaxations in results.items()
    }
    first = next(iter(results))
    if each:
        for at, start in enumerate(starts):
            print(f"{start.sample} {start.parent.route} {start.parent.rank}", end="")
            print(f" {len(start.structure)} sites", end="")
            for name in results:
                print(f" | {name} {described(results[name][at], answers[name][at])}", end="")
            print()
    for route in ("all", *sorted({str(start.parent.route) for start in starts})):
        chosen = [
            at for at, start in enumerate(starts) if route in ("all", str(start.parent.route))
        ]
        print(f"\n{route}: {len(chosen)} parents of {len({starts[at].sample for at in chosen})}")
        print(
            f"{'':16}{'steps':>8}{'median':>8}{'conv.':>7}{'failed':>8}{'uphill':>8}"
            f"{'lower':>7}{'higher':>8}{'confirm':>9}{'differ':>8}{'ms/step':>9}"
        )
        for name, relaxations in results.items():
            mine = [relaxations[at] for at in chosen]
            gaps = [gap(relaxations[at], results[first][at]) for at in chosen]
            steps = [relaxed.steps for relaxed in mine]
            seconds = sum(relaxed.seconds for relaxed in mine)
            print(
                f"{name:16}{sum(steps):8}{statistics.median(steps):8.0f}"
                f"{sum(relaxed.converged for relaxed in mine):7}"
                f"{sum(relaxed.error is not None for relaxed in mine):8}"
                f"{sum(uphill(relaxed) for relaxed in mine):8}"
                f"{sum(value < -NOTEWORTHY for value in gaps):7}"
                f"{sum(value > NOTEWORTHY for value in gaps):8}"
                f"{sum(answers[name][at] for at in chosen):9}"
                f"{sum(answers[name][at] != answers[first][at] for at in chosen):8}"
                f"{1000 * seconds / max(1, sum(steps)):9.0f}"
            )
    print(
        f"\nlower, higher: final energy by more than {1000 * NOTEWORTHY:.0f} meV/atom against"
        f" {first}; differ: another answer at the confirmation than {first};\n"
        "uphill: ended above its start, or failed on the way."
    )


def gap(one: Relaxation, other: Relaxation) -> float:
    """Difference of the final energies (eV/atom); 0 where one has none."""
    if one.energy_after is None or other.energy_after is None:
        return 0.0
    return one.energy_after - other.energy_after


def uphill(relaxed: Relaxation) -> bool:
    """Whether a relaxation ended above its start, or nowhere."""
    if relaxed.energy_after is None or relaxed.energy_before is None:
        return True
    return relaxed.energy_after > relaxed.energy_before + 0.001


def described(relaxed: Relaxation, answer: bool) -> str:
    """Steps, final energy, volume and answer of one relaxation."""
    if relaxed.structure is None or relaxed.energy_after is None:
        return f"{relaxed.steps} {relaxed.error}"
    volume = relaxed.structure.volume / len(relaxed.structure)
    return (
        f"{relaxed.steps}{'' if relaxed.converged else '*'} {relaxed.energy_after:.3f} eV"
        f" {volume:.1f} Å³{' yes' if answer else ''}"
    )


if __name__ == "__main__":
    main()
