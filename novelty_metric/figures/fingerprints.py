"""The samples among the reference crystals, by AMD fingerprint."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import numpy as np

from novelty_metric.figures.breakdowns import NOTHING
from novelty_metric.figures.style import (
    COLUMN,
    FONT,
    INK,
    PAGE,
    SMALL,
    color_bar,
    dress,
    legend_above,
    new_figure,
    plain_numbers,
)
from novelty_metric.report.colors import VERDICT_COLORS
from novelty_metric.verdict import Verdict

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from novelty_metric.analysis.fingerprints import Fingerprints

_SHOWN = (Verdict.SUBSTITUTED, Verdict.DUPLICATE, Verdict.UNMATCHED, Verdict.UNDECIDED)
_MARKERS = {
    Verdict.DUPLICATE: "s",
    Verdict.SUBSTITUTED: "^",
    Verdict.UNMATCHED: "o",
    Verdict.UNDECIDED: "D",
}


def fingerprint_map(
    fingerprints: Fingerprints, *, method: Literal["pca", "umap"] = "pca"
) -> Figure:
    """The samples over the density of the reference, in two dimensions.

    Parameters
    ----------
    fingerprints : Fingerprints
    method : str
        ``pca``, or ``umap``, which needs the extra of that name.
    """
    from matplotlib.colors import LinearSegmentedColormap

    figure = new_figure(COLUMN, 3.1)
    axes = figure.subplots()
    behind, ours = fingerprints.project(method)
    together = np.concatenate([behind, ours])
    # The few crystals with wide voids would squeeze all others into a corner.
    low, high = np.quantile(together, [0.002, 0.998], axis=0)
    margin = np.maximum(0.04 * (high - low), 1e-3)
    low, high = low - margin, high + margin
    inside = (behind >= low).all(axis=1) & (behind <= high).all(axis=1)
    grey = LinearSegmentedColormap.from_list("reference", ["#ececec", "#555555"])
    drawn = axes.hexbin(
        behind[inside, 0], behind[inside, 1], gridsize=42, mincnt=1, bins="log", cmap=grey,
        extent=(low[0], high[0], low[1], high[1]), linewidths=0.0,
    )  # fmt: skip
    drawn.set_rasterized(True)
    bar = color_bar(figure, axes, drawn, "reference crystals", shrink=0.7)
    plain_numbers(bar.ax.yaxis)
    handles = []
    verdicts = np.array([verdict.value for verdict in fingerprints.verdicts], dtype=object)
    outside = 0
    for verdict in _SHOWN:
        points = ours[verdicts == verdict.value] if len(ours) else ours
        outside += int(((points < low) | (points > high)).any(axis=1).sum())
        mark = axes.scatter(
            points[:, 0], points[:, 1], s=15, marker=_MARKERS[verdict],
            facecolors=VERDICT_COLORS[verdict], edgecolors="white", linewidths=0.4, zorder=3,
        )  # fmt: skip
        handles.append(mark)
    axes.set_xlim(low[0], high[0])
    axes.set_ylim(low[1], high[1])
    labels = ("PC 1 (Å)", "PC 2 (Å)") if method == "pca" else ("UMAP 1", "UMAP 2")
    dress(axes, x=labels[0], y=labels[1])
    if outside:
        axes.text(
            0.99, 0.01, f"{outside} beyond the frame", transform=axes.transAxes, ha="right",
            va="bottom", fontsize=SMALL, color=INK,
        )  # fmt: skip
    legend_above(figure, handles, [verdict.value for verdict in _SHOWN], 4)
    return figure


def density_by_verdict(fingerprints: Fingerprints) -> Figure:
    """Local radius of each sample, and the reference's own, as cumulative shares."""
    from novelty_metric.analysis.fingerprints import is_of_symmetry

    figure = new_figure(PAGE, 2.5)
    panels = figure.subplots(1, 2, sharey=True)
    groups = np.array(fingerprints.space_groups, dtype=np.int64)
    handles = {}
    for axes, symmetry, title in (
        (panels[0], "low", "triclinic to orthorhombic"),
        (panels[1], "high", "tetragonal to cubic"),
    ):
        theirs = is_of_symmetry(fingerprints.reference_space_groups, symmetry)
        series = [("reference", fingerprints.reference_radii[theirs], "#555555", 1.8)]
        ours = is_of_symmetry(groups, symmetry)
        for verdict in _SHOWN:
            mine = ours & np.array([v == verdict for v in fingerprints.verdicts], dtype=bool)
            radii = fingerprints.radii[mine]
            series.append((verdict.value, radii, VERDICT_COLORS[verdict], 1.2))
        for name, radii, color, width in series:
            if len(radii) == 0:
                continue
            ordered = np.sort(radii)
            # A curve of ten thousands of steps looks no better than one of hundreds.
            shares = np.arange(1, len(ordered) + 1) / len(ordered)
            keep = np.unique(np.linspace(0, len(ordered) - 1, 400).astype(int))
            (handles[name],) = axes.plot(
                np.maximum(ordered[keep], 1e-4), shares[keep], color=color, linewidth=width,
                drawstyle="steps-post",
            )  # fmt: skip
        axes.set_xscale("log")
        plain_numbers(axes.xaxis)
        counts = ", ".join(f"{len(r)} {n}" for n, r, _, _ in series[1:] if len(r))
        dress(
            axes,
            x=f"distance to reference crystal no. {fingerprints.neighbours} (Å)",
            title=f"{title}\n{counts or NOTHING.lower()}",
        )
    panels[0].set_ylabel("cumulative share", fontsize=FONT, color=INK)
    legend_above(figure, list(handles.values()), list(handles), 5)
    return figure


def interpolation_and_memorisation(fingerprints: Fingerprints) -> Figure:
    """Chance that a sample lies denser than a reference crystal of its symmetry, with interval."""
    figure = new_figure(COLUMN, 2.3)
    axes = figure.subplots()
    names, place = [], 0
    for symmetry in ("low", "high"):
        for verdict in (Verdict.DUPLICATE, Verdict.SUBSTITUTED, Verdict.UNMATCHED):
            found = fingerprints.density(verdict, symmetry)
            names.append(f"{verdict.value}, {symmetry} (n = {found.n})")
            if found.denser is not None:
                color = VERDICT_COLORS[verdict]
                if found.denser.low is not None and found.denser.high is not None:
                    limits = [found.denser.low, found.denser.high]
                    axes.plot(limits, [place, place], color=color, linewidth=1.2)
                axes.plot(found.denser.value, place, _MARKERS[verdict], color=color, markersize=4.5)
            place += 1
    axes.axvline(0.5, color=INK, linewidth=0.7, linestyle=":")
    axes.set_yticks(range(place), names)
    axes.set_ylim(place - 0.4, -0.6)
    axes.set_xlim(0, 1)
    dress(axes, x="probability of a denser region\n(dotted: as reference crystals)")
    return figure
