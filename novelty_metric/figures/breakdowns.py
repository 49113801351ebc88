"""Verdicts by groups of crystals, and novelty against properties of the crystals."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import pairwise
from typing import TYPE_CHECKING

from novelty_metric.figures.style import (
    COLUMN,
    FONT,
    GRID,
    INK,
    PAGE,
    SMALL,
    dress,
    legend_above,
    new_figure,
    say_nothing_to_show,
    small_text,
)
from novelty_metric.report.breakdown import UNKNOWN
from novelty_metric.report.colors import VERDICT_COLORS
from novelty_metric.support.statistics import wilson
from novelty_metric.verdict import Kind, Verdict

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from novelty_metric.report.breakdown import Group
    from novelty_metric.report.novelty_report import NoveltyReport

NOTHING = "No crystal is eligible"
_MOST_SPACE_GROUPS = 15
_HULL_EDGES = (-0.2, -0.1, -0.05, 0.0, 0.025, 0.05, 0.075, 0.1)
_KIND_WORDS = {
    Kind.BOTH: "both routes",
    Kind.LATTICE_SITES: "lattice and sites only",
    Kind.WYCKOFF: "Wyckoff only",
}
_KIND_COLORS = {Kind.BOTH: "#b97a00", Kind.LATTICE_SITES: "#e69f00", Kind.WYCKOFF: "#f5d491"}


def verdicts_by_crystal_system(report: NoveltyReport) -> Figure:
    """Shares of the verdicts in each crystal system; dot and line: unmatched, 95 % interval."""
    return _stacked(report.breakdown("crystal_system"), "crystal system")


def verdicts_by_space_group(report: NoveltyReport) -> Figure:
    """Shares of the verdicts in the space groups with the most eligible crystals."""
    groups = report.breakdown("space_group")
    most = sorted(groups, key=lambda key: -groups[key].n)[:_MOST_SPACE_GROUPS]
    return _stacked({key: groups[key] for key in groups if key in most}, "space group")


def verdicts_by_n_elements(report: NoveltyReport) -> Figure:
    """Shares of the verdicts by number of elements."""
    return _stacked(report.breakdown("n_elements"), "elements")


def verdicts_by_n_sites(report: NoveltyReport) -> Figure:
    """Shares of the verdicts by number of sites in the cell as it was given."""
    return _stacked(report.breakdown("n_sites"), "sites in the cell")


def kinds_of_substituted(report: NoveltyReport) -> Figure:
    """Substituted crystals by the routes that hold a confirmed parent, by crystal system."""
    figure = new_figure(COLUMN, 2.5)
    axes = figure.subplots()
    rows = [r for r in report.eligible if r.verdict == Verdict.SUBSTITUTED and r.kind is not None]
    if not rows:
        say_nothing_to_show(axes, "The kinds are known only\nfor runs with exhaustive=true")
        return figure
    known = report.breakdown("crystal_system")
    systems = [str(s) for s in known if any((r.crystal_system or UNKNOWN) == s for r in rows)]
    names = [*systems, "all"]
    bars = {}
    for place, name in enumerate(names):
        members = [r for r in rows if name in ("all", r.crystal_system or UNKNOWN)]
        left = 0.0
        for kind in Kind:
            count = sum(r.kind == kind for r in members)
            share = count / len(members)
            bars[kind] = axes.barh(
                place, share, left=left, color=_KIND_COLORS[kind], edgecolor="white", linewidth=0.5
            )
            if share > 0.06:
                small_text(axes, left + share / 2, place, str(count), ha="center", color="black")
            left += share
    axes.set_yticks(range(len(names)), names)
    axes.invert_yaxis()
    axes.set_xlim(0, 1)
    dress(axes, x="share of the substituted")
    legend_above(figure, [bars[kind] for kind in Kind], [_KIND_WORDS[kind] for kind in Kind], 3)
    return figure


def novelty_by_property(report: NoveltyReport) -> Figure:
    """Unmatched / eligible against energy above hull, size and number of elements."""
    figure = new_figure(PAGE, 2.2)
    panels = figure.subplots(1, 3, sharey=True)
    hull: dict[str, tuple[int, int]] = {}
    for low, high in pairwise(_HULL_EDGES):
        members = [
            r
            for r in report.eligible
            if r.e_above_hull is not None
            and (low < r.e_above_hull <= high or (low == _HULL_EDGES[0] > r.e_above_hull))
        ]
        label = f"≤ {high:g}" if low == _HULL_EDGES[0] else f"{low:g} to {high:g}"
        hull[label] = (sum(r.verdict == Verdict.UNMATCHED for r in members), len(members))
    _points(panels[0], hull, "energy above hull (eV/atom)")
    for axes, by, label in (
        (panels[1], "n_sites", "sites in the cell"),
        (panels[2], "n_elements", "elements"),
    ):
        groups = report.breakdown(by)
        counted = {
            str(key): (group.counts[Verdict.UNMATCHED.value], group.n)
            for key, group in groups.items()
        }
        _points(axes, counted, label)
    panels[0].set_ylabel("unmatched / eligible", fontsize=FONT, color=INK)
    return figure


def _points(axes: Axes, counted: Mapping[str, tuple[int, int]], label: str) -> None:
    """Proportion of hits with its interval, for each group that is not empty."""
    kept = {name: pair for name, pair in counted.items() if pair[1]}
    dress(axes, x=label, grid="y")
    axes.set_ylim(0, 1.12)
    if not kept:
        axes.text(
            0.5, 0.5, NOTHING, transform=axes.transAxes, ha="center", fontsize=FONT, color=INK
        )
        axes.set_xticks([])
        return
    for place, (hits, total) in enumerate(kept.values()):
        share = wilson(hits, total)
        assert share is not None  # a group has a member
        color = VERDICT_COLORS[Verdict.UNMATCHED]
        axes.plot([place, place], [share.low, share.high], color=color, linewidth=1.2)
        axes.plot(place, share.value, "o", color=color, markersize=4)
        small_text(axes, place, 1.1, str(total), ha="center", va="top", fontsize=SMALL - 0.5)
    axes.set_xlim(-0.6, len(kept) - 0.4)
    slanted = max(map(len, kept)) > 3
    axes.set_xticks(
        range(len(kept)),
        list(kept),
        rotation=40 if slanted else 0,
        ha="right" if slanted else "center",
        rotation_mode="anchor",
    )


def _stacked(groups: Mapping[str | int, Group], label: str) -> Figure:
    """A bar for each group, with its verdicts side by side and the counts inside."""
    from matplotlib.lines import Line2D

    figure = new_figure(COLUMN, 1.0 + 0.24 * max(4, len(groups)))
    axes = figure.subplots()
    if not groups:
        say_nothing_to_show(axes, NOTHING)
        return figure
    bars = {}
    for place, group in enumerate(groups.values()):
        left = 0.0
        for verdict in Verdict:
            count = group.counts[verdict.value]
            share = count / group.n
            bars[verdict] = axes.barh(
                place,
                share,
                left=left,
                height=0.78,
                color=VERDICT_COLORS[verdict],
                edgecolor="white",
                linewidth=0.5,
            )
            if share > 0.055:
                # Away from the middle of the bar, where the interval is drawn.
                ink = "white" if verdict in (Verdict.UNMATCHED, Verdict.DUPLICATE) else "black"
                small_text(axes, left + share / 2, place, str(count), ha="center", color=ink)
            left += share
        # Below the middle of the bar: proportion of the unmatched, on the axis's scale.
        novelty, level = group.novelty, place + 0.45
        ends = [novelty.low, novelty.high]
        axes.plot(ends, [level, level], color=INK, linewidth=0.9, clip_on=False)
        axes.plot(novelty.value, level, "o", color=VERDICT_COLORS[Verdict.UNMATCHED],
                  markersize=3.2, markeredgecolor="white", markeredgewidth=0.4, clip_on=False,
                  zorder=5)  # fmt: skip
    axes.set_yticks(range(len(groups)), [f"{key} (n = {g.n})" for key, g in groups.items()])
    axes.invert_yaxis()
    axes.set_xlim(0, 1)
    dress(axes, x="share of the eligible", y=label)
    point = Line2D(
        [], [], color=INK, linewidth=0.9, marker="o", markersize=3.2,
        markerfacecolor=VERDICT_COLORS[Verdict.UNMATCHED], markeredgecolor=GRID,
    )  # fmt: skip
    labels = [*(verdict.value for verdict in Verdict), "unmatched, 95 % interval"]
    legend_above(figure, [*(bars[verdict] for verdict in Verdict), point], labels, 3)
    return figure
