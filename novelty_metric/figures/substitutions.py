"""Figures of exchanged elements, their cost, and the change of volume."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from novelty_metric.crystal import CRYSTAL_SYSTEMS
from novelty_metric.figures.style import (
    FONT,
    GRID,
    INK,
    PAGE,
    SMALL,
    color_bar,
    dress,
    legend_above,
    new_figure,
    say_nothing_to_show,
)
from novelty_metric.report.colors import VERDICT_COLORS
from novelty_metric.search.pettifor import ORDER, pettifor_number
from novelty_metric.verdict import Verdict

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.collections import PathCollection
    from matplotlib.figure import Figure
    from matplotlib.image import AxesImage

    from novelty_metric.report.novelty_report import NoveltyReport

NOTHING = "No element was exchanged"
_EMPTY = "#f2f2f2"

# Row by row, a dot where there is no element; below the f block in two rows of its own.
_TABLE = (
    "H . . . . . . . . . . . . . . . . He",
    "Li Be . . . . . . . . . . B C N O F Ne",
    "Na Mg . . . . . . . . . . Al Si P S Cl Ar",
    "K Ca Sc Ti V Cr Mn Fe Co Ni Cu Zn Ga Ge As Se Br Kr",
    "Rb Sr Y Zr Nb Mo Tc Ru Rh Pd Ag Cd In Sn Sb Te I Xe",
    "Cs Ba . Hf Ta W Re Os Ir Pt Au Hg Tl Pb Bi Po At Rn",
    "Fr Ra . . . . . . . . . . . . . . . .",
    ". . La Ce Pr Nd Pm Sm Eu Gd Tb Dy Ho Er Tm Yb Lu .",
    ". . Ac Th Pa U Np Pu Am Cm Bk Cf Es Fm Md No Lr .",
)


def substitution_matrix(report: NoveltyReport) -> Figure:
    """Substituted crystals by pair of elements: of the parent, and the one in its place.

    Both axes are in the order of the modified Pettifor numbers: near the diagonal are exchanges of
    elements that are alike. Elements that take no part are left out.
    """
    from novelty_metric.analysis.substitutions import exchanges

    frame = exchanges(report)
    figure = new_figure(PAGE, 6.0)
    axes = figure.subplots()
    if frame.empty:
        say_nothing_to_show(axes, NOTHING)
        return figure
    elements = sorted(set(frame["parent_element"]) | set(frame["new_element"]), key=_order)
    place = {element: i for i, element in enumerate(elements)}
    counts = np.full((len(elements), len(elements)), np.nan)
    pairs = zip(frame["parent_element"], frame["new_element"], frame["n_crystals"], strict=True)
    for old, new, crystals in pairs:
        counts[place[old], place[new]] = crystals
    axes.plot([-0.5, len(elements) - 0.5], [-0.5, len(elements) - 0.5], color=GRID, linewidth=0.8)
    _color_bar(figure, axes, _heat(axes, counts, float(np.nanmax(counts))))
    size = min(SMALL, 300 / max(1, len(elements)))
    axes.set_xticks(range(len(elements)), elements, rotation=90)
    axes.set_yticks(range(len(elements)), elements)
    dress(axes, x="in the generated crystal", y="in the parent")
    axes.tick_params(labelsize=max(4.0, size))
    return figure


def substitution_table(report: NoveltyReport) -> Figure:
    """Periodic tables: how often an element gives its site up, and how often it takes one."""
    from novelty_metric.analysis.substitutions import exchanges

    frame = exchanges(report)
    figure = new_figure(PAGE, 2.6)
    panels = figure.subplots(1, 2)
    if frame.empty:
        for axes in panels:
            axes.set_axis_off()
        panels[0].text(1.0, 0.5, NOTHING, ha="center", fontsize=FONT, color=INK)
        return figure
    sums = {
        title: frame.groupby(column)["n_crystals"].sum().to_dict()
        for column, title in (
            ("parent_element", "replaced, in the parent"),
            ("new_element", "put in, in the generated crystal"),
        )
    }
    most = max(max(counted.values()) for counted in sums.values())
    for axes, (title, counted) in zip(panels, sums.items(), strict=True):
        drawn = _periodic_table(axes, counted, most)
        axes.set_title(title, fontsize=FONT, color=INK)
    _color_bar(figure, panels, drawn, label="pairs of elements")
    return figure


def cost_and_volume(report: NoveltyReport) -> Figure:
    """Cost of the parent that a row names, and volume change of confirmed parents, by system."""
    from novelty_metric.analysis.substitutions import parent_changes

    figure = new_figure(PAGE, 2.6)
    systems = [str(s) for s in report.breakdown("crystal_system") if s in CRYSTAL_SYSTEMS]
    if not systems:
        say_nothing_to_show(figure.subplots(), "No crystal is eligible whose system is known")
        return figure
    left, right = figure.subplots(1, 2, sharey=True)
    handles = {}
    shown = (Verdict.SUBSTITUTED, Verdict.UNMATCHED)
    for verdict in shown:
        costs: dict[str, list[float]] = {system: [] for system in systems}
        for result in report.eligible:
            if result.verdict == verdict and result.cost is not None:
                costs.get(result.crystal_system or "", []).append(result.cost)
        handles[verdict.value] = _strip(left, list(costs.values()), verdict, shown.index(verdict))
    # Where a protocol ends a relaxation early, its last geometry says little of the volume.
    frame = parent_changes(report)
    frame = frame[frame["confirmed"].eq(True) & frame["volume_ratio"].notna()]
    finished = frame[frame["ended_early"].isna()]
    changes = [
        ((finished[finished["crystal_system"] == s]["volume_ratio"] - 1) * 100).tolist()
        for s in systems
    ]
    _strip(right, changes, Verdict.SUBSTITUTED, 0.5)
    for axes in (left, right):
        axes.set_yticks(range(len(systems)), systems)
        axes.set_ylim(max(1, len(systems)) - 0.5, -0.5)
    left.set_xlim(left=0)
    right.axvline(0, color=INK, linewidth=0.6, linestyle=":")
    dress(left, x="cost (modified Pettifor numbers)", grid="x")
    dress(
        right,
        x="volume change of confirmed parents (%)",
        title=f"{len(finished)} relaxed to the end, {len(frame) - len(finished)} ended early",
        grid="x",
    )
    legend_above(figure, list(handles.values()), list(handles), 2)
    return figure


def _strip(axes: Axes, values: list[list[float]], verdict: Verdict, level: float) -> PathCollection:
    """Each value as a dot, and the median of a row as a line."""
    for row, found in enumerate(values):
        middle = row + 0.36 * (level - 0.5)
        if found:
            # Neighbours in value are set apart, in the same way for the same values.
            spread = (np.arange(len(found)) * 0.618) % 1.0 - 0.5
            axes.scatter(
                np.sort(found),
                middle + 0.26 * spread,
                s=7,
                color=VERDICT_COLORS[verdict],
                alpha=0.7,
                linewidths=0,
            )
            median = float(np.median(found))
            axes.plot([median, median], [middle - 0.17, middle + 0.17], color=INK, linewidth=1.4)
    return axes.scatter([], [], s=12, color=VERDICT_COLORS[verdict])


def _order(element: str) -> int:
    number = pettifor_number(element)
    return len(ORDER) if number is None else number


def _heat(axes: Axes, counts: np.ndarray, most: float, *, zorder: float = 0) -> AxesImage:
    """Counts as colours, from 1; NaN is left empty."""
    from matplotlib import colormaps
    from matplotlib.colors import ListedColormap

    # Without the lightest tones, which a single crystal would vanish in.
    colors = ListedColormap(colormaps["viridis_r"](np.linspace(0.15, 1.0, 256)))
    return axes.imshow(
        counts, cmap=colors, vmin=1, vmax=max(2.0, most), interpolation="nearest", zorder=zorder
    )


def _periodic_table(axes: Axes, counted: dict[str, int], most: float) -> AxesImage:
    from matplotlib.patches import Rectangle

    rows = [line.split() for line in _TABLE]
    counts = np.full((len(rows), 18), np.nan)
    for y, row in enumerate(rows):
        for x, element in enumerate(row):
            if element != ".":
                axes.add_patch(
                    Rectangle((x - 0.5, y - 0.5), 1, 1, facecolor=_EMPTY, edgecolor="white", lw=0.8)
                )
                counts[y, x] = counted.get(element) or np.nan
                dark = counted.get(element, 0) > 0.45 * most
                axes.text(
                    x, y, element, ha="center", va="center", fontsize=5.2,
                    color="white" if dark else INK, zorder=4,
                )  # fmt: skip
    drawn = _heat(axes, counts, most, zorder=2)
    for step in range(19):
        axes.axvline(step - 0.5, color="white", linewidth=0.8, zorder=3)
    for step in range(len(rows) + 1):
        axes.axhline(step - 0.5, color="white", linewidth=0.8, zorder=3)
    axes.set_axis_off()
    return drawn


def _color_bar(figure: Figure, axes: Any, drawn: AxesImage, label: str = "crystals") -> None:
    from matplotlib.ticker import MaxNLocator

    bar = color_bar(figure, axes, drawn, label, shrink=0.6)
    bar.locator = MaxNLocator(integer=True, nbins=5)
    bar.update_ticks()
