"""Memory and speed of a long run: modified real crystals against a real reference.

Each sample is a reference crystal with random elements, a strain of a few per cent, and
displacements of a few hundredths of an ångström.

    python benchmarks/stream.py make --reference STORE --count 50000 --out samples.extxyz
    python benchmarks/stream.py run --reference STORE --samples samples.extxyz --out FOLDER

An interrupted `run` can be continued.
"""

from __future__ import annotations

import argparse
import os
import resource
import time
from pathlib import Path

import numpy as np

PAGE = resource.getpagesize()


def make(reference: Path, count: int, out: Path, seed: int) -> None:
    """Write the crystals one by one."""
    from ase.io.extxyz import write_extxyz
    from pymatgen.io.ase import AseAtomsAdaptor

    from novelty_metric import open_reference

    store = open_reference(reference)
    rng = np.random.default_rng(seed)
    # Elements with their frequencies in real crystals.
    elements = [z for z in range(1, 95) if z not in {2, 10, 18, 36, 54, 86, 84, 85, 87, 88}]
    with out.open("w") as stream:
        for _ in range(count):
            structure = store.structure(int(rng.integers(len(store))))
            old = sorted(set(structure.atomic_numbers))
            new = rng.choice(elements, len(old), replace=False)
            exchange = dict(zip(old, (int(z) for z in new), strict=True))
            numbers = [exchange[z] for z in structure.atomic_numbers]
            atoms = AseAtomsAdaptor.get_atoms(structure)
            atoms.set_atomic_numbers(numbers)
            strain = np.eye(3) + rng.normal(0, 0.02, (3, 3))
            atoms.set_cell(atoms.cell[:] @ strain, scale_atoms=True)
            atoms.positions += rng.normal(0, 0.02, atoms.positions.shape)
            atoms.info.clear()
            write_extxyz(stream, [atoms])


def resident() -> float:
    """Resident memory (MB)."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * PAGE / 1e6


def run(reference: Path, samples: Path, out: Path, threads: int | None) -> None:
    """Score without relaxation; print the memory every thousand crystals."""
    from novelty_metric import SubstitutionNovelty, read_samples
    from novelty_metric.report.files import save_report
    from novelty_metric.runs.run import Run

    started, shown, first = time.perf_counter(), 0, 0

    def tell(stage: str, done: int, total: int | None) -> None:
        nonlocal shown, first
        if shown == 0:
            shown = first = done or 1
        if done >= shown + 1000:
            shown = done
            took, spent = time.perf_counter() - started, time.process_time()
            print(
                f"{done} crystals: {resident():.0f} MB, {(done - first) / took:.1f} a second, "
                f"{1e3 * spent / (done - first):.1f} ms of processor time each",
                flush=True,
            )

    out.mkdir(parents=True, exist_ok=True)
    with SubstitutionNovelty(
        reference, "fast", relaxer=None, hull="none", workers=threads or os.cpu_count()
    ) as metric:
        metric.prepare()
        journal = Run(metric, out, {"samples": str(samples)}, progress=tell)
        try:
            journal.score(read_samples(samples))
            print(f"scored: {resident():.0f} MB", flush=True)
            began = time.perf_counter()
            report = journal.report()
            print(f"report: {resident():.0f} MB", flush=True)
            save_report(report, out, journal.rows())
            print(f"written: {resident():.0f} MB, {time.perf_counter() - began:.0f} s", flush=True)
        finally:
            journal.close()
    print(f"{len(report.results)} crystals, {report.counts_all}")
    print(f"at most {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3:.0f} MB")
    size = sum(path.stat().st_size for path in out.iterdir())
    print(f"{size / len(report.results):.0f} bytes of files for a crystal")


def main() -> None:
    """Make samples, or score them."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("what", choices=["make", "run"])
    parser.add_argument("--reference", type=Path, required=True)
    parser.add_argument("--samples", type=Path)
    parser.add_argument("--count", type=int, default=50_000)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, help="search threads; default: one per core")
    given = parser.parse_args()
    if given.what == "make":
        make(given.reference, given.count, given.out, given.seed)
    else:
        run(given.reference, given.samples, given.out, given.threads)


if __name__ == "__main__":
    main()
