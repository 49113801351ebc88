"""Calls of pymatgen's private methods, compared with its public methods on real pairs."""

from __future__ import annotations

import numpy as np
import pytest
from crystal_changes import substituted_copy
from pymatgen.core import Lattice, Structure
from pymatgen.core.structure_matcher import FrameworkComparator, StructureMatcher

from novelty_metric.crystal import clean, reduce
from novelty_metric.protocol import Protocol
from novelty_metric.reference import Reference
from novelty_metric.search import compiled
from novelty_metric.search import matching as matching_module
from novelty_metric.search.cells import BareCell, FirstMatch
from novelty_metric.search.compiled import TooMuchToCompareError, lattice_points
from novelty_metric.search.matching import MOST_MATCHES, MatcherWork, Matching, commensurate

TOLERANCES = {"ltol": 0.2, "stol": 0.3, "angle_tol": 5, "scale": False}
REDUCED = {
    **TOLERANCES,
    "primitive_cell": False,
    "attempt_supercell": True,
    "supercell_size": "num_sites",
}


@pytest.fixture(scope="module")
def matching(protocol: Protocol) -> Matching:
    return Matching(protocol)


def perturbed(structure: Structure, seed: int) -> Structure:
    """The same crystal with displacements from below to above the tolerance."""
    rng = np.random.default_rng(seed)
    changed = structure.copy()
    changed.perturb(float(rng.choice([0.02, 0.3, 0.6, 0.9])), seed=seed)
    try:
        return reduce(clean(changed))
    except Exception:
        return structure


def test_duplicate_decision_agrees_with_fit(reference: Reference, matching: Matching) -> None:
    public = StructureMatcher(**REDUCED)
    decisions = []
    for i in range(0, len(reference), 2):
        first, second = perturbed(reference.structure(i), i), reference.structure(i)
        for one, other in ((first, second), (second, first), (first, reference.structure(0))):
            ours = matching.duplicate_rms(one, other)
            assert (ours is not None) == public.fit(one, other, skip_structure_reduction=True)
            assert ours is None or 0 <= ours < 0.3
            decisions.append(ours is not None)
    assert 50 < sum(decisions) < len(decisions) - 50  # both outcomes are frequent


def test_duplicate_through_an_unreduced_supercell(matching: Matching) -> None:
    salt = Structure.from_spacegroup(
        "Fm-3m", Lattice.cubic(5.64), ["Na", "Cl"], [[0, 0, 0], [0.5, 0.5, 0.5]]
    )
    primitive = salt.get_primitive_structure()
    assert len(primitive) == 2 < len(salt)
    assert matching.duplicate_rms(primitive, salt) == pytest.approx(0, abs=1e-9)
    assert matching.duplicate_rms(salt, primitive) == pytest.approx(0, abs=1e-9)
    assert matching.duplicate_rms(salt, salt * [2, 1, 1]) == pytest.approx(0, abs=1e-9)
    other = salt.copy()
    other.replace_species({"Na": "K"})
    assert matching.duplicate_rms(salt, other) is None


def test_confirmation_agrees_with_fit(reference: Reference, matching: Matching) -> None:
    public = StructureMatcher(**TOLERANCES, primitive_cell=True, attempt_supercell=False)
    decisions = []
    for i in range(0, len(reference), 3):
        first, second = perturbed(reference.structure(i), i), reference.structure(i)
        if i % 2:
            first = first * [2, 1, 1]
        ours = matching.confirm_rms(first, second)
        assert (ours is not None) == public.fit(first, second)
        decisions.append(ours is not None)
    assert 10 < sum(decisions) < len(decisions) - 10


def strained(structure: Structure, seed: int) -> Structure:
    """The same sites in a cell whose lengths and angles are near or above the tolerances."""
    rng = np.random.default_rng(seed)
    stretch = np.eye(3) + rng.normal(size=(3, 3)) * float(rng.choice([0.03, 0.06, 0.09]))
    cell = Lattice(structure.lattice.matrix @ stretch)
    return Structure(cell, structure.species, structure.frac_coords)


def test_confirmation_of_strained_cells_and_polymorphs_agrees_with_fit(
    reference: Reference, matching: Matching
) -> None:
    """Cases near the limits of the refusals by volume and lengths."""
    public = StructureMatcher(**TOLERANCES, primitive_cell=True, attempt_supercell=False)
    polymorphs: dict[object, list[Structure]] = {}
    pairs = []
    for i in range(len(reference)):
        structure = reference.structure(i)
        pairs.append((strained(structure, i), structure))
        others = polymorphs.setdefault(reference.composition_key(i), [])
        pairs += [(other, structure) for other in others]
        others.append(structure)
    decisions = []
    for one, other in pairs:
        ours = matching.confirm_rms(one, other)
        assert (ours is not None) == public.fit(one, other)
        decisions.append(ours is not None)
    assert 50 < sum(decisions) < len(decisions) - 50


def test_confirmation_above_its_limits_is_unknown(
    matching: Matching, monkeypatch: pytest.MonkeyPatch
) -> None:
    salt = Structure(Lattice.cubic(4), ["Cs", "Cl"], [[0, 0, 0], [0.5, 0.5, 0.5]])
    assert matching.confirm_rms(salt, salt) == pytest.approx(0, abs=1e-9)
    for limit in ("MOST_POINTS", "MOST_ANGLES", "MOST_TRIPLES", "MOST_WORK_OF_EQUALS"):
        with monkeypatch.context() as patch:
            patch.setattr(compiled, limit, 1)
            with pytest.raises(TooMuchToCompareError):
                matching.confirm_rms(salt, salt)


def test_cached_values_of_a_lattice_agree_with_pymatgen(reference: Reference) -> None:
    for i in range(0, len(reference), 5):
        plain = Lattice(np.array(reference.lattices[i]))
        ours = matching_module._remembering(plain)
        for one, other in ((ours, plain), (ours.get_lll_reduced_lattice(), None)):
            other = plain.get_lll_reduced_lattice() if other is None else other
            assert np.array_equal(one.matrix, other.matrix)
            assert np.array_equal(one.lll_inverse, other.lll_inverse)
            assert one.reciprocal_lattice.abc == other.reciprocal_lattice.abc
            assert one.abc == other.abc


def test_work_of_pymatgen_is_counted(matching: Matching, monkeypatch: pytest.MonkeyPatch) -> None:
    """The limit counts all pairs of a search; a pair above it is unknown, not refused."""
    rng = np.random.default_rng(5)
    one, other = (Structure(Lattice.cubic(6), ["Fe"] * 9, rng.random((9, 3))) for _ in range(2))
    work = MatcherWork()
    assert matching.framework_match(one, other, work=work) is None
    assert 0 < work._left < MOST_MATCHES
    monkeypatch.setattr(matching_module, "MOST_MATCHES", (MOST_MATCHES - work._left) * 1.5)
    shared = MatcherWork()
    assert matching.framework_match(one, other, work=shared) is None
    with pytest.raises(TooMuchToCompareError):
        matching.framework_match(one, other, work=shared)
    monkeypatch.setattr(matching_module, "MOST_MATCHES", 0.0)
    with pytest.raises(TooMuchToCompareError):
        matching.duplicate_rms(one, one)
    with pytest.raises(TooMuchToCompareError):
        matching.confirm_rms(one, one)


def test_framework_decision_agrees_with_get_rms_dist(
    reference: Reference, matching: Matching, diffcsp: list[Structure]
) -> None:
    # `get_rms_dist` searches the least RMS over all lattices and translations, so it is below the
    # tolerance exactly if there is a first match. It reduces the cells again, which changes only
    # the last bits of Niggli cells.
    public = StructureMatcher(**REDUCED, comparator=FrameworkComparator())
    rng = np.random.default_rng(1)
    pairs = [
        (substituted_copy(reference.structure(i), rng), i) for i in range(0, len(reference), 7)
    ]
    pairs += [(g, int(i)) for g in diffcsp[:20] for i in rng.integers(len(reference), size=12)]
    found = 0
    for generated, i in pairs:
        other = reference.structure(i)
        if len(generated) > 12 or not commensurate(len(generated), len(other)):
            continue
        ours = matching.framework_match(generated, other)
        best = public.get_rms_dist(generated, other)
        assert (ours is None) == (best is None)
        if ours is not None and best is not None:
            found += 1
            assert best[0] - 1e-9 <= ours.rms < 0.3
    assert found > 10


def test_matching_of_bare_cells_agrees_with_structures(
    reference: Reference, matching: Matching, diffcsp: list[Structure]
) -> None:
    public = StructureMatcher(**REDUCED, comparator=FrameworkComparator())
    rng = np.random.default_rng(2)
    pairs = [
        (substituted_copy(reference.structure(i), rng), i) for i in range(0, len(reference), 9)
    ]
    pairs += [(g, int(i)) for g in diffcsp[::2] for i in rng.integers(len(reference), size=40)]
    found = smaller = larger = 0
    for generated, i in pairs:
        other = reference.structure(i)
        if not commensurate(len(generated), len(other)):
            continue
        first, second, fu, first_supercell = public._preprocess(
            generated, other, niggli=False, skip_structure_reduction=True
        )
        masks = [
            m._get_mask(first, second, fu, first_supercell) for m in (public, matching._framework)
        ]
        assert all(np.array_equal(a, b) for a, b in zip(*masks, strict=True))
        want = public._strict_match(
            first, second, fu, first_supercell, use_rms=True, break_on_match=True
        )
        bare = [
            BareCell.of(s.lattice.matrix, s.frac_coords, s.atomic_numbers)
            for s in (generated, other)
        ]
        assert np.array_equal(bare[0].cart_coords, generated.cart_coords)
        ours = matching.framework_match(*bare)
        assert (ours is None) == (want is None)
        if ours is None or want is None:
            continue
        assert ours.rms == float(want[0])
        sites = [int(j) // (fu if first_supercell else 1) for j in want[4]]
        assert list(ours.sites) == sites
        source, target = bare if first_supercell else bare[::-1]
        vectors = lattice_points(source.lattice.matrix, 1.2 * max(target.lattice.lengths))
        places = [np.flatnonzero((vectors == row).all(axis=1))[0] for row in want[2]]
        for sure in (False, True):
            first = FirstMatch(vectors, tuple(places), 0, sure)
            assert matching.framework_match(*bare, first) == ours
        found += 1
        smaller += len(generated) < len(other)
        larger += len(generated) > len(other)
    assert found > 40
    assert smaller > 3 and larger > 0


@pytest.mark.parametrize("scale", [[2, 1, 1], [1, 3, 1], [2, 2, 1]])
def test_framework_map_through_a_supercell(scale: list[int]) -> None:
    # pymatgen takes the first match, not the best; a strict tolerance allows only the exact one.
    matching = Matching(Protocol(stol=0.02))
    small = Structure(
        Lattice.from_parameters(4.1, 4.6, 5.3, 84, 97, 103),
        ["Li", "Be", "B"],
        [[0.02, 0.11, 0.3], [0.41, 0.52, 0.77], [0.66, 0.88, 0.13]],
    )
    large = small * scale
    elements = [site.specie.symbol for site in small]
    for generated, parent in ((large, small), (small, large), (small, small)):
        match = matching.framework_match(generated, parent)
        assert match is not None
        assert match.rms < 1e-6
        assert (match.supercell is not None) == (len(generated) > len(parent))
        cell = parent
        if match.supercell is not None:
            cell = parent.make_supercell([list(r) for r in match.supercell], in_place=False)
            assert abs(round(np.linalg.det(match.supercell))) == len(generated) // len(parent)
        assert len(match.sites) == len(cell)
        on_parent = [site.specie.symbol for site in cell]
        on_generated = [generated[j].specie.symbol for j in match.sites]
        assert on_parent == on_generated
        assert set(on_parent) == set(elements)


def test_incommensurate_numbers_of_sites(matching: Matching, reference: Reference) -> None:
    by_size = {len(s): s for s in reference}
    for one, other in ((2, 5), (4, 6), (6, 4), (3, 2), (9, 4)):
        assert matching.framework_match(by_size[one], by_size[other]) is None


def test_tolerances_come_from_the_protocol(reference: Reference) -> None:
    loose, strict = Matching(Protocol()), Matching(Protocol(stol=0.001))
    second = reference.structure(3)
    first = substituted_copy(second, np.random.default_rng(2), shift=0)
    assert (loose.duplicate_rms(first, second) or 1) < 0.3
    assert strict.duplicate_rms(first, second) is None
