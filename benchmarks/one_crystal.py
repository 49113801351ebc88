"""Time of `explain FILE` and `metric.reward` for one crystal, compared with a pymatgen loop.

python benchmarks/one_crystal.py STORE SAMPLES … [--crystals 200] [--plain 6] [--commands 3]

All times are processor times. The simple loop calls pymatgen's `StructureMatcher` for every
reference crystal of the same composition (duplicates), then for every one with a commensurate
number of sites (without elements; the least cost of the matches counts). It has no Wyckoff route,
so its reward can be larger.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from pymatgen.core import Structure

from novelty_metric import SubstitutionNovelty
from novelty_metric.crystal import clean, reduce
from novelty_metric.reference import Reference
from novelty_metric.samples import read_samples

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests" / "search"))


def drawn(paths: list[Path], count: int) -> list[Structure]:
    """Random crystals, equally many of each file."""
    share = -(-count // len(paths))
    found = [
        [one.structure for one in read_samples(path, limit=share, seed=0) if one.structure]
        for path in paths
    ]
    return [each[at] for at in range(share) for each in found if at < len(each)][:count]


def timed(call: Callable[[], Any]) -> tuple[float, Any]:
    """Processor time (s), and the result of the call."""
    began = time.process_time()
    given = call()
    return time.process_time() - began, given


def command(path: Path, store: Path) -> tuple[float, float]:
    """Processor and wall time (s) of ``explain`` without relaxation, with the start of Python."""
    words = ["explain", str(path), f"reference={store}", "relaxer=none", "hull=none"]
    before, began = os.times(), time.perf_counter()
    subprocess.run(
        [sys.executable, "-m", "novelty_metric.cli", *words],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        check=True,
    )
    after = os.times()
    used = after.children_user + after.children_system
    used -= before.children_user + before.children_system
    return used, time.perf_counter() - began


def searched(structure: Structure, store: Path) -> float:
    """Processor time (s) from opening the reference to the report, after all imports."""

    def search() -> Any:
        return SubstitutionNovelty(store, relaxer=None, hull="none", scope="all")([structure])

    return timed(search)[0]


def plain_reward(structure: Structure, references: list[Structure]) -> float:
    """The reward by the simple loop."""
    from oracle import first_duplicate, lattice_sites_parents

    crystal = reduce(clean(structure))
    if first_duplicate(crystal, references) is not None:
        return 0.0
    nearest = lattice_sites_parents(crystal, references, 1)
    return min(1.0, nearest[0].cost / 102) if nearest else 1.0


def spread(seconds: list[float]) -> str:
    """Median, mean and maximum (ms)."""
    values = 1e3 * np.array(seconds)
    return f"median {np.median(values):.1f}, mean {values.mean():.1f}, worst {values.max():.1f} ms"


def main() -> None:
    """Print the measurements."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("store", type=Path)
    parser.add_argument("samples", type=Path, nargs="+")
    parser.add_argument("--crystals", type=int, default=200)
    parser.add_argument("--plain", type=int, default=6, help="crystals by the plain loop")
    parser.add_argument("--commands", type=int, default=3, help="crystals that are explained")
    given = parser.parse_args()
    crystals = drawn(given.samples, given.crystals)
    metric = SubstitutionNovelty(given.store)
    metric.reward(crystals[:2])  # opens the reference
    batch, rewards = timed(lambda: metric.reward(crystals))
    alone = [timed(lambda one=one: metric.reward(one)) for one in crystals]
    single = [took for took, _ in alone]
    assert rewards.tolist() == [value for _, value in alone]
    references = Reference.open(given.store)
    print(f"reward, {len(crystals)} crystals, {len(references):,} in the reference")
    print(f"  batch: {1e3 * batch / len(crystals):.1f} ms a crystal; one by one: {spread(single)}")
    with tempfile.TemporaryDirectory() as name:
        for at, structure in enumerate(crystals[: given.commands]):
            path = Path(name) / f"{at}.cif"
            structure.to(filename=str(path))
            command(path, given.store)
            used, wall = command(path, given.store)
            print(
                f"explain crystal {at}: {used:.1f} s ({wall:.1f} s wall), of which the search "
                f"{searched(structure, given.store):.2f} s"
            )
    plain = list(references)
    times, equal, larger = [], 0, 0
    for structure, reward in zip(crystals[: given.plain], rewards, strict=False):
        took, value = timed(lambda one=structure: plain_reward(one, plain))
        times.append(took)
        equal += bool(np.isclose(value, reward, atol=1e-12))
        larger += bool(value > reward + 1e-12)
    ours = single[: given.plain]
    print(f"plain loop, {len(times)} crystals: {spread(times)}; reward of the same: {spread(ours)}")
    print(
        f"  {np.median(times) / np.median(ours):.0f} times at the median, "
        f"{sum(times) / sum(ours):.0f} on the mean; equal for {equal} of {len(times)}, larger for "
        f"{larger}"
    )


if __name__ == "__main__":
    main()
