"""The reward of a crystal: graded novelty of its row, without relaxation."""

from __future__ import annotations

import pickle

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pymatgen.core import Lattice, Structure
from pymatgen.io.ase import AseAtomsAdaptor

from novelty_metric import NoveltyReport, Reference, SubstitutionNovelty, read_samples
from novelty_metric.report.graded import crystal_score
from novelty_metric.report.reward import Reward
from novelty_metric.samples.packaged import packaged_samples_path
from novelty_metric.search import lattice_sites

SITES = [[0, 0, 0], [0.5, 0.5, 0.5]]


def cesium(anion: str, a: float = 4.2) -> Structure:
    return Structure(Lattice.cubic(a), ["Cs", anion], SITES)


@pytest.fixture(scope="module")
def metric() -> SubstitutionNovelty:
    """A metric with a relaxer; rewards must not use it."""
    reference = Reference.from_structures([cesium("Cl")], ids=["salt"], name="one")
    return SubstitutionNovelty(reference, relaxer="chgnet")


@pytest.fixture(scope="module")
def packaged() -> tuple[list[Structure | None], NoveltyReport]:
    """The packaged sample and the report of its search."""
    samples = list(read_samples(packaged_samples_path()))
    metric = SubstitutionNovelty("aflow", relaxer=None, hull="none", scope="all")
    metric.update_samples(samples)
    return [sample.structure for sample in samples], metric.compute()


def test_reward_is_the_graded_novelty_of_the_row(
    packaged: tuple[list[Structure | None], NoveltyReport],
) -> None:
    structures, report = packaged
    found = SubstitutionNovelty("aflow").reward(structures)
    expected = [crystal_score(row) for row in report.results]
    assert expected.count(None) == 1  # the unreadable file
    assert found.tolist() == [value or 0.0 for value in expected]
    assert found.dtype == np.float64 and {0.0, 1.0} < set(found)


def test_rewards_calculated_by_hand(metric: SubstitutionNovelty) -> None:
    # One of two atoms differs, Cl (100) from Br (99); fluorite has no match.
    fluorite = Structure.from_spacegroup(
        "Fm-3m", Lattice.cubic(5.46), ["Ca", "F"], [[0, 0, 0], [0.25, 0.25, 0.25]]
    )
    assert metric.reward([cesium("Cl"), cesium("Br"), fluorite]).tolist() == [0.0, 0.5 / 102, 1.0]
    copy, near, alone = metric.reward_details([cesium("Cl"), cesium("Br"), fluorite])
    assert copy == Reward(0.0, "salt", 0.0)
    assert near == Reward(0.5 / 102, "salt", 0.5)
    assert alone == Reward(1.0)


def test_nothing_is_relaxed_or_added(metric: SubstitutionNovelty) -> None:
    metric.reward([cesium("Br")])
    assert metric._pipeline is None  # neither potential nor hull is loaded
    assert not metric._samples


def test_one_crystal_gives_a_number(metric: SubstitutionNovelty) -> None:
    alone = metric.reward(cesium("Br"))
    assert type(alone) is float
    assert metric.reward(AseAtomsAdaptor.get_atoms(cesium("Br"))) == alone
    assert metric.reward(crystal for crystal in [cesium("Br")]).tolist() == [alone]
    assert metric.reward([]).shape == (0,)


def test_reward_function_can_be_pickled(metric: SubstitutionNovelty) -> None:
    sent = pickle.loads(pickle.dumps(metric.reward))
    assert sent(cesium("Br")) == metric.reward(cesium("Br"))


@pytest.mark.parametrize(
    ("broken", "reason"),
    [
        (None, "could not be read"),
        ("text", "neither a pymatgen Structure"),
        (Structure(Lattice.cubic(4.2), [{"Cs": 0.5}, "Cl"], SITES), "mixed sites"),
        (Structure(Lattice.cubic(4.2), ["Cs", "Cl"], [[0, 0, 0], [0, 0, np.nan]]), "finite"),
    ],
)
def test_invalid_crystal_has_zero_reward(
    broken: object, reason: str, metric: SubstitutionNovelty
) -> None:
    first, odd, last = metric.reward_details([cesium("Br"), broken, cesium("Br")])
    assert first == last != odd
    assert odd.value == 0.0 and reason in (odd.reason or "")


def test_unfinished_search_has_zero_reward(monkeypatch: pytest.MonkeyPatch) -> None:
    def unfinished(*_: object, **__: object) -> lattice_sites.LatticeSitesResult:
        return lattice_sites.LatticeSitesResult((), ("too many pairs",), 0)

    monkeypatch.setattr("novelty_metric.search.engine.search_lattice_sites", unfinished)
    triclinic = Structure(
        Lattice.from_parameters(4, 5, 6, 80, 85, 95), ["Cs", "Cl"], [[0, 0, 0], [0.4, 0.5, 0.6]]
    )
    reference = Reference.from_structures([cesium("Cl")], ids=["salt"], name="one")
    (found,) = SubstitutionNovelty(reference).reward_details([triclinic])
    assert found == Reward(0.0, reason="too many pairs")


@given(
    st.permutations(["Cl", "Br", "I", "F"]),
    st.tuples(*[st.floats(-2, 2)] * 3),
)
def test_order_and_origin_do_not_matter(
    metric: SubstitutionNovelty, anions: list[str], shift: tuple[float, float, float]
) -> None:
    crystals = [cesium(anion) for anion in anions]
    for crystal in crystals:
        crystal.translate_sites([0, 1], shift, to_unit_cell=False)
    distance = {"Cl": 0.0, "Br": 0.5, "I": 1.0, "F": 0.5}
    assert metric.reward(crystals) == pytest.approx([distance[name] / 102 for name in anions])
