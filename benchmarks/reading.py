"""Speed of the CIF reader, and its agreement with pymatgen.

``speed`` measures the processor time of this project's reader and of pymatgen's on crystals of 20
sites. ``compare`` reads every CIF of the published files with both and lists each difference::

    python benchmarks/reading.py speed --samples FILE
    python benchmarks/reading.py compare --samples FILE …
"""

from __future__ import annotations

import argparse
import statistics
import time
import warnings
import zipfile
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from pymatgen.analysis.structure_matcher import StructureMatcher
from pymatgen.core import Structure

from novelty_metric.samples.checks import UnreadableCrystal
from novelty_metric.samples.cif_crystal import crystal_from_cif

KEYS = ("cif", "relxed_structure")
OUTCOMES = (
    "equal to the digit",
    "equal within 1e-6",
    "the same crystal",
    "different",
    "refused here",
    "refused by pymatgen",
    "refused by both",
)


def texts(path: Path) -> Iterator[tuple[str, str]]:
    """Name and text of every CIF of a Parquet or CSV table, or of a zip archive."""
    if path.suffix == ".zip":
        with zipfile.ZipFile(path) as archive:
            for name in archive.namelist():
                if name.endswith(".cif") and "__MACOSX" not in name:
                    yield name, archive.read(name).decode()
        return
    import pandas as pd

    table = pd.read_parquet(path) if path.suffix == ".parquet" else pd.read_csv(path)
    column = next(key for key in KEYS if key in table)
    names = table.get("material_id", table.index)
    yield from zip(map(str, names), table[column], strict=True)


def by_pymatgen(text: str) -> Structure:
    """The result of ``Structure.from_str``."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return Structure.from_str(text, fmt="cif")


def outcome(text: str) -> tuple[str, str]:
    """One of `OUTCOMES`, with an explanation."""
    reasons = []
    ours = theirs = None
    try:
        ours = crystal_from_cif(text)
    except UnreadableCrystal as error:
        reasons.append(str(error))
    try:
        theirs = by_pymatgen(text)
    except Exception as error:
        reasons.append(f"pymatgen: {' '.join(str(error).split())}")
    if ours is None or theirs is None:
        who = "both" if ours is theirs else "here" if ours is None else "by pymatgen"
        return f"refused {'by both' if who == 'both' else who}", "; ".join(reasons)
    if len(ours) == len(theirs) and ours.species_and_occu == theirs.species_and_occu:
        pairs = [
            (ours.lattice.matrix, theirs.lattice.matrix),
            (ours.frac_coords, theirs.frac_coords),
        ]
        if all(np.array_equal(one, other) for one, other in pairs):
            return OUTCOMES[0], ""
        if all(np.allclose(one, other, rtol=0, atol=1e-6) for one, other in pairs):
            return OUTCOMES[1], ""
    told = f"{ours.formula} here, {theirs.formula} by pymatgen"
    matcher = StructureMatcher(primitive_cell=False, scale=False)
    same = len(ours) == len(theirs) and matcher.fit(ours, theirs)
    return ("the same crystal" if same else "different"), told


def compare(paths: list[Path]) -> None:
    """Print the counts for each file, and every CIF with different results."""
    total: Counter[str] = Counter()
    for path in paths:
        counts: Counter[str] = Counter()
        for name, text in texts(path):
            found, told = outcome(text)
            counts[found] += 1
            if found not in OUTCOMES[:2]:
                print(f"  {path.name}: {name}: {found}: {told}")
        print(f"{path.name}: {sum(counts.values())} CIFs: {_listed(counts)}", flush=True)
        total.update(counts)
    print(f"all: {sum(total.values())} CIFs: {_listed(total)}")


def _listed(counts: Counter[str]) -> str:
    return ", ".join(f"{counts[name]} {name}" for name in OUTCOMES if counts[name])


def seconds(function: Callable[[Any], Any], given: Any, repeats: int) -> float:
    """Processor time of one call, the minimum of `repeats`."""
    best = float("inf")
    for _ in range(repeats):
        start = time.process_time()
        function(given)
        best = min(best, time.process_time() - start)
    return best


def speed(path: Path, n_sites: int, count: int) -> None:
    """Print the times of both readers, and of creating pymatgen's object."""
    chosen = []
    for _, text in texts(path):
        crystal = crystal_from_cif(text)
        if len(crystal) == n_sites:
            chosen.append((text, crystal))
        if len(chosen) == count:
            break

    def build(crystal: Structure) -> Structure:
        return Structure(crystal.lattice, species[id(crystal)], coords[id(crystal)])

    species = {id(crystal): [site.species for site in crystal] for _, crystal in chosen}
    coords = {id(crystal): crystal.frac_coords for _, crystal in chosen}
    ours = [seconds(crystal_from_cif, text, 15) for text, _ in chosen]
    theirs = [seconds(by_pymatgen, text, 5) for text, _ in chosen]
    alone = [seconds(build, crystal, 15) for _, crystal in chosen]
    ratio = statistics.median(b / a for a, b in zip(ours, theirs, strict=True))
    here, there, made = (1e3 * statistics.median(times) for times in (ours, theirs, alone))
    print(
        f"{len(chosen)} CIFs of {n_sites} sites, medians: {here:.2f} ms here (worst "
        f"{1e3 * max(ours):.2f}), {there:.2f} ms by pymatgen, {ratio:.1f} times; the Structure "
        f"alone {made:.2f} ms"
    )


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("what", choices=("speed", "compare"))
    parser.add_argument("--samples", nargs="+", type=Path, required=True)
    parser.add_argument("--sites", type=int, default=20)
    parser.add_argument("--count", type=int, default=200)
    given = parser.parse_args()
    if given.what == "compare":
        compare(given.samples)
    else:
        speed(given.samples[0], given.sites, given.count)


if __name__ == "__main__":
    main()
