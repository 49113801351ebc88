"""New prototypes: the number of crystals whose structure no reference crystal has.

A prototype is a space group with the multiset of its occupied Wyckoff positions, up to the
relabellings of the Euclidean normalizer; elements play no part.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from novelty_metric.support.statistics import Interval, wilson
from novelty_metric.verdict import CrystalResult


@dataclass(frozen=True, slots=True)
class NewPrototypes:
    """Valid, converged crystals, by whether the reference has their prototype.

    SMACT-invalid crystals are not counted: their symmetry is that of the plain relaxation, lower
    than that of the others, which are symmetrised. Equal crystals count each.

    Attributes
    ----------
    known : int
        SMACT-valid crystals whose relaxation did not fail and whose symmetry is known; 0 also for
        tables of before this was looked at.
    new : int
        Those of them whose prototype the reference lacks.
    metastable : int or None
        New ones within the threshold above the hull: the eligible. None without a hull.
    share, metastable_share : Interval or None
        ``new / known`` and ``metastable / new``; None where there are none to divide by.
    """

    known: int
    new: int
    metastable: int | None
    share: Interval | None
    metastable_share: Interval | None


def new_prototypes(results: Sequence[CrystalResult], *, has_hull: bool) -> NewPrototypes:
    """Count over these rows.

    Parameters
    ----------
    has_hull : bool
        Whether energies above hull could be measured at all.
    """
    known = [
        row
        for row in results
        if row.new_prototype is not None and row.smact_valid and row.converged is not False
    ]
    new = [row for row in known if row.new_prototype]
    metastable = sum(row.eligible is True for row in new) if has_hull else None
    return NewPrototypes(
        known=len(known),
        new=len(new),
        metastable=metastable,
        share=wilson(len(new), len(known)),
        metastable_share=None if metastable is None else wilson(metastable, len(new)),
    )
