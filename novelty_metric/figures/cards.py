"""Crystals beside their parents, one card each; the viewer draws a card when it becomes visible."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import islice
from pathlib import Path

from novelty_metric.errors import InputError
from novelty_metric.report.crystal_viewer import ViewerData, viewer_pair
from novelty_metric.report.crystals import to_be_shown
from novelty_metric.report.files import read_all_structures
from novelty_metric.report.novelty_report import NoveltyReport
from novelty_metric.verdict import CrystalResult, Verdict

NOT_SCORED = "not scored"
"""Label for a crystal without a verdict."""
VERDICT_ORDER = (
    *(Verdict.UNMATCHED, Verdict.UNDECIDED, Verdict.SUBSTITUTED, Verdict.DUPLICATE),
    NOT_SCORED,
)
"""Labels of the cards and of the buttons that select them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Card:
    """A crystal of a run beside the reference crystal that its row names."""

    anchor: str
    """The card's address on the page; no two have the same one."""
    run: str
    row: CrystalResult
    parent_formula: str | None
    pair: tuple[ViewerData | None, ViewerData | None]
    """As by `viewer_pair`."""

    @property
    def verdict(self) -> str:
        """The label of the verdict."""
        return NOT_SCORED if self.row.verdict is None else self.row.verdict.value

    @property
    def elements(self) -> list[str]:
        """Symbols of the crystal's elements."""
        data = self.pair[0]
        return [] if data is None else list(data["elements"])

    @property
    def exchanges(self) -> list[tuple[str, str]]:
        """Elements of the parent, each with an element that replaces it."""
        return [
            (old, new)
            for old, places in (self.row.element_map or {}).items()
            for new in places
            if new != old
        ]


def cards_of(
    report: NoveltyReport, folder: Path, count: int, *, run: str, prefix: str
) -> list[Card]:
    """At most `count` cards of a run that was saved in this folder, grouped by verdict, in order.

    Of more crystals than that the verdicts are taken in turn; what was not scored comes last. The
    prefix stands before each id in the address of its card. `InputError` if the crystals can't be
    read.
    """
    if count < 1:
        return []
    scored = set(to_be_shown(report, count))
    others = (row.id for row in report.results if row.verdict is None and row.readable)
    chosen = scored | set(islice(others, count - len(scored)))
    rows = {place: row for place, row in enumerate(report.results) if row.id in chosen}
    found = []
    for place, records in read_all_structures(folder, rows).items():
        row = rows[place]
        parent = None if records.parent is None else records.parent.to_structure()
        if records.generated is None and records.relaxed is None:
            continue
        try:
            card = Card(
                anchor=f"{prefix}{row.id}",
                run=run,
                row=row,
                parent_formula=None if parent is None else parent.composition.reduced_formula,
                pair=viewer_pair(row, records),
            )
        except (TypeError, ValueError, IndexError) as error:
            raise InputError(
                f"{folder}: the crystals of {row.id!r} can't be drawn ({error}); score again"
            ) from error
        found.append(card)
    found.sort(key=lambda card: VERDICT_ORDER.index(card.verdict))
    return found
