"""Conditions and consequences of early stopping of a parent's relaxation."""

from __future__ import annotations

import dataclasses
import pickle

import pytest
from ase.calculators.emt import EMT
from hypothesis import given, settings
from hypothesis import strategies as st
from pymatgen.core import Lattice, Structure

from novelty_metric import Sample, SubstitutionNovelty, crystal
from novelty_metric.protocol import Protocol
from novelty_metric.relaxation import Ended, RelaxSettings
from novelty_metric.relaxation.base import Look
from novelty_metric.relaxation.evaluators import AseEvaluator
from novelty_metric.relaxation.relaxation_run import RelaxationRun, geometry_of
from novelty_metric.scoring.case import Case, Substituted
from novelty_metric.scoring.early_stopping import FAR, NEAR, MatchStopping
from novelty_metric.search.matching import Matching
from novelty_metric.verdict import Parent, Route, TriedParent, Verdict

FAST = Protocol(name="own", accept_early=0.01, refuse_after=10)
ENERGY = -3.0


def rocksalt(a: float) -> Structure:
    return Structure.from_spacegroup(
        "Fm-3m", Lattice.cubic(a), ["Na", "Cl"], [[0, 0, 0], [0.5, 0.5, 0.5]]
    )


SALT = crystal.reduce(rocksalt(5.64))
SAME = rocksalt(5.7)
OTHER = Structure(Lattice.tetragonal(2.6, 13.0), ["Na", "Cl"], [[0, 0, 0], [0.5, 0.5, 0.5]])
STRETCHED = SALT.copy()
STRETCHED.apply_strain([0.3, 0.0, 0.0])
STOPPING = MatchStopping(SALT, ENERGY, FAST)


def outcome(
    stopping: MatchStopping, above: float, steps: int, structure: Structure, force: float = 1.0
) -> Ended | None:
    return stopping.decide(Look(steps, ENERGY + above, force), lambda: structure)


@pytest.mark.parametrize(
    ("above", "steps", "structure", "expected"),
    [
        (0.005, 0, SAME, Ended.ACCEPTED),
        (-0.005, 99, SAME, Ended.ACCEPTED),
        (0.02, 0, SAME, None),  # matches, but can still change
        (0.5, 15, SAME, None),
        (-0.5, 15, SAME, None),
        (0.005, 15, OTHER, None),  # its energy can still become equal
        (9.0, 9, OTHER, None),  # its cell can still change
        (9.0, 10, OTHER, Ended.REFUSED),
        (-0.5, 19, OTHER, Ended.REFUSED),
        (9.0, 20, OTHER, None),  # it can leave a saddle point
        (9.0, 15, STRETCHED, None),  # no match, but similar
        (0.09, 15, OTHER, None),  # nearly the same energy
        (0.11, 15, OTHER, Ended.REFUSED),
    ],
)
def test_rules(above: float, steps: int, structure: Structure, expected: Ended | None) -> None:
    assert outcome(STOPPING, above, steps, structure) is expected


def test_nearly_converged_parent_is_not_refused() -> None:
    assert outcome(STOPPING, 9.0, 15, OTHER, force=0.21) is Ended.REFUSED
    assert outcome(STOPPING, 9.0, 15, OTHER, force=0.19) is None


def test_each_rule_can_be_disabled() -> None:
    only_accept = MatchStopping(SALT, ENERGY, dataclasses.replace(FAST, refuse_after=0))
    only_refuse = MatchStopping(SALT, ENERGY, dataclasses.replace(FAST, accept_early=0.0))
    assert outcome(only_accept, 0.001, 0, SAME) is Ended.ACCEPTED
    assert outcome(only_accept, -1.0, 15, OTHER) is None
    assert outcome(only_refuse, 0.001, 15, SAME) is None
    assert outcome(only_refuse, 0.5, 15, OTHER) is Ended.REFUSED


def test_distant_means_outside_the_wide_tolerances() -> None:
    near, wide = Matching(FAST), Matching(dataclasses.replace(FAST, ltol=0.4, stol=0.7))
    assert near.confirm_rms(crystal.reduce(STRETCHED), SALT) is None
    assert wide.confirm_rms(crystal.reduce(STRETCHED), SALT) is not None
    assert {name: FAR[name] * getattr(FAST, name) for name in FAR} == pytest.approx(
        {"ltol": 0.4, "stol": 0.7, "angle_tol": 15.0}
    )


def test_match_must_be_close() -> None:
    moved = SALT.copy()
    moved.translate_sites([0], [0.2, 0, 0])
    rms = STOPPING._match(moved, far=False)
    assert rms is not None and rms > NEAR
    assert outcome(STOPPING, 0.001, 0, moved) is None


@settings(max_examples=30)
@given(st.floats(-2, 2), st.integers(0, 999), st.sampled_from([SAME, OTHER]))
def test_paper_has_no_early_stopping(above: float, steps: int, structure: Structure) -> None:
    assert (
        outcome(MatchStopping(SALT, ENERGY, Protocol.named("paper")), above, steps, structure)
        is None
    )


def test_early_stopping_can_be_pickled() -> None:
    sent = pickle.loads(pickle.dumps(STOPPING))
    assert outcome(sent, 0.001, 0, SAME) is Ended.ACCEPTED
    assert outcome(sent, 1.0, 10, OTHER) is Ended.REFUSED


# A relaxation with early stopping


class StopAtThirdPoint:
    """End a relaxation at its third point."""

    def __init__(self) -> None:
        self.seen: list[tuple[int, float, float]] = []

    def decide(self, look, structure):
        self.seen.append((look.steps, look.energy_per_atom, structure().volume))
        return Ended.REFUSED if len(self.seen) == 3 else None


def test_early_stopping_keeps_the_current_geometry() -> None:
    copper = Structure.from_spacegroup("Fm-3m", Lattice.cubic(4.2), ["Cu"], [[0, 0, 0]])
    copper.perturb(0.1, seed=1)
    wanted = RelaxSettings(fmax=1e-4, max_steps=50, optimizer="bfgs_symmetric")
    stopping = StopAtThirdPoint()
    run = RelaxationRun(copper, wanted, stopping)
    evaluator = AseEvaluator(EMT())
    while run.geometry is not None:
        run.receive(evaluator.evaluate([run.geometry])[0])
    result = run.result()
    assert result.ended is Ended.REFUSED and not result.converged and result.error is None
    steps, energy, volume = stopping.seen[-1]
    assert result.energy_after == energy and result.structure is not None
    assert result.structure.volume == pytest.approx(volume) and result.steps == steps
    there = evaluator.evaluate([geometry_of(result.structure)])[0]
    assert there.energy / 4 == pytest.approx(energy)
    energies = [energy for _, energy, _ in stopping.seen]
    assert energies == sorted(energies, reverse=True)


# Consequences


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
        ({"ended_early": "refused", "confirmed": False}, Verdict.UNMATCHED),
        ({"ended_early": "accepted", "confirmed": True}, Verdict.SUBSTITUTED),
        # This should not happen; it must not count as a refutation.
        ({"ended_early": "accepted", "confirmed": False}, Verdict.UNDECIDED),
        ({"ended_early": None, "confirmed": False}, Verdict.UNDECIDED),
        ({"ended_early": "refused", "confirmed": None, "error": "odd"}, Verdict.UNDECIDED),
    ],
)
def test_verdict_after_early_stopping(what: dict[str, object], verdict: Verdict) -> None:
    case = Case(Sample("a", SALT))
    case.searched = True
    case.tried = [tried(**what)]
    assert case.decide()[0] is verdict


def test_early_stopping_needs_a_relaxed_crystal() -> None:
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
