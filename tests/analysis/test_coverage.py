"""Prototypes: counts compared with enumeration, and coverage of hand-made crystals."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import spglib
from pymatgen.core import Lattice, Structure

from novelty_metric.analysis.coverage import Prototype, neighbours, prototype_coverage
from novelty_metric.analysis.possible_prototypes import (
    count_by_crystal_system,
    count_prototypes,
    fixed_positions,
    is_possible,
    lattice_points,
    primitive_multiplicities,
    primitive_sites,
)
from novelty_metric.crystal import symmetry
from novelty_metric.crystal_records import CrystalRecord, CrystalRecords
from novelty_metric.errors import InputError
from novelty_metric.metric import SubstitutionNovelty
from novelty_metric.protocol import Protocol
from novelty_metric.reference import Reference
from novelty_metric.report.context import RunContext
from novelty_metric.report.novelty_report import NoveltyReport
from novelty_metric.search.engine import ParentSearch
from novelty_metric.search.wyckoff import canonical_letters
from novelty_metric.verdict import CrystalResult, Verdict


def test_published_counts() -> None:
    assert count_by_crystal_system() == {
        "triclinic": 425,
        "monoclinic": 145449,
        "orthorhombic": 2643945,
        "tetragonal": 138763,
        "trigonal": 17427,
        "hexagonal": 35618,
        "cubic": 2519,
    }
    assert sum(count_by_crystal_system().values()) == 2984146


@pytest.mark.parametrize(
    ("group", "most"),
    [(1, 6), (2, 5), (12, 5), (16, 4), (47, 4), (123, 5), (166, 7), (194, 8), (221, 9), (225, 14)],
)
def test_count_agrees_with_enumeration(group: int, most: int) -> None:
    """Enumerate all choices of orbits, and take the lowest relabelling of each."""
    sizes, fixed = primitive_multiplicities(group), fixed_positions(group)
    letters = sorted(sizes)
    seen = set()
    numbers = [range(1 + (1 if x in fixed else most // sizes[x])) for x in letters]
    # One range at a time, because the product of all ranges is too long.
    partial: list[tuple[tuple[int, ...], int]] = [((), 0)]
    for letter, counts in zip(letters, numbers, strict=True):
        partial = [
            (chosen + (letter,) * n, total + n * sizes[letter])
            for chosen, total in partial
            for n in counts
            if total + n * sizes[letter] <= most
        ]
    for chosen, total in partial:
        if total:
            seen.add(canonical_letters(group, chosen))
    assert count_prototypes(group, most) == len(seen)


def test_counts_calculated_by_hand() -> None:
    # P1: one position, any number of times. P-1: eight inversion centres, and i with two sites. One
    # atom gives one prototype, because the normalizer exchanges all centres.
    assert [count_prototypes(1, n) for n in (1, 2, 20)] == [1, 2, 20]
    assert count_prototypes(2, 1) == 1


def test_cells_agree_with_the_international_symbols() -> None:
    points = {"P": 1, "A": 2, "B": 2, "C": 2, "I": 2, "F": 4, "R": 3}
    symbols: dict[int, str] = {}
    for hall in range(1, 531):
        kind = spglib.get_spacegroup_type(hall)
        symbols.setdefault(kind.number, kind.international_short[0])
    assert all(lattice_points(group) == points[symbols[group]] for group in range(1, 231))


def rock_salt(a: float = 5.64, elements: tuple[str, str] = ("Na", "Cl")) -> Structure:
    places = [[0, 0, 0], [0.5, 0.5, 0.5]]
    return Structure.from_spacegroup("Fm-3m", Lattice.cubic(a), list(elements), places)


def caesium_chloride() -> Structure:
    return Structure(Lattice.cubic(4.12), ["Cs", "Cl"], [[0, 0, 0], [0.5, 0.5, 0.5]])


def perovskite() -> Structure:
    places = [[0, 0, 0], [0.5, 0.5, 0.5], [0.5, 0.5, 0]]
    return Structure.from_spacegroup("Pm-3m", Lattice.cubic(3.9), ["Sr", "Ti", "O"], places)


def report_of(
    *crystals: Structure, verdict: Verdict = Verdict.UNMATCHED, kept: bool = True
) -> NoveltyReport:
    rows = [
        CrystalResult(
            id=f"g{i}",
            smact_valid=True,
            eligible=True,
            verdict=verdict,
            space_group=225,
            structures=CrystalRecords(relaxed=CrystalRecord.of(crystal.get_primitive_structure()))
            if kept
            else None,
        )
        for i, crystal in enumerate(crystals)
    ]
    context = RunContext(
        protocol=Protocol.named("paper"),
        reference_name="r",
        reference_size=3,
        crystals_hash="",
        store_hash="",
    )
    return NoveltyReport.from_results(rows, context)


def test_coverage_of_known_crystals() -> None:
    # Rock salt with its origin on the other ion is the same prototype.
    moved = rock_salt()
    moved.translate_sites(range(len(moved)), [0.5, 0.5, 0.5])
    reference = Reference.from_structures([rock_salt(), moved, perovskite()])
    found = prototype_coverage(
        report_of(rock_salt(5.0, ("K", "Br")), caesium_chloride(), caesium_chloride()), reference
    )
    salt, caesium = Prototype(225, (ord("a"), ord("b"))), Prototype(221, (ord("a"), ord("b")))
    assert found.reference[salt] == 2 and sum(found.reference.values()) == 3
    assert found.samples == {salt: 1, caesium: 2}
    assert found.found == (caesium,)
    row = found.frame().set_index("crystal_system").loc["cubic"]
    assert row.to_dict() == {"possible": 2519, "reference": 2, "samples": 2, "both": 1, "found": 1}
    (line,) = found.found_frame().to_dict("records")
    assert line["prototype"] == "221 a b" and line["ids"] == "g1 g2" and line["n_sites"] == 2
    assert len(prototype_coverage(report_of(), reference).samples) == 0


def test_rows_contain_whether_their_prototype_is_new() -> None:
    moved = perovskite()
    moved.translate_sites(range(len(moved)), [0.5, 0.5, 0.5])
    reference = Reference.from_structures([rock_salt(), rock_salt(4.2, ("Mg", "O")), perovskite()])
    samples = [rock_salt(6.6, ("K", "Br")), caesium_chloride(), moved]
    with SubstitutionNovelty(reference, relaxer=None, hull="none") as metric:
        report = metric(samples)
    assert [row.new_prototype for row in report.results] == [False, True, False]
    assert report.new_prototypes.known == 3 and report.new_prototypes.new == 1
    assert report.new_prototypes.metastable is None  # no hull
    # Counted in another way: from the crystals, without the index of the search.
    coverage = prototype_coverage(report, reference)
    new = {report.results[1].id}
    assert {one for found in coverage.found for one in coverage.sample_ids[found]} == new


def test_prototype_of_a_left_out_crystal_can_be_new() -> None:
    crystals = [rock_salt(), rock_salt(4.2, ("Mg", "O")), perovskite()]
    reference = Reference.from_structures(crystals)
    search = ParentSearch(reference, Protocol.named("paper"))
    found = []
    for index in range(3):
        own = symmetry(reference.structure(index), symprec=0.01, angle_tolerance=5)
        found.append(
            (
                search.is_new_prototype(own),
                search.is_new_prototype(own, leave_out=index),
            )
        )
    assert found == [(False, False), (False, False), (False, True)]
    assert search.is_new_prototype(None) is None


def test_unexplored_prototypes_determined_by_hand() -> None:
    # ReO3 has one site at the corner and three on the edges of a cube. With the three on the faces
    # it is Cu3Au, which is in neither set here.
    lattice = Lattice.cubic(3.8)
    edges = Structure.from_spacegroup("Pm-3m", lattice, ["Re", "O"], [[0, 0, 0], [0.5, 0, 0]])
    faces = Structure.from_spacegroup("Pm-3m", lattice, ["Au", "Cu"], [[0, 0, 0], [0.5, 0.5, 0]])
    reference = Reference.from_structures([edges, edges, perovskite()])
    (row,) = prototype_coverage(report_of(), reference).unexplored().to_dict("records")
    (known,) = prototype_coverage(report_of(faces), reference).samples
    assert row["prototype"] == str(known) and row["n_sites"] == 4
    assert row["n_near"] == row["n_nearest"] == 2
    # A sample with this prototype makes it explored.
    assert prototype_coverage(report_of(faces), reference).unexplored().empty


def test_larger_cells_are_counted_separately() -> None:
    reference = Reference.from_structures([rock_salt(), perovskite()])
    found = prototype_coverage(report_of(perovskite()), reference, max_sites=4)
    assert len(found.reference) == 1 and found.n_larger_reference == 1
    assert not found.samples and found.n_larger_samples == 1


def test_neighbours_determined_by_hand() -> None:
    # NaCl on a and b, two fixed positions of one site: Fm-3m has no other one.
    assert neighbours(Prototype.of(225, (ord("a"), ord("b")))) == set()
    # Fluorite's c has two sites, like no other position.
    assert neighbours(Prototype.of(225, (ord("a"), ord("c")))) == set()
    # Pm-3m: a, b have one site; c, d have three. Neighbour of a c: a relabelling of b d.
    near = neighbours(Prototype.of(221, (ord("a"), ord("c"))))
    assert near == {Prototype.of(221, (ord("a"), ord("d")))}
    # Neighbours of the perovskite keep the number of sites and use each fixed position once.
    for group, letters in itertools.product((47, 123, 194), ("ab", "aab", "cd")):
        start = tuple(map(ord, letters))
        for other in neighbours(Prototype.of(group, start)):
            assert other.n_sites == primitive_sites(group, start)
            assert is_possible(group, other.letters)


def test_sites_of_a_prototype_agree_with_real_cells() -> None:
    for crystal in (rock_salt(), perovskite(), caesium_chloride()):
        reference = Reference.from_structures([crystal])
        (prototype,) = prototype_coverage(report_of(), reference).reference
        assert prototype.n_sites == int(np.asarray(reference.n_sites)[0])


def test_error_for_a_report_without_its_crystals() -> None:
    reference = Reference.from_structures([rock_salt()])
    with pytest.raises(InputError, match="structures=True"):
        prototype_coverage(report_of(rock_salt(), kept=False), reference)
