"""Planted substitutions, and the reasons for missed ones."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import replace

import numpy as np
import pytest
from pymatgen.core import Lattice, Structure

from novelty_metric import InputError, Reference, SubstitutionNovelty
from novelty_metric.analysis import planted
from novelty_metric.analysis.controls import Control, run_controls
from novelty_metric.analysis.misses import Miss, by_candidates, changes, explain_misses
from novelty_metric.protocol import Protocol
from novelty_metric.relaxation.base import PotentialInfo, Relaxation, RelaxSettings, RelaxTask
from novelty_metric.search.pettifor import map_cost, pettifor_numbers
from novelty_metric.verdict import CrystalResult, Parent, Route, TriedParent, Verdict

ROCKSALT = Structure.from_spacegroup(
    "Fm-3m", Lattice.cubic(5.64), ["Na", "Cl"], [[0, 0, 0], [0.5, 0.5, 0.5]]
).get_primitive_structure()
FLUORITE = Structure.from_spacegroup(
    "Fm-3m", Lattice.cubic(5.46), ["Ca", "F"], [[0, 0, 0], [0.25, 0.25, 0.25]]
).get_primitive_structure()
REFERENCE = Reference.from_structures([ROCKSALT, FLUORITE], ids=["NaCl", "CaF2"])


class ScriptedRelaxer:
    """A relaxer that moves nothing; `ends` gives the results for starts of planted crystals."""

    info = PotentialInfo(name="told", version="1", weights_hash="0" * 64)

    def __init__(self, ends: Sequence[Relaxation | None] = ()) -> None:
        self.ends = list(ends)
        self.seen: list[tuple[Structure, RelaxSettings]] = []

    def relax(
        self, queue: deque[RelaxTask], settings: RelaxSettings
    ) -> Iterator[tuple[RelaxTask, Relaxation]]:
        while queue:
            task = queue.popleft()
            self.seen.append((task.structure, settings))
            end = self.ends.pop(0) if settings == planted.SETTINGS and self.ends else None
            yield task, end or replace(AT_REST, structure=task.structure)

    def energies(self, structures: Sequence[Structure]) -> Iterator[float]:
        return (-3.0 for _ in structures)

    def close(self) -> None:
        pass


AT_REST = Relaxation(structure=None, energy_after=-3.0, converged=True)


def test_exchanged_crystals_name_their_source_and_are_new() -> None:
    made = list(planted.exchanged_crystals(REFERENCE, 6, seed=0))
    assert [one.id for one in planted.exchanged_crystals(REFERENCE, 3, seed=0)] == [
        one.id for one in made[:3]
    ]
    for one in made:
        source = REFERENCE.structure(one.source)
        assert np.allclose(one.exchanged.frac_coords, source.frac_coords)
        assert one.exchanged.composition.reduced_formula not in ("NaCl", "CaF2")
    with pytest.raises(InputError, match="exchange is 'perturbed'; known: ion_exchange"):
        list(planted.exchanged_crystals(REFERENCE, 1, seed=0, exchange="perturbed"))


def test_every_start_is_perturbed_and_the_lowest_energy_counts() -> None:
    crystals = list(planted.exchanged_crystals(REFERENCE, 2, seed=0))
    low = FLUORITE.copy()
    lowest = Relaxation(structure=low, energy_after=-3.5, converged=True)
    lower_but_moving = Relaxation(structure=None, energy_after=-9.0)
    failed = Relaxation(structure=None, error="it exploded")
    relaxer = ScriptedRelaxer([AT_REST, lowest, lower_but_moving, failed, lower_but_moving, failed])
    first, second = planted.relaxed(crystals, relaxer, seed=0)
    assert first.structure is low and first.error is None
    assert second.structure is None and second.error == "could not be planted: it exploded"
    assert {settings.optimizer for _, settings in relaxer.seen} == {"fire"}
    starts = [structure for structure, _ in relaxer.seen[: planted.STARTS]]
    for start in starts:
        change = np.linalg.solve(crystals[0].exchanged.lattice.matrix, start.lattice.matrix)
        assert 0 < np.abs(np.linalg.eigvalsh((change + change.T) / 2) - 1).max() < 0.011
    assert not np.allclose(starts[0].frac_coords, starts[1].frac_coords)


def test_crystal_that_cannot_be_planted_is_reported() -> None:
    failed = [Relaxation(structure=None, error="it exploded")] * planted.STARTS
    metric = SubstitutionNovelty(
        REFERENCE, relaxer=ScriptedRelaxer(failed), hull="none", scope="all"
    )
    found = run_controls(metric, n=2, only=[Control.SUBSTITUTED])
    assert [case.verdict for case in found.cases] == [None, "substituted"]
    assert found.cases[0].why == "could not be planted: it exploded"
    rows = {row.measure: row for row in found.rows}
    assert (rows["planted"].hits, rows["planted"].n) == (1, 2)
    assert (rows["sensitivity, substituted"].hits, rows["sensitivity, substituted"].n) == (1, 1)
    for group in (found.cases[1].crystal_system, "up to 5 sites", "cost up to 2"):
        assert (rows[f"sensitivity, {group}"].hits, rows[f"sensitivity, {group}"].n) == (1, 1)
    source = REFERENCE.structure(REFERENCE.position(found.cases[1].source_id))
    made = list(planted.exchanged_crystals(REFERENCE, 2, seed=0))[1].exchanged
    cost = map_cost(pettifor_numbers(source.atomic_numbers), pettifor_numbers(made.atomic_numbers))
    assert found.cases[1].source_cost == pytest.approx(cost)


def test_potential_of_planting_does_not_score() -> None:
    own, other = ScriptedRelaxer(), ScriptedRelaxer()
    metric = SubstitutionNovelty(REFERENCE, relaxer=own, hull="none", scope="all")
    run_controls(metric, n=1, only=[Control.SUBSTITUTED], planted_by=other)
    assert [settings for _, settings in other.seen] == [planted.SETTINGS] * planted.STARTS
    assert own.seen and planted.SETTINGS not in [settings for _, settings in own.seen]


def test_miss_is_explained_by_the_setting_that_finds_it() -> None:
    metric = SubstitutionNovelty(REFERENCE, relaxer=ScriptedRelaxer(), hull="none", scope="all")
    crystal = FLUORITE.copy()
    crystal.replace_species({"Ca": "Sr"})
    missed = {"a": (crystal, CrystalResult(id="a", verdict=Verdict.UNMATCHED))}
    # The first change already finds a crystal that was never missed.
    assert explain_misses(metric, missed) == {"a": Miss.EARLY_END}
    lost = Structure(Lattice.cubic(4), ["Na", "Cl", "O"], [[0, 0, 0], [0.5, 0.1, 0], [0, 0.4, 0.3]])
    report = metric([lost], ["b"])
    assert report.results[0].verdict == Verdict.UNMATCHED
    assert explain_misses(metric, {"b": (lost, report.results[0])}) == {"b": Miss.NO_FRAMEWORK}


def test_each_change_modifies_one_setting() -> None:
    fast = Protocol.named("fast")
    kinds = dict(changes(fast))
    assert list(kinds) == list(Miss)[:6]
    assert kinds[Miss.EARLY_END].accept_early == 0
    assert kinds[Miss.SADDLE].minima == "escape" and kinds[Miss.COST].k == 10
    assert kinds[Miss.SYMMETRY].symmetrise > fast.symmetrise
    assert kinds[Miss.OTHER_PROTOCOL].name == "paper"
    assert kinds[Miss.TOLERANCES].stol == pytest.approx(0.45)
    paper = dict(changes(Protocol.named("paper")))
    assert Miss.EARLY_END not in paper and paper[Miss.OTHER_PROTOCOL].name == "fast"


@pytest.mark.parametrize(
    ("energies", "kind"),
    [
        ((), Miss.NO_FRAMEWORK),
        ((-2.9, -2.8), Miss.HIGHER),
        ((-2.9, -3.1), Miss.LOWER),
        ((-3.001,), Miss.ELSEWHERE),
        ((None,), Miss.ELSEWHERE),
    ],
)
def test_candidates_explain_misses_that_no_setting_explains(
    energies: tuple[float | None, ...], kind: Miss
) -> None:
    def tried(energy: float | None, route: Route) -> TriedParent:
        parent = Parent(
            route=route,
            rank=1,
            index=0,
            parent_id="NaCl",
            cost=1.0,
            match_rms=None,
            supercell=None,
            elements=("K", "Cl"),
            element_map={},
            share_exchanged=0.5,
        )
        return TriedParent(parent=parent, relaxed=True, energy_per_atom=energy)

    parents = [tried(energy, Route.LATTICE_SITES) for energy in energies]
    parents.append(tried(-3.0, Route.WYCKOFF))
    result = CrystalResult(
        id="a", verdict=Verdict.UNMATCHED, energy_per_atom=-3.0, parents=tuple(parents)
    )
    assert by_candidates(result) == kind
    undecided = CrystalResult(id="a", verdict=Verdict.UNDECIDED, parents=tuple(parents))
    assert by_candidates(undecided) == Miss.UNDECIDED
