"""Speed of the search, compared with a pymatgen loop, and its growth with the reference.

Three measurements, on one core unless specified:

- *side by side*: this project searches for the same crystals one after the other, then the simple
  loop of ``tests/search/oracle.py`` (pymatgen for every pair, without bounds, refusals or index),
  in the same run. The answers are compared: duplicates among crystals of equal composition, and
  both routes to parents. Both know the symmetry of the reference in advance. The Wyckoff route of
  the loop is our own code, so the results are also given without it. ``--plain 0`` omits this
  measurement.
- *growth*: time per crystal, opening and indexing, for references of several sizes. Additional
  reference crystals are strained real crystals with exchanged elements, which keep their symmetry.
- *many*: ``--many`` crystals in ``--threads`` threads, in wall time.

Random crystals are taken from each file of samples in turn::

    python benchmarks/search.py --reference STORE.arrow --samples GENERATED/DiffCSP_mp_20.pt …
"""

from __future__ import annotations

import argparse
import resource
import sys
import tempfile
import time
import warnings
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from pymatgen.core import Structure

from novelty_metric.crystal import Symmetry, clean, reduce, symmetry
from novelty_metric.errors import CrystalError
from novelty_metric.protocol import Protocol
from novelty_metric.reference import Reference
from novelty_metric.reference.arrays import CrystalArrays
from novelty_metric.samples import read_samples
from novelty_metric.search.duplicates import TooMuchToCompareError
from novelty_metric.search.engine import ParentSearch

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests" / "search"))


@dataclass
class Crystal:
    """A generated crystal, cleaned and reduced."""

    label: str
    structure: Structure
    symmetry: Symmetry | None


def crystals_of(paths: list[Path], count: int, seed: int) -> list[Crystal]:
    """The first `count` usable crystals in random order, from each file in turn."""
    share = -(-count // len(paths))
    by_file = [crystals_of_file(path, share, seed) for path in paths]
    return [of_file[i] for i in range(share) for of_file in by_file if i < len(of_file)][:count]


def crystals_of_file(path: Path, count: int, seed: int) -> list[Crystal]:
    """The first `count` usable crystals in random order."""
    samples = [s for s in read_samples(path) if s.structure is not None]
    found: list[Crystal] = []
    for place in np.random.default_rng(seed).permutation(len(samples)).tolist():
        if len(found) == count:
            break
        try:
            crystal = reduce(clean(samples[place].structure, max_sites=80))
        except CrystalError:
            continue
        known = symmetry(crystal, symprec=0.01, angle_tolerance=5.0)
        found.append(Crystal(f"{path.parent.name} {samples[place].id}", crystal, known))
    return found


def part_of(reference: Reference, indices: np.ndarray) -> CrystalArrays:
    """A subset of a reference."""
    n_sites = reference.n_sites[indices]
    sites = np.concatenate([np.arange(*reference.offsets[i : i + 2]) for i in indices.tolist()])
    return CrystalArrays(
        ids=tuple(reference.ids[i] for i in indices.tolist()),
        lattices=reference.lattices[indices],
        offsets=np.concatenate([[0], np.cumsum(n_sites)]),
        frac_coords=reference.frac_coords[sites],
        numbers=reference.numbers[sites],
        space_groups=reference.space_groups[indices],
        wyckoff_letters=reference.wyckoff_letters[sites],
        orbits=reference.orbits[sites],
        digests=reference.arrays.digests[indices],
    )


def rotations(reference: Reference) -> list[np.ndarray]:
    """Cartesian point group of each crystal, (G, 3, 3)."""
    import spglib

    found = []
    for index in range(len(reference)):
        sites = reference.sites(index)
        lattice = np.array(reference.lattices[index])
        cell = (lattice, reference.frac_coords[sites], reference.numbers[sites])
        operations = spglib.get_symmetry(cell, symprec=0.01, angle_tolerance=5.0)
        turned = np.eye(3)[None] if operations is None else operations["rotations"]
        found.append(lattice.T @ turned @ np.linalg.inv(lattice.T))
    return found


def substituted_copies(
    reference: Reference, groups: list[np.ndarray], copy: int, rng: np.random.Generator
) -> CrystalArrays:
    """The crystals of a reference, with exchanged elements and strained cells.

    Elements are exchanged one for one by a permutation drawn for each crystal, mostly for near
    neighbours by modified Pettifor number; the strain is a scaling of 1 % with 0.5 % of shear, of
    which the part remains that keeps the crystal's point group, as its symmetry is carried over.

    Parameters
    ----------
    groups : list of float64, (G, 3, 3)
        See `rotations`.
    """
    from novelty_metric.search.pettifor import BY_ATOMIC_NUMBER, NONE

    arrays = reference.arrays
    known = np.flatnonzero(BY_ATOMIC_NUMBER != NONE)
    by_number = known[np.argsort(BY_ATOMIC_NUMBER[known])]
    place_of = np.zeros(256, dtype=np.int64)
    place_of[by_number] = np.arange(len(by_number))
    numbers = np.array(arrays.numbers)
    for start, end in zip(arrays.offsets[:-1].tolist(), arrays.offsets[1:].tolist(), strict=True):
        old = np.unique(numbers[start:end])
        new = np.clip(place_of[old] + rng.integers(-12, 13, len(old)), 0, len(by_number) - 1)
        numbers[start:end] = by_number[new][np.searchsorted(old, numbers[start:end])]
    strain = np.eye(3) * (1 + rng.normal(0, 0.01, (len(reference), 1, 1)))
    shear = rng.normal(0, 0.005, (len(reference), 3, 3))
    shear = shear + shear.transpose(0, 2, 1)
    kept = [
        np.mean(turns.transpose(0, 2, 1) @ part @ turns, axis=0)
        for turns, part in zip(groups, shear, strict=True)
    ]
    strain = strain + np.array(kept)
    return CrystalArrays(
        ids=tuple(f"{label}-{copy}" for label in arrays.ids),
        lattices=arrays.lattices @ strain,
        offsets=arrays.offsets,
        frac_coords=arrays.frac_coords,
        numbers=numbers,
        space_groups=arrays.space_groups,
        wyckoff_letters=arrays.wyckoff_letters,
        orbits=arrays.orbits,
        digests=arrays.digests,
    )


def of_size(reference: Reference, size: int, seed: int) -> Reference:
    """A random subset of a reference, or all of it with additional copies."""
    rng = np.random.default_rng(seed)
    if size <= len(reference):
        arrays = part_of(reference, np.sort(rng.choice(len(reference), size, replace=False)))
    else:
        copies = range(1, -(-size // len(reference)))
        groups = rotations(reference)
        parts = [
            reference.arrays,
            *(substituted_copies(reference, groups, copy, rng) for copy in copies),
        ]
        whole = CrystalArrays.concatenate(parts)
        arrays = part_of(_plain(whole), np.arange(size))
    return _plain(arrays)


def _plain(arrays: CrystalArrays) -> Reference:
    return Reference.from_arrays(arrays, name="benchmark", symprec=0.01, angle_tolerance=5.0)


def resident() -> float:
    """Current resident memory (MB)."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * resource.getpagesize() / 1e6


def spread(seconds: list[float]) -> str:
    """Median, mean, 95th percentile and maximum (ms)."""
    values = 1e3 * np.array(seconds)
    return (
        f"median {np.median(values):.1f}, mean {values.mean():.1f}, "
        f"95th percentile {np.percentile(values, 95):.1f}, worst {values.max():.1f} ms"
    )


@dataclass
class Timing:
    """Processor time of each crystal (s), by step, and the number of pair tests."""

    duplicates: list[float]
    parents: list[float]
    pair_tests: list[int]

    @property
    def whole(self) -> np.ndarray:
        """Sum of both steps, (C,)."""
        return np.array(self.parents) + np.array(self.duplicates)


def time_search(search: ParentSearch, crystals: list[Crystal]) -> Timing:
    """Search for every crystal, in processor time, because other programs use the machine."""
    timing = Timing([], [], [])
    for crystal in crystals:
        started = time.process_time()
        search.duplicate(crystal.structure)
        between = time.process_time()
        result = search.parents(crystal.structure, crystal.symmetry)
        timing.parents.append(time.process_time() - between)
        timing.duplicates.append(between - started)
        timing.pair_tests.append(result.pair_tests)
    return timing


def many(search: ParentSearch, crystals: list[Crystal], threads: int) -> None:
    """Search for many crystals, in wall time."""

    def one(crystal: Crystal) -> bool:
        """Whether the search finished."""
        ended = True
        try:
            search.duplicate(crystal.structure)
        except TooMuchToCompareError:
            ended = False
        return ended and not search.parents(crystal.structure, crystal.symmetry).unfinished

    started = time.perf_counter()
    with ThreadPoolExecutor(threads) as pool:
        unfinished = len(crystals) - sum(pool.map(one, crystals))
    took = time.perf_counter() - started
    print(
        f"{len(crystals):,} crystals in {threads} threads: {took / 60:.1f} min, "
        f"{len(crystals) / took:.0f} a second, resident {resident():,.0f} MB, "
        f"{unfinished} left unfinished",
        flush=True,
    )


def side_by_side(search: ParentSearch, crystals: list[Crystal]) -> None:
    """Search for the same crystals with this project (median of three runs) and with the loop."""
    from oracle import (
        disagreements,
        first_duplicate,
        lattice_sites_parents,
        plain_orbits,
        wyckoff_parents,
    )

    references = list(search.reference)
    orbits = [plain_orbits(reference) for reference in references]
    n_sites = np.asarray(search.reference.n_sites)
    plain, without_letters, pairs, tests, agree = [], [], 0, 0, 0
    ours = np.median([time_search(search, crystals).whole for _ in range(3)], axis=0).tolist()
    for place, crystal in enumerate(crystals):
        structure = crystal.structure
        duplicate, result = search.duplicate(structure), search.parents(structure, crystal.symmetry)
        middle = time.process_time()
        answer = {
            "duplicate": first_duplicate(structure, references),
            "lattice_sites": [p.plain() for p in lattice_sites_parents(structure, references, 3)],
        }
        without_letters.append(time.process_time() - middle)
        found = wyckoff_parents(structure, references, orbits, 3)
        answer["wyckoff"] = [p.plain() for p in found]
        plain.append(time.process_time() - middle)
        n = len(structure)
        pairs += int(((n_sites % n == 0) | (n % n_sites == 0)).sum())
        tests += result.pair_tests
        problems = disagreements(answer, duplicate, result.parents)
        agree += not problems
        here = ours[place]
        print(
            f"  {crystal.label}: {n} sites, plain {plain[-1]:.2f} s, here {here * 1e3:.1f} ms, "
            f"{plain[-1] / here:.0f} times, {'; '.join(problems) or 'agree'}",
            flush=True,
        )
    print(f"side by side over {len(references):,} reference crystals, {len(crystals)} crystals")
    print(f"  plain loop: {spread(plain)}")
    print(f"  the same without its Wyckoff route: {spread(without_letters)}")
    print(f"  here:       {spread(ours)}")
    for name, other in (("", plain), (" without the plain Wyckoff route", without_letters)):
        print(
            f"  faster{name}: {np.median(other) / np.median(ours):.0f} times at the median, "
            f"{np.sum(other) / np.sum(ours):.0f} on the mean, "
            f"{np.median(np.array(other) / np.array(ours)):.0f} for the median crystal"
        )
    print(f"  {interval(np.array(plain), np.array(ours))}")
    print(f"  agree: {agree} of {len(crystals)}")
    print(f"  pairs: {pairs:,} commensurate, {tests:,} tested, {pairs - tests:,} avoided")


def interval(plain: np.ndarray, ours: np.ndarray) -> str:
    """95 % bootstrap interval for other crystals of the same kinds."""
    rng = np.random.default_rng(0)
    drawn = rng.integers(len(ours), size=(4000, len(ours)))
    medians = np.median(plain[drawn], axis=1) / np.median(ours[drawn], axis=1)
    means = plain[drawn].sum(axis=1) / ours[drawn].sum(axis=1)
    ends = [np.percentile(values, [2.5, 97.5]) for values in (medians, means)]
    (low, high), (low_mean, high_mean) = ends
    return (
        f"95 %: [{low:.0f}-{high:.0f}] at the median, [{low_mean:.0f}-{high_mean:.0f}] on the mean"
    )


def growth(reference: Reference, crystals: list[Crystal], sizes: list[int], seed: int) -> None:
    """Time to open and index, and time per crystal, by size of the reference."""
    first: np.ndarray | None = None
    with tempfile.TemporaryDirectory() as folder:
        for size in sizes:
            path = Path(folder) / f"{size}.arrow"
            of_size(reference, size, seed).save(path)
            started = time.process_time()
            opened = Reference.open(path)
            middle = time.process_time()
            search = ParentSearch(opened, Protocol())
            search.prepare()
            ended = time.process_time()
            timing = time_search(search, crystals)
            seconds = timing.whole
            print(
                f"{size:>8,}: open {middle - started:.2f} s, index {ended - middle:.2f} s, "
                f"{np.mean(timing.pair_tests):,.0f} pair tests, resident {resident():,.0f} MB\n"
                f"          parents {spread(timing.parents)}\n"
                f"          duplicates {spread(timing.duplicates)}",
                flush=True,
            )
            if size == len(reference):
                first = seconds
            elif first is not None:
                print(
                    f"          against {len(reference):,}: "
                    f"{np.median(seconds) / np.median(first):.2f} times the median, "
                    f"{seconds.mean() / first.mean():.2f} the mean, "
                    f"{np.median(seconds / first):.2f} the median crystal's",
                )
            path.unlink()


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--reference", type=Path, required=True)
    parser.add_argument("--samples", type=Path, nargs="+", required=True)
    parser.add_argument("--plain", type=int, default=12, help="crystals side by side")
    parser.add_argument("--crystals", type=int, default=40, help="for the growth")
    parser.add_argument("--many", type=int, default=0)
    parser.add_argument("--threads", type=int, default=1, help="for --many")
    parser.add_argument("--sizes", type=int, nargs="*", help="default 1000 3000 9000, all, 250000")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    warnings.simplefilter("ignore")

    reference = Reference.open(options.reference)
    most = max(options.plain, options.crystals, options.many)
    crystals = crystals_of(options.samples, most, options.seed)
    search = ParentSearch(reference, Protocol())
    started = time.perf_counter()
    search.prepare()
    search.parents(crystals[0].structure, crystals[0].symmetry)
    print(f"index, load or compile, first search: {time.perf_counter() - started:.2f} s")
    if options.many:
        many(search, crystals[: options.many], options.threads)
    sizes = options.sizes
    if sizes is None:
        sizes = [1000, 3000, 9000, len(reference), 250_000]
    growth(reference, crystals[: options.crystals], sizes, options.seed)
    if options.plain:
        side_by_side(search, crystals[: options.plain])
    print(f"most resident: {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3:,.0f} MB")


if __name__ == "__main__":
    main()
