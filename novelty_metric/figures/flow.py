"""Flow diagram from the generated crystals to the verdicts."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from novelty_metric.figures.style import PAGE, new_figure, say_nothing_to_show, small_text
from novelty_metric.report.colors import NOT_ELIGIBLE_COLOR, VERDICT_COLORS
from novelty_metric.verdict import Verdict

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from novelty_metric.report.novelty_report import NoveltyReport

_ELIGIBLE_COLOR = "#8fbfa8"
_GENERATED_COLOR = "#b8b8b8"
_WORDS = {
    "unreadable": "not readable",
    "failed": "error",
    "smact_invalid": "SMACT-invalid",
    "not_converged": "not converged",
    "no_hull": "no energy above hull",
    "not_metastable": "not metastable",
    "out_of_time": "out of time",
    "not_given": "not given to the run",
}


def verdict_flow(report: NoveltyReport) -> Figure:
    """The eligible part of the generated crystals, the reasons of the others, and the verdicts."""
    figure = new_figure(PAGE, 2.8)
    axes = figure.subplots()
    total = report.n_generated
    if total == 0:
        say_nothing_to_show(axes, "Nothing was generated")
        return figure
    left_out = {**report.left_out, "not_given": total - len(report.results)}
    left_out = {name: count for name, count in left_out.items() if count}
    gap = 0.055 * total
    axes.set_axis_off()
    _node(axes, 0.0, 0.0, total, color=_GENERATED_COLOR, text=f"generated\n{total}", side="left")
    source = bottom = 0.0
    if report.n_eligible:
        _stream(axes, (0.04, 1.0), (source, bottom), width=report.n_eligible, color=_ELIGIBLE_COLOR)
        text = f"eligible\n{report.n_eligible}"
        _node(axes, 1.0, bottom, report.n_eligible, color=_ELIGIBLE_COLOR, text=text, side="above")
        end = start = bottom
        level = -np.inf
        for verdict in Verdict:
            count = report.counts[verdict.value]
            if not count:
                continue
            color = VERDICT_COLORS[verdict]
            _stream(axes, (1.04, 2.0), (start, end), width=count, color=color)
            share = report.fractions[verdict.value]
            text = (
                f"{verdict.value} {count} ({share.value:.0%} of the eligible, "
                f"{share.low:.0%} to {share.high:.0%})"
            )
            level = _node(
                axes, 2.0, end, count, color=color, text=text, side="right",
                last=level, apart=gap * 1.5,
            )  # fmt: skip
            start += count
            end += count + gap * 1.6
        source += report.n_eligible
        bottom = max(report.n_eligible, end - gap * 1.6) + 3.2 * gap
    level = -np.inf
    for name, count in left_out.items():
        _stream(axes, (0.04, 1.0), (source, bottom), width=count, color=NOT_ELIGIBLE_COLOR)
        text = f"{_WORDS.get(name, name)} {count}"
        level = _node(
            axes, 1.0, bottom, count, color=NOT_ELIGIBLE_COLOR, text=text, side="right",
            last=level, apart=gap * 1.5,
        )  # fmt: skip
        source += count
        bottom += count + 1.6 * gap
    axes.set_xlim(-0.42, 3.55)
    axes.set_ylim(max(bottom, total) + gap, -3.2 * gap)
    return figure


def _stream(
    axes: Axes,
    ends: tuple[float, float],
    levels: tuple[float, float],
    *,
    width: float,
    color: str,
) -> None:
    steps = np.linspace(0.0, 1.0, 60)
    bend = steps * steps * (3 - 2 * steps)
    top = levels[0] + (levels[1] - levels[0]) * bend
    x = ends[0] + (ends[1] - ends[0]) * steps
    axes.fill_between(x, top, top + width, color=color, alpha=0.45, linewidth=0)


def _node(
    axes: Axes,
    x: float,
    top: float,
    height: float,
    *,
    color: str,
    text: str,
    side: str,
    last: float = -np.inf,
    apart: float = 0.0,
) -> float:
    """A block with its text, at a distance from the last text; returns the height of the text."""
    axes.fill_between([x, x + 0.04], top, top + height, color=color, linewidth=0)
    level = max(top + height / 2, last + apart)
    if side == "above":
        small_text(axes, x + 0.02, top, text + " ", ha="center", va="bottom")
        return level
    place, align = (x + 0.07, "left") if side == "right" else (x - 0.03, "right")
    small_text(axes, place, level, text, ha=align)
    return level
