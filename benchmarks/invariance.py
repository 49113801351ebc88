"""How much the results of the search depend on the description of a crystal.

Rotation, a supercell or another cell, another order of sites, and another origin do not change a
crystal. They should not change the result of the method either. But pymatgen's matcher depends on
the description: it takes the first match, anchors translations at the first site of the second
structure, and starts from a reduced cell that depends on rounding. This script counts, for real
crystals, how often a description changes

- which pairs of crystals match geometrically (the set of possible parents),
- the cost of a matching pair (another atom map was found first),
- the map alone (another placement of the same elements, at the same cost),
- the duplicate found, and the parents that the whole search ranks,

and prints for every changed pair the difference between the two descriptions, for one of the two
rules for choosing a map (``protocol.map``)::

    python benchmarks/invariance.py --map best --crystals 40 --references 400 \\
        --reference STORE.arrow \\
        --samples SHARED/data/generated/diffcsp/DiffCSP_mp_20.pt
"""

from __future__ import annotations

import argparse
import sys
from collections import Counter, defaultdict
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from pymatgen.core import Structure

from novelty_metric.crystal import clean, reduce, symmetry
from novelty_metric.errors import CrystalError
from novelty_metric.protocol import MAPS, Protocol
from novelty_metric.reference import Reference
from novelty_metric.search.bounds import may_match
from novelty_metric.search.engine import ParentSearch
from novelty_metric.search.matching import FrameworkMatch, commensurate
from novelty_metric.search.pettifor import map_cost, pettifor_numbers

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests" / "search"))

from crystal_changes import CHANGES
from oracle import read_diffcsp


@dataclass
class Tally:
    """Effects of one kind of change."""

    crystals: int = 0
    other_size: int = 0
    pairs: int = 0
    matching: int = 0
    appeared: int = 0
    vanished: int = 0
    other_cost: int = 0
    other_map: int = 0
    other_duplicate: int = 0
    other_parents: int = 0
    other_costs_of_parents: int = 0
    causes: Counter[str] = field(default_factory=Counter)
    examples: list[str] = field(default_factory=list)


def matches(
    search: ParentSearch, generated: Structure, indices: np.ndarray
) -> dict[int, FrameworkMatch]:
    """Geometric matches of one crystal with these reference crystals, by the protocol's rule."""
    compiled = search.compiled_test(generated)
    assert compiled is not None
    found = {}
    for index in indices[compiled.passes(indices)[0]].tolist():
        if compiled.best:
            cheapest = compiled.cheapest_map(index)
            match = None if cheapest is None else cheapest[1]
        else:
            match = search.matching.framework_match(generated, search.reference.structure(index))
        if match is not None:
            found[index] = match
    return found


def cost_of(generated: Structure, parent: Structure, match: FrameworkMatch) -> float:
    mine = pettifor_numbers(generated.atomic_numbers)[list(match.sites)]
    theirs = pettifor_numbers(parent.atomic_numbers)
    return map_cost(np.repeat(theirs, len(match.sites) // len(theirs)), mine)


def placed(generated: Structure, match: FrameworkMatch) -> list[int]:
    return np.asarray(generated.atomic_numbers)[list(match.sites)].tolist()


def cause_of(
    search: ParentSearch,
    before: Structure,
    after: Structure,
    parent: Structure,
    rms: float,
) -> str:
    """The difference between two descriptions of which only one matches."""
    if len(before) != len(after):
        return "the reduction ends with another number of sites"
    cells = [np.array(s.lattice.parameters) for s in (before, after)]
    if np.abs(cells[0] - cells[1]).max() > 1e-3:
        if len(before) > len(parent):
            return "another reduced cell, and it is the target of the lattice mapping"
        return "another reduced cell"
    looser = ParentSearch(
        search.reference,
        Protocol(ltol=0.2 * (1 + 1e-5), stol=0.3 * (1 + 1e-5), angle_tol=5 * (1 + 1e-5)),
        compiled=False,
    )
    if all(looser.matching.framework_match(s, parent) is not None for s in (before, after)):
        return "a tolerance is met to within 1e-5"
    return f"ties of distances or of the reduced average cell (RMS {rms:.2f} where it matches)"


def compare(  # noqa: PLR0917
    search: ParentSearch,
    label: str,
    before: Structure,
    after: Structure,
    indices: np.ndarray,
    tally: Tally,
) -> None:
    """Compare two descriptions of one crystal."""
    reference = search.reference
    tally.crystals += 1
    tally.other_size += len(before) != len(after)
    one, other = (
        matches(search, before, indices),
        matches(
            search,
            after,
            np.array([i for i in indices if commensurate(len(after), int(reference.n_sites[i]))]),
        ),
    )
    tally.pairs += len(indices)
    tally.matching += len(one)
    tally.appeared += len(other.keys() - one.keys())
    tally.vanished += len(one.keys() - other.keys())
    for index in sorted(one.keys() ^ other.keys()):
        match = one.get(index) or other[index]
        cause = cause_of(search, before, after, reference.structure(index), match.rms)
        tally.causes[cause] += 1
        if len(tally.examples) < 6:
            what = "vanished" if index in one else "appeared"
            tally.examples.append(
                f"{label} with {reference.ids[index]}: {what}, RMS {match.rms:.4f} ({cause})"
            )
    for index in one.keys() & other.keys():
        parent = reference.structure(index)
        if cost_of(before, parent, one[index]) != cost_of(after, parent, other[index]):
            tally.other_cost += 1
        elif placed(before, one[index]) != placed(after, other[index]):
            tally.other_map += 1
    duplicates = [search.duplicate(s) for s in (before, after)]
    tally.other_duplicate += len({d.index if d else None for d in duplicates}) > 1
    ranked = [
        search.parents(s, symmetry(s, symprec=0.01, angle_tolerance=5.0)).parents
        for s in (before, after)
    ]
    tally.other_parents += len({tuple((p.route, p.index) for p in r) for r in ranked}) > 1
    tally.other_costs_of_parents += len({tuple(p.cost for p in r) for r in ranked}) > 1


def anchor_tally(
    search: ParentSearch, crystals: list[Structure], rng: np.random.Generator
) -> Tally:
    """Compare geometric matches after reordering only the sites of T, which changes the anchor."""
    tally = Tally()
    reference = search.reference
    again = Reference.from_structures(
        [Structure.from_sites([s[i] for i in rng.permutation(len(s))]) for s in reference]
    )
    other_search = ParentSearch(again, search.protocol)
    for crystal in crystals:
        indices = usable(reference, crystal)
        cell = search._cell(crystal)
        indices = indices[may_match(cell, search._cells_at(indices), ltol=search.protocol.ltol)]
        tally.crystals += 1
        tally.pairs += len(indices)
        found = [matches(s, crystal, indices) for s in (search, other_search)]
        for index in indices.tolist():
            parents = (reference.structure(index), again.structure(index))
            one, other = (of_search.get(index) for of_search in found)
            tally.matching += one is not None
            if one is not None and other is not None:
                costs = {cost_of(crystal, p, m) for p, m in zip(parents, (one, other), strict=True)}
                tally.other_cost += len(costs) > 1
                continue
            tally.vanished += one is not None
            tally.appeared += other is not None
            match = one or other
            if match is None:
                continue
            tally.causes["another site of T is the anchor of the translations"] += 1
            if len(tally.examples) < 6:
                tally.examples.append(
                    f"{crystal.composition.reduced_formula} with "
                    f"{reference.ids[index]}: RMS {match.rms:.4f} where it matches"
                )
    return tally


def usable(reference: Reference, crystal: Structure) -> np.ndarray:
    sizes = reference.n_sites
    return np.array(
        [i for i in range(len(reference)) if commensurate(len(crystal), int(sizes[i]))],
        dtype=np.int64,
    )


def show(name: str, tally: Tally) -> None:
    print(
        f"{name}: {tally.crystals} crystals ({tally.other_size} reduced to another size), "
        f"{tally.pairs} pairs, {tally.matching} match; {tally.vanished} vanished, "
        f"{tally.appeared} appeared, {tally.other_cost} with another cost, {tally.other_map} with "
        f"another map at equal cost; duplicates changed {tally.other_duplicate}, ranked parents "
        f"{tally.other_parents}, their costs {tally.other_costs_of_parents}",
        flush=True,
    )
    for cause, count in tally.causes.most_common():
        print(f"    {count} × {cause}")
    for example in tally.examples:
        print(f"      {example}")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--crystals", type=int, default=40, help="crystals of each source")
    parser.add_argument("--references", type=int, default=400)
    parser.add_argument("--reference", type=Path, required=True, help="a prepared reference")
    parser.add_argument("--samples", type=Path, required=True, help="a .pt file of DiffCSP")
    parser.add_argument("--map", choices=MAPS, default="first", help="protocol.map")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()

    rng = np.random.default_rng(options.seed)
    whole = Reference.open(options.reference)
    chosen = np.sort(rng.choice(len(whole), options.references, replace=False)).tolist()
    reference = Reference.from_structures(
        [whole.structure(i) for i in chosen], ids=[whole.ids[i] for i in chosen]
    )
    others = sorted(set(range(len(whole))) - set(chosen))
    sources = {
        "generated (DiffCSP)": read_diffcsp(options.samples)[: 2 * options.crystals],
        "relaxed (Materials Project)": [
            whole.structure(others[i]) for i in rng.permutation(len(others))[: 2 * options.crystals]
        ],
    }
    search = ParentSearch(reference, Protocol(map=options.map))
    for source, structures in sources.items():
        print(source, flush=True)
        crystals = []
        for structure in structures:
            try:
                crystals.append((clean(structure), reduce(clean(structure))))
            except CrystalError:
                continue
            if len(crystals) == options.crystals:
                break
        tallies: dict[str, Tally] = defaultdict(Tally)
        for raw, reduced in crystals:
            label = reduced.composition.reduced_formula
            indices = usable(reference, reduced)
            for name, change in CHANGES.items():
                try:
                    after = reduce(clean(change(raw, rng)))
                except CrystalError as error:
                    print(f"  {label}, {name}: {error}")
                    continue
                compare(search, label, reduced, after, indices, tallies[name])
        for name, tally in tallies.items():
            show(f"  {name}", tally)
        show("  order of T's sites", anchor_tally(search, [r for _, r in crystals], rng))
    return 0


if __name__ == "__main__":
    sys.exit(main())
