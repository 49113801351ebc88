"""Processor time and memory of each step for unphysical crystals.

Each crystal of ``tests/extreme_crystals.py`` runs through the steps in a separate process: against
a reference, against a perturbed copy of itself, with random sites, and against a small cell; also
CHGNet's neighbours and the fingerprint::

    python benchmarks/bounds.py --reference STORE
"""

from __future__ import annotations

import argparse
import os
import resource
import sys
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from pymatgen.core import Lattice, Structure

from novelty_metric import crystal
from novelty_metric.analysis.amd import average_minimum_distances
from novelty_metric.errors import CrystalError
from novelty_metric.protocol import Protocol
from novelty_metric.reference import open_reference
from novelty_metric.relaxation.neighbors import find_neighbors
from novelty_metric.screening.composition import smact_valid
from novelty_metric.search.compiled import TooMuchToCompareError
from novelty_metric.search.engine import ParentSearch, group_equal

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))

from extreme_crystals import few_atoms, many_atoms

PROTOCOL = Protocol.named("fast")
REFUSALS = (CrystalError, TooMuchToCompareError, ValueError)


def megabytes() -> float:
    """Peak resident memory so far (MB)."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def steps(structure: Structure, search: ParentSearch) -> None:
    """Run every step; print those that take more than a second or refuse the crystal."""
    slowest = ("", 0.0)
    refused = []

    def timed(name: str, step: Callable[[], Any]) -> Any:
        nonlocal slowest
        found, started = None, time.process_time()
        try:
            found = step()
        except REFUSALS as error:
            refused.append(f"{name}: {error}")
        seconds = time.process_time() - started
        if seconds > slowest[1]:
            slowest = (name, seconds)
        return found

    def with_sites(sites: np.ndarray) -> Structure:
        return Structure(reduced.lattice, reduced.species, sites)

    rng = np.random.default_rng(0)
    clean = timed("check", lambda: crystal.clean(structure, max_sites=300))
    reduced = clean and timed("reduce", lambda: crystal.reduce(clean))
    if clean:
        timed("chemistry", lambda: smact_valid(clean.composition))
        cell, sites = clean.lattice.matrix, clean.cart_coords
        timed("neighbours", lambda: find_neighbors([cell], [sites], reach=6.0, short=3.0))
    if reduced:
        symmetry = timed(
            "symmetry", lambda: crystal.symmetry(reduced, symprec=0.01, angle_tolerance=5.0)
        )
        timed("duplicates", lambda: search.duplicate(reduced))
        timed("parents", lambda: search.parents(reduced, symmetry))
        shaken = reduced.copy()
        shaken.perturb(0.05)
        other = with_sites(rng.random((len(reduced), 3)))
        small = Structure(Lattice.cubic(3), reduced.species[:1], [[0, 0, 0]])
        confirm = search.matching.confirm_rms
        for name, parent in (("itself", reduced), ("shaken", shaken), ("other", other)):
            timed(f"confirm {name}", lambda parent=parent: confirm(parent, reduced))
        timed("confirm small", lambda: confirm(small, reduced))
        timed("grouping", lambda: group_equal([reduced, shaken, other], PROTOCOL))
        record = reduced.lattice.matrix, reduced.frac_coords
        timed("fingerprint", lambda: average_minimum_distances(*record))
    print(f"  slowest: {slowest[0]}, {slowest[1]:.1f} s; most memory {megabytes():.0f} MB")
    for line in refused:
        print(f"  {line[:150]}")
    sys.stdout.flush()


def main() -> None:
    """Measure each crystal in a separate process."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--reference", required=True)
    parser.add_argument("--only", nargs="*", help="names of crystals")
    options = parser.parse_args()
    warnings.simplefilter("ignore")
    search = ParentSearch(open_reference(options.reference), PROTOCOL)
    search.prepare()
    salt = Structure(Lattice.cubic(4), ["Cs", "Cl"], [[0, 0, 0], [0.5, 0.5, 0.5]])
    steps(salt, search)  # loads and compiles
    print(f"before: {megabytes():.0f} MB", flush=True)
    for name, structure in (few_atoms() | many_atoms()).items():
        if options.only and name not in options.only:
            continue
        print(f"{name} ({len(structure)} sites)", flush=True)
        child = os.fork()
        if child == 0:
            steps(structure, search)
            os._exit(0)
        _, status, used = os.wait4(child, 0)
        if status:
            print(f"  died with {status}")
        print(f"  all steps: {used.ru_utime + used.ru_stime:.1f} s", flush=True)


if __name__ == "__main__":
    main()
