"""When a relaxation of a parent ends early, and what that decides."""

from __future__ import annotations

import pickle

import pytest
from ase.calculators.emt import EMT
from hypothesis import given, settings
from hypothesis import strategies as st
from pymatgen.core import Lattice, Structure

from novelty_metric import Sample, SubstitutionNovelty, crystal
from novelty_metric.protocol import Protocol
from novelty_metric.relaxation import Ended, RelaxSettings
from novelty_metric.relaxation.evaluators import AseEvaluator
from novelty_metric.relaxation.relaxation_run import RelaxationRun, geometry_of
from novelty_metric.scoring.case import Case, Substituted
from novelty_metric.scoring.early_stopping import NEAR, MatchStopping
from novelty_metric.verdict import Parent, Route, TriedParent, Verdict

FAST = Protocol(name="own", accept_early=0.01)
ENERGY = -3.0


def rocksalt(a: float) -> Structure:
    return Structure.from_spacegroup(
        "Fm-3m", Lattice.cubic(a), ["Na", "Cl"], [[0, 0, 0], [0.5, 0.5, 0.5]]
    )


def caesium_chloride(a: float) -> Structure:
    return Structure(Lattice.cubic(a), ["Na", "Cl"], [[0, 0, 0], [0.5, 0.5, 0.5]])


SALT = crystal.reduce(rocksalt(5.64))
SAME = rocksalt(5.7)
OTHER = caesium_chloride(3.4)
STOPPING = MatchStopping(SALT, ENERGY, FAST)


def outcome(
    stopping: MatchStopping, above: float, force: float, structure: Structure
) -> Ended | None:
    return stopping.decide(ENERGY + above, force, lambda: structure)


@pytest.mark.parametrize(
    ("above", "force", "structure", "expected"),
    [
        (0.005, 0.3, SAME, Ended.ACCEPTED),
        (-0.005, 5.0, SAME, Ended.ACCEPTED),
        (0.02, 0.3, SAME, None),  # matches, but may still go elsewhere
        (0.5, 0.1, SAME, None),
        (-0.5, 0.1, SAME, None),
        (0.005, 0.01, OTHER, None),  # may come out equal
        (9.0, 0.01, OTHER, None),  # it may rest on a plateau, and move on
    ],
)
def test_the_rules(
    above: float, force: float, structure: Structure, expected: Ended | None
) -> None:
    assert outcome(STOPPING, above, force, structure) is expected


def test_a_match_must_be_near() -> None:
    moved = SALT.copy()
    moved.translate_sites([0], [0.2, 0, 0])
    rms = STOPPING._match(moved)
    assert rms is not None and rms > NEAR
    assert outcome(STOPPING, 0.001, 0.1, moved) is None


@settings(max_examples=30)
@given(st.floats(-2, 2), st.floats(0, 5), st.sampled_from([SAME, OTHER]))
def test_paper_never_ends_early(above: float, force: float, structure: Structure) -> None:
    assert (
        outcome(MatchStopping(SALT, ENERGY, Protocol.named("paper")), above, force, structure)
        is None
    )


def test_early_stopping_can_be_sent_to_a_worker() -> None:
    assert outcome(pickle.loads(pickle.dumps(STOPPING)), 0.001, 0.1, SAME) is Ended.ACCEPTED


# A relaxation with early stopping


class Steps:
    """Ends a relaxation at its third point."""

    def __init__(self) -> None:
        self.seen: list[tuple[float, float, float]] = []

    def decide(self, energy_per_atom, largest_force, structure):
        self.seen.append((energy_per_atom, largest_force, structure().volume))
        return Ended.ACCEPTED if len(self.seen) == 3 else None


def test_early_stopping_ends_the_relaxation_where_it_stands() -> None:
    copper = Structure.from_spacegroup("Fm-3m", Lattice.cubic(4.2), ["Cu"], [[0, 0, 0]])
    copper.perturb(0.1, seed=1)
    wanted = RelaxSettings(fmax=1e-4, max_steps=50, optimizer="bfgs_symmetric")
    stopping = Steps()
    run = RelaxationRun(copper, wanted, stopping)
    evaluator = AseEvaluator(EMT())
    while run.geometry is not None:
        run.receive(evaluator.evaluate([run.geometry])[0])
    result = run.result()
    assert result.ended is Ended.ACCEPTED and not result.converged and result.error is None
    energy, force, volume = stopping.seen[-1]
    assert result.energy_after == energy and result.structure is not None
    assert result.structure.volume == pytest.approx(volume) and force > 1e-4
    there = evaluator.evaluate([geometry_of(result.structure)])[0]
    assert there.energy / 4 == pytest.approx(energy)
    assert [one for one, _, _ in stopping.seen] == sorted(
        (e for e, _, _ in stopping.seen), reverse=True
    )


# What it decides


def tried(**what: object) -> TriedParent:
    parent = Parent(
        route=Route.WYCKOFF,
        rank=1,
        index=0,
        parent_id="p",
        cost=1.0,
        match_rms=None,
        supercell=None,
        elements=("Na", "Cl"),
        element_map={"K": {"Na": 1}, "Cl": {"Cl": 1}},
        share_exchanged=0.5,
    )
    return TriedParent(parent=parent, relaxed=True, converged=False, **what)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("what", "verdict"),
    [
        ({"ended_early": "accepted", "confirmed": True}, Verdict.SUBSTITUTED),
        # It should not be: then it is not a refutation.
        ({"ended_early": "accepted", "confirmed": False}, Verdict.UNDECIDED),
        ({"ended_early": None, "confirmed": False}, Verdict.UNDECIDED),
        ({"ended_early": "accepted", "confirmed": None, "error": "odd"}, Verdict.UNDECIDED),
    ],
)
def test_what_an_early_end_decides(what: dict[str, object], verdict: Verdict) -> None:
    case = Case(Sample("a", SALT))
    case.searched = True
    case.tried = [tried(**what)]
    assert case.decide()[0] is verdict


def test_only_a_crystal_at_its_minimum_is_compared_with() -> None:
    case = Case(Sample("a", SALT))
    case.reduced, case.converged, case.energy_per_atom = SALT, True, ENERGY
    fast = SubstitutionNovelty(protocol=FAST, relaxer=None).pipeline
    case.tried = [tried()]
    parent = Substituted(SALT, (0,))
    stopping = fast._early_stopping(case, parent)
    assert isinstance(stopping, MatchStopping)
    assert (stopping.generated, stopping.energy_per_atom) == (SALT, ENERGY)
    assert stopping.protocol == FAST
    paper = SubstitutionNovelty(protocol="paper", relaxer=None).pipeline
    assert paper._early_stopping(case, parent) is None
    case.converged = False
    assert fast._early_stopping(case, parent) is None
    case.converged, case.energy_per_atom = True, None
    assert fast._early_stopping(case, parent) is None
