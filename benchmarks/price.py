"""Cost of scoring a crystal, in plain CHGNet force calls for the same crystal.

All times are processor times in one process and one run, so that other programs do not matter::

    python benchmarks/price.py STORE.arrow SAMPLES [SAMPLES ...] --crystals 10 --log now.json
    python benchmarks/price.py STORE.arrow SAMPLES … --log now.json --before before.json

For each file, the first crystals are scored with ``protocol=fast``, without a cache. A plain force
call is one call of CHGNet's own ASE calculator for the unrelaxed crystal: energy, forces and
stress. Opening and compilation (reference, hull, kernels) are not counted.

``--log`` stores the measurements and the verdicts. ``--before`` also prints those of an earlier
log, and the share of its decided crystals with an equal verdict. For the log of an earlier version,
run this file with ``PYTHONPATH`` set to its checkout.
"""

from __future__ import annotations

import argparse
import json
import time
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any

import torch

from novelty_metric import Sample, SubstitutionNovelty, read_samples
from novelty_metric.crystal import clean
from novelty_metric.errors import CrystalError
from novelty_metric.relaxation.base import Evaluation, Geometry, PotentialInfo
from novelty_metric.relaxation.evaluators import Evaluator
from novelty_metric.relaxation.potentials import Chgnet
from novelty_metric.relaxation.relaxation_run import geometry_of, right_handed
from novelty_metric.scoring.step_clock import StepClock
from novelty_metric.support.statistics import wilson

READING = "reading"
PARTS = {
    READING: (READING, "check"),
    "reduction": ("reduce", "measure relaxations"),
    "screen": ("screen",),
    "search": ("find duplicates", "search parents", "group equal samples"),
    "samples": ("relax samples", "symmetry of samples", "saddles of samples"),
    "parents": ("relax parents", "saddles of parents"),
}
"""Parts of the price: the pipeline steps whose times each part sums."""

OPENING = ("open", "prepare search", "energies of the reference")
"""Steps that run once and are not part of the price."""


class ProcessorClock(StepClock):
    """A clock of pipeline steps that measures processor time."""

    @contextmanager
    def timed(self, step: str) -> Iterator[None]:
        """Add the processor time of the block to that of the step."""
        started = time.process_time()
        try:
            yield
        finally:
            self.seconds[step] += time.process_time() - started


@dataclass
class Counted:
    """CHGNet, with the number and the processor time of its evaluations."""

    potential: Chgnet = field(default_factory=lambda: Chgnet("cpu"))
    n_evaluations: int = 0
    n_sites: int = 0
    seconds: float = 0.0

    @property
    def info(self) -> PotentialInfo:
        """Identity of CHGNet."""
        return self.potential.info

    @property
    def device_name(self) -> str:
        """The CPU."""
        return "cpu"

    def evaluator(self) -> Evaluator:
        """CHGNet's evaluator, with counting."""
        self._evaluator = self.potential.evaluator()
        return self

    @property
    def budget(self) -> float:
        """The budget of CHGNet's evaluator."""
        return self._evaluator.budget

    def cost(self, geometry: Geometry) -> float:
        """The cost by CHGNet's evaluator."""
        return self._evaluator.cost(geometry)

    def evaluate(
        self, geometries: Sequence[Geometry], *, energy_only: bool = False
    ) -> list[Evaluation]:
        """Evaluate with CHGNet, and count."""
        started = time.process_time()
        found = self._evaluator.evaluate(geometries, energy_only=energy_only)
        self.seconds += time.process_time() - started
        self.n_evaluations += len(geometries)
        self.n_sites += sum(len(geometry.numbers) for geometry in geometries)
        return found


@dataclass
class Price:
    """Cost and results of the crystals of one file.

    Attributes
    ----------
    plain : float
        Processor time of one plain force call of each crystal (s); the mean of two.
    parts : dict
        Processor time of scoring them, by `PARTS` (s).
    evaluating : float
        That of the evaluations, a share of the samples' and the parents' (s).
    """

    file: str
    n_crystals: int
    plain: float
    parts: dict[str, float]
    evaluating: float
    n_evaluations: int
    n_sites: int
    verdicts: dict[str, str | None]

    @property
    def calls(self) -> float:
        """Plain force calls per crystal."""
        return sum(self.parts.values()) / self.plain


def main() -> None:
    """Score, measure, print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("reference")
    parser.add_argument("samples", nargs="+", type=Path)
    parser.add_argument("--crystals", type=int, default=10, help="crystals of each file")
    parser.add_argument("--skip", type=int, default=0, help="crystals at the start of each file")
    parser.add_argument("--protocol", default="fast")
    parser.add_argument("--log", type=Path, default=None)
    parser.add_argument("--before", type=Path, default=None)
    options = parser.parse_args()

    torch.set_num_threads(1)
    plain = Chgnet("cpu", batched=False).evaluator()
    counted = Counted()
    warm_up(options.reference, options.protocol, counted, plain, options.samples[0])
    prices = []
    for path in options.samples:
        prices.append(price_of(path, options, counted, plain))
        print(line(prices[-1]), flush=True)
        if options.log is not None:
            options.log.write_text(json.dumps([vars(price) for price in prices], indent=1))
    print(line(total(prices)))
    if options.before is not None:
        compare([Price(**row) for row in json.loads(options.before.read_text())], prices)


def warm_up(reference: str, protocol: str, counted: Counted, plain: Evaluator, path: Path) -> None:
    """Compile and import what is used, with one crystal."""
    (sample,) = crystals_of(path, 0, 1)
    metric = made_metric(reference, protocol, counted)
    metric.update_samples([sample])
    metric.compute()
    other = clean(sample.structure)  # the calculator would cache an equal one
    other.perturb(0.01, seed=0)
    plain.evaluate([right_handed(geometry_of(other))])


def made_metric(reference: str, protocol: str, counted: Counted) -> SubstitutionNovelty:
    """A metric with open resources and a processor-time clock."""
    metric = SubstitutionNovelty(reference, protocol, relaxer=counted, cache=False, workers=1)
    metric._clock = ProcessorClock()
    metric.prepare()
    metric._clock.seconds.clear()
    return metric


def price_of(path: Path, options: Any, counted: Counted, plain: Evaluator) -> Price:
    """Score the crystals of one file, and evaluate each one with plain calls."""
    metric = made_metric(options.reference, options.protocol, counted)
    counted.n_evaluations, counted.n_sites, counted.seconds = 0, 0, 0.0
    with metric._clock.timed(READING):
        samples = crystals_of(path, options.skip, options.crystals)
    metric.update_samples(samples)
    # Before and after scoring, because other programs on the machine slow a processor.
    plain_seconds = seconds_of_plain_calls(samples, plain)
    report = metric.compute()
    plain_seconds = (plain_seconds + seconds_of_plain_calls(samples, plain)) / 2
    return Price(
        file=path.name,
        n_crystals=len(samples),
        plain=plain_seconds,
        parts=parts_of(metric._clock.seconds),
        evaluating=counted.seconds,
        n_evaluations=counted.n_evaluations,
        n_sites=counted.n_sites,
        verdicts={
            row.id: None if row.verdict is None else str(row.verdict) for row in report.results
        },
    )


def parts_of(seconds: Mapping[str, float]) -> dict[str, float]:
    """The time of each part; a step outside every part becomes its own part."""
    parts = {part: sum(seconds.get(step, 0.0) for step in steps) for part, steps in PARTS.items()}
    known = {step for steps in PARTS.values() for step in steps} | {*OPENING}
    parts["others"] = sum(value for step, value in seconds.items() if step not in known)
    return parts


def seconds_of_plain_calls(samples: Sequence[Sample], plain: Evaluator) -> float:
    """Processor time of a plain force call for each crystal (s)."""
    started = time.process_time()
    for sample in samples:
        plain.evaluate([right_handed(geometry_of(clean(sample.structure)))])
    return time.process_time() - started


def crystals_of(path: Path, skip: int, count: int) -> list[Sample]:
    """Usable crystals of a file."""
    return list(islice(filter(_is_crystal, read_samples(path)), skip, skip + count))


def _is_crystal(sample: Sample) -> bool:
    try:
        clean(sample.structure, max_sites=100)
    except CrystalError:
        return False
    return True


def total(prices: Sequence[Price]) -> Price:
    """All files together; the price is the mean over the files."""
    parts: dict[str, float] = defaultdict(float)
    for price in prices:
        for part, seconds in price.parts.items():
            parts[part] += seconds / price.plain / len(prices)
    return Price(
        file="mean of the files",
        n_crystals=sum(price.n_crystals for price in prices),
        plain=1.0,
        parts=parts,
        evaluating=sum(price.evaluating / price.plain for price in prices) / len(prices),
        n_evaluations=sum(price.n_evaluations for price in prices),
        n_sites=sum(price.n_sites for price in prices),
        verdicts={},
    )


def line(price: Price) -> str:
    """One line: the price and its parts."""
    parts = ", ".join(f"{part} {s / price.plain:.2f}" for part, s in price.parts.items())
    return (
        f"{price.file}: {price.n_crystals} crystals, {price.calls:.2f} plain force calls each "
        f"({parts}; of these, evaluations {price.evaluating / price.plain:.2f}); "
        f"{price.n_evaluations / price.n_crystals:.1f} evaluations of "
        f"{price.n_sites / max(1, price.n_evaluations):.1f} sites each"
    )


def compare(before: Sequence[Price], now: Sequence[Price]) -> None:
    """Compare with an earlier log: the price, and the share of equal verdicts."""
    by_file = {price.file: price for price in before}
    pairs = [(by_file[price.file], price) for price in now if price.file in by_file]
    same = decided = 0
    for old, new in pairs:
        print(f"{new.file}: {old.calls:.2f} before, {new.calls:.2f} now")
        for name, verdict in old.verdicts.items():
            if verdict is None or verdict == "undecided" or name not in new.verdicts:
                continue
            decided += 1
            same += new.verdicts[name] == verdict
            if new.verdicts[name] != verdict:
                print(f"  {name}: {verdict} before, {new.verdicts[name]} now")
    olds, news = zip(*pairs, strict=True)
    share = wilson(same, decided)
    interval = "" if share is None else f" [{share.low:.3f}-{share.high:.3f}]"
    print(
        f"mean of the files: {total(olds).calls:.2f} before, {total(news).calls:.2f} now; the "
        f"verdict is the same for {same} of {decided}{interval} that were decided"
    )


if __name__ == "__main__":
    main()
