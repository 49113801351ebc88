"""Novelty ratios with their intervals, one per row: models, null models, real crystals."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from novelty_metric.comparison.ratios import observed_expected
from novelty_metric.figures.style import (
    INK,
    PAGE,
    SMALL,
    dress,
    legend_above,
    new_figure,
    say_nothing_to_show,
    shortened,
)
from novelty_metric.support.ratios import Ratio

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from novelty_metric.report.novelty_report import NoveltyReport

NOT_CALIBRATED = "The reference is not calibrated\n(novelty-metric reference calibrate)"
_MODEL, _NULL, _REAL = "#0072b2", "#8a8a8a", "#009e73"
_LEAST, _MOST = 0.1, 10.0
"""The axis includes at least these ratios."""
_LONGEST = 28
"""Maximum length of a name (characters)."""


@dataclass(frozen=True, slots=True)
class _Row:
    name: str
    ratio: Ratio | None
    expected: Ratio | None
    color: str
    without: str
    """The text if there is no ratio."""


def novelty_ratio(report: NoveltyReport) -> Figure:
    """The novelty ratio of one report, compared with real crystals; see `novelty_ratios`."""
    return novelty_ratios({"these crystals": report})


def is_null_model(name: str, report: NoveltyReport) -> bool:
    """True for a run of a null model, by its name or the ids that `baseline` writes."""
    from novelty_metric.baselines import NULL_MODELS, maker_of

    first = report.results[0].id if report.results else ""
    return name in NULL_MODELS or maker_of(first) is not None


def novelty_ratios(reports: Mapping[str, NoveltyReport]) -> Figure:
    """Novelty ratios of several reports with their 95 % intervals, on a logarithmic axis.

    Real crystals are at 1; their interval is that of the base rate, which the intervals of the
    models contain too. A diamond is observed /
    expected, for the crystal systems of the model. An arrow stands for what lies beyond the axis:
    a ratio of 0, or an interval without an upper limit. Of a report without a calibration there is
    a row without a ratio.

    Parameters
    ----------
    reports : mapping
        By name, drawn from the top; null models in grey, see `is_null_model`.
    """
    besides = {name: report.beside_real_crystals for name, report in reports.items()}
    rows = [
        _Row(
            name,
            None if beside is None else beside.novelty_ratio,
            observed_expected(beside),
            _NULL if is_null_model(name, reports[name]) else _MODEL,
            "not calibrated" if beside is None else "none eligible",
        )
        for name, beside in besides.items()
    ]
    known = [beside for beside in besides.values() if beside is not None]
    rates = {(beside.n, beside.base_rate) for beside in known}
    figure = new_figure(PAGE, 0.9 + 0.28 * (len(rows) + (len(rates) == 1)))
    axes = figure.subplots()
    if not known:
        say_nothing_to_show(axes, NOT_CALIBRATED)
        return figure
    if len(rates) == 1:
        ((n, rate),) = rates
        own = Ratio(1.0, rate.low / rate.value, rate.high / rate.value) if rate.value else None
        rows.append(_Row(f"real crystals ({n})", own, None, _REAL, "none unmatched"))
    _draw(figure, axes, rows)
    return figure


def _draw(figure: Figure, axes: Axes, rows: list[_Row]) -> None:
    ends = [
        end
        for row in rows
        for ratio in (row.ratio, row.expected)
        if ratio is not None
        for end in (ratio.low, ratio.high, ratio.value)
        if end is not None and 0 < end < math.inf
    ]
    least, most = min([_LEAST, *ends]) / 1.2, max([_MOST, *ends]) * 1.2
    axes.set_xscale("log")
    axes.set_xlim(least, most)
    axes.axvline(1, color=_REAL, linewidth=1.0, zorder=1)
    for place, row in enumerate(rows):
        if row.ratio is not None:
            _interval(axes, place, row.ratio, row.color)
        if row.expected is not None:
            _interval(axes, place + 0.27, row.expected, row.color, thin=True)
        text = row.without if row.ratio is None else row.ratio.text.replace("-", "–")
        axes.annotate(
            text, (1.01, place), xycoords=("axes fraction", "data"), va="center",
            fontsize=SMALL, color=INK, annotation_clip=False,
        )  # fmt: skip
    names = [shortened(row.name, _LONGEST) for row in rows]
    axes.set_ylim(len(rows) - 0.3, -0.6)
    dress(axes, x="unmatched crystals / those among real crystals", grid="x")
    axes.set_yticks(range(len(rows)), labels=names, fontsize=SMALL, parse_math=False)
    axes.tick_params(axis="y", length=0)
    ticks = [tick for tick in (0.01, 0.03, 0.1, 0.3, 1, 3, 10, 30, 100) if least <= tick <= most]
    axes.set_xticks(ticks, labels=[f"{tick:g}" for tick in ticks], fontsize=SMALL)
    axes.minorticks_off()
    _legend(figure, rows)


def _interval(axes: Axes, place: float, ratio: Ratio, color: str, *, thin: bool = False) -> None:
    """A dot with its interval, or a diamond; an arrow at the edge for values outside the axis."""
    least, most = axes.get_xlim()
    width, size, marker = (0.8, 3.2, "D") if thin else (1.6, 5.0, "o")
    ends = [max(ratio.low, least), min(ratio.high, most)]
    axes.plot(ends, [place, place], color=color, linewidth=width, solid_capstyle="butt")
    if ratio.value is not None and least < ratio.value < most:
        face = "white" if thin else color
        axes.plot(ratio.value, place, marker, color=color, markersize=size, markerfacecolor=face)
    if ratio.low < least:
        axes.plot(least, place, "<", color=color, markersize=size, clip_on=False)
    if ratio.high > most:
        axes.plot(most, place, ">", color=color, markersize=size, clip_on=False)


def _legend(figure: Figure, rows: list[_Row]) -> None:
    from matplotlib.lines import Line2D

    def handle(marker: str, color: str, face: str) -> Line2D:
        return Line2D(
            [], [], marker=marker, color=color, markerfacecolor=face, linewidth=1.2, markersize=4
        )

    colors = {row.color for row in rows}
    entries = [(handle("o", _MODEL, _MODEL), "novelty ratio")]
    if _NULL in colors:
        entries.append((handle("o", _NULL, _NULL), "of a null model"))
    if any(row.expected is not None for row in rows):
        entries.append(
            (handle("D", _MODEL, "white"), "observed / expected for its crystal systems")
        )
    if _REAL in colors:
        entries.append((handle("o", _REAL, _REAL), "real crystals"))
    legend_above(figure, [one for one, _ in entries], [label for _, label in entries])
