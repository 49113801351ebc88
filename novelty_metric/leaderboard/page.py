"""The leaderboard as one self-contained page."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from typing import TYPE_CHECKING

from novelty_metric.crystal import CRYSTAL_SYSTEMS
from novelty_metric.crystal_records import CrystalRecord
from novelty_metric.figures.cards import Card
from novelty_metric.figures.page import page_source, render
from novelty_metric.leaderboard.board import Entry, Section
from novelty_metric.leaderboard.crystals import ShownCrystal, shown_rows
from novelty_metric.leaderboard.ranking import expected_unique, novel_groups
from novelty_metric.leaderboard.tables import beside_texts, real_crystals_text
from novelty_metric.report.colors import VERDICT_COLORS
from novelty_metric.report.crystal_viewer import ViewerData, paired, viewer_data, viewer_script
from novelty_metric.verdict import CrystalResult, Verdict

if TYPE_CHECKING:
    from matplotlib.figure import Figure

ORDER = (Verdict.UNMATCHED, Verdict.UNDECIDED, Verdict.SUBSTITUTED, Verdict.DUPLICATE)
"""Order of a bar's parts: new crystals first, so that they start at the same line for all."""

_NULL_MODEL = "(null model)"
_INK = "#1b1f24"
_LINES = ("-", "--", "-.", ":", (0, (8, 3)), (0, (1, 4)), (0, (8, 2, 1, 2, 1, 2)), (0, (3, 5)))
_WIDTH = 5.6
"""Maximum width of a chart (in); in a wider one, the letters are too small on a phone."""


def page(sections: Sequence[Section], caveat: str = "") -> str:
    """The content of ``index.html``; `caveat` describes the limits of the demonstrations."""
    cards = {entry.name: cards_of(entry) for section in sections for entry in section.entries}
    return render(
        "leaderboard.html.jinja",
        cards=cards,
        every_card=[card for of_model in cards.values() for card in of_model],
        viewer_script=viewer_script(),
        sections=sections,
        ranked=[section for section in sections if section.ranked],
        demonstrations=[section for section in sections if section.is_demonstration],
        selected=[section for section in sections if section.selected is not None],
        caveat=caveat,
        verdicts=list(Verdict),
        order=ORDER,
        systems=CRYSTAL_SYSTEMS,
        bars={section.id: page_source(bars(section)) for section in sections},
        curves={
            section.id: page_source(curves(section))
            for section in sections
            if section.common is not None
        },
        unmatched=unmatched,
        beside_texts=beside_texts,
        real_crystals_text=real_crystals_text,
    )


def unmatched(entry: Entry) -> list[CrystalResult]:
    """The list of a model's unmatched crystals, if the model shows none."""
    return [entry.report.results[place] for place in shown_rows(entry.report)]


def cards_of(entry: Entry) -> list[Card]:
    """The shown unmatched crystals of a model, beside their parents."""
    return [
        _card(f"crystal-{entry.name}-{number}", entry, entry.report.results[place], shown)
        for number, (place, shown) in enumerate(entry.crystals.items(), start=1)
    ]


def _card(anchor: str, entry: Entry, row: CrystalResult, shown: ShownCrystal) -> Card:
    crystal, parent, formula = shown.crystal.structure(), shown.parent, None
    if parent is None:
        pair: tuple[ViewerData, ViewerData | None] = (viewer_data(CrystalRecord.of(crystal)), None)
    else:
        filled = parent.structure()
        formula = filled.composition.reduced_formula
        for site, element in enumerate(parent.new_elements):
            filled[site] = element
        pair = paired(crystal, filled, parent.elements)
    return Card(anchor=anchor, run=entry.name, row=row, parent_formula=formula, pair=pair)


def bars(section: Section) -> Figure:
    """Verdicts of the eligible crystals, one bar per model, with the interval of the unmatched."""
    from matplotlib.figure import Figure

    entries = section.entries[::-1]
    lines_of_legend = (len(section.null_models) + 1) // 2
    height = 0.9 + 0.42 * len(entries) + 0.25 * lines_of_legend
    figure = Figure(figsize=(_WIDTH, height), layout="constrained")
    axes = figure.subplots()
    for place, entry in enumerate(entries):
        left = 0.0
        for verdict in ORDER:
            share = entry.report.fractions.get(verdict.value)
            width = 0.0 if share is None else 100 * share.value
            axes.barh(place, width, left=left, height=0.66, color=VERDICT_COLORS[verdict])
            left += width
        found = entry.report.novelty_interval
        if found is not None:
            reach = [[100 * (found.value - found.low)], [100 * (found.high - found.value)]]
            # White below black: seen on every colour.
            for color, width in (("white", 3.4), (_INK, 1.4)):
                axes.errorbar(
                    100 * found.value, place, xerr=reach, color=color, lw=width, capsize=3
                )
    axes.set_yticks(range(len(entries)), [_label(entry) for entry in entries])
    axes.set_xlim(0, 100)
    axes.set_xlabel("% of the eligible crystals; 95 % interval of the unmatched")
    _lines_of_null_models(figure, section)
    axes.spines[["top", "right"]].set_visible(False)
    return figure


def _lines_of_null_models(figure: Figure, section: Section) -> None:
    """Proportion of unmatched of each null model, as a line across the bars of all models."""
    (axes,) = figure.axes
    for place, entry in enumerate(section.null_models):
        found = entry.report.novelty_interval
        if found is not None:
            style = _LINES[place % len(_LINES)]
            # Here it is clear that it is a null model.
            label = _label(entry).replace(_NULL_MODEL, "").rstrip()
            axes.axvline(100 * found.value, color=_INK, lw=1, ls=style, label=label)
    if section.null_models:
        figure.legend(
            title="lines: unmatched of the null models",
            fontsize="small",
            title_fontsize="small",
            loc="outside lower center",
            ncols=2,
            frameon=False,
        )


def curves(section: Section) -> Figure:
    """Distinct new crystals against the number generated, one line per model."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(_WIDTH, 3.6), layout="constrained")
    axes = figure.subplots()
    others = [entry for entry in section.null_models if entry not in section.entries]
    for place, entry in enumerate([*section.entries, *others]):
        if entry.novel_yield is None:
            continue
        report = entry.report
        total = report.n_generated if section.ranked else len(report.results)
        groups = novel_groups(report)
        steps = sorted({round(total * step / 40) for step in range(41)})
        axes.plot(
            steps,
            [expected_unique(groups, total, drawn) for drawn in steps],
            color=_INK if entry.is_null_model else f"C{place % 10}",
            linestyle=_LINES[(place if entry.is_null_model else place // 10) % len(_LINES)],
            linewidth=1 if entry.is_null_model else 1.5,
            label=_label(entry),
        )
    axes.set_xlabel("crystals generated" if section.ranked else "crystals scored")
    axes.set_ylabel("distinct new ones")
    axes.set_xlim(left=0)
    axes.set_ylim(bottom=0)
    axes.legend(fontsize="small", frameon=False)
    axes.spines[["top", "right"]].set_visible(False)
    return figure


def _label(entry: Entry) -> str:
    # A dollar sign would begin a formula.
    name = entry.submission.model.replace("$", r"\$")
    own_line = name.endswith(_NULL_MODEL)
    name = name.removesuffix(_NULL_MODEL).rstrip()
    label = textwrap.fill(name, 24, max_lines=2, placeholder=" …")
    return f"{label}\n{_NULL_MODEL}" if own_line else label
