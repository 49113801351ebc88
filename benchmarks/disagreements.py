"""Reasons for different verdicts with the two potentials of a run, by kind.

Each crystal with a changed verdict is scored again with each potential separately, from the same
cache::

    novelty-metric score … second_potential=sevennet out=runs/NAME
    python benchmarks/disagreements.py STORE.arrow runs/NAME [RUN …]

pymatgen's ``StructureMatcher()`` compares the relaxed crystals of the two potentials. The parent
found with one potential is looked up among the candidates of the other.
"""

from __future__ import annotations

import argparse
from collections import Counter
from pathlib import Path

from pymatgen.analysis.structure_matcher import StructureMatcher
from pymatgen.core import Structure

from novelty_metric import NoveltyReport, SubstitutionNovelty
from novelty_metric.analysis.misses import FOUND
from novelty_metric.verdict import CrystalResult, Verdict


def main() -> None:
    """Print one line per changed crystal, then the number of each kind."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("reference")
    parser.add_argument("runs", nargs="+", type=Path)
    parser.add_argument("--potentials", nargs=2, default=("chgnet", "sevennet"))
    options = parser.parse_args()
    kinds: Counter[str] = Counter()
    for folder in options.runs:
        report = NoveltyReport.load(folder, structures=True)
        changed = [
            row for row in report.results if row.eligible and row.verdict != row.verdict_second
        ]
        crystals = [generated(row) for row in changed]
        names = [row.id for row in changed]
        scored = []
        for potential in options.potentials:
            with SubstitutionNovelty(
                options.reference, report.context.protocol, relaxer=potential, hull="none"
            ) as metric:
                scored.append(metric(crystals, names).results)
        for row, first, second in zip(changed, *scored, strict=True):
            same = (row.verdict, row.verdict_second) == (first.verdict, second.verdict)
            distance = between(first, second)
            if Verdict.UNDECIDED in (row.verdict, row.verdict_second):
                reason = "a relaxation did not finish"
            else:
                reason = kind(first, second, distance)
            kinds[reason] += 1
            apart = "no match" if distance is None else f"RMS {distance:.3f}"
            print(
                f"{row.id}  {row.formula}  {first.verdict} / {second.verdict}"
                f"{'' if same else f' (the run: {row.verdict} / {row.verdict_second})'}"
                f"  relaxed crystals: {apart}; {reason}",
                flush=True,
            )
    for reason, number in kinds.most_common():
        print(f"{number:4d}  {reason}")


def generated(row: CrystalResult) -> Structure:
    """The crystal of a row before relaxation."""
    assert row.structures is not None and row.structures.generated is not None
    return row.structures.generated.to_structure()


def between(first: CrystalResult, second: CrystalResult) -> float | None:
    """RMS distance of the two relaxed crystals in (V/N)^(1/3); None if they do not match."""
    assert first.structures is not None and second.structures is not None
    assert first.structures.relaxed is not None and second.structures.relaxed is not None
    distances = StructureMatcher().get_rms_dist(
        first.structures.relaxed.to_structure(), second.structures.relaxed.to_structure()
    )
    return None if distances is None else float(distances[0])


def kind(first: CrystalResult, second: CrystalResult, distance: float | None) -> str:
    """The first difference in the evidence of the two verdicts."""
    if distance is None:
        return "the crystal relaxes to another structure"
    if first.verdict in FOUND and second.verdict in FOUND:
        return "the crystal is at the limit of the duplicate test"
    found, lost = (first, second) if first.verdict in FOUND else (second, first)
    for tried in lost.parents:
        if tried.parent.parent_id == found.parent_id:
            return "the parent relaxes to another structure"
    return "the parent is not among the candidates"


if __name__ == "__main__":
    main()
