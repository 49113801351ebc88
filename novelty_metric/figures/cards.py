"""Crystals beside their parents, one card each; the viewer draws a card when it becomes visible."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import islice
from pathlib import Path

from novelty_metric.crystal_records import CrystalRecords
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
    """A crystal of a run beside the reference crystal that its row names.

    Attributes
    ----------
    anchor : str
        The card's address on the page; no two have the same one.
    run : str
    row : CrystalResult
    parent_formula : str or None
    pair : two of viewer data or None
        As by `viewer_pair`.
    """

    anchor: str
    run: str
    row: CrystalResult
    parent_formula: str | None
    pair: tuple[ViewerData | None, ViewerData | None]

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
    """At most `count` cards of a run, grouped by verdict, in the order of the samples.

    Of more crystals than that the verdicts are taken in turn; what was not scored comes last.

    Parameters
    ----------
    report : NoveltyReport
    folder : path
        Where it was saved.
    count : int
    run : str
        Its name.
    prefix : str
        Before each id in the address of its card.

    Raises
    ------
    InputError
        If the crystals can't be read.
    """
    if count < 1:
        return []
    scored = set(to_be_shown(report, count))
    others = (row.id for row in report.results if row.verdict is None and row.readable)
    chosen = scored | set(islice(others, count - len(scored)))
    rows = {place: row for place, row in enumerate(report.results) if row.id in chosen}
    found = []
    for place, records in read_all_structures(folder, rows).items():
        if records.generated is None and records.relaxed is None:
            continue
        try:
            found.append(_card(rows[place], records, run, f"{prefix}{rows[place].id}"))
        except (TypeError, ValueError, IndexError) as error:
            raise InputError(
                f"{folder}: the crystals of {rows[place].id!r} can't be drawn ({error}); "
                "score again"
            ) from error
    found.sort(key=lambda card: VERDICT_ORDER.index(card.verdict))
    return found


def _card(row: CrystalResult, records: CrystalRecords, run: str, anchor: str) -> Card:
    parent = records.parent
    return Card(
        anchor=anchor,
        run=run,
        row=row,
        parent_formula=None
        if parent is None
        else parent.to_structure().composition.reduced_formula,
        pair=viewer_pair(row, records),
    )
