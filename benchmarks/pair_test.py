"""Whether a pair that the search refuses cheaply is ever one that pymatgen accepts.

The search puts few pairs to pymatgen: the rest is refused by the rules of `search.bounds` or by the
compiled test of `search.kernels`, which also says of the others what their atom map costs at least,
and on which lattice pymatgen's walk may begin. Here pymatgen judges every pair by its whole walk:
it must refuse what was refused, find no cheaper map, and find the same one from that lattice on.
Pairs are drawn at random
(seeded) between generated crystals of several models and a prepared reference, among all whose
numbers of sites divide one another, in chunks of two kinds:

- *uniform*: as they come;
- *late*: only pairs that the compiled test refuses after comparing sites; few pairs come that far,
  and there the decisions are finest.

Half of each model's crystals are drawn at random, the other half among those of low symmetry
(triclinic, monoclinic) with 18 to 20 sites. Finished chunks are appended to a log, which a later
run carries on; ``--report`` only adds the log up::

    python benchmarks/pair_test.py --reference STORE.arrow --log pairs.jsonl --pairs 2000000 \\
        --samples GENERATED/diffcsp/DiffCSP_mp_20.pt GENERATED/flowmm/….csv …

The exit status is 1 if anything was wrong.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
import warnings
import zlib
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from pymatgen.core import Structure

from novelty_metric.crystal import clean, reduce, symmetry
from novelty_metric.errors import CrystalError
from novelty_metric.protocol import Protocol
from novelty_metric.reference import Reference
from novelty_metric.samples import read_samples
from novelty_metric.search import kernels
from novelty_metric.search.bounds import Cells, cells_of_reference, may_match
from novelty_metric.search.compiled import CompiledTest
from novelty_metric.search.matching import FrameworkMatch, Matching
from novelty_metric.search.pettifor import map_cost, pettifor_numbers

STAGES = ("no vectors", "no lattice", "not covered", "too far", "let through")
"""By the answer of the compiled test."""

RULES = "bounds"
KINDS = ("uniform", "late")
LATE_EVERY = 12
"""Every how many chunks one is late."""


@dataclass
class Tally:
    """What became of pairs of one kind; keys are stages."""

    pairs: Counter[str] = field(default_factory=Counter)
    accepted: Counter[str] = field(default_factory=Counter)
    models: Counter[str] = field(default_factory=Counter)
    exact_costs: int = 0
    wrong: list[str] = field(default_factory=list)
    raised: list[str] = field(default_factory=list)
    seconds: float = 0.0


def crystals_of(path: Path, count: int, pool: int, seed: int) -> list[tuple[str, Structure]]:
    """Clean, reduced crystals of one model with their ids: half at random, half low symmetry."""
    samples = [s for s in read_samples(path, limit=4 * pool) if s.structure is not None]
    order = np.random.default_rng(seed).permutation(len(samples))[:pool]
    chosen: list[tuple[str, Structure]] = []
    for place in order.tolist():
        if len(chosen) == count:
            break
        try:
            crystal = reduce(clean(samples[place].structure, max_sites=80))
        except CrystalError:
            continue
        if len(chosen) >= count // 2:
            if not 18 <= len(crystal) <= 20:
                continue
            found = symmetry(crystal, symprec=0.01, angle_tolerance=5.0)
            if found is None or found.space_group > 15:
                continue
        chosen.append((samples[place].id, crystal))
    return chosen


class Drawing:
    """Pairs at random among all commensurate ones, and what the search says about them."""

    def __init__(
        self, crystals: list[tuple[str, Structure]], reference: Reference, protocol: Protocol
    ) -> None:
        self.crystals, self.reference, self.protocol = crystals, reference, protocol
        self.structures = list(reference)
        self.tests = [CompiledTest(kernels, c, reference, protocol) for _, c in crystals]
        self.cells = cells_of_reference(reference, protocol)
        sizes = np.unique(reference.n_sites)
        members = {int(n): np.flatnonzero(reference.n_sites == n) for n in sizes}
        self.partners: dict[int, np.ndarray] = {}
        for n in {len(crystal) for _, crystal in crystals}:
            fitting = [members[m] for m in members if m % n == 0 or n % m == 0]
            self.partners[n] = np.concatenate([np.zeros(0, dtype=np.int64), *fitting])
        weights = np.array([len(self.partners[len(crystal)]) for _, crystal in crystals])
        self.all_pairs = int(weights.sum())
        self._weights = weights / self.all_pairs

    def draw(self, count: int, rng: np.random.Generator) -> list[tuple[int, int, str]]:
        """Position of the crystal, position in the reference, and stage of each pair, shuffled."""
        drawn = []
        for place, times in enumerate(rng.multinomial(count, self._weights).tolist()):
            crystal = self.crystals[place][1]
            if times:
                partners = rng.choice(self.partners[len(crystal)], times)
                for index, stage in zip(
                    partners.tolist(), self.stages(crystal, partners), strict=True
                ):
                    drawn.append((place, index, stage))
        return [drawn[i] for i in rng.permutation(len(drawn))]

    def stages(self, crystal: Structure, partners: np.ndarray) -> list[str]:
        """How far the search takes each pair."""
        protocol, reference = self.protocol, self.reference
        lattice = np.array(crystal.lattice.matrix)
        cell = Cells.of(
            lattice[None],
            np.array([len(crystal)]),
            ltol=protocol.ltol,
            angle_tol=protocol.angle_tol,
        )
        maybe = may_match(cell, self.cells.take(partners), ltol=protocol.ltol)
        steps = kernels.furthest_steps(
            lattice,
            np.array(crystal.frac_coords),
            reference.lattices,
            reference.offsets,
            reference.frac_coords,
            partners,
            ltol=protocol.ltol,
            stol=protocol.stol,
            angle_tol=protocol.angle_tol,
        )
        return [
            STAGES[step] if possible else RULES
            for step, possible in zip(steps.tolist(), maybe.tolist(), strict=True)
        ]


def judge(drawing: Drawing, matching: Matching, kind: str, count: int, seed: list[int]) -> Tally:
    """Put one chunk of pairs to pymatgen."""
    rng = np.random.default_rng(seed)
    tally = Tally()
    started = time.perf_counter()
    late, passed = STAGES[kernels.TOO_FAR], STAGES[kernels.LET_THROUGH]
    chosen: list[tuple[int, int, str]] = []
    while len(chosen) < count:
        drawn = drawing.draw(count if kind == "uniform" else 10 * count, rng)
        chosen += drawn if kind == "uniform" else [pair for pair in drawn if pair[2] == late]
    for place, index, stage in chosen[:count]:
        label, crystal = drawing.crystals[place]
        tally.pairs[stage] += 1
        tally.models[label.split("|")[0]] += 1
        name = f"{label} with {drawing.reference.ids[index]} ({index}): {stage}"
        try:
            match = matching.framework_match(crystal, drawing.structures[index])
        except (ValueError, np.linalg.LinAlgError) as error:
            if stage != passed:
                tally.raised.append(f"{name}, pymatgen raised {error}")
            continue
        if match is not None:
            tally.accepted[stage] += 1
            if stage != passed:
                tally.wrong.append(f"{name}, RMS {match.rms}")
                continue
            bound, first_lattice = drawing.tests[place].first_match(index)
            cost = cost_of(match, crystal, drawing.structures[index])
            tally.exact_costs += bound == cost
            if bound > cost:
                tally.wrong.append(f"{name}, cost {cost} below the bound {bound}")
            if match != matching.framework_match(crystal, drawing.structures[index], first_lattice):
                tally.wrong.append(f"{name}, another match from {first_lattice} on")
    tally.seconds = time.perf_counter() - started
    return tally


def cost_of(match: FrameworkMatch, generated: Structure, parent: Structure) -> float:
    """Cost of the atom map that pymatgen found."""
    ours = pettifor_numbers(generated.atomic_numbers)[list(match.sites)]
    theirs = pettifor_numbers(parent.atomic_numbers)
    return map_cost(np.repeat(theirs, len(ours) // len(theirs)), ours)


def report(tallies: list[tuple[str, Tally]]) -> int:
    """Print totals by kind and stage; give the number of wrong refusals."""
    wrong = 0
    for kind in KINDS:
        of_kind = [tally for name, tally in tallies if name == kind]
        pairs, accepted, models = Counter[str](), Counter[str](), Counter[str]()
        for tally in of_kind:
            pairs += tally.pairs
            accepted += tally.accepted
            models += tally.models
        total = pairs.total()
        if not total:
            continue
        refused = total - pairs[STAGES[kernels.LET_THROUGH]]
        seconds = sum(tally.seconds for tally in of_kind)
        mistakes = [line for tally in of_kind for line in tally.wrong]
        raised = [line for tally in of_kind for line in tally.raised]
        wrong += len(mistakes)
        print(
            f"{kind}: {total:,} pairs ({seconds / total * 1e3:.2f} ms each), {refused:,} refused, "
            f"{accepted.total():,} accepted by pymatgen (cost known exactly before: "
            f"{sum(tally.exact_costs for tally in of_kind):,}), {len(mistakes)} wrong, "
            f"{len(raised)} refused where pymatgen raised"
        )
        for stage in (RULES, *STAGES):
            if pairs[stage]:
                print(f"  {stage:12} {pairs[stage]:>9,}   accepted {accepted[stage]:,}")
        print("  by model: " + ", ".join(f"{name} {n:,}" for name, n in sorted(models.items())))
        if not mistakes and refused:
            # Rule of three: 95 % upper limit of a rate of which no case was seen.
            print(f"  rate of wrong refusals below {3 / refused:.1e} of those refused (95 %)")
        for line in mistakes + raised:
            print(f"  ! {line}")
    return wrong


def main() -> int:
    """Draw, judge, log, report."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--reference", type=Path, required=True)
    parser.add_argument("--samples", type=Path, nargs="+", required=True)
    parser.add_argument("--log", type=Path, required=True)
    parser.add_argument("--crystals", type=int, default=64, help="of each model")
    parser.add_argument("--pool", type=int, default=700, help="crystals of each model looked at")
    parser.add_argument("--pairs", type=int, default=2_000_000, help="in all, both kinds")
    parser.add_argument("--chunk", type=int, default=4000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--report", action="store_true", help="only add the log up")
    options = parser.parse_args()
    warnings.simplefilter("ignore")

    lines = options.log.read_text().splitlines() if options.log.exists() else []
    entries = [json.loads(line) for line in lines]
    if not options.report:
        reference, protocol = Reference.open(options.reference), Protocol()
        crystals = []
        for place, path in enumerate(options.samples):
            found = crystals_of(path, options.crystals, options.pool, options.seed + place)
            low = sum(len(crystal) in (18, 19, 20) for _, crystal in found)
            print(f"{path.name}: {len(found)} crystals, {low} of 18 to 20 sites", flush=True)
            crystals += [(f"{path.parent.name}|{label}", crystal) for label, crystal in found]
        text = "".join(f"{label} {crystal}" for label, crystal in crystals)
        stamp = zlib.crc32(f"{reference.crystals_hash} {options.seed} {text}".encode())
        stamp ^= options.chunk
        if any(entry["stamp"] != stamp for entry in entries):
            print(f"{options.log}: of other crystals, another reference, seed or chunk size")
            return 2
        drawing = Drawing(crystals, reference, protocol)
        print(f"{len(crystals)} crystals, {drawing.all_pairs:,} commensurate pairs", flush=True)
        matching = Matching(protocol)
        for chunk in range(len(entries), -(-options.pairs // options.chunk)):
            kind = KINDS[chunk % LATE_EVERY == LATE_EVERY - 1]
            tally = judge(drawing, matching, kind, options.chunk, [options.seed, chunk])
            entry = {"stamp": stamp, "chunk": chunk, "kind": kind, **vars(tally)}
            with options.log.open("a") as handle:
                handle.write(json.dumps(entry) + "\n")
            entries.append(entry)
    tallies = []
    for entry in entries:
        known = {key: entry[key] for key in ("wrong", "raised", "seconds", "exact_costs")}
        counters = {key: Counter(entry[key]) for key in ("pairs", "accepted", "models")}
        tallies.append((entry["kind"], Tally(**counters, **known)))
    return 1 if report(tallies) else 0


if __name__ == "__main__":
    sys.exit(main())
