"""Formation energies of the Materials Project, row by row, and the hull of the user's own copy."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from novelty_metric.errors import InputError
from novelty_metric.screening.compositions import (
    CompositionKey,
    Compositions,
    atomic_number,
    elemental_energies,
    reduced_key,
)
from novelty_metric.screening.formation_energies import About, FormationEnergies
from novelty_metric.screening.hull import Energies, fitting_energies
from novelty_metric.screening.scales import energies_scale
from novelty_metric.support.folders import cache_folder
from novelty_metric.support.progress import ProgressCallback, no_progress

if TYPE_CHECKING:
    from novelty_metric.screening.formation_hull import FormationHull

SCHEME = "GGA and GGA+U formation energies with the MP2020 corrections, eV/atom"
HULL_NAME = "materials_project"
FETCH = "novelty-metric hull fetch mp"
"""The command that makes the file."""

_PLAIN = re.compile(r"(?:[A-Z][a-z]?\d*)+")
_PIECE = re.compile(r"([A-Z][a-z]?)(\d*)")


@dataclass(frozen=True, slots=True)
class Material:
    """Data of a crystal: formula, formation energy, distance from the hull (eV/atom)."""

    formula: str
    formation_energy: float
    above_hull: float


def fetched_path() -> Path:
    """The default path of the file that `FETCH` writes."""
    return cache_folder() / "hulls" / f"{HULL_NAME}.parquet"


@dataclass(frozen=True)
class MaterialsProjectHull:
    """The Materials Project from the user's own copy, see `FETCH`.

    Parameters
    ----------
    file : path, optional
        Any file of `novelty_metric.screening.formation_energies`; default `fetched_path`.
    energies : str
        Kind of the energies compared with it: ``auto``, what fits the potential; or ``corrected``,
        ``uncorrected`` or ``formation``.
    """

    file: str | Path | None = None
    energies: str = Energies.AUTO

    def open(self, potential: str, *, progress: ProgressCallback = no_progress) -> FormationHull:
        """See `novelty_metric.screening.hull.HullSource.open`."""
        from novelty_metric.screening.formation_hull import FormationHull

        path = fetched_path() if self.file is None else Path(self.file).expanduser()
        if self.file is None and not path.exists():
            raise InputError(f"{path}: no such file; {FETCH} makes it, with your API key")
        which = fitting_energies(potential, self.energies)
        return FormationHull(FormationEnergies.read(path), energies_scale(which))


def formation_energies(materials: Iterable[Material], about: About) -> FormationEnergies:
    """The lowest finite formation energy of each composition; elements are at zero.

    Raises
    ------
    ValueError
        If a formula is not valid.
    """
    from pymatgen.core import Element

    lowest: dict[CompositionKey, tuple[float, bool]] = {
        ((Element(symbol).Z, 1),): (0.0, True) for symbol in elemental_energies()
    }
    for material in materials:
        energy = material.formation_energy
        if not math.isfinite(energy):
            continue
        key = composition_key_of(material.formula)
        known = lowest.get(key)
        if known is None or energy < known[0]:
            lowest[key] = (energy, material.above_hull <= 0.0)
    keys = sorted(lowest)
    return FormationEnergies(
        Compositions.of(keys),
        # Single precision, as the file keeps it.
        np.array([lowest[key][0] for key in keys], dtype=np.float32).astype(np.float64),
        np.array([lowest[key][1] for key in keys]),
        about,
    )


@lru_cache(maxsize=4096)
def composition_key_of(formula: str) -> CompositionKey:
    """The reduced composition of a formula such as ``Ca(NO3)2``.

    Raises
    ------
    ValueError
        If it is none.
    """
    from pymatgen.core import Composition

    pieces: Iterable[tuple[str, float]]
    if _PLAIN.fullmatch(formula):  # pymatgen takes ten times as long
        pieces = ((symbol, int(count or 1)) for symbol, count in _PIECE.findall(formula))
    else:
        try:
            pieces = [(str(e), n) for e, n in Composition(formula).element_composition.items()]
        except ValueError:
            raise ValueError(f"{formula!r} is not a formula") from None
    amounts: dict[int, float] = {}
    for symbol, amount in pieces:
        number = atomic_number(symbol)
        if not number or amount != round(amount) or amount <= 0:
            raise ValueError(f"{formula!r} is not a formula of elements in whole amounts")
        amounts[number] = amounts.get(number, 0) + amount
    return reduced_key(amounts)
