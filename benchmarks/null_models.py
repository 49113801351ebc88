"""Statistics behind the null models, and their scores.

    python benchmarks/null_models.py pairs REFERENCE [--crystals N]

counts, for real crystals and their cheapest candidate parents, the Wyckoff orbits with different
elements, and their distances on the modified Pettifor scale. The result is the table
`PAIRS_BY_DISTANCE` of `random_substitution`.

    python benchmarks/null_models.py runs RUN [RUN ...]

prints the verdicts of finished runs (folders of `novelty-metric score`) side by side, with novelty
ratio, observed / expected and copying z. Runs of null models, recognised by name (`perturbed`,
`perturbed.run`, …), are compared with the expectations for them.

    python benchmarks/null_models.py published PUBLISHED OURS [PUBLISHED OURS ...]

compares runs of published samples with runs of our generators against the same reference: the share
of each verdict, and the difference. The authors of `matgen_baselines` published only crystals that
are not in the Materials Project; therefore the last rows exclude duplicates.
"""

from __future__ import annotations

import argparse
import dataclasses
import sys
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from novelty_metric.comparison.compare import context_mismatches
from novelty_metric.crystal import Symmetry
from novelty_metric.protocol import Protocol
from novelty_metric.reference import Reference, open_reference
from novelty_metric.report.novelty_report import NoveltyReport
from novelty_metric.report.real_crystals import BesideRealCrystals
from novelty_metric.search.engine import ParentSearch
from novelty_metric.search.pettifor import pettifor_number
from novelty_metric.support.ratios import Ratio
from novelty_metric.support.statistics import newcombe, wilson
from novelty_metric.support.text import percent_interval, points_interval
from novelty_metric.verdict import Parent, Verdict


def symmetry_of(reference: Reference, index: int) -> Symmetry | None:
    """The stored symmetry of a reference crystal."""
    if reference.space_groups[index] == 0:
        return None
    sites = reference.sites(index)
    return Symmetry(
        int(reference.space_groups[index]),
        tuple(map(chr, reference.wyckoff_letters[sites].tolist())),
        tuple(reference.orbits[sites].tolist()),
    )


def cheapest(search: ParentSearch, index: int) -> Parent | None:
    """The cheapest candidate among the other crystals, if it exists and has the same size."""
    reference = search.reference
    structure = reference.structure(index)
    found = search.parents(structure, symmetry_of(reference, index), leave_out=index).parents
    best = min(found, key=lambda parent: parent.order, default=None)
    return None if best is None or best.supercell is not None else best


def exchanged_orbits(reference: Reference, parent: Parent) -> tuple[int, list[int]]:
    """Number of orbits of the parent, and the distances of those with exchanged elements.

    If the sites of an orbit get several elements, the most frequent one counts.
    """
    sites = reference.sites(parent.index)
    orbits = reference.orbits[sites]
    distances = []
    names = np.unique(orbits)
    for orbit in names:
        members = np.flatnonzero(orbits == orbit)
        ((new, _),) = Counter(parent.elements[at] for at in members).most_common(1)
        places = (
            pettifor_number(int(reference.numbers[sites][members[0]])),
            pettifor_number(new),
        )
        if None not in places and places[0] != places[1]:
            distances.append(abs(places[0] - places[1]))
    return len(names), distances


def pairs(options: argparse.Namespace) -> None:
    """Print the table, and the share of exchanged orbits."""
    reference = open_reference(options.reference)
    protocol = dataclasses.replace(Protocol.named("fast"), name="one parent", k=1)
    search = ParentSearch(reference, protocol)
    count = len(reference) if options.crystals is None else options.crystals
    n_pairs, n_orbits, distances = 0, 0, Counter()
    for index in np.random.default_rng(0).permutation(len(reference))[:count].tolist():
        parent = cheapest(search, index)
        if parent is None or parent.share_exchanged == 0:
            continue
        orbits, exchanged = exchanged_orbits(reference, parent)
        n_pairs += 1
        n_orbits += orbits
        distances.update(exchanged)
    total = distances.total()
    print(f"{count} crystals, {n_pairs} pairs; {total} of {n_orbits} orbits exchanged: ", end="")
    print(f"{total / n_orbits:.4f}")
    print([distances[d] for d in range(103)])


EXPECTED: dict[str, tuple[str, Callable[[BesideRealCrystals], bool]]] = {
    "perturbed": (
        "observed / expected below 1, copying z below -3",
        lambda real: (
            real.standardised is not None
            and real.standardised.ratio.high < 1
            and (real.copying_z or 0) < -3
        ),
    ),
    "held_out": (
        "ratio 1 within its interval, copying z between -3 and 3",
        lambda real: _ratio(real).low <= 1 <= _ratio(real).high and abs(real.copying_z or 0) < 3,
    ),
    **{
        name: (
            "unmatched no more often than the sensitivity of the control explains",
            lambda real: (
                real.sensitivity is None
                or _ratio(real).low * real.base_rate.value <= 1 - real.sensitivity.low
            ),
        )
        for name in ("ion_exchange", "random_substitution")
    },
}
"""Required relations of null models to real crystals."""


def _ratio(real: BesideRealCrystals) -> Ratio:
    assert real.novelty_ratio is not None
    return real.novelty_ratio


def runs(options: argparse.Namespace) -> None:
    """Print one row per run, and whether it is as expected; exit status 1 if one is not."""
    wrong = 0
    print("| run | eligible | " + " | ".join(Verdict) + " | ratio | obs./exp. | copying z |")
    print("|---|" + "---:|" * (len(Verdict) + 4))
    judged = []
    for folder in options.runs:
        report = NoveltyReport.load(folder)
        name = folder.name.removesuffix(".run")
        real = report.beside_real_crystals
        cells = [percent_interval(report.fractions.get(v.value), 0) for v in Verdict]
        cells += ["-"] * 3 if real is None else _beside_cells(real)
        print(f"| {name} | {report.n_eligible} of {report.n_read} | " + " | ".join(cells) + " |")
        if name in EXPECTED and real is not None:
            words, holds = EXPECTED[name]
            right = holds(real)
            wrong += not right
            judged.append(f"{'right' if right else 'WRONG'}: {name}: {words}")
    print("\n".join(["", *judged]))
    sys.exit(1 if wrong else 0)


def _beside_cells(real: BesideRealCrystals) -> list[str]:
    expected = real.standardised
    return [
        "-" if real.novelty_ratio is None else real.novelty_ratio.text,
        "-" if expected is None else expected.ratio.text,
        "-" if real.copying_z is None else f"{real.copying_z:.1f}",
    ]


def published(options: argparse.Namespace) -> None:
    """Print the shares of each verdict side by side, with 95 % intervals (Wilson, Newcombe)."""
    if len(options.runs) % 2:
        raise SystemExit("name pairs of runs: PUBLISHED OURS")
    pairs_of_runs = zip(options.runs[::2], options.runs[1::2], strict=True)
    print("| published, ours | share | published, % | ours, % | ours minus published, points |")
    print("|---|---|---:|---:|---:|")
    for folders in pairs_of_runs:
        reports = [NoveltyReport.load(folder) for folder in folders]
        first, second = reports
        for mismatch in context_mismatches(first.context, second.context):
            raise SystemExit(f"{folders[0]}, {folders[1]}: not the same measurement: {mismatch}")
        rows = [("eligible, of all", [(report.n_eligible, report.n_read) for report in reports])]
        rows += [
            (verdict.value, [(report.counts[verdict], report.n_eligible) for report in reports])
            for verdict in Verdict
        ]
        rows += [
            (
                f"{verdict.value}, without duplicates",
                [
                    (report.counts[verdict], report.n_eligible - report.counts[Verdict.DUPLICATE])
                    for report in reports
                ],
            )
            for verdict in (Verdict.SUBSTITUTED, Verdict.UNMATCHED)
        ]
        for share, counts in rows:
            cells = [
                f"{percent_interval(wilson(hits, total))} ({hits} of {total})"
                for hits, total in counts
            ]
            change = points_interval(newcombe(*counts), 1)
            names = f"{folders[0].name}, {folders[1].name}"
            print(f"| {names} | {share} | {' | '.join(cells)} | {change} |")


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parts = parser.add_subparsers(required=True)
    one = parts.add_parser("pairs")
    one.add_argument("reference")
    one.add_argument("--crystals", type=int)
    one.set_defaults(run=pairs)
    other = parts.add_parser("runs")
    other.add_argument("runs", nargs="+", type=Path)
    other.set_defaults(run=runs)
    third = parts.add_parser("published")
    third.add_argument("runs", nargs="+", type=Path)
    third.set_defaults(run=published)
    options = parser.parse_args(arguments)
    options.run(options)


if __name__ == "__main__":
    main()
