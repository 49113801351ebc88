"""The verdict of one sample and its row."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pymatgen.core import Lattice, Structure
from salts import rocksalt

from novelty_metric.crystal import reduce, symmetry
from novelty_metric.protocol import Protocol
from novelty_metric.reference import Reference
from novelty_metric.relaxation.base import Relaxation
from novelty_metric.samples.base import Sample
from novelty_metric.scoring.case import Case, relaxation_failure
from novelty_metric.search.engine import ParentSearch
from novelty_metric.search.matching import Matching
from novelty_metric.verdict import (
    CrystalResult,
    DuplicateMatch,
    Kind,
    Parent,
    Route,
    Supercell,
    TriedParent,
    Verdict,
)

FAST = Protocol.named("fast")
COPY = DuplicateMatch(index=4, parent_id="t4", match_rms=0.01)
PAIR = [[0, 0, 0], [0.5, 0.5, 0.5]]


def parent(
    route: Route = Route.LATTICE_SITES,
    rank: int = 1,
    cost: float = 1.0,
    *,
    index: int = 0,
    elements: Sequence[str] = ("K", "Cl"),
    supercell: Supercell | None = None,
) -> Parent:
    return Parent(
        route=route,
        rank=rank,
        index=index,
        parent_id=f"t{index}",
        cost=cost,
        match_rms=0.05 if route is Route.LATTICE_SITES else None,
        supercell=supercell,
        elements=tuple(elements),
        element_map={"Na": {"K": 1}, "Cl": {"Cl": 1}},
        share_exchanged=0.5,
    )


# Possible results of a candidate
STATES: dict[str, dict[str, Any]] = {
    "not relaxed": {},
    "refuted": {"relaxed": True, "converged": True, "confirmed": False, "steps": 9},
    "confirmed": {"relaxed": True, "converged": True, "confirmed": True, "confirm_rms": 0.1},
    "confirmed at its last step": {
        "relaxed": True,
        "converged": False,
        "confirmed": True,
        "confirm_rms": 0.2,
    },
    "out of steps": {"relaxed": True, "converged": False, "confirmed": False, "steps": 200},
    "failed": {"relaxed": True, "converged": False, "confirmed": None, "error": "it broke"},
    "could not be compared": {
        "relaxed": True,
        "converged": True,
        "confirmed": None,
        "error": "the cell could not be reduced",
    },
}


def tried(state: str, like: Parent | None = None) -> TriedParent:
    return TriedParent(parent=like or parent(), **STATES[state])


def case(
    parents: Sequence[TriedParent] = (),
    *,
    searched: bool = True,
    unfinished: Sequence[str] = (),
    duplicate: DuplicateMatch | None = None,
    because: str | None = None,
) -> Case:
    structure = rocksalt(6.29, "K", "Cl")
    made = Case(Sample("g", structure))
    made.check(300)
    made.reduce(FAST)
    assert made.error is None
    made.smact_valid, made.converged, made.eligible = True, True, because is None
    made.searched = searched
    made.unfinished = tuple(unfinished)
    made.tried = list(parents)
    made.duplicate = duplicate
    made.not_eligible_because = because
    return made


def oracle(states: Sequence[str], searched: bool, unfinished: bool, duplicate: bool) -> str | None:
    """The verdict according to the method, written independently of the code."""
    if duplicate:
        return "duplicate"
    if not searched:
        return None
    if any(state.startswith("confirmed") for state in states):
        return "substituted"
    if unfinished:
        return "undecided"
    return "unmatched" if all(state == "refuted" for state in states) else "undecided"


def bare(states: Sequence[str], searched: bool, unfinished: bool, duplicate: bool) -> Case:
    """A minimal case: only what `decide` reads."""
    made = Case(Sample("g", None))
    made.tried = [tried(state) for state in states]
    made.searched = searched
    made.unfinished = ("the search stopped early",) if unfinished else ()
    made.duplicate = COPY if duplicate else None
    made.not_eligible_because = "composition refused by SMACT"
    return made


@pytest.mark.parametrize("n_parents", [0, 1, 2, 3])
def test_complete_truth_table(n_parents: int) -> None:
    seen = set()
    for states in itertools.product(STATES, repeat=n_parents):
        for flags in itertools.product([False, True], repeat=3):
            verdict, reason = bare(states, *flags).decide()
            expected = oracle(states, *flags)
            assert verdict == expected, (states, flags)
            # A reason exists exactly if there is no verdict or it does not count.
            assert (reason is not None) == (verdict in (None, Verdict.UNDECIDED)), (states, flags)
            assert reason is None or "\n" not in reason
            seen.add(verdict)
    wanted = {None, *Verdict} - ({Verdict.SUBSTITUTED} if n_parents == 0 else set())
    assert seen == wanted


@given(
    st.lists(st.sampled_from(sorted(STATES)), max_size=10),
    st.booleans(),
    st.booleans(),
    st.randoms(use_true_random=False),
)
def test_order_of_candidates_does_not_matter(
    states: list[str], unfinished: bool, duplicate: bool, shuffle: Any
) -> None:
    expected = oracle(states, True, unfinished, duplicate)
    assert bare(states, True, unfinished, duplicate).decide()[0] == expected
    shuffle.shuffle(states)
    assert bare(states, True, unfinished, duplicate).decide()[0] == expected


@st.composite
def anything_tried(draw: st.DrawFn) -> TriedParent:
    """Any candidate, including states that no relaxer should produce."""
    if not draw(st.booleans()):
        return TriedParent(parent=parent())
    error = draw(st.sampled_from([None, "it broke"]))
    return TriedParent(
        parent=parent(rank=draw(st.integers(1, 3))),
        relaxed=True,
        converged=draw(st.sampled_from([None, False, True])),
        confirmed=None if error else draw(st.sampled_from([None, False, True])),
        error=error,
        steps=draw(st.sampled_from([None, 0, 200])),
    )


@given(st.lists(anything_tried(), max_size=6), st.lists(st.just("a reason"), max_size=2))
def test_unfinished_work_is_never_unmatched(
    candidates: list[TriedParent], unfinished: list[str]
) -> None:
    made = bare([], True, False, False)
    made.tried, made.unfinished = candidates, tuple(unfinished)
    verdict, _ = made.decide()
    finished = not unfinished and all(
        item.relaxed and item.converged is True and item.confirmed is False and item.error is None
        for item in candidates
    )
    if any(item.confirmed for item in candidates):
        assert verdict is Verdict.SUBSTITUTED
    else:
        assert verdict is (Verdict.UNMATCHED if finished else Verdict.UNDECIDED)


@pytest.mark.parametrize(
    ("states", "unfinished", "text"),
    [
        (["out of steps"], False, "parent t0 (lattice_sites 1): relaxation did not converge"),
        (["failed"], False, "parent t0 (lattice_sites 1): it broke"),
        (["not relaxed", "not relaxed"], False, "2 candidate parents not relaxed"),
        ([], True, "the search stopped early"),
        (["failed", "out of steps"], True, "the search stopped early (and 2 more)"),
        (["refuted", "not relaxed"], False, "1 candidate parents not relaxed"),
    ],
)
def test_reasons_for_undecided(states: list[str], unfinished: bool, text: str) -> None:
    assert bare(states, True, unfinished, False).decide() == (Verdict.UNDECIDED, text)


def test_reasons_for_no_verdict() -> None:
    assert bare(["confirmed"], False, False, False).decide() == (
        None,
        "not eligible: composition refused by SMACT",
    )


# `check` and `reduce`


def test_unreadable_sample_keeps_its_reason() -> None:
    made = Case(Sample("g", None, error="row 3: no cell"))
    made.check(None)
    assert (made.error, made.cleaned) == ("row 3: no cell", None)
    silent = Case(Sample("g", None))
    silent.check(None)
    assert silent.error == "the crystal could not be read"


def test_refused_crystal_keeps_its_reason() -> None:
    made = Case(Sample("g", rocksalt(5.64, "Na", "Cl")))
    made.check(4)
    assert made.error == "8 sites, more than max_sites=4"
    assert made.cleaned is None


def test_invalid_object_is_one_row() -> None:
    class RaisesWhenRead(Structure):
        @property
        def is_ordered(self) -> bool:
            raise RuntimeError("two\nlines")

    made = Case(Sample("g", RaisesWhenRead(Lattice.cubic(4), ["Na"], [[0, 0, 0]])))
    made.check(None)
    assert made.error == "the crystal can't be used (RuntimeError: two)"


def test_reduce_uses_the_relaxed_crystal() -> None:
    made = case()
    made.relaxation = Relaxation(structure=rocksalt(6.0, "K", "Cl"), converged=False)
    made.reduce(FAST)
    assert made.reduced is not None
    assert made.reduced.volume == pytest.approx(6.0**3 / 4)
    assert made.symmetry is not None and made.symmetry.space_group == 225


@pytest.mark.parametrize(
    "failed",
    [
        Relaxation(structure=None, error="it broke"),
        Relaxation(structure=None, converged=True),
        Relaxation(structure=rocksalt(1.0, "K", "Cl"), error="it broke"),
    ],
    ids=["error", "nothing", "error with a geometry"],
)
def test_input_geometry_is_used_after_a_failure(failed: Relaxation) -> None:
    made = case()
    made.relaxation = failed
    made.reduce(FAST)
    assert made.reduced is not None
    assert made.reduced.volume == pytest.approx(6.29**3 / 4)
    assert relaxation_failure(failed) is not None


def test_invalid_relaxed_geometry_is_one_row() -> None:
    made = case()
    nonsense = Structure(Lattice.cubic(math.nan), ["K", "Cl"], PAIR)
    made.relaxation = Relaxation(structure=nonsense, converged=True)
    made.reduce(FAST)
    assert made.error is not None
    assert made.error.startswith("the cell could not be reduced")
    row = made.result(FAST, group=None, exhaustive=False)
    assert (row.verdict, row.error, row.readable) == (None, made.error, True)


def test_clock_adds_up_despite_errors() -> None:
    made = case()
    for _ in range(2):
        with pytest.raises(RuntimeError), made.clock():
            raise RuntimeError
    assert 0 < made.seconds < 5


# Substitution of elements into parents

REFERENCE = Reference.from_structures(
    [rocksalt(5.64, "Na", "Cl"), rocksalt(5.34, "K", "F"), rocksalt(6.6, "K", "Br")],
    ids=["t0", "t1", "t2"],
)
SITES, LETTERS = Route.LATTICE_SITES, Route.WYCKOFF


def waiting(parents: Sequence[Parent]) -> list[tuple[int, ...]]:
    made = case([TriedParent(parent=item) for item in parents])
    made.substitute_parents(REFERENCE)
    return [job.positions for job in made.waiting]


def test_cheap_parents_are_first_in_the_queue() -> None:
    parents = [
        parent(SITES, 1, 1.0, index=2),
        parent(SITES, 2, 3.0, index=0, elements=("Cl", "K")),
        parent(LETTERS, 1, 0.5, index=0),
        parent(LETTERS, 2, 1.0, index=1),
    ]
    assert waiting(parents) == [(2,), (0,), (3,), (1,)]


def test_equal_parents_of_both_routes_are_relaxed_once() -> None:
    parents = [
        parent(SITES, 1, index=1),
        parent(SITES, 2, index=0),
        parent(LETTERS, 1, index=0),
        parent(LETTERS, 2, index=2),
    ]
    assert waiting(parents) == [(0,), (1, 2), (3,)]


def test_different_parents_are_relaxed_separately() -> None:
    double = ((2, 0, 0), (0, 1, 0), (0, 0, 1))
    other = ((1, 0, 0), (0, 2, 0), (0, 0, 1))
    four = ("K", "K", "Cl", "Cl")
    parents = [
        parent(SITES, 1, index=0),
        parent(LETTERS, 1, index=0, elements=("Cl", "K")),
        parent(LETTERS, 2, index=1),
        parent(SITES, 2, index=0, elements=four, supercell=double),
        parent(SITES, 3, index=0, elements=four, supercell=other),
    ]
    assert sorted(waiting(parents)) == [(0,), (1,), (2,), (3,), (4,)]


def test_substituted_parent_has_the_cell_of_the_parent() -> None:
    made = case([TriedParent(parent=parent(index=2, elements=("Rb", "I")))])
    made.substitute_parents(REFERENCE)
    (job,) = made.waiting
    assert job.structure.lattice == REFERENCE.structure(2).lattice
    assert [site.specie.symbol for site in job.structure] == ["Rb", "I"]
    # Samples share the reference, so it must not change.
    assert REFERENCE.structure(2).composition.reduced_formula == "KBr"


def test_without_candidates_nothing_is_relaxed() -> None:
    assert waiting([]) == []


def test_routes_of_a_real_search_share_their_relaxations() -> None:
    generated = reduce(rocksalt(5.9, "Rb", "F"))
    found = ParentSearch(REFERENCE, FAST).parents(
        generated, symmetry(generated, symprec=0.01, angle_tolerance=5.0)
    )
    assert len(found.parents) == 6 and found.unfinished == ()
    jobs = waiting(found.parents)
    assert [len(positions) for positions in jobs] == [2, 2, 2]
    assert sorted(itertools.chain.from_iterable(jobs)) == list(range(6))
    assert [positions[0] for positions in jobs] == [0, 1, 2]


# Confirmation


class RecordingMatching:
    """Give prepared results, and record the calls."""

    def __init__(self, answer: float | Exception | None) -> None:
        self.answer = answer
        self.asked: list[tuple[Structure, Structure]] = []

    def confirm_rms(self, relaxed_parent: Structure, generated: Structure) -> float | None:
        self.asked.append((relaxed_parent, generated))
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer


def confirmed(
    result: Relaxation, answer: float | Exception | None
) -> tuple[Case, RecordingMatching]:
    made = case([tried("not relaxed"), tried("not relaxed", parent(rank=2))])
    matching = RecordingMatching(answer)
    made.confirm((1,), result, matching)  # type: ignore[arg-type]
    assert made.tried[0] == tried("not relaxed")
    return made, matching


RELAXED = rocksalt(6.2, "K", "Cl")


@pytest.mark.parametrize("converged", [True, False])
def test_match_confirms_after_the_maximum_of_steps(converged: bool) -> None:
    result = Relaxation(structure=RELAXED, converged=converged, steps=7)
    made, matching = confirmed(result, 0.125)
    assert made.tried[1] == TriedParent(
        parent=parent(rank=2),
        relaxed=True,
        converged=converged,
        confirmed=True,
        confirm_rms=0.125,
        steps=7,
    )
    assert made.confirmed
    assert made.decide() == (Verdict.SUBSTITUTED, None)
    # The relaxed, reduced parent is the first argument; the crystal is the second.
    ((first, second),) = matching.asked
    assert len(first) == 2 and first.volume == pytest.approx(6.2**3 / 4)
    assert second is made.reduced


def test_match_with_rms_zero_confirms() -> None:
    made, _ = confirmed(Relaxation(structure=RELAXED, converged=True), 0.0)
    assert made.tried[1].confirmed is True


@pytest.mark.parametrize("converged", [True, False])
def test_mismatch_refutes(converged: bool) -> None:
    made, _ = confirmed(Relaxation(structure=RELAXED, converged=converged), None)
    assert (made.tried[1].confirmed, made.tried[1].error) == (False, None)
    made.tried = made.tried[1:]
    expected = Verdict.UNMATCHED if converged else Verdict.UNDECIDED
    assert made.decide()[0] is expected


@pytest.mark.parametrize(
    ("result", "answer", "error"),
    [
        (Relaxation(structure=None, error="it broke"), 0.0, "it broke"),
        (Relaxation(structure=RELAXED, error="it broke", converged=True), 0.0, "it broke"),
        (Relaxation(structure=None, converged=True), 0.0, "the relaxer gave no structure"),
        (
            Relaxation(
                structure=Structure(Lattice.cubic(math.nan), ["K", "Cl"], PAIR), converged=True
            ),
            0.0,
            "the cell could not be reduced",
        ),
        (
            Relaxation(structure=RELAXED, converged=True),
            ValueError("no Niggli cell"),
            "the match failed (ValueError: no Niggli cell)",
        ),
    ],
    ids=["failed", "failed with a geometry", "nothing", "nonsense", "the matcher broke"],
)
def test_failure_neither_confirms_nor_refutes(
    result: Relaxation, answer: float | Exception, error: str
) -> None:
    made, _ = confirmed(result, answer)
    last = made.tried[1]
    assert (last.relaxed, last.confirmed, last.confirm_rms) == (True, None, None)
    assert last.error is not None and last.error.startswith(error)
    made.tried = made.tried[1:]
    verdict, reason = made.decide()
    assert verdict is Verdict.UNDECIDED
    assert reason is not None and error in reason


def test_one_relaxation_serves_all_equal_candidates() -> None:
    made = case([tried("not relaxed", parent(SITES)), tried("not relaxed", parent(LETTERS))])
    made.confirm((0, 1), Relaxation(structure=RELAXED, converged=True), Matching(FAST))
    assert [item.confirmed for item in made.tried] == [True, True]
    assert made.tried[0].confirm_rms == pytest.approx(0, abs=1e-6)
    assert [item.parent.route for item in made.tried] == [SITES, LETTERS]


def test_real_matcher_refuses_another_cell() -> None:
    made = case([tried("not relaxed")])
    far = Relaxation(structure=rocksalt(4.2, "K", "Cl"), converged=True)
    made.confirm((0,), far, Matching(FAST))
    assert made.tried[0].confirmed is False
    assert made.decide() == (Verdict.UNMATCHED, None)


# The row


def row(parents: Sequence[TriedParent], *, exhaustive: bool = False) -> CrystalResult:
    return case(parents).result(FAST, group=0, exhaustive=exhaustive)


SITES_1, SITES_2 = parent(SITES, 1, 1.0, index=1), parent(SITES, 2, 3.0, index=2)
LETTERS_1, LETTERS_2 = parent(LETTERS, 1, 1.0, index=3), parent(LETTERS, 2, 2.0, index=4)


@pytest.mark.parametrize(
    ("parents", "shown", "route"),
    [
        # A parent that confirmed comes before a cheaper one that did not.
        ([("refuted", SITES_1), ("confirmed", SITES_2)], "t2", SITES),
        # The cheapest parent that confirmed.
        ([("confirmed", SITES_2), ("confirmed", LETTERS_2)], "t4", LETTERS),
        # At equal cost: lattice and sites.
        ([("confirmed", LETTERS_1), ("confirmed", SITES_1)], "t1", SITES),
        # At equal cost and route: the lower rank.
        ([("confirmed", replace(SITES_2, cost=1.0)), ("confirmed", SITES_1)], "t1", SITES),
        # No parent confirmed: the cheapest one, and no route.
        ([("refuted", SITES_2), ("refuted", LETTERS_2)], "t4", None),
        ([("failed", SITES_2), ("not relaxed", LETTERS_1)], "t3", None),
        ([], None, None),
    ],
)
def test_parent_of_a_row(
    parents: list[tuple[str, Parent]], shown: str | None, route: Route | None
) -> None:
    found = row([tried(state, like) for state, like in parents])
    assert (found.parent_id, found.route) == (shown, route)
    assert found.n_parents == len(parents) == len(found.parents)
    if shown is None:
        assert (found.cost, found.match_rms, found.element_map) == (None, None, None)
    else:
        like = next(item for _, item in parents if item.parent_id == shown)
        assert (found.cost, found.match_rms) == (like.cost, like.match_rms)
        assert found.element_map == like.element_map


@pytest.mark.parametrize(
    ("parents", "kind"),
    [
        ([("confirmed", SITES_1), ("confirmed", LETTERS_1)], Kind.BOTH),
        ([("confirmed", SITES_1), ("confirmed at its last step", LETTERS_2)], Kind.BOTH),
        ([("confirmed", SITES_1), ("refuted", LETTERS_1)], Kind.LATTICE_SITES),
        ([("failed", SITES_1), ("confirmed", LETTERS_1)], Kind.WYCKOFF),
        ([("confirmed", SITES_1), ("confirmed", SITES_2)], Kind.LATTICE_SITES),
        ([("refuted", SITES_1), ("refuted", LETTERS_1)], None),
        ([], None),
    ],
)
def test_kind(parents: list[tuple[str, Parent]], kind: Kind | None) -> None:
    made = [tried(state, like) for state, like in parents]
    assert row(made, exhaustive=True).kind == kind
    # Unless every parent was relaxed, an unconfirmed route is possibly untested.
    assert row(made, exhaustive=False).kind is None


def test_row_of_a_duplicate() -> None:
    made = case(duplicate=COPY, searched=False, because="composition refused by SMACT")
    found = made.result(FAST, group=7, exhaustive=True)
    assert (found.verdict, found.error, found.eligible) == (Verdict.DUPLICATE, None, False)
    assert (found.parent_id, found.match_rms, found.cost) == ("t4", 0.01, 0.0)
    assert (found.share_exchanged, found.duplicate_group) == (0.0, 7)
    assert (found.n_parents, found.parents, found.route, found.kind) == (None, (), None, None)


def test_row_without_a_search() -> None:
    made = case(searched=False, because="0.300 eV/atom above the hull")
    found = made.result(FAST, group=0, exhaustive=False)
    assert (found.verdict, found.error) == (None, "not eligible: 0.300 eV/atom above the hull")
    assert (found.formula, found.n_sites, found.space_group) == ("KCl", 8, 225)
    assert (found.crystal_system, found.n_parents, found.readable) == ("cubic", None, True)


def test_row_of_an_unreadable_sample() -> None:
    made = Case(Sample("g", None, error="row 3: no cell"))
    made.check(None)
    found = made.result(FAST, group=None, exhaustive=False)
    assert found == CrystalResult(
        id="g", error="row 3: no cell", readable=False, seconds=0.0, n_relaxations=0
    )


@pytest.mark.parametrize(
    ("energy", "suspect"), [(None, None), (-0.2, False), (-0.2001, True), (0.05, False)]
)
def test_energy_far_below_the_hull_is_suspect(energy: float | None, suspect: bool | None) -> None:
    made = case()
    made.e_above_hull = energy
    assert made.result(FAST, group=0, exhaustive=False).energy_suspect is suspect


@pytest.mark.parametrize(
    ("decomposition", "suspect"),
    [
        ({"K": 0.5, "Cl2": 0.5}, False),  # without known compounds this is its formation energy
        ({"K": 0.5, "KCl3": 0.5}, True),
        ({"KCl": 1.0}, True),
        ({"Cl2": 1.0}, True),  # an element competes with its own crystals
        (None, True),
    ],
)
def test_energy_below_a_hull_of_elements_is_not_suspect(
    decomposition: dict[str, float] | None, suspect: bool
) -> None:
    made = case()
    made.e_above_hull, made.decomposition, made.n_competing = -2.0, decomposition, 3
    row = made.result(FAST, group=0, exhaustive=False)
    assert row.energy_suspect is suspect
    assert row.no_competing_compound is (None if decomposition is None else not suspect)
    assert (row.decomposition, row.n_competing) == (decomposition, 3)


def test_cases_are_compared_by_identity() -> None:
    sample = Sample("g", None)
    assert Case(sample) != Case(sample)
    assert len({Case(sample), Case(sample)}) == 2
