"""A report as a notebook shows it: HTML without a script or a style sheet, every text escaped."""

from __future__ import annotations

from html import escape
from typing import TYPE_CHECKING

from novelty_metric.report.colors import VERDICT_COLORS
from novelty_metric.support.text import percent, percent_interval
from novelty_metric.verdict import Verdict

if TYPE_CHECKING:
    from novelty_metric.report.breakdown import Group
    from novelty_metric.report.novelty_report import NoveltyReport


def report_html(report: NoveltyReport) -> str:
    """The headline, the verdicts of the eligible crystals as a bar, the table by crystal system."""
    parts = [_headline(report)]
    if report.n_eligible:
        parts += [_bar(report), _table(report)]
    return f"<div>{''.join(parts)}</div>"


def _headline(report: NoveltyReport) -> str:
    lines = []
    if report.novelty_interval is not None and not report.novelty_is_bound:
        shown = percent_interval(report.novelty_interval, dash="–")
        lines.append(f"unmatched / eligible, % [95 % interval]: {shown}")
    real = report.beside_real_crystals
    if real is not None:
        shown = percent_interval(real.base_rate, dash="–")
        lines.append(f"base rate of {real.n} real crystals, % [95 % interval]: {shown}")
    n = len(report.results)
    lines.append(
        f"{n} sample{'' if n == 1 else 's'}, {report.n_eligible} eligible, "
        f"against {report.context.reference_name}"
    )
    rest = "".join(f"<br>{escape(line)}" for line in lines)
    return f"<p><b>{escape(report.headline)}</b>{rest}</p>"


def _bar(report: NoveltyReport) -> str:
    """A part for each verdict that occurs, and below it what the colours mean."""
    parts, words, legend = [], [], []
    for verdict, color in VERDICT_COLORS.items():
        share = report.fractions[verdict.value].value
        said = f"{verdict.value} {report.counts[verdict.value]} ({percent(share)})"
        words.append(said)
        legend.append(f'<span style="color:{color}">■</span> {said}')
        if share:
            style = f"width:{100 * share:.4f}%;background-color:{color}"
            parts.append(f'<div title="{said}" style="{style}"></div>')
    return (
        f'<div role="img" aria-label="{", ".join(words)}" '
        f'style="display:flex;height:1.2em;max-width:40em">{"".join(parts)}</div>'
        f"<p>{' &#160; '.join(legend)}</p>"
    )


def _table(report: NoveltyReport) -> str:
    names = ["crystal system", "eligible", *Verdict, "novelty, % [95 % interval]"]
    head = "".join(f'<th scope="col">{escape(name)}</th>' for name in names)
    rows = "".join(
        f'<tr><th scope="row">{escape(str(name))}</th>{_cells(report, group)}</tr>'
        for name, group in report.breakdown("crystal_system").items()
    )
    return f"<table><thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table>"


def _cells(report: NoveltyReport, group: Group) -> str:
    novelty = (
        f"at most {100 * group.novelty_bounds.high:.0f}"
        if report.novelty_is_bound
        else percent_interval(group.novelty, 0, dash="–")
    )
    values = [group.n, *(group.counts[verdict] for verdict in Verdict), novelty]
    return "".join(f"<td>{value}</td>" for value in values)
