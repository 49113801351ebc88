"""Share of known substitutions that are found, and the cost.

Ion-exchanged crystals have known prototypes, and their authors relaxed them with other methods;
every crystal that is not found is therefore a miss. The script draws crystals, scores those up to a
number of sites under each setting against one reference, and prints the share found with its 95 %
interval, the number of force evaluations, and every miss with the results of its candidates::

    python benchmarks/sensitivity_control.py STORE.arrow Ion-Exchange.zip --limit 50 --seed 1 \
        --settings fast:accept_early=0 fast --out OUT.jsonl

With ``--explain`` every miss is scored again with one changed setting at a time, which gives its
kind; see `novelty_metric.analysis.misses`. Settings are named as in `protocols.py`. Relaxations are
cached, so an interrupted run can continue.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from protocols import Counted, describe, protocol, say

from novelty_metric import NoveltyReport, Sample, SubstitutionNovelty, crystal, read_samples
from novelty_metric.analysis.misses import FOUND, Miss, explain_misses
from novelty_metric.relaxation.cache import RelaxationCache
from novelty_metric.relaxation.potentials import Chgnet
from novelty_metric.relaxation.relaxer import PotentialRelaxer
from novelty_metric.support.statistics import wilson
from novelty_metric.verdict import CrystalResult


def main() -> None:
    """Score with each setting, and print hits and misses."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("reference")
    parser.add_argument("samples", type=Path)
    parser.add_argument("--limit", type=int, default=50)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--max-sites", type=int, default=20)
    parser.add_argument("--only", nargs="+", help="crystals by formula")
    parser.add_argument("--settings", nargs="+", default=["fast"])
    parser.add_argument("--cache", type=Path, default=None)
    parser.add_argument("--explain", action="store_true", help="name the kind of each miss")
    parser.add_argument("--out", type=Path, default=None, help="one JSON line for each miss")
    options = parser.parse_args()

    samples = list(chosen(options))
    if not samples:
        parser.error(f"no crystal drawn has at most {options.max_sites} sites")
    cache = RelaxationCache(options.cache)
    for words in options.settings:
        relaxer = Counted(PotentialRelaxer(Chgnet(), workers=1, cache=cache))
        metric = SubstitutionNovelty(
            options.reference,
            protocol(words)[0],
            relaxer=relaxer,
            hull="none",
            progress=lambda stage, done, total, words=words: say(words, stage, done, total),
        )
        metric.update_samples(samples)
        report = metric.compute()
        describe(words, report, relaxer)
        print_found(report)
        kinds = explained(metric, samples, report) if options.explain else {}
        if options.out is not None:
            write_misses(options.out, words, report, kinds)
        relaxer.close()
        sys.stdout.flush()
    cache.close()


def chosen(options: argparse.Namespace) -> Iterator[Sample]:
    """Random crystals whose primitive cells are small enough, in these cells."""
    for sample in read_samples(options.samples, limit=options.limit, seed=options.seed):
        if sample.structure is None:
            continue
        cell = crystal.reduce(crystal.clean(sample.structure))
        wanted = not options.only or cell.composition.reduced_formula in options.only
        if wanted and len(cell) <= options.max_sites:
            yield dataclasses.replace(sample, structure=cell)


def explained(
    metric: SubstitutionNovelty, samples: Sequence[Sample], report: NoveltyReport
) -> dict[str, Miss]:
    """The kind of each miss by id; also prints the number of each kind."""
    crystals = {one.id: one.structure for one in samples if one.structure is not None}
    missed = [
        result for result in report.results if result.eligible and result.verdict not in FOUND
    ]
    kinds = explain_misses(metric, {one.id: (crystals[one.id], one) for one in missed})
    names = {result.id: result.formula for result in missed}
    for kind in dict.fromkeys(kinds.values()):
        alike = [f"{names[key]} ({key})" for key, value in kinds.items() if value == kind]
        print(f"  {kind}: {len(alike)}, {', '.join(alike)}")
    return kinds


def print_found(report: NoveltyReport) -> None:
    """Print the share found, and the misses."""
    eligible = [result for result in report.results if result.eligible]
    missed = [result for result in eligible if result.verdict not in FOUND]
    share = wilson(len(eligible) - len(missed), len(eligible))
    if share is not None:
        print(
            f"  found {len(eligible) - len(missed)} of {len(eligible)}"
            f" [{share.low:.2f}-{share.high:.2f}]"
        )
    for result in missed:
        print(f"  missed: {result.formula} ({result.id}), {result.verdict} {result.error or ''}")
        for tried in result.parents:
            energy = "no energy"
            if tried.energy_per_atom is not None and result.energy_per_atom is not None:
                energy = f"{1000 * (tried.energy_per_atom - result.energy_per_atom):+.1f} meV/atom"
            print(
                f"    {tried.parent.parent_id} ({tried.parent.route} {tried.parent.rank}),"
                f" cost {tried.parent.cost:.2f}, match RMS {tried.parent.match_rms},"
                f" {energy}, {tried.steps} steps,"
                f" {tried.ended_early or tried.error or f'converged {tried.converged}'}"
            )


def evidence(result: CrystalResult) -> dict[str, Any]:
    """The row as plain values, without its crystals."""
    return dataclasses.asdict(dataclasses.replace(result, structures=None))


def write_misses(path: Path, words: str, report: NoveltyReport, kinds: dict[str, Miss]) -> None:
    """Append misses to a file of JSON lines."""
    with path.open("a") as file:
        for result in report.results:
            if result.eligible and result.verdict not in FOUND:
                known = {"settings": words, "miss": kinds.get(result.id)}
                file.write(json.dumps(known | evidence(result)) + "\n")


if __name__ == "__main__":
    main()
