"""How often the early refusal of `fast` refuses a parent that would have matched.

Null models and crystals of generative models are relaxed and searched as `score` does. Every
parent to which the rule applies (Wyckoff route only) is then relaxed to its end with the rule only
watched: it is a wrong refusal if the rule says "refused" on the way and the parent matches at the
end::

    python benchmarks/refusals.py STORE.arrow MODEL.zip [MODEL.csv ...] --parents 500 \
        --cache CACHE.sqlite --out parents.jsonl

takes one crystal of each source in turn until so many parents have matched, or no crystal is left.
With the same seed and cache an interrupted run goes on where it was.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import sys
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from novelty_metric import Sample, SubstitutionNovelty, crystal, read_samples
from novelty_metric.baselines import NULL_MODELS
from novelty_metric.errors import CrystalError
from novelty_metric.relaxation.base import Ended, Relaxation, RelaxTask
from novelty_metric.relaxation.cache import RelaxationCache
from novelty_metric.relaxation.potentials import Chgnet
from novelty_metric.relaxation.relaxer import PotentialRelaxer
from novelty_metric.scoring.case import Case
from novelty_metric.scoring.early_stopping import MatchStopping
from novelty_metric.screening.composition import smact_valid
from novelty_metric.support.statistics import wilson
from novelty_metric.verdict import Route

if TYPE_CHECKING:
    from pymatgen.core import Structure

    from novelty_metric.reference import Reference

PLANTED = ("ion_exchange", "random_substitution")
AT_ONCE = 24
"""Crystals that are relaxed together."""


@dataclass(eq=False)
class Watched:
    """The early stopping of `fast`, whose refusals are noted and not followed.

    `path` holds the energy above the crystal (eV/atom) and the largest force (eV/Å) at each point.
    """

    stopping: MatchStopping
    path: list[tuple[float, float]] = field(default_factory=list)
    refused_at: int | None = None

    def decide(
        self, energy_per_atom: float, largest_force: float, structure: Callable[[], Structure]
    ) -> Ended | None:
        """Accepted, or None to go on."""
        self.path.append((energy_per_atom - self.stopping.energy_per_atom, largest_force))
        answer = self.stopping.decide(energy_per_atom, largest_force, structure)
        if answer is not Ended.REFUSED:
            return answer
        if self.refused_at is None:
            self.refused_at = len(self.path)
        return None


@dataclass(frozen=True)
class Row:
    """One parent: what the rule said, and how its relaxation ended; `path` as in `Watched`."""

    source: str
    id: str
    formula: str
    parent_id: str
    rank: int
    n_sites: int
    matches: bool
    refused: bool
    evaluations: int
    evaluations_with_rule: int
    energy_above: float | None
    confirm_rms: float | None
    path: tuple[tuple[float, float], ...]
    finished: bool


def main() -> None:
    """Relax the parents, and count."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("reference")
    parser.add_argument("samples", nargs="*", type=Path)
    parser.add_argument("--parents", type=int, default=500, help="that match, to stop at")
    parser.add_argument("--crystals", type=int, default=400, help="at most, of each source")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--max-sites", type=int, default=12)
    parser.add_argument("--cache", type=Path, default=None)
    parser.add_argument("--out", type=Path, default=None, help="one JSON line for each parent")
    options = parser.parse_args()

    cache = RelaxationCache(options.cache)
    relaxer = PotentialRelaxer(Chgnet(), workers=1, cache=cache)
    metric = SubstitutionNovelty(options.reference, "fast", relaxer=relaxer, hull="none")
    rows: list[Row] = []
    drawn = in_turn(options, metric.reference)
    while samples := list(islice(drawn, AT_ONCE)):
        rows += relaxed_parents(metric, samples)
        if options.out is not None:
            lines = (json.dumps(dataclasses.asdict(row)) for row in rows)
            options.out.write_text("\n".join(lines) + "\n")
        matching = [row for row in rows if row.matches]
        wrong = [row for row in matching if row.refused]
        print(
            time.strftime("%H:%M:%S"),
            f"{len(rows)} parents, {len(matching)} match, {len(wrong)} wrong refusals",
            file=sys.stderr,
            flush=True,
        )
        if len(matching) >= options.parents:
            break
    relaxer.close()
    cache.close()
    describe(rows)


def in_turn(options: argparse.Namespace, reference: Reference) -> Iterator[Sample]:
    """One crystal of each source after the other, those with the source in their id."""
    sources = [planted(name, reference, options) for name in PLANTED]
    sources += [generated(path, options) for path in options.samples]
    open_sources = [islice(source, options.crystals) for source in sources]
    while open_sources:
        for source in list(open_sources):
            sample = next(source, None)
            if sample is None:
                open_sources.remove(source)
            else:
                yield sample


def planted(name: str, reference: Reference, options: argparse.Namespace) -> Iterator[Sample]:
    """Crystals of a null model that have exchanged elements."""
    made = NULL_MODELS[name].generate(reference, n=100 * options.crystals, seed=options.seed)
    for one in made:
        if one.exchanged and wanted(one.structure, options.max_sites):
            yield Sample(f"{name}:{one.id}", one.structure)


def generated(path: Path, options: argparse.Namespace) -> Iterator[Sample]:
    """Crystals of a model's file in an order that the seed decides."""
    drawn = list(read_samples(path, limit=2 * options.crystals, seed=options.seed))
    for at in np.random.default_rng(options.seed).permutation(len(drawn)).tolist():
        sample = drawn[at]
        if sample.structure is None:
            continue
        try:
            cell = crystal.reduce(crystal.clean(sample.structure))
        except CrystalError:
            continue
        if wanted(cell, options.max_sites):
            yield dataclasses.replace(sample, id=f"{path.name}:{sample.id}", structure=cell)


def wanted(structure: Structure, max_sites: int) -> bool:
    """Whether a crystal is small enough, and can be eligible."""
    return len(structure) <= max_sites and smact_valid(structure.composition)


def relaxed_parents(metric: SubstitutionNovelty, samples: list[Sample]) -> Iterator[Row]:
    """The parents of these crystals that the rule applies to, relaxed to their end."""
    pipeline = metric.pipeline
    cases = [Case(sample) for sample in samples]
    pipeline.check(cases)
    pipeline.normalise(cases)
    pipeline.screen(cases)
    pipeline.search(cases, plain_matching=False)
    queue: deque[RelaxTask] = deque()
    for case in cases:
        if not case.eligible or not case.tried:
            continue
        case.substitute_parents(metric.reference)
        for parent in case.waiting:
            routes = {case.tried[position].parent.route for position in parent.positions}
            if Route.LATTICE_SITES not in routes:
                queue.append(RelaxTask((case, parent), parent.structure, watched(case, metric)))
    relaxer = pipeline.resources.relaxer
    assert relaxer is not None
    for task, result in relaxer.relax(queue, metric.rules.relax_settings):
        yield row_of(metric, task, result)


def watched(case: Case, metric: SubstitutionNovelty) -> Watched:
    """The rule for the parents of a crystal."""
    assert case.reduced is not None and case.energy_per_atom is not None
    return Watched(MatchStopping(case.reduced, case.energy_per_atom, metric.protocol))


def row_of(metric: SubstitutionNovelty, task: RelaxTask, result: Relaxation) -> Row:
    """What the rule said of a parent, and how it ended."""
    assert isinstance(task.key, tuple) and isinstance(task.early_stopping, Watched)
    case, parent = task.key
    case.confirm(parent.positions, result, metric.pipeline.resources.search.matching)
    tried = case.tried[parent.positions[0]]
    refused_at = task.early_stopping.refused_at
    end = result.energy_after
    return Row(
        source=case.sample.id.partition(":")[0],
        id=case.sample.id,
        formula=case.reduced.composition.reduced_formula,
        parent_id=tried.parent.parent_id,
        rank=tried.parent.rank,
        n_sites=len(parent.structure),
        matches=tried.confirmed is True,
        refused=refused_at is not None,
        evaluations=result.steps + 1,
        evaluations_with_rule=result.steps + 1 if refused_at is None else refused_at,
        energy_above=None if end is None else end - case.energy_per_atom,
        confirm_rms=tried.confirm_rms,
        path=tuple(task.early_stopping.path),
        finished=tried.error is None and (result.converged or result.ended is not None),
    )


def describe(rows: Sequence[Row]) -> None:
    """Print the wrong refusals by source, and what the rule saves."""
    for source in [*dict.fromkeys(row.source for row in rows), "all"]:
        some = [row for row in rows if source in (row.source, "all")]
        matching = [row for row in some if row.matches]
        wrong = [row for row in matching if row.refused]
        others = [row for row in some if not row.matches]
        share = wilson(len(wrong), len(matching))
        interval = "" if share is None else f" [{100 * share.low:.1f}-{100 * share.high:.1f} %]"
        print(
            f"{source}: {len({row.id for row in some})} crystals, {len(some)} parents, "
            f"{sum(not row.finished for row in some)} without an end; wrong refusals {len(wrong)} "
            f"of {len(matching)} that match{interval}; right refusals "
            f"{sum(row.refused for row in others)} of {len(others)}; evaluations "
            f"{sum(row.evaluations_with_rule for row in some)} of "
            f"{sum(row.evaluations for row in some)}"
        )
        if source == "all":
            for row in wrong:
                above, force = row.path[row.evaluations_with_rule - 1]
                print(
                    f"  wrong: {row.formula} ({row.id}), {row.parent_id}: refused "
                    f"{above:.3f} eV/atom above at {force:.3f} eV/Å, ends "
                    f"{row.energy_above:.3f} above at RMS {row.confirm_rms:.3f}"
                )


if __name__ == "__main__":
    main()
