"""Prototypes of the reference and of the samples, compared with all possible prototypes."""

from __future__ import annotations

from typing import TYPE_CHECKING

from novelty_metric.figures.style import COLUMN, SMALL, dress, legend_above, new_figure, small_text
from novelty_metric.report.colors import VERDICT_COLORS
from novelty_metric.verdict import Verdict

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from novelty_metric.analysis.coverage import Coverage

_POSSIBLE, _REFERENCE, _BOTH = "#dddddd", "#8c8c8c", "#56b4e9"
_FOUND = VERDICT_COLORS[Verdict.UNMATCHED]


def prototype_overlap(coverage: Coverage) -> Figure:
    """Prototypes that are possible, in the reference alone, in both, and in the samples alone."""
    figure = new_figure(COLUMN, 1.7)
    axes = figure.subplots()
    row = coverage.frame().set_index("crystal_system").loc["all"]
    bars = (
        (f"possible, up to {coverage.max_sites} sites", int(row["possible"]), _POSSIBLE),
        ("reference only", int(row["reference"] - row["both"]), _REFERENCE),
        ("reference and samples", int(row["both"]), _BOTH),
        ("samples only", int(row["found"]), _FOUND),
    )
    for place, (_, count, color) in enumerate(bars):
        axes.barh(place, count, color=color, height=0.75)
        small_text(axes, max(count, 0.55) * 1.2, place, f"{count:,}")
    axes.set_yticks(range(len(bars)), [name for name, _, _ in bars])
    axes.invert_yaxis()
    axes.set_xscale("log")
    axes.set_xlim(0.5, max(10, bars[0][1]) * 25)
    dress(axes, x="prototypes")
    return figure


def prototype_coverage_by_system(coverage: Coverage) -> Figure:
    """The same by crystal system, on a logarithmic scale."""
    figure = new_figure(COLUMN, 3.2)
    axes = figure.subplots()
    frame = coverage.frame()
    frame = frame[frame["crystal_system"] != "all"]
    shown = (
        ("possible", "possible", _POSSIBLE),
        ("reference", "in the reference", _REFERENCE),
        ("samples", "in the samples", _BOTH),
        ("found", "in the samples only", _FOUND),
    )
    handles = []
    for step, (column, _, color) in enumerate(shown):
        counts = frame[column].to_numpy(dtype=float)
        places = [place + 0.2 * (step - 1.5) for place in range(len(counts))]
        handles.append(axes.barh(places, counts, height=0.19, color=color))
        for place, count in zip(places, counts, strict=True):
            x = max(count, 0.55) * 1.2
            small_text(axes, x, place, f"{count:,.0f}", fontsize=SMALL - 1.5)
    axes.set_yticks(range(len(frame)), list(frame["crystal_system"]))
    axes.invert_yaxis()
    axes.set_xscale("log")
    axes.set_xlim(0.5, max(coverage.possible.values()) * 25)
    dress(axes, x="prototypes")
    legend_above(figure, handles, [label for _, label, _ in shown], 2)
    return figure
