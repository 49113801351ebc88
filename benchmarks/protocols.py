"""How often the verdicts of `fast` agree with those of `paper`, and what each costs.

Scores the same generated crystals with both protocols against the same reference, and prints the
agreement with its 95 % interval, every disagreement, and the steps of the relaxations::

    python benchmarks/protocols.py STORE.arrow SAMPLES [SAMPLES ...] --crystals 10 --max-sites 8

takes the first ten crystals of at most eight sites from each file. The relaxations of `paper` take
minutes each; they are cached, so an interrupted run goes on where it was.
"""

from __future__ import annotations

import argparse
import dataclasses
import sys
import time
from collections import Counter
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

from novelty_metric import NoveltyReport, Sample, SubstitutionNovelty, read_samples
from novelty_metric.statistics import wilson


def main() -> None:
    """Score twice, compare, print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("reference")
    parser.add_argument("samples", nargs="+", type=Path)
    parser.add_argument("--crystals", type=int, default=10, help="from each file")
    parser.add_argument("--max-sites", type=int, default=8)
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--cache", type=Path, default=None)
    parser.add_argument("--out", type=Path, default=None, help="folder for both reports")
    options = parser.parse_args()

    samples = [
        dataclasses.replace(sample, id=f"{path.parent.name}:{sample.id}")
        for path in options.samples
        for sample in islice(small(path, options.max_sites), options.crystals)
    ]
    reports = {}
    for protocol in ("fast", "paper"):
        with SubstitutionNovelty(
            options.reference,
            protocol,
            workers=options.workers,
            cache=options.cache or True,
            progress=say,
        ) as metric:
            metric.update_samples(samples)
            reports[protocol] = metric.compute()
        if options.out is not None:
            reports[protocol].save(options.out / protocol)
    compare(reports["fast"], reports["paper"])


def small(path: Path, max_sites: int) -> Iterator[Sample]:
    """The readable crystals of a file with at most so many sites."""
    for sample in read_samples(path):
        if sample.structure is not None and len(sample.structure) <= max_sites:
            yield sample


def say(stage: str, done: int, total: int | None) -> None:
    """A line a step on standard error: some steps take minutes."""
    print(time.strftime("%H:%M:%S"), stage, done, total, file=sys.stderr)


def compare(fast: NoveltyReport, paper: NoveltyReport) -> None:
    """Print what agrees and what does not."""
    pairs = list(zip(fast.results, paper.results, strict=True))
    for what, kept in (
        ("all crystals, not eligible counted as an answer", pairs),
        (
            "eligible in both, decided in both",
            [
                (one, other)
                for one, other in pairs
                if one.eligible
                and other.eligible
                and "undecided" not in (one.verdict, other.verdict)
            ],
        ),
    ):
        same = sum(one.verdict == other.verdict for one, other in kept)
        share = wilson(same, len(kept))
        if share is not None:
            print(f"{what}: {same} of {len(kept)} agree [{share.low:.2f}-{share.high:.2f}]")
    print("fast -> paper:")
    for (one, other), count in sorted(
        Counter((str(one.verdict), str(other.verdict)) for one, other in pairs).items()
    ):
        print(f"  {one} -> {other}: {count}")
    for one, other in pairs:
        if one.verdict != other.verdict:
            print(
                f"  {one.id} {one.formula}: {one.verdict} ({one.error}) / "
                f"{other.verdict} ({other.error})"
            )
    for name, report in (("fast", fast), ("paper", paper)):
        steps = [t.steps for r in report.results for t in r.parents if t.steps is not None]
        lost = sum(t.relaxed and not t.converged for r in report.results for t in r.parents)
        print(f"{name}: {len(steps)} parents relaxed, {sum(steps)} steps, {lost} not converged")


if __name__ == "__main__":
    main()
