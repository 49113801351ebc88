"""Figures, tables and files of a report."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from novelty_metric.crystal import CRYSTAL_SYSTEMS
from novelty_metric.errors import InputError
from novelty_metric.protocol import Protocol
from novelty_metric.relaxation.base import PotentialInfo
from novelty_metric.report.context import RunContext, protocol_changes
from novelty_metric.report.exclusion import ExclusionReason
from novelty_metric.report.files import rows_of_table, summary
from novelty_metric.report.novelty_report import NoveltyReport
from novelty_metric.report.rows import row_from_json, row_to_json
from novelty_metric.support.statistics import Bounds, wilson
from novelty_metric.verdict import CrystalResult, Kind, Parent, Route, TriedParent, Verdict

VERDICT_COLUMNS = [
    "id",
    "source",
    "formula",
    "n_sites",
    "space_group",
    "crystal_system",
    "new_prototype",
    "smact_valid",
    "converged",
    "energy_per_atom",
    "e_above_hull",
    "energy_suspect",
    "eligible",
    "verdict",
    "verdict_second",
    "route",
    "kind",
    "parent_id",
    "element_map",
    "cost",
    "match_rms",
    "confirm_rms",
    "share_exchanged",
    "n_parents",
    "duplicate_group",
    "n_relaxations",
    "seconds",
    "error",
]
PARENT_COLUMNS = [
    "id",
    "route",
    "rank",
    "parent_id",
    "cost",
    "match_rms",
    "confirm_rms",
    "element_map",
    "relaxed",
    "converged",
    "confirmed",
]
CHGNET = PotentialInfo(name="chgnet", version="0.3.0", weights_hash="ab" * 32)


def context(**changes: Any) -> RunContext:
    given: dict[str, Any] = {
        "protocol": Protocol.named("paper"),
        "reference_name": "mp_20",
        "reference_size": 27136,
        "crystals_hash": "c" * 64,
        "store_hash": "d" * 64,
        "potential": CHGNET,
        "hull": {"name": "reference", "entries": 27136},
    }
    return RunContext(**{**given, **changes})


def scored(identifier: str, verdict: Verdict | None, **changes: Any) -> CrystalResult:
    """An eligible crystal."""
    given: dict[str, Any] = {
        "formula": "NaCl",
        "n_sites": 2,
        "space_group": 225,
        "crystal_system": "cubic",
        "smact_valid": True,
        "converged": True,
        "energy_per_atom": -3.4,
        "e_above_hull": 0.02,
        "energy_suspect": False,
        "eligible": True,
        "verdict": verdict,
    }
    return CrystalResult(id=identifier, **{**given, **changes})


def tried(rank: int = 1, **changes: Any) -> TriedParent:
    parent: dict[str, Any] = {
        "route": Route.LATTICE_SITES,
        "rank": rank,
        "index": 17 + rank,
        "parent_id": f"mp-{rank}",
        "cost": 2.0 + 1 / 3,
        "match_rms": 0.012,
        "supercell": ((1, 0, 0), (0, 2, 0), (0, 0, 1)),
        "elements": ("Ce", "La", "O"),
        "element_map": {"Sm": {"Ce": 1, "La": 1}, "O": {"O": 1}},
        "share_exchanged": 2 / 3,
    }
    return TriedParent(parent=Parent(**{**parent, **changes}), relaxed=True, converged=False)


def one_of_each() -> list[CrystalResult]:
    """One row of every possible outcome."""
    not_eligible = {"eligible": False, "error": "not eligible: so"}
    return [
        scored("dup", Verdict.DUPLICATE, parent_id="mp-9", match_rms=0.0, duplicate_group=0),
        scored(
            "sub",
            Verdict.SUBSTITUTED,
            route=Route.WYCKOFF,
            kind=Kind.BOTH,
            parent_id="mp-1",
            element_map={"Sm": {"Ce": 2, "La": 1}},
            cost=1 / 3,
            confirm_rms=0.1,
            share_exchanged=0.5,
            n_parents=2,
            n_relaxations=3,
            seconds=1.25,
            duplicate_group=1,
            parents=(tried(1), tried(2, route=Route.WYCKOFF, match_rms=None, supercell=None)),
        ),
        scored("new", Verdict.UNMATCHED, duplicate_group=2, crystal_system="triclinic"),
        scored("new again", Verdict.UNMATCHED, duplicate_group=2, formula="LiFePO4"),
        scored("open", Verdict.UNDECIDED, duplicate_group=3, error="stopped", parents=(tried(),)),
        scored("chemistry", None, **{**not_eligible, "smact_valid": False}),
        scored("moving", None, **{**not_eligible, "converged": False}),
        scored("no hull", None, **{**not_eligible, "e_above_hull": None}),
        scored("high", None, **{**not_eligible, "e_above_hull": 0.4}),
        CrystalResult(id="crowded", formula="H", error="coincident atoms"),
        CrystalResult(id='broken, "odd"\nname é', error="no cell", readable=False),
    ]


# Numbers


def test_headline_counts_and_exclusions() -> None:
    report = NoveltyReport.from_results(one_of_each(), context())
    assert report.n_eligible == 5
    assert report.novelty == 0.4
    assert report.counts == {"duplicate": 1, "substituted": 1, "unmatched": 2, "undecided": 1}
    assert report.fractions["substituted"] == wilson(1, 5)
    assert report.left_out == {
        "unreadable": 1,
        "failed": 1,
        "smact_invalid": 1,
        "not_converged": 1,
        "no_hull": 1,
        "not_metastable": 1,
        "out_of_time": 0,
    }
    assert report.n_eligible + sum(report.left_out.values()) == len(report.results)
    assert (report.n_read, report.n_unreadable, report.n_scored) == (10, 1, 5)
    assert report.n_not_searched == 4


def test_shares_over_all_include_crystals_without_search() -> None:
    report = NoveltyReport.from_results(one_of_each(), context())
    assert report.fractions_all["duplicate"] == wilson(1, 9)
    assert sum(share.value for share in report.fractions_all.values()) == pytest.approx(5 / 9)


def test_novel_yield_counts_equal_samples_once_over_all_generated() -> None:
    report = NoveltyReport.from_results(one_of_each(), context())
    assert report.novel_yield == 1 / 11
    # At most: the novel group, the undecided, the unconverged, and the one without a hull.
    assert report.novel_yield_bounds == Bounds(1 / 11, 4 / 11)
    more = NoveltyReport.from_results(one_of_each(), context(n_generated=100))
    assert more.novel_yield_interval == wilson(1, 100)
    ungrouped = [scored("a", Verdict.UNMATCHED), scored("b", Verdict.UNMATCHED)]
    assert NoveltyReport.from_results(ungrouped, context()).novel_yield == 1.0


def test_fewer_generated_than_scored_is_refused() -> None:
    with pytest.raises(ValueError, match="n_generated=3"):
        NoveltyReport.from_results(one_of_each(), context(n_generated=3))


def test_bounds_include_undecided_and_possibly_eligible_crystals() -> None:
    report = NoveltyReport.from_results(one_of_each(), context())
    # 2 unmatched and 1 undecided of 5; the unconverged and the one without hull could be eligible.
    assert report.novelty_bounds == Bounds(2 / 7, 5 / 7)


@pytest.mark.parametrize(
    ("verdict", "converged", "expected"),
    [
        (Verdict.DUPLICATE, True, Bounds(1 / 3, 1 / 2)),
        (Verdict.SUBSTITUTED, True, Bounds(1 / 3, 1 / 2)),
        (Verdict.UNMATCHED, True, Bounds(1 / 2, 2 / 3)),
        (Verdict.UNDECIDED, True, Bounds(1 / 3, 2 / 3)),
        (None, True, Bounds(1 / 3, 2 / 3)),
        (Verdict.DUPLICATE, False, Bounds(1 / 3, 2 / 3)),
    ],
)
def test_bounds_use_a_known_verdict_if_only_the_hull_is_missing(
    verdict: Verdict | None, converged: bool, expected: Bounds
) -> None:
    left_out = scored("x", Verdict.UNMATCHED, eligible=False, converged=converged)
    left_out = dataclasses.replace(left_out, verdict=verdict, e_above_hull=None)
    rows = [scored("a", Verdict.UNMATCHED), scored("b", Verdict.DUPLICATE), left_out]
    assert NoveltyReport.from_results(rows, context()).novelty_bounds == expected


def test_bounds_include_crystals_that_failed_after_the_chemistry() -> None:
    rows = [
        scored("a", Verdict.DUPLICATE),
        CrystalResult(id="b", smact_valid=True, error="the cell could not be reduced"),
    ]
    report = NoveltyReport.from_results(rows, context())
    assert report.left_out["failed"] == 1
    assert report.novelty == 0.0
    assert report.novelty_bounds == Bounds(0.0, 0.5)


def test_eligible_without_verdict_is_counted_as_failed() -> None:
    rows = [dataclasses.replace(scored("a", Verdict.UNMATCHED), verdict=None, error="crash")]
    report = NoveltyReport.from_results(rows, context())
    assert (report.n_eligible, report.left_out["failed"]) == (0, 1)
    assert report.novelty_bounds == Bounds(0.0, 1.0)


@pytest.mark.parametrize("rows", [[], [CrystalResult(id="x", error="bad", readable=False)]])
def test_without_eligible_crystals_the_headline_is_none_and_the_yield_finite(
    rows: list[CrystalResult],
) -> None:
    report = NoveltyReport.from_results(rows, context())
    assert report.novelty is None
    assert report.novelty_bounds is None
    assert report.novelty_without_suspect is None
    assert report.fractions == {}
    assert report.novel_yield == 0.0
    assert "novelty/novelty" not in report.scalars()
    assert report.scalars()["novelty/novel_yield"] == 0.0


def test_scalars_are_finite_floats() -> None:
    scalars = NoveltyReport.from_results(one_of_each(), context()).scalars()
    assert scalars["novelty/novelty"] == 0.4
    assert scalars["novelty/duplicate"] == 0.2
    assert scalars["novelty/n_eligible"] == 5.0
    # 2 of 5 unmatched: Wilson's interval is 0.118 to 0.769; the undecided could be unmatched.
    ends = [round(scalars[f"novelty/{name}"], 3) for name in ("ci_low", "ci_high")]
    assert ends == [0.118, 0.769]
    assert scalars["novelty/bound_low"] == pytest.approx(2 / 7)  # two more could be eligible
    assert scalars["novelty/decided"] == 0.8
    assert not {"novelty/novelty_low", "novelty/novelty_high"} & set(scalars)
    assert all(type(value) is float and np.isfinite(value) for value in scalars.values())


def test_headline_without_suspect_energies() -> None:
    rows = [
        scored("a", Verdict.UNMATCHED, e_above_hull=-3.0, energy_suspect=True),
        scored("b", Verdict.DUPLICATE),
    ]
    report = NoveltyReport.from_results(rows, context())
    assert (report.n_energy_suspect, report.novelty) == (1, 0.5)
    assert report.novelty_without_suspect == wilson(0, 1)


def test_breakdowns() -> None:
    report = NoveltyReport.from_results(one_of_each(), context())
    systems = report.breakdown("crystal_system")
    assert list(systems) == ["triclinic", "cubic"]
    assert systems["cubic"].counts == {
        "duplicate": 1,
        "substituted": 1,
        "unmatched": 1,
        "undecided": 1,
    }
    assert systems["cubic"].novelty == wilson(1, 4)
    assert {key: group.n for key, group in report.breakdown("n_elements").items()} == {2: 4, 4: 1}
    assert list(report.breakdown("space_group")) == [225]
    assert {key: group.n for key, group in report.breakdown("kind").items()} == {"both": 1}
    with pytest.raises(ValueError, match="no breakdown by 'colour'"):
        report.breakdown("colour")


def test_crystal_systems_are_in_order_of_symmetry_and_unknown_is_last() -> None:
    names = [*reversed(CRYSTAL_SYSTEMS), None]
    rows = [scored(str(n), Verdict.UNMATCHED, crystal_system=name) for n, name in enumerate(names)]
    groups = NoveltyReport.from_results(rows, context()).breakdown("crystal_system")
    assert list(groups) == [*CRYSTAL_SYSTEMS, "unknown"]


def test_every_share_of_a_breakdown_has_an_interval_and_bounds() -> None:
    rows = [
        scored("a", Verdict.UNMATCHED),
        scored("b", Verdict.DUPLICATE),
        scored("c", Verdict.UNDECIDED),
        scored("d", Verdict.SUBSTITUTED, crystal_system="triclinic"),
        scored("moving", None, eligible=False, converged=False),
        scored("lost", None, eligible=False, converged=False, crystal_system=None),
    ]
    systems = NoveltyReport.from_results(rows, context()).breakdown("crystal_system")
    cubic, triclinic = systems["cubic"], systems["triclinic"]
    assert cubic.share == wilson(3, 4)
    assert cubic.fractions == {verdict: wilson(n, 3) for verdict, n in cubic.counts.items()}
    # By hand: 1 of 3, one undecided; two more could be cubic and eligible: the unconverged one and
    # the one of unknown system.
    assert cubic.novelty_bounds == Bounds(1 / 5, 4 / 5)
    assert triclinic.novelty_bounds == Bounds(0.0, 1 / 2)


def shares(content: Any, path: str = "") -> list[str]:
    """Paths of shares in a summary, except those with an interval and those of bounds."""
    if isinstance(content, dict):
        if content.keys() in ({"value", "low", "high"}, {"low", "high"}):
            return []
        return [hit for key, item in content.items() for hit in shares(item, f"{path}/{key}")]
    return [path] if isinstance(content, float) and 0 < content < 1 else []


def test_every_share_in_the_summary_has_an_interval() -> None:
    content = summary(NoveltyReport.from_results(one_of_each(), context()))
    found = [path for path in shares(content) if not path.startswith("/protocol_settings")]
    # Exceptions: both headlines, whose intervals are beside them; thresholds; quantiles.
    allowed = ("/novelty", "/novel_yield")
    assert {
        path
        for path in found
        if path not in allowed and "quantiles" not in path and "threshold" not in path
    } == set()
    for by in ("crystal_system", "space_group", "n_elements", "kind"):
        for group in content["breakdowns"][by].values():
            assert set(group["novelty"]) == set(group["share"]) == {"value", "low", "high"}
            assert set(group["novelty_bounds"]) == {"low", "high"}
            assert set(group["fractions"]) == {verdict.value for verdict in Verdict}


def test_every_headline_exists_without_suspect_crystals() -> None:
    rows = [
        scored("a", Verdict.UNMATCHED, e_above_hull=-3.0, energy_suspect=True),
        scored("b", Verdict.UNMATCHED, duplicate_group=1, novel_by_matching=True),
        scored("c", Verdict.DUPLICATE, duplicate_group=2, novel_by_matching=False),
    ]
    rows[1] = dataclasses.replace(rows[1], shortest_distance=2.0, volume_per_atom=20.0)
    report = NoveltyReport.from_results(rows, context())
    trusted = report.without_suspect
    assert (report.novelty, trusted.novelty) == (2 / 3, 1 / 2)
    assert trusted.novel_yield_interval == wilson(1, 3)  # the suspect crystal counts as generated
    assert trusted.quality.sun == wilson(1, 3)
    content = summary(report)["without_suspect"]
    assert content["novelty"]["value"] == 1 / 2
    assert {"novel_yield", "novel_yield_bounds", "quality", "graded", "fractions"} <= set(content)
    assert report.novelty_without_suspect == trusted.novelty_interval


def test_bounds_contain_the_true_value() -> None:
    """All results are known, and some of them are then hidden."""
    rng = np.random.default_rng(8)
    for _ in range(150):
        truth, seen = [], []
        for name in map(str, range(int(rng.integers(1, 25)))):
            verdict = rng.choice([Verdict.DUPLICATE, Verdict.SUBSTITUTED, Verdict.UNMATCHED])
            whole = scored(name, Verdict(verdict), duplicate_group=int(rng.integers(0, 12)))
            if rng.uniform() < 0.2:
                whole = dataclasses.replace(whole, eligible=False, e_above_hull=0.4, verdict=None)
            truth.append(whole)
            hidden = whole
            if rng.uniform() < 0.3:
                hidden = dataclasses.replace(
                    whole, eligible=False, converged=False, verdict=None, e_above_hull=None
                )
            elif whole.eligible and rng.uniform() < 0.3:
                hidden = dataclasses.replace(whole, verdict=Verdict.UNDECIDED)
            seen.append(hidden)
        known = NoveltyReport.from_results(truth, context())
        open_ = NoveltyReport.from_results(seen, context())
        bounds = open_.novelty_bounds
        if known.novelty is not None:
            assert bounds is not None and bounds.low <= known.novelty <= bounds.high
        limits = open_.novel_yield_bounds
        assert limits.low <= known.novel_yield <= limits.high


# Text


@pytest.mark.parametrize(
    ("protocol", "potential", "text"),
    [
        (Protocol.named("paper"), "chgnet", "paper settings, CHGNet in place of MACE-MPA-0"),
        (Protocol.named("paper"), "MACE-MPA-0", "paper settings"),
        (Protocol.named("paper"), "mace-medium-mpa-0", "paper settings"),
        (
            Protocol.named("paper"),
            "mace-file-mpa-0",
            "paper settings, mace-file-mpa-0 in place of MACE-MPA-0",
        ),
        (Protocol.named("fast"), "sevennet-0", "fast settings, SevenNet-0 in place of MACE-MPA-0"),
        (Protocol.named("fast"), "CHGNet", "fast settings, CHGNet in place of MACE-MPA-0"),
        (Protocol.named("fast"), "mace-mpa-0", "fast settings, MACE-MPA-0"),
        (
            Protocol(fmax=0.05),
            "chgnet",
            "paper settings (modified: fmax=0.05), CHGNet in place of MACE-MPA-0",
        ),
        (
            Protocol.named("paper"),
            None,
            "paper settings, search only: nothing is relaxed",
        ),
        (Protocol(name="mine", k=5), "orb", "mine settings, orb in place of MACE-MPA-0"),
    ],
)
def test_protocol_text(protocol: Protocol, potential: str | None, text: str) -> None:
    info = None if potential is None else PotentialInfo(name=potential, version="", weights_hash="")
    assert context(protocol=protocol, potential=info).protocol_text == text


def test_changed_settings_are_found_under_an_unchanged_name() -> None:
    assert protocol_changes(Protocol(k=2, stol=0.2)) == ("paper", "stol=0.2, k=2")
    fast = Protocol.named("fast")
    renamed = dataclasses.replace(fast, name="fast (modified: fmax=0.05)", fmax=0.05)
    assert protocol_changes(renamed) == ("fast", "fmax=0.05")


def test_eligibility_text() -> None:
    assert "chemistry alone" in context(potential=None).eligibility
    assert "no hull" in context(hull={"name": "none"}).eligibility
    assert "0.1 eV/atom" in context().eligibility
    assert "already relaxed" in context(relax_samples=False).eligibility


# Files


def test_columns_agree_with_the_specification(tmp_path: Path) -> None:
    report = NoveltyReport.from_results(one_of_each(), context())
    report.save(tmp_path)
    assert list(report.to_frame().columns) == VERDICT_COLUMNS
    assert list(report.parents_frame().columns) == PARENT_COLUMNS
    assert list(pd.read_parquet(tmp_path / "verdicts.parquet").columns) == VERDICT_COLUMNS
    assert list(pd.read_csv(tmp_path / "verdicts.csv").columns) == VERDICT_COLUMNS
    assert list(pd.read_parquet(tmp_path / "parents.parquet").columns) == PARENT_COLUMNS


def test_frame_has_a_row_per_sample_in_order_with_empty_verdicts() -> None:
    rows = one_of_each()
    frame = NoveltyReport.from_results(rows, context()).to_frame()
    assert frame["id"].tolist() == [row.id.replace("\n", "\\n") for row in rows]
    assert frame["verdict"].isna().tolist() == [row.verdict is None for row in rows]
    assert json.loads(frame["element_map"][1]) == {"Sm": {"Ce": 2, "La": 1}}
    assert frame["n_parents"].dtype == "Int64"
    assert frame["eligible"].dtype == "boolean"
    assert frame["cost"][1] == 1 / 3
    assert len(frame[frame["eligible"]]) == 5


def test_parquet_and_csv_contain_the_frame(tmp_path: Path) -> None:
    report = NoveltyReport.from_results(one_of_each(), context())
    report.save(tmp_path)
    pd.testing.assert_frame_equal(pd.read_parquet(tmp_path / "verdicts.parquet"), report.to_frame())
    text = pd.read_csv(tmp_path / "verdicts.csv")
    assert text["id"].tolist() == report.to_frame()["id"].tolist()
    assert text["cost"][1] == pytest.approx(1 / 3, rel=1e-15)


def test_units_and_schema_version_are_in_the_parquet_schema(tmp_path: Path) -> None:
    NoveltyReport.from_results(one_of_each(), context()).save(tmp_path)
    for name in ("verdicts", "parents", "evidence"):
        assert (
            pq.read_schema(tmp_path / f"{name}.parquet").metadata[b"novelty_metric_schema"] == b"2"
        )
    schema = pq.read_schema(tmp_path / "verdicts.parquet")
    assert schema.field("e_above_hull").metadata[b"unit"] == b"eV/atom"
    assert schema.field("match_rms").metadata[b"unit"] == b"(V/N)^(1/3)"
    assert schema.field("seconds").metadata[b"unit"] == b"s"


def test_summary_file(tmp_path: Path) -> None:
    full = context(
        versions={"pymatgen": "2026.10"}, seconds={"relax": 3.5}, warnings=("a warning",)
    )
    NoveltyReport.from_results(one_of_each(), full).save(tmp_path)
    content = json.loads((tmp_path / "report.json").read_text())
    assert content["schema_version"] == 2
    assert content["protocol"] == "paper settings, CHGNet in place of MACE-MPA-0"
    assert content["potential"]["weights_hash"] == CHGNET.weights_hash
    assert content["hull"] == {"name": "reference", "entries": 27136}
    assert content["reference"] == {
        "name": "mp_20",
        "size": 27136,
        "crystals_hash": "c" * 64,
        "store_hash": "d" * 64,
    }
    assert content["novelty"] == 0.4
    assert content["novelty_bounds"] == {"low": 2 / 7, "high": 5 / 7}
    assert content["novel_yield"] == 1 / 11
    assert content["samples"]["read"] == 10
    assert content["samples"]["unreadable"] == 1
    assert content["samples"]["scored"] == 5
    assert content["counts"]["unmatched"] == 2
    assert set(content["fractions"]["unmatched"]) == {"value", "low", "high"}
    assert content["fractions_all"]["duplicate"]["value"] == 1 / 9
    assert content["breakdowns"]["crystal_system"]["cubic"]["n"] == 4
    assert content["timings"] == {"relax": 3.5}
    assert content["versions"] == {"pymatgen": "2026.10"}
    assert content["warnings"] == ["a warning"]


def test_loaded_report_is_equal(tmp_path: Path) -> None:
    full = context(
        hull={"name": "x", "sources": ("a", 1), "energy": np.float64(1.5), "bad": float("nan")},
        seconds={"relax": np.float64(3.5)},
        n_generated=40,
        scope="all",
        exhaustive=True,
        relax_samples=False,
    )
    report = NoveltyReport.from_results(one_of_each(), full)
    report.save(tmp_path / "new" / "run[1]")
    assert NoveltyReport.load(tmp_path / "new" / "run[1]") == report
    assert rows_of(tmp_path / "new" / "run[1]") == tuple(
        dataclasses.replace(row, parents=(), readable=True) for row in report.results
    )


def rows_of(folder: Path) -> tuple[CrystalResult, ...]:
    return rows_of_table(pq.read_table(folder / "verdicts.parquet"), unreadable=frozenset())


def test_empty_report_and_report_without_potential_are_loaded(tmp_path: Path) -> None:
    for rows in ([], [CrystalResult(id="x", error="bad", readable=False)]):
        report = NoveltyReport.from_results(rows, context(potential=None, hull={}))
        report.save(tmp_path)
        assert NoveltyReport.load(tmp_path) == report


numbers = st.none() | st.floats()
texts = st.none() | st.text()
flags = st.none() | st.booleans()
maps = st.none() | st.dictionaries(st.text(), st.dictionaries(st.text(), st.integers(1, 99)))


@given(
    st.lists(
        st.builds(
            CrystalResult,
            id=st.text(st.characters()),
            formula=texts,
            crystal_system=texts,
            energy_per_atom=numbers,
            e_above_hull=numbers,
            eligible=flags,
            smact_valid=flags,
            converged=flags,
            verdict=st.none() | st.sampled_from(Verdict),
            element_map=maps,
            cost=numbers,
            duplicate_group=st.none() | st.integers(0, 5),
            error=texts,
            readable=st.booleans(),
        ),
        max_size=4,
    )
)
def test_any_rows_are_loaded_unchanged(
    tmp_path_factory: pytest.TempPathFactory, rows: list[CrystalResult]
) -> None:
    folder = tmp_path_factory.mktemp("report")
    report = NoveltyReport.from_results(rows, context())
    report.save(folder)
    assert NoveltyReport.load(folder) == report
    assert report.n_eligible + sum(report.left_out.values()) == len(rows)
    if report.novelty is not None:
        assert report.novelty_bounds is not None
        assert report.novelty_bounds.low <= report.novelty <= report.novelty_bounds.high
    assert 0.0 <= report.novel_yield <= report.novel_yield_bounds.high <= 1.0


def test_numpy_values_and_invalid_text_are_converted() -> None:
    odd = scored(
        "caf\udce9",
        Verdict.UNMATCHED,
        smact_valid=np.bool_(False),
        eligible=np.bool_(False),
        energy_per_atom=np.float64("nan"),
        n_sites=np.int64(3),
    )
    row = NoveltyReport.from_results([odd], context()).results[0]
    assert row.smact_valid is False
    assert row.energy_per_atom is None
    assert type(row.n_sites) is int
    assert row.id == "caf\\udce9"


def test_second_report_replaces_the_first(tmp_path: Path) -> None:
    NoveltyReport.from_results(one_of_each(), context()).save(tmp_path)
    second = NoveltyReport.from_results(one_of_each()[:2], context())
    second.save(tmp_path)
    assert NoveltyReport.load(tmp_path) == second
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "evidence.parquet",
        "parents.parquet",
        "quality.parquet",
        "report.json",
        "verdicts.csv",
        "verdicts.parquet",
    ]


ALONE = {"decomposition": {"Na": 0.5, "Cl2": 0.5}, "n_competing": 0}
KNOWN = {"decomposition": {"NaCl": 1.0}, "n_competing": 7}


def test_crystals_without_a_competing_compound_are_counted() -> None:
    rows = [
        scored("a", Verdict.UNMATCHED, e_above_hull=-1.5, **ALONE),
        scored("b", Verdict.DUPLICATE, e_above_hull=0.7, eligible=False, **ALONE),
        scored("c", Verdict.UNMATCHED, **KNOWN),
        scored("d", Verdict.UNMATCHED),
    ]
    report = NoveltyReport.from_results(rows, context())
    assert (report.n_stable, report.n_stable_no_competing_compound) == (3, 1)
    assert report.n_no_competing_compound == 2
    counted = summary(report)["samples"]
    assert counted["no_competing_compound"] == 2
    assert counted["stable_no_competing_compound"] == 1


def test_decomposition_is_saved(tmp_path: Path) -> None:
    rows = [scored("a", Verdict.UNMATCHED, **ALONE), scored("b", Verdict.DUPLICATE, **KNOWN)]
    report = NoveltyReport.from_results([*rows, scored("c", None)], context())
    report.save(tmp_path)
    assert NoveltyReport.load(tmp_path) == report
    table = pq.read_table(tmp_path / "quality.parquet")
    assert table["n_competing"].to_pylist() == [0, 7, None]
    assert table["no_competing_compound"].to_pylist() == [True, False, None]
    assert json.loads(table["decomposition"][0].as_py()) == ALONE["decomposition"]
    row = row_from_json(row_to_json(report.results[0]))
    assert row == report.results[0]


def test_files_without_decomposition_are_read(tmp_path: Path) -> None:
    """Files from before these columns existed."""
    report = NoveltyReport.from_results([scored("a", Verdict.UNMATCHED, **KNOWN)], context())
    report.save(tmp_path)
    path = tmp_path / "quality.parquet"
    table = pq.read_table(path)
    new = ["n_competing", "decomposition", "no_competing_compound"]
    pq.write_table(table.drop_columns(new), path)
    content = json.loads((tmp_path / "report.json").read_text())
    content["files"][path.name]["sha256"] = hashlib.sha256(path.read_bytes()).hexdigest()
    (tmp_path / "report.json").write_text(json.dumps(content))
    old = NoveltyReport.load(tmp_path)
    assert old.results == (scored("a", Verdict.UNMATCHED),)
    kept = json.loads(row_to_json(old.results[0]))
    for name in ("n_competing", "decomposition"):
        del kept[name]  # like a row of an old journal
    assert row_from_json(json.dumps(kept)) == old.results[0]


def test_folder_that_is_a_file_is_one_clear_error(tmp_path: Path) -> None:
    (tmp_path / "out").write_text("")
    with pytest.raises(InputError, match=r"can't be written to .*out.*name another folder"):
        NoveltyReport.from_results([], context()).save(tmp_path / "out")


def saved(folder: Path) -> Path:
    NoveltyReport.from_results(one_of_each(), context()).save(folder)
    return folder


def test_missing_files_are_one_clear_error(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"report\.json can't be read"):
        NoveltyReport.load(tmp_path)
    (saved(tmp_path) / "parents.parquet").unlink()
    with pytest.raises(InputError, match=r"parents\.parquet can't be read"):
        NoveltyReport.load(tmp_path)


def test_reports_without_sources_are_read(tmp_path: Path) -> None:
    report = NoveltyReport.from_results(one_of_each(), context())
    report.save(tmp_path)
    content = json.loads((tmp_path / "report.json").read_text())
    content["schema_version"] = 1
    for name, entry in content["files"].items():
        path = tmp_path / name
        if path.suffix == ".parquet":
            table = pq.read_table(path)
            if name == "verdicts.parquet":
                table = table.drop_columns(["source"])
            version = {**table.schema.metadata, b"novelty_metric_schema": b"1"}
            pq.write_table(table.replace_schema_metadata(version), path)
        entry["sha256"] = hashlib.sha256(path.read_bytes()).hexdigest()
    (tmp_path / "report.json").write_text(json.dumps(content))
    assert NoveltyReport.load(tmp_path) == report
    assert [row.source for row in rows_of(tmp_path)] == [None] * len(one_of_each())


def test_sources_are_saved(tmp_path: Path) -> None:
    rows = [CrystalResult(id="a", source="x.csv:row 3"), CrystalResult(id="b")]
    NoveltyReport.from_results(rows, context()).save(tmp_path)
    assert [row.source for row in NoveltyReport.load(tmp_path).results] == ["x.csv:row 3", None]
    assert "\na,x.csv:row 3,," in (tmp_path / "verdicts.csv").read_text()


def test_files_of_different_runs_are_refused(tmp_path: Path) -> None:
    saved(tmp_path / "a")
    NoveltyReport.from_results(one_of_each()[:3], context()).save(tmp_path / "b")
    (tmp_path / "b" / "verdicts.parquet").replace(tmp_path / "a" / "verdicts.parquet")
    with pytest.raises(InputError, match="of another run"):
        NoveltyReport.load(tmp_path / "a")


@pytest.mark.parametrize(
    ("find", "put", "message"),
    [
        ('"schema_version": 2,\n  "novelty"', '"schema_version": 3,\n  "novelty"', "version 3"),
        ('"protocol_settings"', '"settings"', "KeyError"),
        ('"max_steps": 1000', '"max_steps": "many"', "max_steps"),
        ("{", "", "score again"),
    ],
)
def test_damaged_summary_is_one_clear_error(
    tmp_path: Path, find: str, put: str, message: str
) -> None:
    path = saved(tmp_path) / "report.json"
    text = path.read_text()
    assert find in text
    path.write_text(text.replace(find, put, 1))
    with pytest.raises(InputError, match=message) as caught:
        NoveltyReport.load(tmp_path)
    assert "\n" not in str(caught.value)


def test_all_exclusion_reasons_are_reported() -> None:
    report = NoveltyReport.from_results([], context())
    assert list(report.left_out) == [reason.value for reason in ExclusionReason]
