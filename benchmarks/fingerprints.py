"""Time and memory of the fingerprints of a reference and of their search.

Compared in one run, in processor time: this project's AMD with the package of the authors of AMD,
if installed (``pip install average-minimum-distance``; its licence prevents a dependency), and the
k-d tree with SciPy's ``cdist`` over every pair. The results must agree::

    python benchmarks/fingerprints.py --reference STORE.arrow
"""

from __future__ import annotations

import argparse
import resource
import time

import numpy as np
from scipy.spatial import cKDTree
from scipy.spatial.distance import cdist

from novelty_metric.analysis.amd import average_minimum_distances, reference_fingerprints
from novelty_metric.analysis.fingerprints import NEIGHBOURS
from novelty_metric.reference import Reference


def peak() -> float:
    """Peak resident memory so far (MB)."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def side_by_side(reference: Reference, fingerprints: np.ndarray, count: int) -> None:
    """The authors' package and this project on the same crystals."""
    chosen = np.random.default_rng(0).choice(len(reference), min(count, len(reference)), False)
    start = time.process_time()
    for index in chosen:
        sites = reference.sites(index)
        average_minimum_distances(reference.lattices[index], reference.frac_coords[sites])
    ours = time.process_time() - start
    print(f"AMD of {len(chosen)} crystals: {ours:.2f} s here", end="")
    try:
        import amd
    except ImportError:
        print("; average-minimum-distance is not installed")
        return
    cells = []
    for index in chosen:
        sites = reference.frac_coords[reference.sites(index)]
        lattice = np.array(reference.lattices[index])
        cells.append(amd.PeriodicSet(np.array(sites) @ lattice, lattice))
    amd.AMD(cells[0], 100)
    start = time.process_time()
    theirs = [amd.AMD(cell, 100) for cell in cells]
    plain = time.process_time() - start
    worst = float(np.abs(np.array(theirs) - fingerprints[chosen]).max())
    print(f", {plain:.2f} s by the package ({plain / ours:.1f} times), at most {worst:.1e} Å apart")


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--reference", required=True)
    parser.add_argument("--amd", type=int, default=1000, help="crystals of the side by side")
    parser.add_argument("--queries", type=int, default=500, help="queries of the plain search")
    given = parser.parse_args()
    reference = Reference.open(given.reference)
    average_minimum_distances(np.eye(3), np.zeros((1, 3)))  # compiled before the measurement
    print(f"{len(reference)} crystals; {peak():.0f} MB resident before")
    start = time.process_time()
    fingerprints = reference_fingerprints(reference)
    print(f"fingerprints: {time.process_time() - start:.1f} s, {fingerprints.nbytes / 1e6:.1f} MB")
    side_by_side(reference, fingerprints, given.amd)

    start = time.process_time()
    tree = cKDTree(fingerprints)
    built = time.process_time() - start
    start = time.process_time()
    tree.query(fingerprints, k=NEIGHBOURS + 1, p=np.inf)
    seconds = time.process_time() - start
    print(f"tree: {built:.2f} s; all {len(reference)} by it: {seconds:.1f} s; {peak():.0f} MB")

    chosen = np.random.default_rng(1).choice(len(reference), min(given.queries, len(reference)))
    queries = fingerprints[chosen] + 0.01
    start = time.process_time()
    quick, _ = tree.query(queries, k=NEIGHBOURS + 1, p=np.inf)
    ours = time.process_time() - start
    start = time.process_time()
    plain = np.empty_like(quick)
    for row in range(0, len(queries), 50):
        distances = cdist(queries[row : row + 50], fingerprints, "chebyshev")
        found = np.partition(distances, NEIGHBOURS, axis=1)[:, : NEIGHBOURS + 1]
        plain[row : row + 50] = np.sort(found, axis=1)
    theirs = time.process_time() - start
    equal = np.allclose(quick, plain)
    print(
        f"{len(queries)} queries: {ours:.3f} s by the tree, {theirs:.2f} s by cdist "
        f"({theirs / ours:.0f} times), answers {'equal' if equal else 'DIFFERENT'}"
    )


if __name__ == "__main__":
    main()
