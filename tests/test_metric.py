"""`SubstitutionNovelty` from end to end, with fake relaxers and with CHGNet."""

from __future__ import annotations

import dataclasses
import json
import math
import runpy
import sqlite3
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from ase import Atoms
from pymatgen.core import Composition, Lattice, Structure
from pymatgen.io.ase import AseAtomsAdaptor
from salts import FACES, rocksalt

from novelty_metric import (
    CrystalResult,
    InputError,
    NoveltyReport,
    Protocol,
    Reference,
    Sample,
    StoreError,
    SubstitutionNovelty,
    Verdict,
    cli,
    open_reference,
    read_samples,
)
from novelty_metric.relaxation.base import PotentialInfo, Relaxation, RelaxSettings, RelaxTask
from novelty_metric.relaxation.in_flight import InFlight
from novelty_metric.samples.packaged import packaged_samples_path
from novelty_metric.scoring.case import Case
from novelty_metric.screening.entries import EntriesHull
from novelty_metric.search.compiled import note_compiled
from novelty_metric.verdict import Kind, Route

ROOT = Path(__file__).resolve().parents[1]
FAST = dataclasses.replace(Protocol.named("fast"), symmetrise=0.0)
"""Second relaxations are disabled here: `tests/scoring/test_saddles.py` tests them."""


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A separate cache folder for each test."""
    folder = tmp_path / "cache"
    monkeypatch.setenv("NOVELTY_METRIC_CACHE", str(folder))
    return folder


# Crystals


def sphalerite(a: float, first: str, second: str) -> Structure:
    moved = [[x + 0.25, y + 0.25, z + 0.25] for x, y, z in FACES]
    return Structure(Lattice.cubic(a), [first] * 4 + [second] * 4, FACES + moved)


def caesium_chloride(a: float, first: str, second: str) -> Structure:
    return Structure(Lattice.cubic(a), [first, second], [[0, 0, 0], [0.5, 0.5, 0.5]])


def fluorite(a: float, first: str, second: str) -> Structure:
    moved = [[x + s, y + s, z + s] for s in (0.25, 0.75) for x, y, z in FACES]
    return Structure(Lattice.cubic(a), [first] * 4 + [second] * 8, FACES + moved)


def perovskite(a: float, large: str, small: str, anion: str) -> Structure:
    anions = [[0.5, 0.5, 0], [0.5, 0, 0.5], [0, 0.5, 0.5]]
    return Structure(
        Lattice.cubic(a), [large, small] + [anion] * 3, [[0, 0, 0], [0.5, 0.5, 0.5], *anions]
    )


def shaken(structure: Structure, distance: float = 0.02, seed: int = 5) -> Structure:
    moved = structure.copy()
    moved.perturb(distance, seed=seed)
    return moved


COPY = shaken(rocksalt(5.7, "Na", "Cl"))
SWAP = rocksalt(6.29, "K", "Cl")
"""Rock salt of a size close to NaCl: both routes find a parent, which confirms unrelaxed."""
FAR = rocksalt(4.21, "Mg", "O")
"""Rock salt too small for NaCl: only the Wyckoff route finds a parent, which refutes unrelaxed."""
ALONE = perovskite(3.905, "Sr", "Ti", "O")
"""Five sites: incommensurate with every reference crystal."""
REFUSED = rocksalt(5.2, "Mg", "Cl")
BAD_CELL = Structure(Lattice.cubic(math.nan), ["Na"], [[0, 0, 0]])
COINCIDENT = Structure(Lattice.cubic(4), ["Na", "Cl"], [[0, 0, 0], [0, 0, 0]])

REFERENCE = Reference.from_structures(
    [
        rocksalt(5.64, "Na", "Cl"),
        caesium_chloride(4.12, "Cs", "Cl"),
        sphalerite(5.41, "Zn", "S"),
        fluorite(5.46, "Ca", "F"),
    ],
    ids=["salt", "caesium", "blende", "fluorite"],
    name="four",
)
FOUR_SALTS = Reference.from_structures(
    [
        rocksalt(5.64, "Na", "Cl"),
        rocksalt(5.34, "K", "F"),
        rocksalt(5.55, "Ag", "Cl"),
        rocksalt(6.6, "K", "Br"),
    ],
    ids=["NaCl", "KF", "AgCl", "KBr"],
    name="salts",
)


# Relaxers


Outcome = Callable[[Structure], Relaxation]


def unchanged(structure: Structure) -> Relaxation:
    return Relaxation(
        structure=structure.copy(),
        energy_before=-3.0,
        energy_after=-3.0,
        converged=True,
        seconds=0.5,
    )


def out_of_steps(structure: Structure) -> Relaxation:
    return dataclasses.replace(unchanged(structure), converged=False, steps=200)


def broken(structure: Structure) -> Relaxation:
    return Relaxation(structure=None, error="the cell flew apart")


def scaled(factor: float, **changes: Any) -> Outcome:
    def outcome(structure: Structure) -> Relaxation:
        moved = structure.copy()
        moved.scale_lattice(structure.volume * factor**3)
        return dataclasses.replace(unchanged(structure), structure=moved, **changes)

    return outcome


@dataclass
class FakeRelaxer:
    """Answer immediately, and record every task and the length of the queue at that time.

    `room` tasks run simultaneously; with `backwards` the last one finishes first.
    """

    samples: Outcome = unchanged
    parents: Outcome = unchanged
    energy: Callable[[Structure], float] = lambda structure: -3.0
    name: str = "fake"
    room: int = 1
    backwards: bool = False
    sample_tasks: list[RelaxTask] = field(default_factory=list)
    parent_tasks: list[RelaxTask] = field(default_factory=list)
    settings: set[RelaxSettings] = field(default_factory=set)
    under_way: list[list[RelaxTask]] = field(default_factory=list)
    single_points: int = 0
    closed: bool = False

    @property
    def info(self) -> PotentialInfo:
        return PotentialInfo(name=self.name, version="1", weights_hash="0" * 64)

    @property
    def n_tasks(self) -> int:
        return len(self.sample_tasks) + len(self.parent_tasks)

    def relax(
        self, queue: deque[RelaxTask], settings: RelaxSettings
    ) -> Iterator[tuple[RelaxTask, Relaxation]]:
        self.settings.add(settings)
        taken: list[RelaxTask] = []
        while queue or taken:
            while queue and len(taken) < self.room:
                taken.append(queue.popleft())
            self.under_way.append(list(taken))
            task = taken.pop(-1 if self.backwards else 0)
            if isinstance(task.key, Case):
                self.sample_tasks.append(task)
                yield task, self.samples(task.structure)
            else:
                self.parent_tasks.append(task)
                yield task, self.parents(task.structure)

    def energies(self, structures: Sequence[Structure]) -> Iterator[float]:
        for structure in structures:
            self.single_points += 1
            yield self.energy(structure)

    def close(self) -> None:
        self.closed = True


@dataclass(frozen=True)
class FixedHull:
    """Energies above the hull, by formula."""

    values: dict[str, float | None]

    @property
    def name(self) -> str:
        return "fixed"

    def e_above_hull(self, composition: Composition, energy_per_atom: float) -> float | None:
        return self.values.get(composition.reduced_formula, 0.0)

    def describe(self) -> dict[str, Any]:
        return {"name": self.name, **self.values}


def metric_with(relaxer: Any, **options: Any) -> SubstitutionNovelty:
    reference = options.pop("reference", REFERENCE)
    return SubstitutionNovelty(
        reference, options.pop("protocol", FAST), relaxer=relaxer, **{"hull": "none", **options}
    )


def rows(report: NoveltyReport) -> list[CrystalResult]:
    """The fields that depend neither on time nor on the position among the samples."""
    return [dataclasses.replace(result, seconds=None, source="") for result in report.results]


def verdicts(report: NoveltyReport) -> dict[str, str | None]:
    return {row.id: None if row.verdict is None else row.verdict.value for row in report.results}


# One run


MIXED: dict[str, tuple[Any, str | None, str | None]] = {
    "copy": (COPY, "duplicate", None),
    "nan": (BAD_CELL, None, "the cell contains a number that is not finite"),
    "swap": (SWAP, "substituted", None),
    "object": (object(), None, "object is neither a pymatgen Structure nor an ASE Atoms"),
    "far": (FAR, "unmatched", None),
    "refused": (REFUSED, None, "not eligible: composition refused by SMACT"),
    "coincident": (COINCIDENT, None, "coincident atoms (0 Å apart)"),
    "alone": (ALONE, "unmatched", None),
    "atoms": (AseAtomsAdaptor.get_atoms(SWAP), "substituted", None),
    "nothing": (None, None, "the crystal could not be read"),
}


def test_no_sample_is_dropped() -> None:
    metric = metric_with(FakeRelaxer())
    report = metric([item[0] for item in MIXED.values()], list(MIXED))
    assert [row.id for row in report.results] == list(MIXED)
    for row in report.results:
        _, verdict, error = MIXED[row.id]
        assert (row.verdict, row.error) == (verdict, error), row.id
    assert (report.n_generated, report.n_unreadable, report.n_eligible) == (10, 1, 5)
    assert report.counts == {"duplicate": 1, "substituted": 2, "unmatched": 2, "undecided": 0}
    assert report.novelty == pytest.approx(2 / 5)


def without_groups(row: CrystalResult) -> CrystalResult:
    """The row without the numbers of groups, which depend on the order of samples."""
    return dataclasses.replace(row, duplicate_group=None, matching_group=None)


def test_rows_do_not_depend_on_the_order() -> None:
    names = list(MIXED)
    expected = None
    for order in (names, names[::-1], names[3:] + names[:3]):
        report = metric_with(FakeRelaxer())([MIXED[name][0] for name in order], order)
        found = {row.id: without_groups(row) for row in rows(report)}
        assert list(found) == order
        expected = expected or found
        assert found == expected


def test_evidence_for_a_substituted_crystal() -> None:
    (row,) = metric_with(FakeRelaxer())([SWAP]).results
    assert (row.parent_id, row.route) == ("salt", Route.LATTICE_SITES)
    assert row.element_map == {"Na": {"K": 1}, "Cl": {"Cl": 1}}
    assert (row.cost, row.share_exchanged) == (0.5, 0.5)  # Na 10, K 9
    assert row.confirm_rms == pytest.approx(0, abs=1e-6)
    assert (row.space_group, row.crystal_system, row.n_sites) == (225, "cubic", 8)
    assert (row.energy_per_atom, row.converged, row.smact_valid) == (-3.0, True, True)
    # The sample, and one parent that both routes found.
    assert (row.n_relaxations, row.n_parents) == (2, 2)
    assert [tried.relaxed for tried in row.parents] == [True, True]
    assert row.seconds is not None and row.seconds >= 1.0  # given by the relaxer


def test_verdict_uses_the_relaxed_geometry() -> None:
    # Unrelaxed it is too large for the reference; relaxed it is a copy.
    large = rocksalt(7.5, "Na", "Cl")
    assert verdicts(metric_with(FakeRelaxer())([large])) != {"0": "duplicate"}
    report = metric_with(FakeRelaxer(samples=scaled(5.64 / 7.5)))([large])
    assert verdicts(report) == {"0": "duplicate"}
    assert report.results[0].match_rms == pytest.approx(0, abs=1e-6)


def test_relaxed_parent_is_compared() -> None:
    relaxer = FakeRelaxer(parents=scaled(4.21 / 5.64))
    (row,) = metric_with(relaxer)([FAR]).results
    assert (row.verdict, row.route) == (Verdict.SUBSTITUTED, Route.WYCKOFF)
    assert [task.structure.composition.reduced_formula for task in relaxer.parent_tasks] == ["MgO"]
    assert relaxer.parent_tasks[0].structure.volume == pytest.approx(5.64**3 / 4)


def test_protocol_reaches_the_relaxer() -> None:
    relaxer = FakeRelaxer()
    metric_with(relaxer, protocol=Protocol(fmax=0.02, max_steps=7, optimizer="fire"))([SWAP])
    assert relaxer.settings == {RelaxSettings(fmax=0.02, max_steps=7, optimizer="fire")}


def test_other_oxidation_states(tmp_path: Path) -> None:
    states = tmp_path / "states.txt"
    states.write_text("K 3\nCl -1\n")
    plain, chosen = (
        metric_with(FakeRelaxer()),
        metric_with(FakeRelaxer(), smact_oxidation_states=states),
    )
    assert plain([SWAP]).results[0].smact_valid is True
    report = chosen([SWAP])
    assert report.results[0].smact_valid is False
    assert report.context.smact_oxidation_states.startswith("states.txt, sha256 ")
    assert "SMACT-valid (states.txt, sha256 " in report.context.eligibility
    assert NoveltyReport.load(report.save(tmp_path / "run")) == report
    assert chosen.search_only().rules.smact_oxidation_states == states
    with pytest.raises(InputError, match="no oxidation states named 'icsd'; known to SMACT"):
        metric_with(FakeRelaxer(), smact_oxidation_states="icsd")


def test_report_describes_the_run() -> None:
    relaxer = FakeRelaxer()
    metric = metric_with(relaxer, scope="all", exhaustive=True, relax_samples=False)
    context = metric([SWAP]).context
    assert context.potential == relaxer.info
    assert (context.reference_name, context.reference_size) == ("four", 4)
    assert (context.crystals_hash, context.store_hash) == (
        REFERENCE.crystals_hash,
        REFERENCE.store_hash,
    )
    assert (context.scope, context.exhaustive, context.relax_samples) == ("all", True, False)
    assert context.hull == {"name": "none"}
    assert context.protocol is FAST
    assert context.seconds["relax parents"] > 0


def test_empty_run_gives_a_report() -> None:
    report = metric_with(FakeRelaxer()).compute()
    assert (report.results, report.n_eligible, report.novel_yield) == ((), 0, 0.0)
    assert report.novelty is None


def test_equal_samples_are_grouped() -> None:
    report = metric_with(FakeRelaxer())([SWAP, FAR, shaken(SWAP), BAD_CELL, COPY, SWAP])
    assert [row.duplicate_group for row in report.results] == [0, 1, 0, None, 2, 0]


# Failures of relaxers


def test_crystal_that_cannot_be_relaxed_can_be_a_duplicate() -> None:
    report = metric_with(FakeRelaxer(samples=broken))([COPY, SWAP])
    copy, swap = report.results
    assert (copy.verdict, copy.eligible, copy.parent_id) == (Verdict.DUPLICATE, False, "salt")
    assert (swap.verdict, swap.eligible, swap.converged) == (None, False, False)
    assert swap.error == "not eligible: relaxation failed: the cell flew apart"
    assert (report.n_eligible, swap.n_parents) == (0, None)


def test_without_results_of_the_relaxer_nothing_is_eligible() -> None:
    nothing = FakeRelaxer(samples=lambda structure: Relaxation(structure=None, converged=True))
    (row,) = metric_with(nothing)([SWAP]).results
    assert row.error == "not eligible: relaxation failed: the relaxer gave no structure"


@pytest.mark.parametrize(("distance", "eligible"), [(0.3, False), (0.49, False), (0.51, True)])
def test_crystal_of_collapsed_atoms_is_not_eligible(distance: float, eligible: bool) -> None:
    def collapsed(structure: Structure) -> Relaxation:
        near = Structure(
            structure.lattice,
            structure.species,
            [[0, 0, 0], [distance / structure.lattice.a, 0, 0], *structure.frac_coords[2:]],
        )
        return Relaxation(structure=near, energy_after=-9.0, converged=True)

    (row,) = metric_with(FakeRelaxer(samples=collapsed))([SWAP]).results
    assert row.eligible is eligible
    if not eligible:
        what = f"the potential puts two atoms {distance:.2f} Å apart"
        assert row.error == f"not eligible: relaxation failed: {what}"
        assert row.energy_per_atom is None and row.converged is False


def test_unconverged_sample_is_not_eligible() -> None:
    report = metric_with(FakeRelaxer(samples=out_of_steps))([COPY, SWAP])
    assert verdicts(report) == {"0": "duplicate", "1": None}
    assert report.results[1].error == "not eligible: relaxation did not converge"
    assert [row.eligible for row in report.results] == [False, False]


def test_unconverged_parent_can_confirm() -> None:
    (row,) = metric_with(FakeRelaxer(parents=out_of_steps))([SWAP]).results
    assert row.verdict is Verdict.SUBSTITUTED
    assert [tried.converged for tried in row.parents] == [False, False]


def test_unconverged_parent_never_refutes() -> None:
    report = metric_with(FakeRelaxer(parents=out_of_steps))([FAR])
    (row,) = report.results
    assert row.verdict is Verdict.UNDECIDED
    assert row.error == "parent salt (wyckoff 1): relaxation did not converge"
    bounds = report.novelty_bounds
    assert bounds is not None and (bounds.low, bounds.high) == (0.0, 1.0)


@pytest.mark.parametrize("structure", [SWAP, FAR], ids=["swap", "far"])
def test_failed_parent_neither_confirms_nor_refutes(structure: Structure) -> None:
    (row,) = metric_with(FakeRelaxer(parents=broken))([structure]).results
    assert row.verdict is Verdict.UNDECIDED
    assert row.error is not None and "the cell flew apart" in row.error
    assert all(tried.confirmed is None for tried in row.parents)


@pytest.mark.parametrize("exhaustive", [False, True])
@pytest.mark.parametrize(("room", "backwards"), [(1, False), (3, False), (100, True)])
def test_order_of_results_does_not_matter(exhaustive: bool, room: int, backwards: bool) -> None:
    crystals = [COPY, SWAP, FAR, ALONE, REFUSED, rocksalt(5.9, "Rb", "F"), rocksalt(5.2, "Li", "I")]
    options: dict[str, Any] = {"reference": FOUR_SALTS, "exhaustive": exhaustive}
    plain = metric_with(FakeRelaxer(), **options)(crystals)
    shuffled = FakeRelaxer(room=room, backwards=backwards)
    assert rows(metric_with(shuffled, **options)(crystals)) == rows(plain)


def test_failed_crystal_does_not_affect_others() -> None:
    def outcome(structure: Structure) -> Relaxation:
        return (broken if "Mg" in structure.composition else unchanged)(structure)

    report = metric_with(FakeRelaxer(samples=outcome))([SWAP, FAR, ALONE])
    assert verdicts(report) == {"0": "substituted", "1": None, "2": "unmatched"}


# Number of relaxations


def test_relaxation_stops_at_the_first_parent_that_confirms() -> None:
    relaxer = FakeRelaxer()
    (row,) = metric_with(relaxer, reference=FOUR_SALTS)([rocksalt(5.9, "Rb", "F")]).results
    assert row.verdict is Verdict.SUBSTITUTED
    assert (len(relaxer.sample_tasks), len(relaxer.parent_tasks)) == (1, 1)
    assert row.n_relaxations == 2
    # The cheapest of six candidates, which both routes found; the others are only listed.
    assert [tried.relaxed for tried in row.parents] == [True, False, False, True, False, False]
    assert row.kind is None


def test_candidates_are_relaxed_until_one_is_confirmed() -> None:
    answers = iter([broken, out_of_steps, unchanged])
    far_off = Structure(Lattice.cubic(9), ["Rb", "F"], [[0, 0, 0], [0.5, 0.5, 0.5]])

    def outcome(structure: Structure) -> Relaxation:
        answer = next(answers)
        return answer(far_off if answer is out_of_steps else structure)

    relaxer = FakeRelaxer(parents=outcome)
    (row,) = metric_with(relaxer, reference=FOUR_SALTS)([rocksalt(5.9, "Rb", "F")]).results
    assert row.verdict is Verdict.SUBSTITUTED
    assert [tried.confirmed for tried in row.parents[:3]] == [None, False, True]
    assert row.parent_id == row.parents[2].parent.parent_id
    assert row.n_relaxations == 4


def test_exhaustive_relaxes_all_parents() -> None:
    relaxer = FakeRelaxer()
    metric = metric_with(relaxer, reference=FOUR_SALTS, exhaustive=True)
    (row,) = metric([rocksalt(5.9, "Rb", "F")]).results
    # Six candidates of three parents; both routes found each parent.
    assert (len(relaxer.parent_tasks), row.n_relaxations, row.n_parents) == (3, 4, 6)
    assert all(tried.relaxed for tried in row.parents)
    assert row.kind is Kind.BOTH
    assert metric([SWAP]).results[0].verdict is Verdict.SUBSTITUTED


def test_exhaustive_changes_no_verdict_if_no_parent_confirms() -> None:
    structure = rocksalt(4.0, "Mg", "O")
    found = {}
    for exhaustive in (False, True):
        relaxer = FakeRelaxer()
        metric = metric_with(relaxer, reference=FOUR_SALTS, exhaustive=exhaustive)
        found[exhaustive] = rows(metric([structure]))
        assert len(relaxer.parent_tasks) == 3
    assert found[False] == found[True]
    assert found[True][0].verdict is Verdict.UNMATCHED


def test_parents_of_one_crystal_are_relaxed_one_at_a_time() -> None:
    """Otherwise a confirmation could not prevent the other relaxations."""
    relaxer = FakeRelaxer(room=100)
    crystals = [rocksalt(5.9, "Rb", "F"), rocksalt(4.0, "Mg", "O"), rocksalt(6.0, "Rb", "Cl")]
    metric_with(relaxer, reference=FOUR_SALTS)(crystals)
    assert len(relaxer.parent_tasks) >= 3
    for tasks in relaxer.under_way:
        cases = [task.key.case for task in tasks if not isinstance(task.key, Case)]  # type: ignore[attr-defined]
        assert len(cases) == len(set(cases))
    assert max(len(tasks) for tasks in relaxer.under_way) == 3


def test_parents_of_duplicates_are_not_relaxed() -> None:
    relaxer = FakeRelaxer()
    (row,) = metric_with(relaxer)([COPY]).results
    assert (row.verdict, row.n_relaxations, relaxer.parent_tasks) == (Verdict.DUPLICATE, 1, [])


def test_refused_crystals_are_not_relaxed() -> None:
    relaxer = FakeRelaxer()
    metric_with(relaxer)([BAD_CELL, COINCIDENT, None, "text"])
    assert relaxer.n_tasks == 0


# Settings


@pytest.mark.parametrize("samples", [unchanged, out_of_steps, broken])
def test_scope_all_includes_crystals_that_are_not_eligible(samples: Outcome) -> None:
    relaxer = FakeRelaxer(samples=samples)
    report = metric_with(relaxer, scope="all")([rocksalt(5.2, "Mg", "Cl"), SWAP, FAR])
    refused, swap, far = report.results
    # Mg becomes Na; the cell is within 20 % of that of salt: substituted, but not eligible.
    assert (refused.verdict, refused.eligible) == (Verdict.SUBSTITUTED, False)
    assert (swap.verdict, far.verdict) == (Verdict.SUBSTITUTED, Verdict.UNMATCHED)
    assert report.n_eligible == (2 if samples is unchanged else 0)


def test_scope_eligible_excludes_them() -> None:
    report = metric_with(FakeRelaxer())([REFUSED])
    assert report.results[0].verdict is None
    assert report.results[0].n_parents is None


def test_relaxed_samples_are_not_relaxed_again() -> None:
    relaxer = FakeRelaxer(energy=lambda structure: -1.25)
    report = metric_with(relaxer, relax_samples=False)([COPY, SWAP, FAR, BAD_CELL])
    assert relaxer.sample_tasks == []
    assert relaxer.single_points == 3
    assert len(relaxer.parent_tasks) == 2
    assert verdicts(report) == {"0": "duplicate", "1": "substituted", "2": "unmatched", "3": None}
    swap = report.results[1]
    assert (swap.energy_per_atom, swap.converged, swap.n_relaxations) == (-1.25, True, 1)


def test_sample_without_an_energy_is_not_eligible() -> None:
    def energy(structure: Structure) -> float:
        return math.nan if "K" in structure.composition else -3.0

    report = metric_with(FakeRelaxer(energy=energy), relax_samples=False)([FAR, SWAP, COPY])
    assert verdicts(report) == {"0": "unmatched", "1": None, "2": "duplicate"}
    swap = report.results[1]
    assert (swap.energy_per_atom, swap.converged) == (None, False)
    assert swap.error == "not eligible: the potential gives no energy"


@pytest.mark.parametrize("relaxer", [None, "none"])
def test_without_a_relaxer_candidates_are_undecided(relaxer: str | None) -> None:
    report = metric_with(relaxer, hull="reference")([COPY, SWAP, FAR, ALONE, REFUSED])
    assert verdicts(report) == {
        "0": "duplicate",
        "1": "undecided",
        "2": "undecided",
        "3": "unmatched",
        "4": None,
    }
    swap = report.results[1]
    assert swap.error == "2 candidate parents not relaxed"
    assert [tried.parent.parent_id for tried in swap.parents] == ["salt", "salt"]
    assert not any(tried.relaxed for tried in swap.parents)
    assert (swap.converged, swap.energy_per_atom, swap.n_relaxations) == (None, None, 0)
    assert report.n_eligible == 4
    assert report.context.potential is None
    bounds = report.novelty_bounds
    assert bounds is not None and (bounds.low, bounds.high) == (0.25, 0.75)


def test_hull_determines_eligibility() -> None:
    hull = FixedHull({"KCl": 0.1, "MgO": 0.1001, "SrTiO3": None, "NaCl": 3.0})
    report = metric_with(FakeRelaxer(), hull=hull)([SWAP, FAR, ALONE, COPY])
    swap, far, alone, copy = report.results
    assert (swap.verdict, swap.eligible, swap.e_above_hull) == (Verdict.SUBSTITUTED, True, 0.1)
    assert (far.verdict, far.error) == (None, "not eligible: 0.100 eV/atom above the hull")
    assert (alone.verdict, alone.error) == (None, "not eligible: no hull for its elements")
    assert (copy.verdict, copy.eligible) == (Verdict.DUPLICATE, False)
    assert report.context.hull["name"] == "fixed"


def test_nan_from_the_hull_is_not_eligible() -> None:
    (row,) = metric_with(FakeRelaxer(), hull=FixedHull({"KCl": math.nan}))([SWAP]).results
    assert (row.eligible, row.e_above_hull) == (False, None)
    assert row.error == "not eligible: no hull for its elements"


@pytest.mark.parametrize(("value", "suspect"), [(-0.2, False), (-0.3, True)])
def test_energy_far_below_the_hull_is_flagged(value: float, suspect: bool) -> None:
    report = metric_with(FakeRelaxer(), hull=FixedHull({"KCl": value}))([SWAP])
    row = report.results[0]
    assert (row.energy_suspect, row.eligible, row.verdict) == (
        suspect,
        True,
        Verdict.SUBSTITUTED,
    )


def test_hull_of_the_reference_uses_energies_of_the_relaxer(own_cache: Path) -> None:
    def outcome(structure: Structure) -> Relaxation:
        return dataclasses.replace(unchanged(structure), energy_after=-3.25)

    relaxer = FakeRelaxer(samples=outcome)
    report = metric_with(relaxer, hull="reference")([COPY, SWAP])
    assert relaxer.single_points == len(REFERENCE)
    # The NaCl of the reference is at -3.0 eV/atom.
    assert report.results[0].e_above_hull == pytest.approx(-0.25)
    assert report.results[0].energy_suspect is True
    assert report.results[0].decomposition == {"NaCl": 1.0}
    assert (report.results[1].n_competing, report.results[1].no_competing_compound) == (0, True)
    assert report.context.hull["crystals"] == 4
    # The energies are cached: a second metric needs none.
    again = FakeRelaxer(samples=outcome)
    assert rows(metric_with(again, hull="reference")([COPY, SWAP])) == rows(report)
    assert again.single_points == 0
    assert list(own_cache.rglob("*.energies.parquet"))


def test_hull_of_entries(tmp_path: Path) -> None:
    path = tmp_path / "mine.json"
    entries = [{"composition": symbol, "energy": -1.0} for symbol in ("K", "Cl")]
    entries.append({"composition": "KCl", "energy": -6.4, "correction": -0.614})
    path.write_text(json.dumps(entries))
    chgnet, mpa = FakeRelaxer(name="chgnet"), FakeRelaxer(name="mace-medium-mpa-0")
    for hull in (path, str(path), EntriesHull(path)):
        report = metric_with(chgnet, hull=hull)([SWAP, FAR])
        swap, far = report.results
        assert swap.e_above_hull == pytest.approx(-3.0 + (6.4 + 0.614) / 2)
        assert (far.e_above_hull, far.error) == (None, "not eligible: no hull for its elements")
        described = report.context.hull
        assert (described["name"], described["entries"]) == ("entries", 3)
        assert described["energies"] == "corrected"
    report = metric_with(mpa, hull=path)([SWAP])
    assert report.results[0].e_above_hull == pytest.approx(-3.0 + 6.4 / 2)
    assert report.context.hull["energies"] == "uncorrected"
    with pytest.raises(InputError, match="'fake' was trained on are not known"):
        metric_with(FakeRelaxer(), hull=path)([SWAP])
    # Without a potential there are no energies, so no hull is needed.
    path.write_text("nothing")
    assert metric_with(None, hull=path)([SWAP]).context.hull == {"name": "none"}
    with pytest.raises(InputError, match="not JSON"):
        metric_with(chgnet, hull=path)([SWAP])


def test_metrics_with_a_hull_of_entries_can_be_merged(tmp_path: Path) -> None:
    path = tmp_path / "mine.json"
    path.write_text('[{"composition": "K", "energy": -1}, {"composition": "Cl", "energy": -1}]')
    one, other = (metric_with(FakeRelaxer(), hull=EntriesHull(path)) for _ in range(2))
    other.update([SWAP])
    one.merge(other)
    assert len(one.compute().results) == 1
    with pytest.raises(InputError, match="different hull"):
        one.merge(metric_with(FakeRelaxer(), hull=EntriesHull(path, energies="corrected")))


def test_matbench_discovery_hull(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MBD_CACHE_DIR", str(tmp_path))
    path = tmp_path / "mp" / "2023-02-07-mp-computed-structure-entries.json.gz"
    path.parent.mkdir()
    entries = [{"composition": symbol, "energy": -1.0} for symbol in ("K", "Cl")]
    path.write_text(json.dumps(entries))
    report = metric_with(FakeRelaxer(name="chgnet"), hull="matbench_discovery")([SWAP])
    assert report.results[0].e_above_hull == pytest.approx(-2.0)
    assert report.context.hull["name"] == "matbench_discovery"


def test_max_sites() -> None:
    report = metric_with(FakeRelaxer(), max_sites=7)([SWAP, ALONE])
    assert report.results[0].error == "8 sites, more than max_sites=7"
    assert report.results[1].verdict is Verdict.UNMATCHED
    assert metric_with(FakeRelaxer(), max_sites=None).rules.max_sites is None


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"scope": "some"}, "scope is 'some'; known: eligible, all"),
        ({"relaxer": "orb"}, "no relaxer named 'orb'; known: chgnet, mace, sevennet, none"),
        (
            {"relaxer": "ase"},
            "relaxer=ase needs the potential itself; give AseCalculator(...) of "
            "novelty_metric.relaxation.potentials",
        ),
        (
            {"hull": "gp"},
            "no hull named 'gp'; known: auto, mp_20, reference, matbench_discovery, mp, none, or a "
            "file of entries",
        ),
        ({"workers": 0}, "workers is 0; it must be at least 1"),
        ({"protocol": "slow"}, "no protocol named 'slow'; known: paper, fast"),
    ],
)
def test_unknown_settings(options: dict[str, Any], text: str) -> None:
    with pytest.raises(InputError) as caught:
        SubstitutionNovelty(**options)
    assert str(caught.value) == text


def test_missing_reference_is_reported_by_compute() -> None:
    metric = SubstitutionNovelty("no_such_reference", relaxer=None)
    metric.update([SWAP])
    with pytest.raises(InputError, match="no reference named 'no_such_reference'"):
        metric.compute()


def test_reference_with_another_symprec_is_refused() -> None:
    metric = metric_with(None, protocol=Protocol(symprec=0.1))
    with pytest.raises(StoreError, match=r"prepared with symprec=0\.01.* asks for symprec=0\.1"):
        metric([SWAP])


# `update`, `compute`, `reset`


def test_second_compute_does_no_work() -> None:
    relaxer = FakeRelaxer()
    metric = metric_with(relaxer)
    metric.update([COPY, SWAP, FAR, BAD_CELL])
    first = metric.compute()
    n_tasks = relaxer.n_tasks
    assert n_tasks == 5
    second = metric.compute()
    assert relaxer.n_tasks == n_tasks
    assert second.results == first.results


def test_only_new_samples_are_scored() -> None:
    relaxer = FakeRelaxer()
    metric = metric_with(relaxer)
    metric.update([COPY, SWAP])
    metric.compute()
    before = [task.structure for task in relaxer.sample_tasks]
    metric.update([FAR])
    metric.update([ALONE])
    report = metric.compute()
    new = [task.structure for task in relaxer.sample_tasks[len(before) :]]
    assert [item.composition.reduced_formula for item in new] == ["MgO", "SrTiO3"]
    assert [row.id for row in report.results] == ["0", "1", "2", "3"]
    assert rows(report) == rows(metric_with(FakeRelaxer())([COPY, SWAP, FAR, ALONE]))


def test_reset_removes_the_samples() -> None:
    relaxer = FakeRelaxer()
    metric = metric_with(relaxer)
    metric.update([COPY, SWAP], ["a", "b"])
    spent = metric.compute().context.seconds["relax samples"]
    metric.reset()
    empty = metric.compute()
    assert empty.results == ()
    assert "relax samples" in empty.context.seconds
    assert empty.context.seconds["relax samples"] < spent
    metric.update([FAR], ["a"])
    report = metric.compute()
    assert verdicts(report) == {"a": "unmatched"}


def test_call_keeps_added_samples() -> None:
    relaxer = FakeRelaxer()
    metric = metric_with(relaxer)
    metric.update([COPY], ["kept"])
    before = metric.compute()
    metric.update([FAR], ["waiting"])
    report = metric([SWAP, ALONE], ["kept", "new"])
    assert verdicts(report) == {"kept": "substituted", "new": "unmatched"}
    n_samples = len(relaxer.sample_tasks)
    after = metric.compute()
    assert verdicts(after) == {"kept": "duplicate", "waiting": "unmatched"}
    assert after.results[0] == before.results[0]
    assert len(relaxer.sample_tasks) == n_samples + 1


def test_failed_call_keeps_added_samples() -> None:
    metric = metric_with(FakeRelaxer())
    metric.update([COPY], ["kept"])
    with pytest.raises(InputError):
        metric([SWAP, FAR], ["same", "same"])
    assert verdicts(metric.compute()) == {"kept": "duplicate"}


def test_default_ids_count_all_added_samples() -> None:
    metric = metric_with(None)
    metric.update([COPY, SWAP])
    metric.update(item for item in (FAR, ALONE))
    assert [row.id for row in metric.compute().results] == ["0", "1", "2", "3"]


def test_ids_are_unique() -> None:
    metric = metric_with(None)
    metric.update([COPY], ["a"])
    for structures, ids in (([SWAP, FAR], ["b", "b"]), ([SWAP, FAR], ["b", "a"])):
        with pytest.raises(InputError, match="is used by two samples; ids must differ"):
            metric.update(structures, ids)
        # Either all samples are added or none.
        assert [row.id for row in metric.compute().results] == ["a"]
    metric.update([SWAP], ["b"])
    assert [row.id for row in metric.compute().results] == ["a", "b"]


def test_number_of_ids_must_agree() -> None:
    metric = metric_with(None)
    with pytest.raises(InputError, match="1 ids were given for 2 structures"):
        metric.update([COPY, SWAP], ["a"])
    assert metric.compute().results == ()


def test_unreadable_sample_is_a_row() -> None:
    metric = metric_with(None)
    metric.update_samples(
        [Sample("a", COPY), Sample("b", None, "row 2: no cell"), Sample("c", ALONE)]
    )
    report = metric.compute()
    assert [(row.id, row.readable, row.error) for row in report.results] == [
        ("a", True, None),
        ("b", False, "row 2: no cell"),
        ("c", True, None),
    ]
    assert report.n_unreadable == 1


def test_ase_atoms_give_equal_results() -> None:
    crystals = [COPY, SWAP, FAR]
    atoms = [AseAtomsAdaptor.get_atoms(item) for item in crystals]
    assert rows(metric_with(FakeRelaxer())(atoms)) == rows(metric_with(FakeRelaxer())(crystals))
    (row,) = metric_with(None)([Atoms("NaCl", positions=[[0, 0, 0], [2, 2, 2]])]).results
    assert row.error == "the cell has no volume (0 independent cell vectors)"


def test_samples_are_unchanged() -> None:
    given = [SWAP.copy(), AseAtomsAdaptor.get_atoms(FAR)]
    kept = [given[0].copy(), given[1].copy()]
    metric_with(FakeRelaxer(samples=scaled(1.05)))(given)
    assert given[0] == kept[0]
    np.testing.assert_array_equal(given[1].positions, kept[1].positions)


def test_relaxer_of_the_caller_is_kept_open() -> None:
    relaxer = FakeRelaxer()
    with metric_with(relaxer) as metric:
        metric([SWAP])
    assert not relaxer.closed
    assert verdicts(metric([SWAP])) == {"0": "substituted"}  # opens again


# `merge`


CRYSTALS = [COPY, SWAP, FAR, BAD_CELL, ALONE, shaken(SWAP, seed=9)]
NAMES = list("abcdef")


@pytest.mark.parametrize("scored", [(True, True), (True, False), (False, True), (False, False)])
def test_merged_halves_agree_with_the_whole(scored: tuple[bool, bool]) -> None:
    whole = metric_with(FakeRelaxer())(CRYSTALS, NAMES)
    relaxers = FakeRelaxer(), FakeRelaxer()
    halves = [metric_with(relaxer) for relaxer in relaxers]
    for half, part, compute in zip(halves, (slice(0, 3), slice(3, 6)), scored, strict=True):
        half.update(CRYSTALS[part], NAMES[part])
        if compute:
            half.compute()
    done = [relaxer.n_tasks for relaxer in relaxers]
    halves[0].merge(halves[1])
    merged = halves[0].compute()
    assert rows(merged) == rows(whole)
    # Scored samples are not scored again.
    assert relaxers[1].n_tasks == done[1]
    if all(scored):
        assert relaxers[0].n_tasks == done[0]
        assert merged.results[5].duplicate_group == merged.results[1].duplicate_group
    # The other metric is unchanged.
    assert [row.id for row in halves[1].compute().results] == NAMES[3:]


def test_ids_of_both_metrics_get_a_suffix() -> None:
    first, second, third = (metric_with(FakeRelaxer()) for _ in range(3))
    first.update([COPY, SWAP], ["a", "b"])
    second.update([FAR, ALONE, COPY], ["a", "c", "b~2"])
    third.update([SWAP], ["a"])
    second.compute()
    first.merge(second)
    first.merge(third)
    assert verdicts(first.compute()) == {
        "a": "duplicate",
        "b": "substituted",
        "a~2": "unmatched",
        "c": "unmatched",
        "b~2": "duplicate",
        "a~3": "substituted",
    }
    assert [row.id for row in second.compute().results] == ["a", "c", "b~2"]


def test_merging_default_ids() -> None:
    first, second = metric_with(FakeRelaxer()), metric_with(FakeRelaxer())
    first.update([COPY, SWAP])
    second.update([FAR])
    first.merge(second)
    first.update([ALONE])
    assert verdicts(first.compute()) == {
        "0": "duplicate",
        "1": "substituted",
        "0~2": "unmatched",
        "3": "unmatched",
    }


def test_merge_with_itself() -> None:
    metric = metric_with(FakeRelaxer())
    metric.update([COPY, SWAP], ["a", "b"])
    metric.merge(metric)
    assert [row.id for row in metric.compute().results] == ["a", "b", "a~2", "b~2"]


def test_merge_adds_times() -> None:
    first, second = metric_with(FakeRelaxer()), metric_with(FakeRelaxer())
    first.update([SWAP])
    second.update([SWAP])
    spent = [half.compute().context.seconds["search parents"] for half in (first, second)]
    first.merge(second)
    assert first.compute().context.seconds["search parents"] == pytest.approx(sum(spent), abs=2e-3)


def test_merge_accepts_a_reference_by_name_or_opened() -> None:
    first, second, third = (SubstitutionNovelty("aflow", FAST, relaxer=None) for _ in range(3))
    first.update([COPY], ["a"])
    first.compute()
    second.update([ALONE], ["b"])
    first.merge(second)
    third.merge(first)
    assert [row.id for row in third.compute().results] == ["a", "b"]


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("protocol", {"protocol": dataclasses.replace(FAST, k=2)}),
        ("scope", {"scope": "all"}),
        ("exhaustive", {"exhaustive": True}),
        ("relax_samples", {"relax_samples": False}),
        ("max_sites", {"max_sites": 10}),
        ("smact_oxidation_states", {"smact_oxidation_states": "icsd24"}),
        ("relaxer", {"relaxer": FakeRelaxer(name="other")}),
        ("relaxer", {"relaxer": None}),
        ("relaxer", {"relaxer": "chgnet"}),
        ("hull", {"hull": "reference"}),
        ("hull", {"hull": FixedHull({})}),
        ("reference", {"reference": FOUR_SALTS}),
        ("reference", {"reference": "aflow"}),
    ],
)
def test_other_settings_are_not_merged(name: str, options: dict[str, Any]) -> None:
    mine = metric_with(FakeRelaxer())
    mine.update([COPY], ["a"])
    other = metric_with(**{"relaxer": FakeRelaxer(), **options})
    other.update([SWAP], ["b"])
    for first, second in ((mine, other), (other, mine)):
        with pytest.raises(InputError, match=f"metrics with different {name} can't be merged"):
            first.merge(second)
    assert verdicts(mine.compute()) == {"a": "duplicate"}


def test_settings_without_influence_can_differ() -> None:
    mine = metric_with(FakeRelaxer(), hull=FixedHull({"KCl": 0.5}))
    other = metric_with(
        FakeRelaxer(), hull=FixedHull({"KCl": 0.5}), workers=3, cache=False, device="cpu"
    )
    other.update([SWAP])
    mine.merge(other)
    assert mine.compute().results[0].e_above_hull == 0.5


# Progress


@pytest.mark.parametrize("room", [1, 100])
@pytest.mark.parametrize("exhaustive", [False, True])
def test_progress_starts_at_zero_and_is_complete(room: int, exhaustive: bool) -> None:
    calls: list[tuple[str, int, int | None]] = []
    metric = metric_with(
        FakeRelaxer(room=room),
        reference=FOUR_SALTS,
        exhaustive=exhaustive,
        progress=lambda *call: calls.append(call),
        hull="reference",
    )
    crystals = [COPY, rocksalt(5.9, "Rb", "F"), rocksalt(4.0, "Mg", "O"), BAD_CELL]
    metric.update(crystals)
    metric.compute()
    stages = list(dict.fromkeys(stage for stage, _, _ in calls))
    assert stages == [
        "open",
        "energies of the reference",
        "check",
        "relax samples",
        "reduce",
        "screen",
        "prepare search",
        "measure relaxations",
        "find duplicates",
        "search parents",
        "relax parents",
    ]
    for stage in stages:
        of_stage = [(done, total) for name, done, total in calls if name == stage]
        dones = [done for done, _ in of_stage]
        assert dones == sorted(dones)
        assert len(set(dones)) == len(dones)
        assert all(total is not None and 0 <= done <= total for done, total in of_stage)
        assert of_stage[-1][0] == of_stage[-1][1], stage
    totals = {stage: total for stage, _, total in calls}
    assert totals["check"] == 4 and totals["relax samples"] == totals["reduce"] == 3
    assert totals["energies of the reference"] == 4


# CHGNet


@pytest.fixture(scope="module")
def few_crystals() -> list[Structure]:
    return [rocksalt(4.21, "Mg", "O"), COPY, perovskite(3.99, "K", "Mg", "F")]


@pytest.fixture(scope="module")
def salts() -> Reference:
    return Reference.from_structures(
        [rocksalt(5.64, "Na", "Cl"), caesium_chloride(4.12, "Cs", "Cl")], ids=["salt", "caesium"]
    )


@pytest.fixture
def counted(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Formulas of crystals that this process relaxes instead of reading them from the cache."""
    formulas: list[str] = []
    original = InFlight.add

    def add(self: InFlight, task: RelaxTask, settings: RelaxSettings) -> None:
        formulas.append(task.structure.composition.reduced_formula)
        original(self, task, settings)

    monkeypatch.setattr(InFlight, "add", add)
    return formulas


@pytest.mark.usefixtures("chgnet")
def test_chgnet_on_three_crystals_with_cache(
    few_crystals: list[Structure], salts: Reference, tmp_path: Path, counted: list[str]
) -> None:
    store = tmp_path / "kept" / "relaxations.sqlite"
    options: dict[str, Any] = {"reference": salts, "hull": "none", "cache": store}
    with SubstitutionNovelty(**options) as metric:
        first = metric(few_crystals, ["MgO", "NaCl", "KMgF3"])
        cache = metric.pipeline.resources._cache
    assert verdicts(first) == {"MgO": "substituted", "NaCl": "duplicate", "KMgF3": "unmatched"}
    swap, copy, alone = first.results
    # Too small for a geometric match: the Wyckoff route finds the parent, which shrinks.
    assert (swap.parent_id, swap.route) == ("salt", Route.WYCKOFF)
    assert copy.parent_id == "salt"
    assert (alone.n_parents, alone.eligible) == (0, True)
    assert counted == ["MgO", "NaCl", "KMgF3", "MgO"]
    assert first.context.potential is not None and first.context.potential.name == "chgnet"
    # The end of the block closed the cache.
    with pytest.raises(sqlite3.ProgrammingError):
        len(cache)  # type: ignore[arg-type]

    with SubstitutionNovelty(**options) as metric:
        second = metric(few_crystals, ["MgO", "NaCl", "KMgF3"])
    assert counted == ["MgO", "NaCl", "KMgF3", "MgO"]
    assert rows(second) == rows(first)


@pytest.mark.usefixtures("chgnet")
def test_default_cache_is_in_the_folder_of_the_user(
    few_crystals: list[Structure], salts: Reference, own_cache: Path, tmp_path: Path
) -> None:
    options: dict[str, Any] = {"reference": salts, "hull": "none"}
    for cache in (False, None):
        with SubstitutionNovelty(**options, cache=cache) as metric:
            metric(few_crystals[1:2])
        assert not own_cache.exists()
    with SubstitutionNovelty(**options) as metric:
        metric(few_crystals[1:2])
    assert (own_cache / "relaxations.sqlite").exists()
    (tmp_path / "file").touch()
    unusable = SubstitutionNovelty(**options, cache=tmp_path / "file" / "c.sqlite")
    with pytest.raises(InputError, match=r"cache .* can't be used"):
        unusable(few_crystals[1:2])


@pytest.mark.slow
@pytest.mark.usefixtures("chgnet")
def test_worker_processes_give_equal_rows(few_crystals: list[Structure], salts: Reference) -> None:
    found = []
    for workers in (1, 2):
        with SubstitutionNovelty(salts, hull="none", workers=workers, cache=False) as metric:
            found.append(metric(few_crystals))
    one, two = found
    for first, second in zip(one.results, two.results, strict=True):
        assert (first.id, first.verdict, first.parent_id) == (
            second.id,
            second.verdict,
            second.parent_id,
        )
        assert first.energy_per_atom == pytest.approx(second.energy_per_atom, abs=1e-5)


# The packaged sample


RIGHT = {
    "copy": ("duplicate", True),
    "swap": ("substituted", True),
    "other": ("unmatched", True),
    "refused": (None, False),
    "strained": (None, False),
    "broken": (None, None),
}


@pytest.fixture(scope="module")
def packaged(tmp_path_factory: pytest.TempPathFactory, chgnet: Any) -> tuple[NoveltyReport, Path]:
    """The report on the packaged sample, and its cache."""
    store = tmp_path_factory.mktemp("packaged") / "relaxations.sqlite"
    with SubstitutionNovelty("aflow", "fast", cache=store) as metric:
        metric.update_samples(read_samples(packaged_samples_path()))
        return metric.compute(), store


def test_packaged_sample_gets_the_correct_verdicts(
    packaged: tuple[NoveltyReport, Path],
) -> None:
    report, _ = packaged
    assert len(report.results) == 41
    kinds = {row.id.partition("-")[0] for row in report.results}
    assert kinds == set(RIGHT)
    for row in report.results:
        expected = RIGHT[row.id.partition("-")[0]]
        assert (row.verdict, row.eligible) == expected, (row.id, row.error)
    assert report.n_eligible >= 30
    assert report.counts["undecided"] == 0


def test_packaged_sample_gives_the_correct_reasons(packaged: tuple[NoveltyReport, Path]) -> None:
    report, _ = packaged
    for row in report.results:
        kind = row.id.partition("-")[0]
        if kind == "refused":
            assert (row.smact_valid, row.converged) == (False, True)
            assert row.error == "not eligible: composition refused by SMACT"
        elif kind == "strained":
            assert row.smact_valid is True
            assert row.e_above_hull is not None and row.e_above_hull > 0.1
            assert row.error is not None and row.error.endswith("eV/atom above the hull")
        elif kind == "broken":
            assert row.readable is False
            assert row.error
        else:
            assert row.error is None
            assert row.e_above_hull is not None and row.e_above_hull <= 0.1
        if kind in ("copy", "swap"):
            assert row.parent_id in open_reference("aflow").ids
    assert report.n_unreadable == 1


def test_readme_shows_the_output_of_its_main_command(
    packaged: tuple[NoveltyReport, Path],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Uses the existing relaxations."""
    _, store = packaged
    note_compiled()  # for that run, in another cache folder
    monkeypatch.setenv("COLUMNS", "80")
    assert cli.main(["score", f"cache={store}"]) == 0
    output = "\n".join(line.rstrip() for line in capsys.readouterr().out.splitlines())
    outputs = runpy.run_path(str(ROOT / "scripts" / "make_outputs.py"))
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    shown = outputs["found"](readme, "novelty ")["output"]
    made = output.replace(f" cache={store}", "") + "\n"  # from the suggested commands
    assert outputs["same"](shown, made), f"run python scripts/make_outputs.py\n{made}"
    index = (ROOT / "docs" / "index.md").read_text(encoding="utf-8")
    assert shown.startswith(outputs["found"](index, "novelty ")["output"])


@pytest.mark.slow
def test_packaged_sample_in_reverse_order(packaged: tuple[NoveltyReport, Path]) -> None:
    report, store = packaged
    backwards = list(read_samples(packaged_samples_path()))[::-1]
    with SubstitutionNovelty("aflow", "fast", cache=store) as metric:
        metric.update_samples(backwards)
        again = metric.compute()
    assert [row.id for row in again.results] == [row.id for row in report.results][::-1]

    def by_id(found: NoveltyReport) -> dict[str, CrystalResult]:
        return {row.id: without_groups(row) for row in rows(found)}

    assert by_id(again) == by_id(report)
    assert again.fractions == report.fractions
    assert again.novel_yield == report.novel_yield


class _FailingSearch:
    """A search that raises an error for crystals of one element."""

    def __init__(self, search, method: str, element: str) -> None:
        self._search, self._method, self._element = search, method, element

    def __getattr__(self, name: str):
        real = getattr(self._search, name)
        if name != self._method:
            return real

        def call(structure, *arguments, **named):
            if self._element in structure.symbol_set:
                raise ValueError("an odd cell\nwith a second line")
            return real(structure, *arguments, **named)

        return call


@pytest.mark.parametrize("method", ["duplicate", "parents"])
def test_failed_search_affects_one_verdict(method: str) -> None:
    salt, other = (
        Structure.from_spacegroup(
            "Fm-3m", Lattice.cubic(a), [metal, anion], [[0, 0, 0], [0.5, 0.5, 0.5]]
        )
        for a, metal, anion in ((5.6, "Na", "Cl"), (4.2, "Mg", "O"))
    )
    reference = Reference.from_structures([salt], ids=["salt"])
    metric = SubstitutionNovelty(reference, relaxer=None, hull="none")
    opened = metric.pipeline.resources
    breaking: Any = _FailingSearch(opened.search, method, "Mg")
    opened.search = opened.parent_search = breaking
    report = metric([salt, other])
    assert report.results[0].verdict == "duplicate"
    assert report.results[1].verdict == "undecided"
    assert "failed (an odd cell)" in report.results[1].error


def test_single_crystal_is_one_clear_error() -> None:
    crystal = Structure(Lattice.cubic(3), ["Po"], [[0, 0, 0]])
    metric = SubstitutionNovelty("aflow", relaxer=None)
    with pytest.raises(InputError, match="give a list"):
        metric.update(crystal)


def test_report_warns_about_implausible_samples() -> None:
    """For example, lengths in nm."""
    metric = SubstitutionNovelty("aflow", relaxer=None, hull="none")
    good = [rocksalt(5.6, "Na", "Cl"), AseAtomsAdaptor.get_atoms(rocksalt(4.2, "Mg", "O"))]
    assert metric(good).context.warnings == ()
    small = [rocksalt(0.56, "Na", "Cl"), rocksalt(0.42, "Mg", "O")]
    (line,) = metric(small).context.warnings
    assert "the volume per atom is 0.022 Å³ at the median" in line
