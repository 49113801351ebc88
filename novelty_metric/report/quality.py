"""The quality measures of earlier papers (validity; stable, unique, novel), and new prototypes.

A prototype is a space group with the multiset of its occupied Wyckoff positions, up to the
relabellings of the Euclidean normalizer; elements play no part.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from novelty_metric.crystal import SHORTEST_VALID_DISTANCE
from novelty_metric.support.statistics import Bounds, Estimate, Interval, mean_estimate, wilson
from novelty_metric.verdict import CrystalResult

SMALLEST_VALID_VOLUME = 0.1
"""Minimum volume of a valid structure's cell (Å³). Source: CDVAE (Xie et al., ICLR 2022)."""


@dataclass(frozen=True, slots=True)
class Quality:
    """Validity, and stable, unique and novel by plain matching, each with a 95 % interval.

    Validity is over the samples given, the rest over all that was generated. Plain matching is
    pymatgen's `StructureMatcher()` with its defaults, as earlier papers used it; equal crystals are
    equal by it, and groups those of its `group_structures`. The duplicate test has no part in it.
    """

    structurally_valid: Interval | None
    smact_valid: Interval | None
    valid: Interval | None
    """Of the samples: shortest distance and volume; composition; both. What could not be read, or
    is no crystal that can be scored, is not valid. None without samples.
    """
    unique: Interval
    """Groups of equal crystals / generated."""
    novel: Interval
    """Not equal to any crystal of the reference / generated."""
    stable_threshold: float
    """Largest energy above hull of a stable crystal (eV/atom)."""
    stable: Interval | None
    """Converged, and within the threshold / generated. None without energies above hull."""
    sun: Interval | None
    """Groups of equal crystals that hold a stable, novel one / generated."""
    sun_bounds: Bounds | None
    """Lowest and highest `sun` for any result of the crystals without an energy above hull or with
    unfinished plain matching.
    """
    sun_on_hull: Interval | None
    """`sun` with a threshold of 0 eV/atom, the strict reading of "stable"."""
    relaxation_energy: Estimate | None
    """Mean energy of the relaxed samples minus that of the generated ones (eV/atom)."""
    relaxation_rmsd: Estimate | None
    """Mean RMS distance of the generated from the relaxed samples, in (V/N)^(1/3), over those that
    match; see `novelty_metric.search.displacement`. None if nothing was relaxed.
    """


def structurally_valid(result: CrystalResult) -> bool:
    """CDVAE's check: no two atoms closer than 0.5 Å, and a cell of at least 0.1 Å³.

    Here an atom's own images count too, so that a cell thinner than 0.5 Å is invalid.
    """
    if result.shortest_distance is None or result.volume_per_atom is None or not result.n_sites:
        return False
    return (
        result.shortest_distance >= SHORTEST_VALID_DISTANCE
        and result.volume_per_atom * result.n_sites >= SMALLEST_VALID_VOLUME
    )


def stable(result: CrystalResult, threshold: float) -> bool | None:
    """True if it is converged and within the threshold (eV/atom); None if that is not known."""
    if result.converged is not True or result.e_above_hull is None:
        # An error before the crystal was looked at means that there is none.
        return None if result.n_sites is not None else False
    return result.e_above_hull <= threshold


def quality(
    results: Sequence[CrystalResult], *, n_generated: int, threshold: float, has_hull: bool
) -> Quality:
    """The quality measures of these rows, of `n_generated` crystals.

    The threshold (eV/atom) is that of a stable crystal; `has_hull` says whether energies above hull
    could be measured at all.
    """

    def generated(count: int) -> Interval:
        return wilson(count, n_generated) or Interval(0.0, 0.0, 1.0)

    def sun(limit: float) -> Interval:
        return generated(_groups(results, lambda r: r.novel_by_matching and stable(r, limit)))

    valid = [structurally_valid(result) for result in results]
    charges = [result.smact_valid is True for result in results]
    both = sum(one and other for one, other in zip(valid, charges, strict=True))
    bounds = None
    if has_hull:
        most = _groups(
            results,
            lambda r: r.novel_by_matching is not False and stable(r, threshold) is not False,
        )
        bounds = Bounds(sun(threshold).value, generated(most).value)
    # Rows of a report of before distances were kept have sites, and none has a distance.
    measured = any(row.shortest_distance is not None or row.n_sites is None for row in results)
    return Quality(
        structurally_valid=wilson(sum(valid), len(results)) if measured else None,
        smact_valid=wilson(sum(charges), len(results)),
        valid=wilson(both, len(results)) if measured else None,
        unique=generated(_groups(results, lambda r: r.matching_group is not None)),
        novel=generated(sum(result.novel_by_matching is True for result in results)),
        stable_threshold=threshold,
        stable=generated(sum(stable(result, threshold) is True for result in results))
        if has_hull
        else None,
        sun=sun(threshold) if has_hull else None,
        sun_bounds=bounds,
        sun_on_hull=sun(0.0) if has_hull else None,
        relaxation_energy=mean_estimate(_known(row.relaxation_energy for row in results)),
        relaxation_rmsd=mean_estimate(
            _known(row.relaxation_rmsd for row in results), lowest=0.0, highest=1.0
        ),
    )


@dataclass(frozen=True, slots=True)
class NewPrototypes:
    """Valid, converged crystals, by whether the reference has their prototype.

    SMACT-invalid crystals are not counted: their symmetry is that of the plain relaxation, lower
    than that of the others, which are symmetrised. Equal crystals count each.
    """

    known: int
    """SMACT-valid crystals whose relaxation did not fail and whose symmetry is known; 0 also for
    tables of before this was looked at.
    """
    new: int
    """Those of them whose prototype the reference lacks."""
    metastable: int | None
    """New ones within the threshold above the hull: the eligible. None without a hull."""
    share: Interval | None
    metastable_share: Interval | None
    """``new / known`` and ``metastable / new``; None where there are none to divide by."""


def new_prototypes(results: Sequence[CrystalResult], *, has_hull: bool) -> NewPrototypes:
    """Count over these rows; `has_hull`: whether energies above hull could be measured at all."""
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


def _known(values: Iterable[float | None]) -> list[float]:
    return [value for value in values if value is not None]


def count_unique(groups: Iterable[int | None]) -> int:
    """Number of crystals, given their group numbers; each group counts once."""
    numbers = list(groups)
    return len({number for number in numbers if number is not None}) + numbers.count(None)


def _groups(
    results: Sequence[CrystalResult], wanted: Callable[[CrystalResult], bool | None]
) -> int:
    return count_unique(result.matching_group for result in results if wanted(result))
