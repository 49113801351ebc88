"""A second, simple implementation of the search, without bounds, refusals, indices or caches.

It follows the description of the method, independently of the package: it calls pymatgen for every
pair, and takes symmetry from pymatgen's symmetrized structure instead of the prepared reference. It
provides the correct answers for the tests of the search, and runs as a script::

    python tests/search/oracle.py COUNT --reference STORE.arrow --out answers.jsonl

The script processes the first COUNT crystals of DiffCSP, stores every answer in a file, resumes
after an interruption, and compares each answer with the package.
"""

from __future__ import annotations

import argparse
import gzip
import json
import os
import sys
import time
import zlib
from dataclasses import dataclass
from functools import cache
from importlib.util import find_spec
from pathlib import Path

import numpy as np
from pymatgen.core import Element, Lattice, Structure
from pymatgen.core.structure_matcher import FrameworkComparator, StructureMatcher
from pymatgen.symmetry.analyzer import SpacegroupAnalyzer
from scipy.optimize import linear_sum_assignment

ORDER = """He Ne Ar Kr Xe Rn Fr Cs Rb K Na Li Ra Ba Sr Ca Eu Yb Lu Tm Y Er Ho Dy Tb Gd Sm Pm Nd Pr
Ce La Ac Th Pa U Np Pu Am Cm Bk Cf Es Fm Md No Lr Sc Zr Hf Ti Ta Nb V Cr Mo W Re Tc Os Ru Ir Rh Pt
Pd Au Ag Cu Ni Co Fe Mn Mg Zn Cd Hg Be Al Ga In Tl Pb Sn Ge Si B C N P As Sb Bi Po Te Se S O At I
Br Cl F H""".split()  # noqa: SIM905
NUMBER = {name: number for number, name in enumerate(ORDER)}


@cache
def relabellings() -> dict[str, list[dict[int, str]]]:
    """WYCKOFF_POSITION_RELAB_DICT of `pymatgen.analysis.prototypes`; that module takes 4 s to
    import.
    """
    found = find_spec("pymatgen.analysis.prototypes")
    assert found is not None and found.origin is not None
    path = Path(found.origin).with_name("wyckoff-position-relabelings.json.gz")
    read = json.loads(gzip.decompress(path.read_bytes()))
    return {
        number: [{int(old): new for old, new in table.items()} for table in tables]
        for number, tables in read.items()
    }


def difference(first: str, second: str) -> int:
    if first not in NUMBER or second not in NUMBER:
        return 102
    return abs(NUMBER[first] - NUMBER[second])


def element_names(structure: Structure) -> list[str]:
    return [site.specie.symbol for site in structure]


def make_matcher(**kind: object) -> StructureMatcher:
    return StructureMatcher(
        ltol=0.2,
        stol=0.3,
        angle_tol=5,
        primitive_cell=False,
        scale=False,
        attempt_supercell=True,
        supercell_size="num_sites",
        **kind,
    )


def first_duplicate(generated: Structure, references: list[Structure]) -> int | None:
    matcher = make_matcher()
    for index, reference in enumerate(references):
        if generated.composition.reduced_composition != reference.composition.reduced_composition:
            continue
        if matcher.fit(generated, reference, skip_structure_reduction=True):
            return index
    return None


@dataclass
class Found:
    """A parent of the simple implementation."""

    index: int
    cost: float
    elements: list[str]
    rms: float | None = None

    def plain(self) -> dict[str, object]:
        return {"index": self.index, "cost": self.cost, "elements": self.elements, "rms": self.rms}


def geometric_matches(
    generated: Structure, references: list[Structure]
) -> tuple[list[Found], list[int], int]:
    """All matches of pymatgen, the pairs for which it raised an error, and the number of pairs."""
    matcher = make_matcher(comparator=FrameworkComparator())
    mine = element_names(generated)
    found, raised, pairs = [], [], 0
    for index, reference in enumerate(references):
        many, few = max(len(mine), len(reference)), min(len(mine), len(reference))
        if many % few:
            continue
        pairs += 1
        try:
            first, second, fu, expand_first = matcher._preprocess(
                generated, reference, niggli=False, skip_structure_reduction=True
            )
            match = matcher._strict_match(
                first, second, fu, expand_first, use_rms=True, break_on_match=True
            )
        except (ValueError, np.linalg.LinAlgError):
            raised.append(index)
            continue
        if match is None:
            continue
        theirs = element_names(reference)
        elements, total = [], 0
        for i, j in enumerate(match[4]):
            if len(theirs) > len(mine):
                here, there = mine[j // fu], theirs[i]
            else:
                here, there = mine[j], theirs[i // fu]
            elements.append(here)
            total += difference(here, there)
        found.append(Found(index, total / many, elements, float(match[0])))
    return found, raised, pairs


def ranked(found: list[Found], references: list[Structure]) -> list[Found]:
    return sorted(found, key=lambda item: (item.cost, len(references[item.index]), item.index))


def lattice_sites_parents(generated: Structure, references: list[Structure], k: int) -> list[Found]:
    return ranked(geometric_matches(generated, references)[0], references)[:k]


@dataclass
class PlainOrbit:
    """Sites of one orbit, with their Wyckoff letter."""

    letter: str
    sites: list[int]


def plain_orbits(structure: Structure) -> tuple[int, list[PlainOrbit]]:
    analyzer = SpacegroupAnalyzer(structure, symprec=0.01, angle_tolerance=5)
    symmetrized = analyzer.get_symmetrized_structure()
    orbits = [
        PlainOrbit(symbol.lstrip("0123456789"), sorted(int(site) for site in sites))
        for symbol, sites in zip(
            symmetrized.wyckoff_symbols, symmetrized.equivalent_indices, strict=True
        )
    ]
    orbits.sort(key=lambda orbit: orbit.sites[0])
    return analyzer.get_space_group_number(), orbits


def apart(first: np.ndarray, second: np.ndarray) -> float:
    step = first - second
    return float(np.linalg.norm(step - np.round(step)))


def assigned(first: list[np.ndarray], second: list[np.ndarray]) -> list[int]:
    table = np.array([[apart(a, b) for b in second] for a in first])
    return linear_sum_assignment(table)[1].tolist()


def representative(structure: Structure, orbit: PlainOrbit) -> np.ndarray:
    return min((structure.frac_coords[site] for site in orbit.sites), key=tuple)


def wyckoff_map(
    generated: Structure,
    of_generated: list[PlainOrbit],
    reference: Structure,
    of_reference: list[PlainOrbit],
    space_group: int,
) -> list[str] | None:
    """Elements on the sites of the reference crystal, by the cheapest pair of relabellings."""
    mine, theirs = element_names(generated), element_names(reference)
    tables = [
        {chr(letter): new for letter, new in table.items()}
        for table in relabellings()[str(space_group)]
    ]
    best: tuple[float, list[tuple[PlainOrbit, PlainOrbit]]] | None = None
    place = {
        id(orbit): representative(structure, orbit)
        for structure, orbits in ((generated, of_generated), (reference, of_reference))
        for orbit in orbits
    }
    relabelled_t = [[table[orbit.letter] for orbit in of_reference] for table in tables]
    sorted_t = [sorted(letters) for letters in relabelled_t]
    for table_g in tables:
        letters_g = [table_g[orbit.letter] for orbit in of_generated]
        sorted_g = sorted(letters_g)
        for letters_t, in_order in zip(relabelled_t, sorted_t, strict=True):
            if sorted_g != in_order:
                continue
            pairs, cost = [], 0.0
            for letter in dict.fromkeys(letters_g):
                rows = [o for o, x in zip(of_generated, letters_g, strict=True) if x == letter]
                columns = [o for o, x in zip(of_reference, letters_t, strict=True) if x == letter]
                order = assigned(
                    [place[id(orbit)] for orbit in rows],
                    [place[id(orbit)] for orbit in columns],
                )
                for row, column in zip(rows, order, strict=True):
                    pairs.append((row, columns[column]))
                    step = difference(mine[row.sites[0]], theirs[columns[column].sites[0]])
                    cost += (len(row.sites) / len(mine)) * step
            if any(len(a.sites) != len(b.sites) for a, b in pairs):
                continue
            if best is None or cost < best[0]:
                best = (cost, pairs)
    if best is None:
        return None
    elements = [""] * len(theirs)
    for orbit_g, orbit_t in best[1]:
        order = assigned(
            [generated.frac_coords[site] for site in orbit_g.sites],
            [reference.frac_coords[site] for site in orbit_t.sites],
        )
        for row, column in enumerate(order):
            elements[orbit_t.sites[column]] = mine[orbit_g.sites[row]]
    return elements


def wyckoff_parents(
    generated: Structure,
    references: list[Structure],
    orbits: list[tuple[int, list[PlainOrbit]]],
    k: int,
) -> list[Found]:
    space_group, of_generated = plain_orbits(generated)
    found = []
    for index, reference in enumerate(references):
        if len(reference) != len(generated) or orbits[index][0] != space_group:
            continue
        elements = wyckoff_map(generated, of_generated, reference, orbits[index][1], space_group)
        if elements is None:
            continue
        total = sum(map(difference, elements, element_names(reference)))
        found.append(Found(index, total / len(elements), elements))
    found.sort(key=lambda item: (item.cost, item.index))
    return found[:k]


def read_diffcsp(path: Path, most: int | None = None) -> list[Structure]:
    """The first crystals of a file of DiffCSP, unchanged."""
    import torch

    content = torch.load(path, map_location="cpu", weights_only=True)
    ends = np.cumsum(content["num_atoms"].numpy())
    structures = []
    for i, end in enumerate(ends.tolist()[:most]):
        start = end - int(content["num_atoms"][i])
        structures.append(
            Structure(
                Lattice.from_parameters(
                    *content["lengths"][i].tolist(), *content["angles"][i].tolist()
                ),
                [Element.from_Z(z) for z in content["atom_types"][start:end].tolist()],
                content["frac_coords"][start:end].double().numpy(),
            )
        )
    return structures


def answers(
    generated: Structure,
    references: list[Structure],
    orbits: list[tuple[int, list[PlainOrbit]]],
    k: int = 3,
) -> dict[str, object]:
    """Answers of the simple implementation for one cleaned, reduced crystal."""
    return {
        "duplicate": first_duplicate(generated, references),
        "lattice_sites": [f.plain() for f in lattice_sites_parents(generated, references, k)],
        "wyckoff": [f.plain() for f in wyckoff_parents(generated, references, orbits, k)],
    }


def disagreements(answer: dict, duplicate: object, parents: tuple) -> list[str]:
    """Differences between the answers of both implementations for the same crystal.

    Parameters
    ----------
    answer : dict
        From `answers`.
    duplicate : DuplicateMatch or None
    parents : tuple of Parent
    """
    problems = []
    index = None if duplicate is None else duplicate.index  # type: ignore[attr-defined]
    if index != answer["duplicate"]:
        problems.append(f"duplicate {index}, plain {answer['duplicate']}")
    for route in ("lattice_sites", "wyckoff"):
        have = [p for p in parents if p.route == route]
        want = answer[route]
        if [p.index for p in have] != [w["index"] for w in want]:
            problems.append(
                f"{route}: {[(p.index, p.cost) for p in have]}, "
                f"plain {[(w['index'], w['cost']) for w in want]}"
            )
            continue
        for p, w in zip(have, want, strict=True):
            if abs(p.cost - w["cost"]) > 1e-6:
                problems.append(f"{route} {p.index}: cost {p.cost}, plain {w['cost']}")
            if list(p.elements) != w["elements"]:
                problems.append(f"{route} {p.index}: elements {p.elements}, plain {w['elements']}")
            if w["rms"] is not None and abs(p.match_rms - w["rms"]) > 1e-9:
                problems.append(f"{route} {p.index}: rms {p.match_rms}, plain {w['rms']}")
    return problems


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("count", type=int)
    parser.add_argument("--reference", type=Path, required=True, help="a prepared reference")
    parser.add_argument("--out", type=Path, required=True, help="answers, one JSON line a crystal")
    parser.add_argument("--no-search", action="store_true", help="collect answers only")
    options = parser.parse_args()

    from novelty_metric.crystal import clean, reduce, symmetry
    from novelty_metric.errors import CrystalError
    from novelty_metric.protocol import Protocol
    from novelty_metric.reference import Reference
    from novelty_metric.search.engine import ParentSearch

    here = Path(__file__).resolve().parents[2].parent / "shared"
    shared = Path(os.environ.get("NOVELTY_METRIC_SHARED", here)) / "data"
    generated = read_diffcsp(shared / "generated" / "diffcsp" / "DiffCSP_mp_20.pt")
    reference = Reference.open(options.reference)
    done = {}
    if options.out.exists():
        lines = options.out.read_text().splitlines()
        done = {entry["crystal"]: entry for entry in map(json.loads, lines)}
    search = ParentSearch(reference, Protocol())
    references: list[Structure] = []
    orbits: list[tuple[int, list[PlainOrbit]]] = []
    checked, bad = 0, 0
    for number, structure in enumerate(generated):
        if checked >= options.count:
            break
        try:
            reduced = reduce(clean(structure))
        except CrystalError as error:
            print(f"{number}: {error}", flush=True)
            continue
        checked += 1
        stamp = zlib.crc32((reference.crystals_hash + str(reduced)).encode())
        entry = done.get(number)
        took = 0.0
        if entry is None or entry["stamp"] != stamp:
            if not orbits:
                started = time.perf_counter()
                references = list(reference)
                orbits = [plain_orbits(s) for s in references]
                print(f"symmetry in {time.perf_counter() - started:.0f} s", flush=True)
            started = time.perf_counter()
            entry = {"crystal": number, "stamp": stamp, **answers(reduced, references, orbits)}
            took = time.perf_counter() - started
            with options.out.open("a") as handle:
                handle.write(json.dumps(entry) + "\n")
        if options.no_search:
            print(f"{number}: {took:.1f} s", flush=True)
            continue
        started = time.perf_counter()
        result = search.parents(reduced, symmetry(reduced, symprec=0.01, angle_tolerance=5.0))
        problems = disagreements(entry, search.duplicate(reduced), result.parents)
        bad += bool(problems)
        print(
            f"{number}: plain {took:.1f} s, package {time.perf_counter() - started:.2f} s, "
            f"{result.pair_tests} pair tests, {'; '.join(problems) or 'agree'}",
            flush=True,
        )
    print(f"{checked} crystals, {bad} with a disagreement", flush=True)
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
