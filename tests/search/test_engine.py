"""`ParentSearch`: ranking, ties, limits, and fields of a parent."""

from __future__ import annotations

import dataclasses
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from pymatgen.core import Lattice, Structure

from novelty_metric.crystal import reduce, symmetry
from novelty_metric.errors import InputError, StoreError
from novelty_metric.protocol import Protocol
from novelty_metric.reference import Reference
from novelty_metric.search.engine import ParentSearch
from novelty_metric.verdict import Route


def cscl(first: str, second: str, a: float = 4.1) -> Structure:
    return Structure(Lattice.cubic(a), [first, second], [[0, 0, 0], [0.5, 0.5, 0.5]])


def parents(search: ParentSearch, structure: Structure):
    found = symmetry(structure, symprec=0.01, angle_tolerance=5.0)
    return search.parents(structure, found)


def test_order_and_ties(protocol: Protocol) -> None:
    # A double cell with one exchanged atom, so that reduction and symmetry keep it.
    double = cscl("Cs", "Cl") * [2, 1, 1]
    double.replace(1, "Rb")
    reference = Reference.from_structures(
        [double, cscl("Rb", "Br"), cscl("Rb", "Br"), cscl("Rb", "Cl"), cscl("Cs", "Br")],
        ids=["double", "b", "c", "d", "e"],
    )
    assert reference.n_sites.tolist() == [4, 2, 2, 2, 2]
    search = ParentSearch(reference, dataclasses.replace(protocol, k=5))
    result = parents(search, reduce(cscl("Cs", "Cl")))
    by_sites = [p for p in result.parents if p.route is Route.LATTICE_SITES]
    # Costs: double (0+1+0+0)/4; b and c (1+1)/2; d 1/2; e 1/2.
    assert [(p.parent_id, p.cost) for p in by_sites] == [
        ("double", 0.25),
        ("d", 0.5),
        ("e", 0.5),
        ("b", 1.0),
        ("c", 1.0),
    ]
    assert [p.rank for p in by_sites] == [1, 2, 3, 4, 5]
    by_letters = [p for p in result.parents if p.route is Route.WYCKOFF]
    assert [p.parent_id for p in by_letters] == ["d", "e", "b", "c"]
    assert list(result.parents) == by_sites + by_letters
    assert result.unfinished == ()


def test_fewer_sites_rank_first_at_equal_cost(protocol: Protocol) -> None:
    double = cscl("Cs", "Cl") * [2, 1, 1]
    double.replace(0, "Rb")
    double.replace(2, "Br")
    # Costs: double (1+0+1+0)/4; the others (1+0)/2.
    reference = Reference.from_structures(
        [double, cscl("Cs", "Br"), cscl("Rb", "Cl")], ids=["double", "e", "d"]
    )
    assert reference.n_sites.tolist() == [4, 2, 2]
    result = parents(ParentSearch(reference, protocol), reduce(cscl("Cs", "Cl")))
    ranked = [(p.parent_id, p.cost) for p in result.parents if p.match_rms is not None]
    assert ranked == [("e", 0.5), ("d", 0.5), ("double", 0.5)]


def test_fields_of_a_parent(protocol: Protocol) -> None:
    reference = Reference.from_structures([cscl("Rb", "Cl")], ids=["RbCl"])
    large = cscl("Cs", "Cl") * [2, 1, 1]
    large.replace(2, "Br")
    large.perturb(0.01, seed=2)
    large = reduce(large)
    assert len(large) == 4
    (parent,) = parents(ParentSearch(reference, protocol), large).parents
    assert parent.route is Route.LATTICE_SITES
    assert parent.index == 0
    assert parent.parent_id == "RbCl"
    assert parent.supercell is not None
    assert abs(round(np.linalg.det(parent.supercell))) == 2
    assert sorted(parent.elements) == ["Br", "Cl", "Cs", "Cs"]
    assert parent.element_map == {"Rb": {"Cs": 2}, "Cl": {"Cl": 1, "Br": 1}}
    assert parent.share_exchanged == 3 / 4
    assert parent.cost == (1 + 1 + 1 + 0) / 4
    assert parent.match_rms is not None
    assert parent.match_rms < 0.05


def test_k_limits_each_route(reference: Reference, substituted: list[Structure]) -> None:
    few, many = (ParentSearch(reference, Protocol(k=k)) for k in (1, 4))
    seen = 0
    for structure in substituted[:12]:
        short, long = parents(few, structure).parents, parents(many, structure).parents
        for route in Route:
            one = [p for p in short if p.route is route]
            four = [p for p in long if p.route is route]
            assert one == four[:1]
            assert len(four) <= 4
            seen += len(four)
    assert seen > 12


def test_reached_limit_is_reported_unless_the_answer_is_certain(
    reference: Reference, diffcsp: list[Structure], protocol: Protocol
) -> None:
    free = ParentSearch(reference, protocol)
    structure = next(s for s in diffcsp if parents(free, s).pair_tests > 5)
    exact = parents(free, structure)
    assert exact.unfinished == ()
    limited = dataclasses.replace(protocol, max_pair_tests=2)
    stopped = parents(ParentSearch(reference, limited), structure)
    assert stopped.pair_tests == 2
    assert "max_pair_tests=2" in stopped.unfinished[0]
    enough = ParentSearch(reference, dataclasses.replace(protocol, max_pair_tests=exact.pair_tests))
    assert parents(enough, structure) == exact


def test_failure_of_pymatgen_on_one_pair_is_reported(
    reference: Reference, substituted: list[Structure], protocol: Protocol, monkeypatch
) -> None:
    search = ParentSearch(reference, protocol)
    victim = parents(search, substituted[0]).parents[0]
    real = search.matching.framework_match

    def failing(first, second, *more):
        if np.array_equal(second.frac_coords, reference.structure(victim.index).frac_coords):
            raise ValueError("no such supercell")
        return real(first, second, *more)

    monkeypatch.setattr(search.matching, "framework_match", failing)
    result = parents(search, substituted[0])
    assert victim.index not in [p.index for p in result.parents if p.match_rms is not None]
    assert victim.parent_id in result.unfinished[0]


def test_unknown_symmetry_leaves_only_the_wyckoff_route_unfinished(
    reference: Reference, substituted: list[Structure], protocol: Protocol
) -> None:
    search = ParentSearch(reference, protocol)
    known, unknown = parents(search, substituted[0]), search.parents(substituted[0], None)
    assert [p for p in known.parents if p.route is Route.LATTICE_SITES] == list(unknown.parents)
    assert len(unknown.unfinished) == 1


def test_inconsistent_settings_are_refused(reference: Reference, protocol: Protocol) -> None:
    with pytest.raises(StoreError, match="symprec"):
        ParentSearch(reference, dataclasses.replace(protocol, symprec=0.1))
    with pytest.raises(InputError, match="max_pair_tests"):
        dataclasses.replace(protocol, max_pair_tests=-1)


def test_threads_give_equal_results(
    reference: Reference, diffcsp: list[Structure], substituted: list[Structure], protocol: Protocol
) -> None:
    crystals = [*diffcsp[::5], *substituted[::5]]
    search = ParentSearch(reference, protocol)
    alone = [parents(search, crystal) for crystal in crystals]
    shared = ParentSearch(reference, protocol)
    shared.prepare()
    with ThreadPoolExecutor(4) as pool:
        together = list(pool.map(lambda crystal: parents(shared, crystal), crystals))
    assert together == alone
