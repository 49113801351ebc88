"""Plain matching: agrees with pymatgen's `StructureMatcher()` with default settings."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from crystal_changes import substituted_copy
from pymatgen.core import Composition, Lattice, Structure
from pymatgen.core.structure_matcher import StructureMatcher

from novelty_metric import SubstitutionNovelty, read_samples
from novelty_metric.crystal import clean, in_site_order, reduce
from novelty_metric.errors import CrystalError
from novelty_metric.protocol import Protocol
from novelty_metric.reference import Reference
from novelty_metric.search import compiled
from novelty_metric.search.duplicates import TooMuchToCompareError, group_equal
from novelty_metric.search.engine import ParentSearch
from novelty_metric.search.plain_matching import PlainTest
from novelty_metric.verdict import Verdict


@pytest.fixture(scope="module")
def search(reference: Reference) -> ParentSearch:
    return ParentSearch(reference, Protocol())


def accepted(structure: Structure, reference: Reference) -> list[int]:
    """Positions of the reference crystals that `fit` accepts."""
    matcher = StructureMatcher()
    return [at for at, other in enumerate(reference) if matcher.fit(structure, other)]


def modified_and_real_crystals(
    reference: Reference, diffcsp: list[Structure]
) -> Iterator[Structure]:
    """Yield perturbed and expanded copies, their supercells, and real samples."""
    rng = np.random.default_rng(17)
    for at in range(0, len(reference), 24):
        structure = reference.structure(at)
        shaken = structure.copy()
        shaken.perturb(float(rng.uniform(0, 0.5)), seed=at)
        expanded = shaken.copy()
        expanded.scale_lattice(structure.volume * float(rng.choice([0.4, 1.3, 3.0])))
        yield from (shaken, expanded)
        if len(structure) <= 8:
            large = structure * (2, 1, 1)
            large.perturb(0.1, seed=at)
            yield large
    yield from diffcsp[:12]


def test_every_decision_agrees_with_fit(
    reference: Reference, diffcsp: list[Structure], search: ParentSearch
) -> None:
    found = 0
    for structure in modified_and_real_crystals(reference, diffcsp):
        reduced = reduce(clean(structure))
        want = accepted(reduced, reference)
        assert search.plain_match(reduced, search.duplicate(reduced)) in (want or [None])
        assert search.plain_match(reduced, None) == (want[0] if want else None)
        found += bool(want)
    assert found > 10


def test_groups_agree_with_group_structures(reference: Reference, diffcsp: list[Structure]) -> None:
    rng = np.random.default_rng(3)
    structures = [*diffcsp[:10]]
    for at in range(0, 40, 4):
        structures += [substituted_copy(reference.structure(at), rng, shift=0) for _ in range(3)]
        expanded = structures[-1].copy()
        expanded.scale_lattice(2 * expanded.volume)
        structures.append(expanded)
    structures = [reduce(clean(structures[i])) for i in rng.permutation(len(structures))]
    number = group_equal(structures, PlainTest(compiled.load_kernels())).number
    want = [-1] * len(structures)
    for group in StructureMatcher().group_structures(structures):
        members = [k for k, s in enumerate(structures) if any(s is member for member in group)]
        for member in members:
            want[member] = members[0]
    order = {first: place for place, first in enumerate(sorted(set(want)))}
    assert number == [order[first] for first in want]


def zirconium() -> tuple[Structure, Structure]:
    """Zr in hcp, and a cell of four atoms that matches it only through a supercell."""
    hcp = Structure(
        Lattice.hexagonal(3.23, 5.15), ["Zr", "Zr"], [[1 / 3, 2 / 3, 0.25], [2 / 3, 1 / 3, 0.75]]
    )
    double = hcp * (2, 1, 1)
    double.translate_sites([0], [0.0, 0.0, 0.07])
    double.translate_sites([1], [0.05, 0.0, 0.0])
    return hcp, double


def test_duplicate_through_a_supercell_can_be_novel_by_plain_matching() -> None:
    hcp, double = zirconium()
    assert not StructureMatcher().fit(double, hcp)
    reference = Reference.from_structures([hcp], ids=["hcp"])
    metric = SubstitutionNovelty(reference, relaxer=None, hull="none")
    larger = metric([double]).results[0]
    assert (larger.verdict, larger.parent_id) == (Verdict.DUPLICATE, "hcp")
    assert (larger.novel_by_matching, larger.matching_id) == (True, None)
    assert (larger.sample_cells, larger.parent_cells) == (1, 2)
    metric = SubstitutionNovelty(
        Reference.from_structures([double], ids=["double"]), relaxer=None, hull="none"
    )
    smaller = metric([hcp]).results[0]
    assert (smaller.verdict, smaller.novel_by_matching) == (Verdict.DUPLICATE, True)
    assert (smaller.sample_cells, smaller.parent_cells) == (2, 1)


def test_expanded_crystal_is_not_a_duplicate_and_not_novel_by_plain_matching() -> None:
    hcp, _ = zirconium()
    expanded = hcp.copy()
    expanded.scale_lattice(4 * hcp.volume)
    reference = Reference.from_structures([hcp], ids=["hcp"])
    report = SubstitutionNovelty(reference, relaxer=None, hull="none", scope="all")(
        [hcp, expanded, hcp]
    )
    rows = report.results
    assert [row.verdict == Verdict.DUPLICATE for row in rows] == [True, False, True]
    assert [row.novel_by_matching for row in rows] == [False] * 3
    assert [row.matching_id for row in rows] == ["hcp"] * 3
    assert [row.duplicate_group for row in rows] == [0, 1, 0]
    assert [row.matching_group for row in rows] == [0, 0, 0]
    assert round(report.quality.unique.value * 3) == 1


def test_result_above_the_limit_is_unknown(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("numba")
    monkeypatch.setattr(compiled, "MOST_WORK_OF_EQUALS", 0)
    hcp, _ = zirconium()
    reference = Reference.from_structures([hcp], ids=["hcp"])
    reduced = reduce(hcp)
    with pytest.raises(TooMuchToCompareError, match="'hcp'"):
        ParentSearch(reference, Protocol()).plain_match(reduced, None)
    report = SubstitutionNovelty(reference, relaxer=None, hull="none", scope="all")([hcp, hcp])
    assert [row.novel_by_matching for row in report.results] == [None, None]
    error = "plain matching failed (too much to compare with 'hcp')"
    assert [row.matching_error for row in report.results] == [error, error]
    assert "in the figures of plain matching" in " ".join(report.context.warnings)


GENERATED = (
    "diffcsp/DiffCSP_mp_20.pt",
    "mattergen/generated_crystals_cif.zip",
    "flowmm/flowmm_mp20_all_result_filtered_withcif.csv",
    "wyckofftransformer/WyckoffTransformer_mp_20_DiffCSP++.json.gz",
)


@pytest.mark.slow
def test_every_decision_on_generated_crystals_agrees_with_fit(shared_data: Path) -> None:
    """600 crystals of four models against the MP-20 crystals of the same compositions."""
    import pyarrow.parquet as pq

    samples = []
    for name in GENERATED:
        columns = ("relxed_structure",) if name.endswith("csv") else ()
        for sample in read_samples(shared_data / "generated" / name, limit=150, columns=columns):
            with contextlib.suppress(CrystalError):
                samples.append(in_site_order(clean(sample.structure)))
    formulas = {structure.composition.reduced_formula for structure in samples}
    cifs = []
    for part in ("val", "test"):
        table = pq.read_table(shared_data / "mp_20" / f"{part}.parquet")
        for formula, cif in zip(table["pretty_formula"], table["cif"], strict=True):
            if Composition(formula.as_py()).reduced_formula in formulas:
                cifs.append(cif.as_py())
    reference = Reference.from_structures([Structure.from_str(cif, fmt="cif") for cif in cifs])
    search = ParentSearch(reference, Protocol())
    found = 0
    for structure in samples:
        # Not reduced here: `fit` reduces it.
        want = accepted(structure, reference)
        reduced = reduce(structure)
        assert search.plain_match(reduced, None) == (want[0] if want else None)
        found += bool(want)
    assert len(samples) > 550
    assert found > 10
