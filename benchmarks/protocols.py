"""Effect of relaxation settings: verdicts compared with `paper`, and the cost.

The same generated crystals are scored under several settings against the same reference. The first
setting is the baseline. For every other one, the script prints the agreement of verdicts with a 95
% interval, and the number of force evaluations for samples and parents together::

    python benchmarks/protocols.py STORE.arrow SAMPLES [SAMPLES ...] --crystals 30 --max-sites 10 \
        --settings paper fast paper:optimizer=bfgs_symmetric fast:fmax=0.1,max_steps=100
    python benchmarks/protocols.py STORE.arrow SAMPLES … --settings paper:exhaustive paper
    python benchmarks/protocols.py STORE.arrow SAMPLES … --settings paper paper:shaken fast

takes the first 30 crystals of at most ten sites from each file, in turn. Crystals that SMACT
refuses are never eligible and are excluded. With ``shaken``, sites of every generated crystal are
displaced at random by 0.001 Å. The agreement of a setting with itself is then an upper limit for
any other setting. For settings after a shaken baseline, the agreement is also printed for the
verdicts that the baseline repeats. Relaxations are cached, so an interrupted run can continue.
"""

from __future__ import annotations

import argparse
import dataclasses
import sys
import time
import zlib
from collections import Counter, deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from novelty_metric import NoveltyReport, Sample, SubstitutionNovelty, crystal, read_samples
from novelty_metric.errors import CrystalError
from novelty_metric.protocol import Protocol
from novelty_metric.relaxation import (
    PotentialInfo,
    Relaxation,
    Relaxer,
    RelaxSettings,
    RelaxTask,
)
from novelty_metric.relaxation.cache import RelaxationCache
from novelty_metric.relaxation.potentials import Chgnet
from novelty_metric.relaxation.relaxer import PotentialRelaxer
from novelty_metric.screening.composition import smact_valid
from novelty_metric.support.statistics import wilson
from novelty_metric.verdict import CrystalResult

if TYPE_CHECKING:
    from pymatgen.core import Structure


FLAGS = ("exhaustive", "shaken")
"""Changes of a setting that are not fields of a protocol."""

SHAKE = 0.001
"""Displacement (Å)."""


@dataclass
class Counted:
    """A relaxer that counts its calls."""

    relaxer: Relaxer
    results: list[tuple[str, Relaxation]] = field(default_factory=list)

    @property
    def info(self) -> PotentialInfo:
        """The potential."""
        return self.relaxer.info

    def relax(
        self, queue: deque[RelaxTask], settings: RelaxSettings, *, deadline: float | None = None
    ) -> Iterator[tuple[RelaxTask, Relaxation]]:
        """Relax, and count."""
        for task, result in self.relaxer.relax(queue, settings, deadline=deadline):
            self.results.append(("parent" if hasattr(task.key, "positions") else "sample", result))
            yield task, result

    def energies(self, structures: Sequence[Structure]) -> Iterator[float]:
        """Calculate energies, and count."""
        return self.relaxer.energies(structures)

    def close(self) -> None:
        """Close the relaxer."""
        self.relaxer.close()


def main() -> None:
    """Score with each of the settings, compare, print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("reference")
    parser.add_argument("samples", nargs="+", type=Path)
    parser.add_argument("--crystals", type=int, default=10, help="crystals of each file")
    parser.add_argument("--skip", type=int, default=0, help="crystals to skip at the start")
    parser.add_argument("--min-sites", type=int, default=1)
    parser.add_argument("--max-sites", type=int, default=8)
    parser.add_argument("--settings", nargs="+", default=["paper", "fast"])
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--cache", type=Path, default=None)
    parser.add_argument("--out", type=Path, default=None, help="folder for the reports")
    options = parser.parse_args()

    files = [
        list(islice(chosen(path, options), options.skip, options.skip + options.crystals))
        for path in options.samples
    ]
    samples = [sample for row in zip(*files, strict=True) for sample in row]
    cache = RelaxationCache(options.cache)
    reports: dict[str, NoveltyReport] = {}
    again: list[NoveltyReport] = []
    for words in options.settings:
        relaxer = Counted(PotentialRelaxer(Chgnet(), workers=options.workers, cache=cache))
        settings, flags = protocol(words)
        metric = SubstitutionNovelty(
            options.reference,
            settings,
            relaxer=relaxer,
            exhaustive="exhaustive" in flags,
            progress=lambda stage, done, total, words=words: say(words, stage, done, total),
        )
        metric.update_samples(map(shaken, samples) if "shaken" in flags else samples)
        reports[words] = metric.compute()
        relaxer.close()
        if options.out is not None:
            reports[words].save(options.out / words)
        first = reports[options.settings[0]]
        describe(words, reports[words], relaxer)
        if len(reports) > 1:
            compare(first, reports[words])
        if "shaken" in flags and settings == protocol(options.settings[0])[0]:
            again.append(reports[words])
        elif again:
            compare_repeatable(first, again, reports[words])
        sys.stdout.flush()
    cache.close()


def protocol(words: str) -> tuple[Protocol, set[str]]:
    """A preset with changes, such as ``fast:fmax=0.1,exhaustive``, and its `FLAGS`."""
    name, _, changes = words.partition(":")
    preset = Protocol.named(name)
    values = {}
    flags = set()
    for change in filter(None, changes.split(",")):
        key, _, value = change.partition("=")
        if change in FLAGS:
            flags.add(change)
        else:
            values[key] = type(getattr(preset, key))(value)
    return dataclasses.replace(preset, **values), flags


def shaken(sample: Sample) -> Sample:
    """The sample with every site displaced by `SHAKE` in a direction that its id determines."""
    assert sample.structure is not None
    moves = np.random.default_rng(zlib.crc32(sample.id.encode())).normal(
        size=(len(sample.structure), 3)
    )
    moves *= SHAKE / np.linalg.norm(moves, axis=1, keepdims=True)
    moved = sample.structure.copy()
    for site, move in enumerate(moves):
        moved.translate_sites([site], move, frac_coords=False)
    return dataclasses.replace(sample, structure=moved)


def chosen(path: Path, options: argparse.Namespace) -> Iterator[Sample]:
    """The readable crystals of a file up to a number of sites, with the file in their ids."""
    for sample in read_samples(path):
        if sample.structure is None:
            continue
        if options.min_sites <= len(sample.structure) <= options.max_sites:
            try:
                cleaned = crystal.clean(sample.structure, max_sites=options.max_sites)
            except CrystalError:
                continue
            if smact_valid(cleaned.composition):
                yield dataclasses.replace(sample, id=f"{path.parent.name}:{sample.id}")


def say(words: str, stage: str, done: int, total: int | None) -> None:
    """Print occasional progress on standard error: some steps take minutes."""
    if done % 10 == 0:
        print(time.strftime("%H:%M:%S"), words, stage, done, total, file=sys.stderr, flush=True)


def describe(words: str, report: NoveltyReport, relaxer: Counted) -> None:
    """Print the results and the cost of one run."""
    eligible = [result for result in report.results if result.eligible]
    verdicts = Counter(str(result.verdict) for result in eligible)
    print(f"\n{words}: {len(eligible)} eligible of {len(report.results)}, {dict(verdicts)}")
    for what in ("sample", "parent"):
        results = [result for kind, result in relaxer.results if kind == what]
        early = Counter(str(result.ended) for result in results if result.ended)
        unfinished = [result for result in results if not result.converged and not result.ended]
        failed = Counter((result.error or "steps used up").split(" (")[0] for result in unfinished)
        share = wilson(len(unfinished), len(results))
        interval = f" [{share.low:.3f}-{share.high:.3f}]" if share is not None else ""
        print(
            f"  {what}s: {len(results)} relaxed, {sum(r.steps + 1 for r in results)} force"
            f" evaluations, {len(unfinished)} not converged{interval} {dict(failed)}"
            f"{f', ended early {dict(early)}' if early else ''}"
        )
    evaluations = sum(result.steps + 1 for _, result in relaxer.results)
    print(f"  in all {evaluations} force evaluations, {evaluations / len(report.results):.1f} each")


def compare(first: NoveltyReport, other: NoveltyReport) -> None:
    """Print agreements and differences."""
    pairs = list(zip(first.results, other.results, strict=True))
    for what, kept in (
        ("all verdicts, not eligible and undecided as answers", pairs),
        ("searched in both", [pair for pair in pairs if all(map(searched, pair))]),
        ("decided in both", [pair for pair in pairs if all(map(decided, pair))]),
    ):
        print_agreement(what, kept)
    for one, two in pairs:
        if one.verdict != two.verdict:
            print(
                f"    {one.id} {one.formula}: {one.verdict} ({one.error}) /"
                f" {two.verdict} ({two.error})"
            )


def compare_repeatable(
    first: NoveltyReport, again: Sequence[NoveltyReport], other: NoveltyReport
) -> None:
    """Print the agreement for verdicts that the baseline repeats after a displacement."""
    rows = zip(first.results, other.results, *(r.results for r in again), strict=True)
    kept = [
        (one, two)
        for one, two, *more in rows
        if decided(one) and decided(two) and all(one.verdict == r.verdict for r in more)
    ]
    print_agreement("decided in both, and the same by the first when shaken", kept)


def print_agreement(what: str, pairs: Sequence[tuple[CrystalResult, CrystalResult]]) -> None:
    """Print how many pairs have equal verdicts, if there are any pairs."""
    same = sum(one.verdict == two.verdict for one, two in pairs)
    share = wilson(same, len(pairs))
    if share is not None:
        print(f"  {what}: {same} of {len(pairs)} agree [{share.low:.3f}-{share.high:.3f}]")


def searched(result: CrystalResult) -> bool:
    """Whether the crystal was eligible and not a duplicate."""
    return bool(result.eligible) and result.verdict != "duplicate"


def decided(result: CrystalResult) -> bool:
    """Whether the crystal was eligible and not undecided."""
    return bool(result.eligible) and result.verdict != "undecided"


if __name__ == "__main__":
    main()
