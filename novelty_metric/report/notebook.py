"""A report in a notebook: self-contained HTML with escaped text.

Where the report holds its crystals, some of them turn: the viewer is written into the HTML.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from dataclasses import dataclass
from html import escape
from typing import TYPE_CHECKING, Any

from novelty_metric.errors import InputError
from novelty_metric.report.colors import VERDICT_COLORS
from novelty_metric.support.text import percent, percent_interval
from novelty_metric.verdict import CrystalResult, Verdict

if TYPE_CHECKING:
    from pymatgen.core import Structure

    from novelty_metric.report.breakdown import Group
    from novelty_metric.report.novelty_report import NoveltyReport

MOST_CRYSTALS = 4
"""Number of crystals shown; the verdicts take turns."""
_CANVAS = "width:180px;height:180px"
_MOUNT = """
/* Of several outputs with the same crystals each is drawn once. */
const place = document.querySelector('[data-crystals="KEY"]:not([data-drawn])');
if (place) {
  place.dataset.drawn = "";
  DATA.forEach((pair, at) => {
    const canvases = place.children[at].querySelectorAll("canvas"), view = crystalView();
    pair.forEach((data, side) => mountCrystal(canvases[side], data, view));
  });
}
"""


@dataclass(frozen=True, slots=True)
class Html:
    """HTML that a notebook displays."""

    text: str

    def _repr_html_(self) -> str:
        return self.text


def view(report: NoveltyReport, identifier: str) -> Any:
    """One crystal in a notebook; see `NoveltyReport.view`."""
    from novelty_metric.report.explanation import row_of

    row = report.results[row_of(report, identifier)]
    if row.structures is None or row.structures.relaxed is None:
        raise InputError(
            f"the report contains no crystal of {identifier!r}; read it with NoveltyReport.load("
            "folder, structures=True)"
        )
    widget = _pymatviz_widget(row.structures.relaxed.to_structure())
    return Html(_turning([row])) if widget is None else widget


def _pymatviz_widget(structure: Structure) -> Any:
    """The crystal in the viewer of pymatviz.

    None where pymatviz is not installed, or can't load its viewer, which it fetches once.
    """
    try:
        from pymatviz import StructureWidget
    except ImportError:
        return None
    try:
        return StructureWidget(structure=structure)
    except OSError:
        return None


def report_html(report: NoveltyReport) -> str:
    """The headline, the verdicts as a bar, the table by crystal system, and some crystals."""
    parts = [_headline(report)]
    if report.n_eligible:
        parts += [_bar(report), _table(report)]
    parts += _crystals(report)
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
    """A part for each verdict that occurs, and a legend below."""
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
    if report.beside_real_crystals is not None:
        names.append("real crystals, %")
    head = "".join(f'<th scope="col">{escape(name)}</th>' for name in names)
    rows = "".join(
        f'<tr><th scope="row">{escape(str(name))}</th>{_cells(report, str(name), group)}</tr>'
        for name, group in report.breakdown("crystal_system").items()
    )
    return f"<table><thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table>"


def _cells(report: NoveltyReport, system: str, group: Group) -> str:
    novelty = (
        f"at most {100 * group.novelty_bounds.high:.0f}"
        if report.novelty_is_bound
        else percent_interval(group.novelty, 0, dash="–")
    )
    values = [group.n, *(group.counts[verdict] for verdict in Verdict), novelty]
    if report.beside_real_crystals is not None:
        rate = report.beside_real_crystals.base_rates.get(system)
        values.append(percent_interval(rate, 0, dash="–", none="–"))
    return "".join(f"<td>{value}</td>" for value in values)


def _crystals(report: NoveltyReport) -> list[str]:
    """Crystals beside the reference crystals that their rows name; empty if none was stored."""
    if not any(row.structures is not None for row in report.results):
        return []
    from novelty_metric.report.crystals import to_be_shown

    rows = {row.id: row for row in report.results}
    return [_turning([rows[name] for name in to_be_shown(report, MOST_CRYSTALS)])]


def _turning(rows: Iterable[CrystalResult]) -> str:
    """The crystals of these rows in our viewer, with its script."""
    from novelty_metric.report.crystal_viewer import viewer_pair, viewer_script

    pairs, figures = [], []
    for row in rows:
        if row.structures is None:
            continue
        pairs.append([one for one in viewer_pair(row, row.structures) if one is not None])
        canvases = "".join(f'<canvas style="{_CANVAS}"></canvas>' for _ in pairs[-1])
        figures.append(f'<div style="margin:0 2em 1em 0">{canvases}<br>{_caption(row)}</div>')
    # "<" would end the script early.
    data = json.dumps(pairs, separators=(",", ":")).replace("<", "\\u003c")
    key = hashlib.sha256(data.encode()).hexdigest()[:12]
    shown = f'<div data-crystals="{key}" style="display:flex;flex-wrap:wrap">'
    mount = _MOUNT.replace("KEY", key).replace("DATA", data)
    return (
        f"{shown}{''.join(figures)}</div><script>(() => {{{viewer_script()}{mount}}})();</script>"
    )


def _caption(row: CrystalResult) -> str:
    parts = [row.id, row.formula, None if row.verdict is None else row.verdict.value]
    text = ", ".join(part for part in parts if part)
    if row.parent_id is not None:
        text += f"; right: {row.parent_id}"
        text += "" if row.cost is None else f", cost {row.cost:.2f}"
    return escape(text)
