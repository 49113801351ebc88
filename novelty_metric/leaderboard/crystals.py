"""Some unmatched crystals of a submission beside their nearest parents: ``crystals/NAME.json``.

The crystals are relaxed. `shown_rows` chooses them, so that submitters cannot select the
best-looking ones. A submission can do without the file, as where the licence of the training set
forbids it.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from annotated_types import MaxLen, MinLen

from novelty_metric.crystal import clean, first_line
from novelty_metric.errors import CrystalError, InputError
from novelty_metric.report.crystal_viewer import filled_parent
from novelty_metric.report.files import read_all_structures
from novelty_metric.report.novelty_report import NoveltyReport
from novelty_metric.support.validation import STRICT, MustBe, Number, Text, validated
from novelty_metric.verdict import CrystalResult

if TYPE_CHECKING:
    from pymatgen.core import Structure

    from novelty_metric.reference import Reference

FOLDER = "crystals"
MAX_BYTES = 256 * 1024
MOST_CRYSTALS = 6
MOST_SITES = 200
"""Maximum number of sites of a shown crystal, and of its parent."""

_DIGITS = 4
"""Decimals of lengths (Å) and fractional coordinates."""
Vector = Annotated[tuple[Number, Number, Number], MustBe("three numbers")]
Symbol = Annotated[str, Text(2, r"[A-Z][a-z]?", "Na")]
Symbols = Annotated[tuple[Symbol, ...], MinLen(1), MaxLen(MOST_SITES)]
Name = Annotated[str, Text(2000)]


@dataclass(frozen=True, kw_only=True)
class Cell:
    """A crystal."""

    __pydantic_config__ = STRICT
    lattice: tuple[Vector, Vector, Vector]
    """Cell vectors as rows (Å)."""
    elements: Symbols
    """Of each site."""
    frac_coords: Annotated[tuple[Vector, ...], MinLen(1), MaxLen(MOST_SITES)]
    """Of each site."""

    def structure(self) -> Structure:
        """The crystal for pymatgen. `InputError` if it is none."""
        from pymatgen.core import Lattice, Structure

        if len(self.elements) != len(self.frac_coords):
            raise InputError(f"{len(self.elements)} elements on {len(self.frac_coords)} sites")
        try:
            return clean(Structure(Lattice(self.lattice), self.elements, self.frac_coords))
        except (CrystalError, ValueError) as error:  # pymatgen's, of a word that is no element
            raise InputError(first_line(error)) from error


@dataclass(frozen=True, kw_only=True)
class ParentCell(Cell):
    """The nearest parent, in the cell that the atom map needs."""

    __pydantic_config__ = STRICT
    id: Name
    """In the reference."""
    new_elements: Symbols
    """The elements of the generated crystal on its sites."""


@dataclass(frozen=True, kw_only=True)
class ShownCrystal:
    """An unmatched crystal, with its parent if it has one that is not too large."""

    __pydantic_config__ = STRICT
    id: Name
    crystal: Cell
    parent: ParentCell | None


@dataclass(frozen=True, kw_only=True)
class CrystalFile:
    """The content of ``crystals/NAME.json``."""

    __pydantic_config__ = STRICT
    schema_version: Literal[1]
    crystals: Annotated[tuple[ShownCrystal, ...], MinLen(1), MaxLen(MOST_CRYSTALS)]


def shown_rows(report: NoveltyReport) -> list[int]:
    """Rows of the shown crystals: the first of `NoveltyReport.new_crystals`.

    None of more than `MOST_SITES` sites.
    """
    places = {row.id: place for place, row in enumerate(report.results)}
    new = [row for row in report.new_crystals() if 0 < (row.n_sites or 0) <= MOST_SITES]
    return [places[row.id] for row in new[:MOST_CRYSTALS]]


def crystal_file(report: NoveltyReport, run: Path) -> bytes | None:
    """The content of the file for a run; None if there is no crystal to show, or none was stored.

    `InputError` if the crystals of the run can't be read.
    """
    chosen = shown_rows(report)
    records = read_all_structures(run, chosen)
    lines = []
    for place in chosen:
        row, found = report.results[place], records.get(place)
        if found is None or found.relaxed is None:
            return None
        shown = {"id": row.id, "crystal": _cell(found.relaxed.to_structure()), "parent": None}
        if row.parent_id is not None and found.parent is not None:
            filled, own = filled_parent(found.parent.to_structure(), row)
            if len(filled) <= MOST_SITES:
                shown["parent"] = {
                    "id": row.parent_id,
                    **_cell(filled),
                    "elements": own,
                    "new_elements": _elements(filled),
                }
        lines.append(json.dumps(shown, ensure_ascii=False, separators=(",", ":")))
    if not lines:
        return None
    # A line for each crystal.
    text = ",\n".join(lines)
    return f'{{"schema_version":1,"crystals":[\n{text}\n]}}\n'.encode()


def _elements(structure: Structure) -> list[str]:
    return [site.specie.symbol for site in structure]


def _cell(structure: Structure) -> dict[str, Any]:
    return {
        "lattice": (structure.lattice.matrix.round(_DIGITS) + 0.0).tolist(),
        "elements": _elements(structure),
        "frac_coords": (structure.frac_coords.round(_DIGITS) + 0.0).tolist(),
    }


def read_crystals(content: bytes, report: NoveltyReport) -> dict[int, ShownCrystal]:
    """The crystals of the file, by row of the report.

    `InputError` if it is not such a file, or the crystals are not those that `shown_rows` names.
    """
    try:
        # A number too large for a float, or lists within lists without end.
        found = validated(CrystalFile, json.loads(content)).crystals
    except (ValueError, OverflowError, RecursionError) as error:
        raise InputError(f"it can't be read ({first_line(error)})") from error
    chosen = shown_rows(report)
    if [one.id for one in found] != [report.results[place].id for place in chosen]:
        raise InputError(
            "its crystals are not the unmatched ones of lowest energy above the hull; `leaderboard "
            "add` chooses them"
        )
    for one, place in zip(found, chosen, strict=True):
        try:
            _agrees(one, report.results[place])
        except InputError as error:
            raise InputError(f"{one.id!r}: {error}") from error
    return dict(zip(chosen, found, strict=True))


def _agrees(shown: ShownCrystal, row: CrystalResult) -> None:
    """True if formula, parent and exchanged elements agree with the row."""
    formula = shown.crystal.structure().composition.reduced_formula
    if formula != row.formula:
        raise InputError(f"the crystal is {formula}, the table of verdicts has {row.formula}")
    parent = shown.parent
    if parent is None:
        return
    if parent.id != row.parent_id:
        raise InputError(f"the parent is {parent.id}, the table of verdicts has {row.parent_id}")
    if len(parent.structure()) != len(parent.new_elements):
        raise InputError("new_elements of the parent must have one element per site")
    exchanged: dict[str, Counter[str]] = {}
    for old, new in zip(parent.elements, parent.new_elements, strict=True):
        exchanged.setdefault(old, Counter())[new] += 1
    if exchanged != row.element_map:
        raise InputError("new_elements of the parent do not agree with element_map in the table")


def same_crystal(shown: ShownCrystal, now: CrystalResult) -> bool:
    """True if pymatgen's `StructureMatcher` matches the crystal with the newly relaxed one."""
    found = None if now.structures is None else now.structures.relaxed
    return found is not None and _match(
        shown.crystal.structure(), found.to_structure(), ltol=0.2, stol=0.3, angle_tol=5
    )


def foreign_parents(
    shown: Mapping[int, ShownCrystal], rows: Sequence[CrystalResult], reference: Reference
) -> Iterator[str]:
    """A line for each parent that differs from the reference crystal with its id."""
    for place, one in shown.items():
        if one.parent is None:
            continue
        try:
            kept = reference.structure(reference.position(one.parent.id))
        except KeyError:
            kept = None
        # Wide enough for the digits of the file.
        if kept is None or not _match(
            one.parent.structure(), kept, ltol=1e-3, stol=1e-2, angle_tol=0.1
        ):
            yield (
                f"crystal {place} ({rows[place].id}): the parent shown is not {one.parent.id} of "
                "the reference"
            )


def _match(one: Structure, other: Structure, **tolerances: Any) -> bool:
    from pymatgen.core.structure_matcher import StructureMatcher

    from novelty_metric.search.compiled import TooMuchToCompareError
    from novelty_metric.search.matching import MatcherWork

    matcher = StructureMatcher(**tolerances, scale=False)
    try:
        return bool(MatcherWork().counted(matcher).fit(one, other))
    except (TooMuchToCompareError, ValueError):
        return False
