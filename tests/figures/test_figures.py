"""Every figure: without data, with one crystal, with only undecided ones, and with known values."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any
from xml.etree import ElementTree

import matplotlib as mpl
import pytest
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from pymatgen.core import Lattice, Structure

from novelty_metric.crystal_records import CrystalRecord, CrystalRecords
from novelty_metric.errors import InputError
from novelty_metric.figures import FIGURES, Needs, draw_figures
from novelty_metric.figures.breakdowns import kinds_of_substituted, verdicts_by_crystal_system
from novelty_metric.figures.flow import verdict_flow
from novelty_metric.figures.style import COLUMN, PAGE, to_png, to_svg
from novelty_metric.protocol import Protocol
from novelty_metric.reference import Reference
from novelty_metric.report.colors import VERDICT_COLORS
from novelty_metric.report.context import RunContext
from novelty_metric.report.novelty_report import NoveltyReport
from novelty_metric.verdict import CrystalResult, Kind, Verdict


def cube(a: float) -> Structure:
    return Structure(Lattice.cubic(a), ["Cs", "Cl"], [[0, 0, 0], [0.5, 0.5, 0.5]])


def report_of(rows: list[CrystalResult]) -> NoveltyReport:
    context = RunContext(
        protocol=Protocol.named("paper"),
        reference_name="r",
        reference_size=3,
        crystals_hash="",
        store_hash="",
    )
    return NoveltyReport.from_results(rows, context)


def row(identifier: str, verdict: Verdict | None, **changes: object) -> CrystalResult:
    given: dict[str, object] = {
        "formula": "CsCl",
        "n_sites": 2,
        "space_group": 221,
        "crystal_system": "cubic",
        "smact_valid": True,
        "converged": True,
        "e_above_hull": 0.02,
        "eligible": True,
        "verdict": verdict,
        "cost": 3.0,
        "structures": CrystalRecords(generated=CrystalRecord.of(cube(4.0))),
    }
    return CrystalResult(id=identifier, **{**given, **changes})  # type: ignore[arg-type]


REPORTS = {
    "empty": report_of([]),
    "one": report_of([row("a", Verdict.UNMATCHED)]),
    "undecided": report_of([row(str(i), Verdict.UNDECIDED) for i in range(4)]),
    "none eligible": report_of([row("a", None, smact_valid=False, eligible=False)]),
    "nothing known": report_of(
        [
            row(
                "a", Verdict.SUBSTITUTED, formula=None, n_sites=None, space_group=None,
                crystal_system=None, e_above_hull=None, cost=None, element_map={"Na": {"Rf": 1}},
            )
        ]
    ),
    "many": report_of(
        [
            row(
                f"{verdict}{i}",
                verdict,
                kind=list(Kind)[i % 3] if verdict == Verdict.SUBSTITUTED else None,
                element_map={"Na": {"Cs": 1}, "Br": {"Cl": 1}},
            )
            for verdict in Verdict
            for i in range(4)
        ]
    ),
}  # fmt: skip


SLOW = ("undecided", "none eligible")
"""Only with --slow: "empty" and "nothing known" cover the same missing data."""


@pytest.fixture(scope="module")
def reference() -> Reference:
    return Reference.from_structures([cube(a) for a in (3.5, 3.9, 4.0, 4.4)])


# Matplotlib 3.9 uses functions that newer versions of pyparsing deprecate.
@pytest.mark.filterwarnings(
    "error",
    "ignore::DeprecationWarning:(matplotlib|pyparsing)",
    # Objects of other libraries in this process can be collected during this test.
    "ignore::pytest.PytestUnraisableExceptionWarning",
)
@pytest.mark.parametrize(
    "name",
    [pytest.param(n, marks=pytest.mark.slow if n in SLOW else ()) for n in REPORTS],
)
def test_every_figure_is_drawn(name: str, reference: Reference, thorough: bool) -> None:
    report = REPORTS[name]
    drawn = dict(draw_figures(report, reference))
    assert tuple(drawn) == FIGURES
    for spec, figure in drawn.items():
        assert isinstance(figure, Figure), spec.name
        assert figure.get_figwidth() in (COLUMN, PAGE)
        if thorough or name == "many":  # the others draw a part of this
            assert to_png(figure, dpi=60).startswith(b"\x89PNG")
            ElementTree.fromstring(to_svg(figure))
        else:
            figure.draw_without_rendering()


def test_figures_without_a_reference() -> None:
    drawn = [spec for spec, _ in draw_figures(REPORTS["many"])]
    assert drawn == [spec for spec in FIGURES if spec.needs == Needs.REPORT]


def test_names_are_unique_and_described() -> None:
    assert len({spec.name for spec in FIGURES}) == len(FIGURES)
    assert all(spec.title and spec.shows.endswith(".") for spec in FIGURES)


def bars_of(figure: Figure) -> dict[str, float]:
    """Total width of the bars of each colour."""
    found: dict[str, float] = {}
    for axes in figure.axes:
        for patch in axes.patches:
            if isinstance(patch, Rectangle):
                color = mpl.colors.to_hex(patch.get_facecolor())
                found[color] = found.get(color, 0.0) + patch.get_width()
    return found


def test_bars_agree_with_the_shares() -> None:
    rows = [row("a", Verdict.UNMATCHED), row("b", Verdict.DUPLICATE), row("c", Verdict.DUPLICATE)]
    bars = bars_of(verdicts_by_crystal_system(report_of(rows)))
    assert bars[VERDICT_COLORS[Verdict.UNMATCHED]] == pytest.approx(1 / 3)
    assert bars[VERDICT_COLORS[Verdict.DUPLICATE]] == pytest.approx(2 / 3)


def test_kinds_show_their_counts() -> None:
    texts = [text.get_text() for text in kinds_of_substituted(REPORTS["many"]).axes[0].texts]
    assert sorted(texts) == sorted(["2", "1", "1"] * 2)


def test_flow_diagram_labels_every_stream() -> None:
    rows = [
        row("a", Verdict.UNMATCHED),
        row("b", Verdict.DUPLICATE),
        row("c", None, smact_valid=False, eligible=False),
        row("d", None, e_above_hull=0.4, eligible=False),
    ]
    texts = "|".join(text.get_text() for text in verdict_flow(report_of(rows)).axes[0].texts)
    for wanted in (
        "generated\n4",
        "eligible\n2",
        "unmatched 1 (50% of the eligible",
        "SMACT-invalid 1",
        "not metastable 1",
    ):
        assert wanted in texts


def test_text_is_kept_as_text_and_output_is_reproducible() -> None:
    figures = [verdict_flow(REPORTS["many"]) for _ in range(2)]
    svg = to_svg(figures[0])
    assert "generated" in svg and "<text" in svg
    assert svg == to_svg(figures[1])
    assert to_png(figures[0]) == to_png(figures[1])


def test_global_settings_are_unchanged(reference: Reference) -> None:
    before = dict(mpl.rcParams)
    threads = [
        threading.Thread(target=lambda: [to_svg(f) for _, f in draw_figures(REPORTS["one"])])
        for _ in range(2)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert dict(mpl.rcParams) == before


def test_list_of_figures_imports_no_library(run_python: Callable[..., Any]) -> None:
    code = (
        "import sys, importlib; from novelty_metric.figures import FIGURES; "
        "[importlib.import_module(f'novelty_metric.figures.{spec.module}') for spec in FIGURES]; "
        "print([m for m in ('matplotlib', 'pandas', 'pymatgen') if m in sys.modules])"
    )
    done = run_python("-c", code, check=True)
    assert done.stdout.strip() == "[]"


def test_report_draws_figures_by_name() -> None:
    report = REPORTS["one"]
    figure = report.figure("verdict_flow")
    assert isinstance(figure, Figure)
    assert figure._repr_png_().startswith(b"\x89PNG")  # type: ignore[attr-defined]
    reference = Reference.from_structures([cube(4.1)], ids=["t"], name="r")
    assert isinstance(report.figure("prototype_overlap", reference), Figure)


@pytest.mark.parametrize(
    ("name", "complaint"),
    [
        ("verdict_flo", "did you mean 'verdict_flow'"),
        ("prototype_overlap", "needs reference="),
    ],
)
def test_invalid_figure_is_refused(name: str, complaint: str) -> None:
    with pytest.raises(InputError, match=complaint):
        REPORTS["one"].figure(name)
