"""Formation energies on a potential's own scale, from its energies of reference crystals.

Energies of a potential differ systematically from those of density functional theory. The
difference cancels if sample and competing phases both have energies of the potential. Therefore the
potential's energy is used for compositions with an available crystal, and otherwise the published
one with an offset per element.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from novelty_metric.screening.compositions import Compositions, elemental_energies
from novelty_metric.screening.formation_energies import About, FormationEnergies

if TYPE_CHECKING:
    from novelty_metric.reference import Reference

N_NUMBERS = 119
"""Number of columns of a table indexed by atomic number."""

_LARGEST_DIFFERENCE = 0.3
"""Differences (eV/atom) above this are failures of the potential; such crystals are excluded."""
_FOLDS = 5


@dataclass(frozen=True)
class Offsets:
    """Difference between a potential's formation energies and the published ones, per element.

    Attributes
    ----------
    per_element : float64, (N_NUMBERS,)
        By atomic number (eV/atom).
    n_crystals : int
        Compounds that they were fitted on.
    error_before, error : float
        Mean absolute difference (eV/atom) without them, and with those that were fitted on the
        other four fifths of the crystals.
    """

    per_element: np.ndarray
    n_crystals: int
    error_before: float
    error: float


def element_fractions(compositions: Compositions) -> np.ndarray:
    """Atomic fractions by atomic number, float64 (N, N_NUMBERS)."""
    table = np.zeros((len(compositions), N_NUMBERS))
    table[compositions.owners, compositions.numbers] = compositions.fractions
    return table


def formation_energies(reference: Reference, energies: np.ndarray) -> np.ndarray:
    """Formation energies of the reference's crystals with the packaged elemental energies
    (eV/atom), float64 (M,).
    """
    from pymatgen.core import Element

    elemental = np.full(N_NUMBERS, np.nan)
    for symbol, energy in elemental_energies().items():
        elemental[Element(symbol).Z] = energy
    starts = np.concatenate([[0], np.cumsum(reference.n_sites)])
    sums = np.add.reduceat(elemental[reference.numbers], starts[:-1])
    return np.asarray(energies, dtype=np.float64) - sums / reference.n_sites


def fit_offsets(
    fractions: np.ndarray, differences: np.ndarray, *, ridge: float = 0.01, seed: int = 0
) -> Offsets:
    """Fit offsets per element by ridge regression, with their error by cross-validation.

    Parameters
    ----------
    fractions : float64, (M, N_NUMBERS)
        Share of the atoms in each crystal.
    differences : float64, (M,)
        Formation energy of the potential minus the published one (eV/atom); NaN where unknown.
    ridge : float
        Keeps the offset of an element with few crystals near zero.
    seed : int
        Of the folds.
    """
    compound = (fractions > 0).sum(axis=1) > 1
    rows = np.flatnonzero(compound & (np.abs(differences) < _LARGEST_DIFFERENCE))
    x, y = fractions[rows], differences[rows]
    fold = np.random.default_rng(seed).integers(0, _FOLDS, len(rows))
    left = np.concatenate(
        [
            y[fold == k] - x[fold == k] @ _ridge(x[fold != k], y[fold != k], ridge)
            for k in range(_FOLDS)
        ]
    )
    return Offsets(
        _ridge(x, y, ridge), len(rows), float(np.abs(y).mean()), float(np.abs(left).mean())
    )


def _ridge(x: np.ndarray, y: np.ndarray, ridge: float) -> np.ndarray:
    return np.linalg.solve(x.T @ x + ridge * np.eye(x.shape[1]), x.T @ y)


def lowest_own(known: FormationEnergies, reference: Reference, own: np.ndarray) -> np.ndarray:
    """Lowest energy of the reference at each known composition, NaN if it has none, (N,).

    Parameters
    ----------
    known : FormationEnergies
    reference : Reference
    own : float64, (M,)
        Formation energies of the reference's crystals (eV/atom).
    """
    position = {key: index for index, key in enumerate(known.compositions.keys())}
    lowest = np.full(len(known), np.nan)
    for index, energy in enumerate(own.tolist()):
        at = position.get(reference.composition_key(index))
        if at is not None:
            lowest[at] = np.fmin(lowest[at], energy)
    return lowest


def on_own_scale(
    known: FormationEnergies, own: np.ndarray, offsets: Offsets, about: About
) -> FormationEnergies:
    """The potential's own energies where they exist, else published ones with offsets, (N,)."""
    moved = known.energies + element_fractions(known.compositions) @ offsets.per_element
    has_own = np.isfinite(own)
    return FormationEnergies(
        known.compositions, np.where(has_own, own, moved), known.on_hull & ~has_own, about
    )
