"""Variation of one setting at a time, compared with separate runs and with pymatgen."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Sequence
from functools import cache
from itertools import pairwise
from pathlib import Path

import pandas as pd
import pytest
from pymatgen.analysis.structure_matcher import StructureMatcher
from pymatgen.core import Lattice, Structure
from static_relaxer import StaticRelaxer

from novelty_metric import (
    CrystalResult,
    InputError,
    NoveltyReport,
    Protocol,
    Reference,
    SubstitutionNovelty,
    Verdict,
    open_reference,
    read_samples,
)
from novelty_metric.analysis.sensitivity import (
    KS,
    TOLERANCES,
    Sensitivity,
    Setting,
    scaled_tolerances,
    sensitivity,
)
from novelty_metric.report.agreement import verdict_agreement
from novelty_metric.samples import Sample
from novelty_metric.samples.packaged import packaged_samples_path
from novelty_metric.scoring.substitution import substitute
from novelty_metric.search.engine import ParentSearch

FAST = Protocol.named("fast")
PAPER = Protocol.named("paper")


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NOVELTY_METRIC_CACHE", str(tmp_path / "cache"))


@pytest.fixture(scope="module")
def crystals() -> list[Sample]:
    """The packaged sample, with crystals distorted enough for scaled tolerances to matter."""
    read = [s for s in read_samples(packaged_samples_path()) if s.structure is not None]
    samples = read[::6]
    for place, sample in enumerate(read[::3]):
        moved = sample.structure.copy()
        moved.perturb((0.1, 0.25, 0.4)[place % 3], seed=place)
        samples.append(Sample(f"{sample.id}-moved", moved, source="moved"))
    return samples


@pytest.fixture(scope="module")
def found(crystals: list[Sample]) -> tuple[Sensitivity, StaticRelaxer]:
    relaxer = StaticRelaxer()
    with metric_of(crystals, PAPER, relaxer) as metric:
        return sensitivity(metric), relaxer


@cache
def third_of_aflow() -> Reference:
    aflow = open_reference("aflow")
    return aflow.without(index for index in range(len(aflow)) if index % 3)


def metric_of(
    samples: Sequence[Sample],
    protocol: Protocol,
    relaxer: object,
    reference: Reference | None = None,
) -> SubstitutionNovelty:
    reference = reference or third_of_aflow()
    metric = SubstitutionNovelty(reference, protocol, relaxer=relaxer, hull="none")  # type: ignore[arg-type]
    metric.update_samples(samples)
    return metric


def rows(report: NoveltyReport) -> list[CrystalResult]:
    """The fields that do not depend on time."""
    return [dataclasses.replace(row, seconds=None) for row in report.results]


def report_of(found: Sensitivity, setting: Setting, value: float) -> NoveltyReport:
    (report,) = [v.report for v in found.variations if (v.setting, v.value) == (setting, value)]
    return report


def test_every_variation_agrees_with_a_separate_run(
    crystals: list[Sample], found: tuple[Sensitivity, StaticRelaxer], thorough: bool
) -> None:
    """Independent metrics with the changed protocol."""
    given, _ = found
    assert rows(given.base) == rows(metric_of(crystals, PAPER, StaticRelaxer()).compute())
    for k in KS if thorough else (1,):
        plain = metric_of(crystals, dataclasses.replace(PAPER, k=k), StaticRelaxer()).compute()
        assert rows(report_of(given, Setting.K, k)) == rows(plain), k
    for factor in TOLERANCES if thorough else (0.5,):
        protocol = scaled_tolerances(PAPER, factor)
        plain = metric_of(crystals, protocol, StaticRelaxer()).compute()
        assert rows(report_of(given, Setting.TOLERANCES_RESELECTED, factor)) == rows(plain), factor
    for symprec in (0.1, 0.001) if thorough else (0.1,):
        again = Reference.from_structures(
            list(third_of_aflow()),
            ids=third_of_aflow().ids,
            symprec=symprec,
        )
        protocol = dataclasses.replace(PAPER, symprec=symprec)
        plain = metric_of(crystals, protocol, StaticRelaxer(), again).compute()
        assert rows(report_of(given, Setting.SYMPREC, symprec)) == rows(plain), symprec
    # The settings must change something for this test to be meaningful.
    verdicts = {tuple(row.verdict for row in v.report.results) for v in given.variations}
    assert len(verdicts) > 3


def test_value_of_the_protocol_agrees_with_the_unmodified_run(
    found: tuple[Sensitivity, StaticRelaxer],
) -> None:
    given, _ = found
    marked = [variation for variation in given.variations if variation.is_base]
    assert {v.setting for v in marked} == set(Setting) - {Setting.POTENTIAL}
    for variation in marked:
        assert rows(variation.report) == rows(given.base)
        assert variation.changed == ()


def test_fixed_parents_agree_with_pymatgen(
    crystals: list[Sample], found: tuple[Sensitivity, StaticRelaxer]
) -> None:
    """Parents of a separate search; duplicates and confirmations only by the public `fit`."""
    given, _ = found
    reference = third_of_aflow()
    metric = metric_of(crystals, PAPER, StaticRelaxer())
    metric.compute()
    search = ParentSearch(reference, PAPER)
    cases = [metric._cases[sample.id] for sample in crystals]
    changed = 0
    for factor in (0.75, 0.5, 0.25):
        tolerances = {"ltol": 0.2 * factor, "stol": 0.3 * factor, "angle_tol": 5 * factor}
        duplicate = StructureMatcher(
            **tolerances,
            primitive_cell=False,
            scale=False,
            attempt_supercell=True,
            supercell_size="num_sites",
        )
        confirm = StructureMatcher(**tolerances, primitive_cell=True, scale=False)
        report = report_of(given, Setting.TOLERANCES_FIXED, factor)
        for case, row in zip(cases, report.results, strict=True):
            if case.error is not None:
                assert row.verdict is None
                continue
            crystal = case.reduced
            assert crystal is not None
            same = (
                reference.structure(index)
                for index in range(len(reference))
                if reference.structure(index).composition.reduced_composition
                == crystal.composition.reduced_composition
            )
            if any(duplicate.fit(crystal, one, skip_structure_reduction=True) for one in same):
                expected: Verdict | None = Verdict.DUPLICATE
            elif not case.eligible:
                expected = None
            else:
                parents = search.parents(crystal, case.symmetry).parents
                relaxed = (substitute(reference.structure(p.index), p) for p in parents)
                if any(confirm.fit(parent, crystal) for parent in relaxed):
                    expected = Verdict.SUBSTITUTED
                else:
                    expected = Verdict.UNMATCHED
            assert row.verdict == expected, (row.id, factor)
            changed += row.verdict != given.base.results[cases.index(case)].verdict
    assert changed > 3


def test_stricter_checks_lose_duplicates_here(found: tuple[Sensitivity, StaticRelaxer]) -> None:
    """Not true in general: the first match of an assignment depends on `stol`."""
    given, _ = found
    for setting in (Setting.TOLERANCES_FIXED, Setting.TOLERANCES_RESELECTED):
        kept: set[str] | None = None
        for factor in TOLERANCES:
            duplicates = {
                row.id
                for row in report_of(given, setting, factor).results
                if row.verdict is Verdict.DUPLICATE
            }
            assert kept is None or duplicates <= kept
            kept = duplicates


def test_number_of_substituted_crystals_grows_with_k(
    found: tuple[Sensitivity, StaticRelaxer],
) -> None:
    """More parents are added, none is removed, and duplicates stay the same."""
    given, _ = found
    for fewer, more in pairwise(KS):
        pairs = zip(
            report_of(given, Setting.K, fewer).results,
            report_of(given, Setting.K, more).results,
            strict=True,
        )
        for few, many in pairs:
            if few.verdict in (Verdict.SUBSTITUTED, Verdict.DUPLICATE, None):
                assert many.verdict == few.verdict


def test_samples_are_relaxed_once(
    crystals: list[Sample], found: tuple[Sensitivity, StaticRelaxer]
) -> None:
    _, relaxer = found
    assert sorted(relaxer.samples) == sorted(sample.id for sample in crystals)


def test_parents_are_searched_once_for_all_k(
    crystals: list[Sample], monkeypatch: pytest.MonkeyPatch
) -> None:
    searched: list[int] = []
    search = ParentSearch.parents
    monkeypatch.setattr(
        ParentSearch,
        "parents",
        lambda self, *given, **named: (
            searched.append(self.protocol.k) or search(self, *given, **named)
        ),
    )
    metric = metric_of(crystals[:12], PAPER, StaticRelaxer())
    sensitivity(metric, tolerances=(1.0,), symprecs=())
    n_searched = sum(case.searched for case in metric.variant(PAPER)._begun.values())
    assert n_searched == 0  # the metric itself did not score
    n_cases = sum(row.verdict not in (None, Verdict.DUPLICATE) for row in metric.compute().results)
    # Once for k=5 by the analysis, then once for k=3 by the metric.
    assert searched.count(5) == n_cases and searched.count(3) == n_cases
    assert len(searched) == 2 * n_cases


@pytest.mark.slow
def test_metric_with_results_gives_equal_results(crystals: list[Sample]) -> None:
    relaxer = StaticRelaxer()
    with metric_of(crystals[:12], PAPER, relaxer) as metric:
        report = metric.compute()
        again = sensitivity(metric, tolerances=(0.5,), symprecs=(0.1,))
        assert rows(again.base) == rows(report) == rows(metric.compute())
    assert len(relaxer.samples) == 12
    fresh = sensitivity(
        metric_of(crystals[:12], PAPER, StaticRelaxer()), tolerances=(0.5,), symprecs=(0.1,)
    )
    for one, other in zip(again.variations, fresh.variations, strict=True):
        assert rows(one.report) == rows(other.report)


def test_second_potential(crystals: list[Sample]) -> None:
    samples = crystals[:10]
    metric = metric_of(samples, PAPER, StaticRelaxer())
    other = StaticRelaxer("other", energy=-7.0)
    given = sensitivity(
        metric, ks=(), tolerances=(), symprecs=(), potentials=[other, StaticRelaxer()]
    )
    first, second = given.variations
    assert first.value == "other-1-000000000000" and not first.is_base
    assert {row.energy_per_atom for row in first.report.results} <= {-7.0, None}
    assert second.is_base and rows(second.report) == rows(given.base)
    assert len(other.samples) == 10
    (agreement,) = given.agreements  # not with itself
    assert (agreement.first, agreement.second) == ("still", "other")
    assert agreement == verdict_agreement(given.base, first.report)


def test_without_relaxation(crystals: list[Sample]) -> None:
    given = sensitivity(metric_of(crystals[:10], FAST, None), symprecs=())
    assert given.base.context.potential is None
    assert all(v.report.n_eligible == given.base.n_eligible for v in given.variations)


# Tables


def test_table_and_files(found: tuple[Sensitivity, StaticRelaxer], tmp_path: Path) -> None:
    given, _ = found
    frame = given.to_frame()
    assert len(frame) == len(given.variations) == 5 + 4 + 4 + 3
    for row, variation in zip(frame.itertuples(), given.variations, strict=True):
        share = variation.report.fractions["unmatched"]
        assert (row.unmatched_share, row.unmatched_low, row.unmatched_high) == (
            share.value,
            share.low,
            share.high,
        )
        counts = [getattr(row, f"{verdict.value}_count") for verdict in Verdict]
        assert sum(counts) == row.eligible
        before = given.base.novelty
        assert before is not None and row.novelty_change == pytest.approx(share.value - before)
        assert row.change_low <= row.novelty_change <= row.change_high
        assert row.n_changed == len(variation.changed)
    assert frame.n_changed.max() > 0
    given.save(tmp_path / "out")
    read = pd.read_csv(tmp_path / "out" / "sensitivity.csv")
    assert list(read.columns) == list(frame.columns)
    assert read.unmatched_count.tolist() == frame.unmatched_count.tolist()
    content = json.loads((tmp_path / "out" / "sensitivity.json").read_text())
    assert content["schema_version"] == 1 and content["base"]["reference"]["size"] == 96
    assert [set(v["changed"]) for v in content["variations"]] == [
        set(v.changed) for v in given.variations
    ]
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="can't be written"):
        given.save(tmp_path / "file")


@pytest.mark.parametrize(
    ("values", "text"),
    [
        ({"ks": (0,)}, "k=0; it must be a whole number above 0"),
        ({"ks": (1.5,)}, "k=1.5"),
        ({"tolerances": (-1.0,)}, "tolerances=-1.0; it must be a number above 0"),
        ({"symprecs": (float("nan"),)}, "symprec=nan"),
    ],
)
def test_invalid_values(values: dict[str, tuple[float, ...]], text: str) -> None:
    salt = Structure(Lattice.cubic(4), ["Cs", "Cl"], [[0, 0, 0], [0.5, 0.5, 0.5]])
    metric = metric_of([Sample("a", salt, source="here")], FAST, None)
    with pytest.raises(InputError) as caught:
        sensitivity(metric, **values)  # type: ignore[arg-type]
    assert text in str(caught.value)


def test_without_samples() -> None:
    with pytest.raises(InputError, match="no sample was given"):
        sensitivity(metric_of([], FAST, None))
