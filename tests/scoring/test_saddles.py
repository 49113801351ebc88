"""Second relaxations: samples of nearly higher symmetry; samples and parents on saddle points."""

from __future__ import annotations

import dataclasses
import time
from collections import deque
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from pymatgen.core import Lattice, Structure
from salts import salt

from novelty_metric import NoveltyReport, Reference, SubstitutionNovelty, Verdict, crystal
from novelty_metric.protocol import Protocol
from novelty_metric.relaxation import PotentialInfo, Relaxation, RelaxSettings, RelaxTask
from novelty_metric.report.explanation import explain
from novelty_metric.scoring.case import BELOW, NEAR_ENERGY, Case
from novelty_metric.scoring.pipeline import SAME_ENERGY

KEEP = Protocol.named("fast")
ESCAPE = dataclasses.replace(KEEP, minima="escape")


REFERENCE = Reference.from_structures([salt(5.64, "Na", "Cl")], ids=["salt"], name="one")
SMALL, LARGE = salt(4.21, "Mg", "O"), salt(5.7, "Mg", "O")
"""The unrelaxed parent refutes the first and confirms the second."""

Answer = tuple[Structure, float, bool | None]
"""Last geometry, energy (eV/atom), whether it is a saddle point."""


class ScriptedRelaxer:
    """Give prepared results for the first and second relaxation of a sample and a parent."""

    info = PotentialInfo(name="scripted", version="1", weights_hash="0" * 64)

    def __init__(self, **answers: Callable[[Structure], Answer]) -> None:
        self.answers = answers
        self.asked: list[str] = []

    def relax(
        self, queue: deque[RelaxTask], settings: RelaxSettings, *, deadline: float | None = None
    ) -> Iterator[tuple[RelaxTask, Relaxation]]:
        while queue:
            task = queue.popleft()
            what = "sample" if isinstance(task.key, Case) else "parent"
            what += "" if task.minima == "keep" else "_" + task.minima
            if what == "sample" and what in self.asked:
                what = "symmetric"
            self.asked.append(what)
            structure, energy, saddle = self.answers.get(what, as_it_stands)(task.structure)
            yield (
                task,
                Relaxation(
                    structure=structure,
                    energy_before=energy,
                    energy_after=energy,
                    converged=True,
                    saddle=None if task.minima == "keep" else saddle,
                    energy_below=0.1 if saddle else None,
                    steps=5,
                ),
            )

    def energies(self, structures: Any) -> Iterator[float]:
        yield from (-3.0 for _ in structures)

    def close(self) -> None:
        pass


def as_it_stands(structure: Structure) -> Answer:
    return structure, -3.0, False


def score(relaxer: ScriptedRelaxer, protocol: Protocol = ESCAPE, **options: Any) -> NoveltyReport:
    options = {"hull": "none", **options}
    return SubstitutionNovelty(REFERENCE, protocol, relaxer=relaxer, **options)([SMALL])


def test_unmatched_samples_are_relaxed_again() -> None:
    relaxer = ScriptedRelaxer()
    (row,) = score(relaxer).results
    assert row.verdict is Verdict.UNMATCHED and row.saddle is False
    # The parent of the Wyckoff route ends at the energy of the sample.
    assert relaxer.asked == ["sample", "parent", "sample_escape", "parent_escape"]
    assert row.n_relaxations == 2 and row.parents[0].steps == 5 + 1 + 5


@pytest.mark.parametrize("minima", ["keep", "check"])
def test_without_escape_nothing_is_relaxed_twice(minima: Any) -> None:
    relaxer = ScriptedRelaxer(sample_check=lambda it: (it, -3.0, True))
    report = score(relaxer, dataclasses.replace(KEEP, minima=minima))
    (row,) = report.results
    first = "sample" if minima == "keep" else "sample_check"
    assert relaxer.asked == [first, "parent"]
    assert (row.saddle, row.energy_below) == ((None, None) if minima == "keep" else (True, 0.1))
    assert report.n_saddles == (minima == "check")


def test_sample_that_leaves_a_saddle_is_searched_again() -> None:
    relaxer = ScriptedRelaxer(sample_escape=lambda it: (LARGE, -3.1, True))
    report = score(relaxer)
    (row,) = report.results
    assert (row.verdict, row.parent_id) == (Verdict.SUBSTITUTED, "salt")
    assert (row.energy_per_atom, row.saddle, row.energy_below) == (-3.1, True, 0.1)
    assert row.structures is not None and row.structures.relaxed is not None
    assert row.structures.relaxed.to_structure().volume == pytest.approx(LARGE.volume)
    assert row.structures.generated is not None
    facts = str(explain(report, 0, row.structures))
    assert "left a saddle point 0.1000 eV/atom above a minimum" in facts


def test_parent_that_leaves_a_saddle_can_confirm() -> None:
    relaxer = ScriptedRelaxer(parent_escape=lambda it: (SMALL, -3.0, True))
    (row,) = score(relaxer).results
    assert (row.verdict, row.parent_id) == (Verdict.SUBSTITUTED, "salt")
    assert relaxer.asked[-1] == "parent_escape"


@pytest.mark.parametrize(
    ("above", "again"),
    [(0.9 * NEAR_ENERGY, True), (1.1 * NEAR_ENERGY, False), (-0.9 * BELOW, True), (-0.03, False)],
)
def test_only_parents_above_the_sample_are_relaxed_again(above: float, again: bool) -> None:
    relaxer = ScriptedRelaxer(parent=lambda it: (it, -3.0 + above, None))
    score(relaxer)
    assert ("parent_escape" in relaxer.asked) is again


def test_substituted_samples_are_not_relaxed_again() -> None:
    relaxer = ScriptedRelaxer(sample=lambda it: (LARGE, -3.0, None))
    (row,) = score(relaxer).results
    assert row.verdict is Verdict.SUBSTITUTED
    assert relaxer.asked == ["sample", "parent"]


class Hull:
    """Energy above hull: the energy relative to -3 eV/atom."""

    name = "toy"

    def e_above_hull(self, composition: Any, energy_per_atom: float) -> float:
        return energy_per_atom + 3.0

    def describe(self) -> dict[str, Any]:
        return {"name": self.name}


def test_sample_above_the_hull_can_leave_a_saddle() -> None:
    relaxer = ScriptedRelaxer(
        sample=lambda it: (it, -2.5, None), sample_escape=lambda it: (LARGE, -3.0, True)
    )
    (row,) = score(relaxer, hull=Hull()).results
    assert (row.eligible, row.e_above_hull, row.verdict) == (True, 0.0, Verdict.SUBSTITUTED)
    (row,) = score(ScriptedRelaxer(sample=lambda it: (it, -2.5, None)), KEEP, hull=Hull()).results
    assert (row.eligible, row.verdict) == (False, None)


def test_deadline_before_the_second_relaxation_leaves_it_undecided(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    metric = SubstitutionNovelty(REFERENCE, ESCAPE, relaxer=ScriptedRelaxer(), hull="none")
    pipeline = metric.pipeline
    found = pipeline._leave_saddles

    def late(cases: Any) -> Any:
        if cases and cases[0].searched:
            monkeypatch.setattr(pipeline.clock, "deadline_passed", lambda: True)
        return found(cases)

    monkeypatch.setattr(pipeline, "_leave_saddles", late)
    metric.update([SMALL])
    (row,) = metric.compute(deadline=time.monotonic() + 1000).results
    assert (row.verdict, row.error) == (Verdict.UNDECIDED, "the time ran out")


# Higher symmetry


def nearly_cubic() -> Structure:
    """Perovskite with its B site 0.02 Å off the centre: P4mm at symprec 0.01 Å, otherwise Pm-3m."""
    sites = [[0, 0, 0], [0.5, 0.5, 0.505], [0.5, 0.5, 0], [0.5, 0, 0.5], [0, 0.5, 0.5]]
    return Structure(Lattice.cubic(4.0), ["K", "Mg", "F", "F", "F"], sites)


@pytest.mark.parametrize(
    ("rise", "group"), [(0.9 * SAME_ENERGY, 221), (-0.01, 221), (1.1 * SAME_ENERGY, 99)]
)
def test_higher_symmetry_is_used_if_the_energy_does_not_rise(rise: float, group: int) -> None:
    relaxer = ScriptedRelaxer(
        sample=lambda it: (nearly_cubic(), -3.0, None), symmetric=lambda it: (it, -3.0 + rise, None)
    )
    metric = SubstitutionNovelty(REFERENCE, KEEP, relaxer=relaxer, hull="none")
    (row,) = metric([nearly_cubic()]).results
    assert relaxer.asked == ["sample", "symmetric"]
    assert row.space_group == group
    assert row.energy_per_atom == (-3.0 + rise if group == 221 else -3.0)


def test_paper_relaxes_nothing_twice() -> None:
    relaxer = ScriptedRelaxer()
    metric = SubstitutionNovelty(REFERENCE, "paper", relaxer=relaxer, hull="none")
    (row,) = metric([nearly_cubic()]).results
    assert (relaxer.asked, row.space_group, row.saddle) == (["sample"], 99, None)


def symmetrised(structure: Structure, widest: float) -> Structure | None:
    usual = crystal.symmetry(structure, symprec=0.01, angle_tolerance=5)
    assert usual is not None
    return crystal.symmetrised(structure, usual, widest=widest, angle_tolerance=5)


def test_symmetrised_keeps_composition_and_sufficiently_symmetric_crystals() -> None:
    found = symmetrised(nearly_cubic(), 0.1)
    assert found is not None and found.composition == nearly_cubic().composition
    assert found.get_space_group_info(1e-4)[1] == 221
    assert symmetrised(found, 0.1) is None
    assert symmetrised(nearly_cubic(), 0.011) is None
