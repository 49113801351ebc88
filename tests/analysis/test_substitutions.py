"""Exchanged elements and changes of parents, counted by hand; breakdowns as tables."""

from __future__ import annotations

from novelty_metric.analysis.substitutions import exchanges, parent_changes
from novelty_metric.protocol import Protocol
from novelty_metric.report.context import RunContext
from novelty_metric.report.novelty_report import NoveltyReport
from novelty_metric.verdict import CrystalResult, Parent, Route, TriedParent, Verdict


def report_of(rows: list[CrystalResult]) -> NoveltyReport:
    context = RunContext(
        protocol=Protocol.named("paper"),
        reference_name="r",
        reference_size=3,
        crystals_hash="",
        store_hash="",
    )
    return NoveltyReport.from_results(rows, context)


def row(identifier: str, verdict: Verdict, **changes: object) -> CrystalResult:
    given = {"smact_valid": True, "eligible": True, "verdict": verdict, "crystal_system": "cubic"}
    return CrystalResult(id=identifier, **{**given, **changes})  # type: ignore[arg-type]


def test_exchanges_counted_by_hand() -> None:
    frame = exchanges(
        report_of(
            [
                row("a", Verdict.SUBSTITUTED, element_map={"Y": {"Er": 2}, "O": {"O": 3}}),
                row("b", Verdict.SUBSTITUTED, element_map={"Y": {"Er": 1, "Tb": 1}}),
                row("c", Verdict.SUBSTITUTED, element_map={"Na": {"Rf": 4}}),
                row("d", Verdict.UNMATCHED, element_map={"Y": {"Er": 9}}),
                row("e", Verdict.SUBSTITUTED, eligible=False, element_map={"Y": {"Er": 9}}),
            ]
        )
    )
    rows = [tuple(line) for line in frame.iloc[:, :4].to_numpy().tolist()]
    assert rows == [("Y", "Er", 2, 3), ("Na", "Rf", 1, 4), ("Y", "Tb", 1, 1)]
    # Y 20, Er 21, Tb 24; Rf has no number.
    assert frame["cost"].fillna(-1).tolist() == [1, -1, 4]
    assert exchanges(report_of([])).empty


def tried(rank: int, *, relaxed: bool, volume_ratio: float | None = None) -> TriedParent:
    parent = Parent(
        route=Route.WYCKOFF,
        rank=rank,
        index=rank,
        parent_id=f"p{rank}",
        cost=float(rank),
        match_rms=None,
        supercell=None,
        elements=("Na",),
        element_map={"K": {"Na": 1}},
        share_exchanged=1.0,
    )
    return TriedParent(parent=parent, relaxed=relaxed, confirmed=relaxed, volume_ratio=volume_ratio)


def test_only_relaxed_parents_count() -> None:
    parents = (tried(1, relaxed=True, volume_ratio=0.9), tried(2, relaxed=False))
    frame = parent_changes(
        report_of(
            [
                row("a", Verdict.SUBSTITUTED, parents=parents),
                row("b", Verdict.SUBSTITUTED, parents=parents, eligible=False),
            ]
        )
    )
    (line,) = frame.to_dict("records")
    assert (line["id"], line["parent_id"], line["volume_ratio"]) == ("a", "p1", 0.9)
    assert parent_changes(report_of([])).empty


def test_breakdowns_as_tables() -> None:
    rows = [
        row(str(i), verdict, n_sites=n_sites)
        for i, (verdict, n_sites) in enumerate(
            [
                (Verdict.UNMATCHED, 4),
                (Verdict.DUPLICATE, 1),
                (Verdict.UNMATCHED, 5),
                (Verdict.UNMATCHED, 20),
                (Verdict.UNMATCHED, 21),
                (Verdict.UNDECIDED, 45),
            ]
        )
    ]
    report = report_of(rows)
    frame = report.breakdown_frame("n_sites")
    assert list(dict.fromkeys(frame["n_sites"])) == ["1-4", "5-8", "17-20", "21-40", "41-60"]
    first = frame[(frame["n_sites"] == "1-4") & (frame["verdict"] == "unmatched")]
    assert first[["count", "n", "fraction"]].to_numpy().tolist() == [[1, 2, 0.5]]
    assert frame["count"].sum() == 6
    assert report_of([]).breakdown_frame("kind").empty
