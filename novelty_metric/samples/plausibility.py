"""Check that the samples look like crystals, and that no unit or convention was mistaken.

A file can't say whether its angles are degrees, its lengths ångström, or its coordinates
fractional. A mistake there gives wrong verdicts without an error, so the samples are compared with
typical properties of crystals. The limits are wide: the samples of the published models, and the
Materials Project, stay well within them, and the wrong units do not.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pymatgen.core import Structure

MOST_EXAMINED = 2000
"""Number of crystals whose distances are checked, evenly spread over all."""

SHORT = 0.7
"""Atoms closer than this are implausible (Å); the bond of H2 is 0.74 Å."""

MANY_SHORT = 0.25
MANY_FAILED = 0.2
MOST = 0.5
"""Fractions of the samples above which a fault concerns all of them."""

VOLUME = (3.0, 150.0)
"""Plausible range of the volume per atom (Å³): diamond has 5.7, caesium 115."""

MEDIAN_VOLUME = (4.0, 60.0)
"""The same for the median of at least `ENOUGH` crystals; the median of MP-20 is 19."""

ENOUGH = 10
REACH = 1.5
"""Coordinates of one crystal that span more cells than this are not fractional."""

COMPACT = 1.1
"""If all atoms of a crystal are within this along every axis (Å), the positions are not lengths."""

COORDINATE_REACH = "coordinate_reach"
"""Property of a structure with the spread of its coordinates before the reader wrapped them."""


def implausible(samples: Iterable[tuple[Structure | None, str | None]]) -> list[str]:
    """Findings about samples (crystal, error) as a whole, one line each; empty if plausible."""
    seen = Plausibility()
    for structure, error in samples:
        seen.add(structure, error)
    return seen.findings()


class Plausibility:
    """`implausible` for a stream of samples: it keeps some thousand of them, evenly spread."""

    def __init__(self) -> None:
        self.n_samples = 0
        self._kept: list[Structure] = []
        self._step = 1
        self._n_crystals = 0
        self._errors: Counter[str] = Counter()
        self._n_errors = 0
        self._first_error: str | None = None

    def add(self, structure: Structure | None, error: str | None) -> None:
        """Check one more sample."""
        self.add_error(error)
        if structure is None or not _said(structure):
            return
        if self._n_crystals % self._step == 0:
            self._kept.append(structure)
        self._n_crystals += 1
        if len(self._kept) > 2 * MOST_EXAMINED:
            self._kept, self._step = self._kept[::2], 2 * self._step

    def add_error(self, error: str | None) -> None:
        """Count one more sample, with the reason if it cannot be used."""
        self.n_samples += 1
        if error:
            self._n_errors += 1
            self._first_error = self._first_error or error
            if error in self._errors or len(self._errors) < MOST_EXAMINED:
                self._errors[error] += 1

    def take_crystals(self, other: Plausibility) -> None:
        """Add the crystals that another object kept."""
        self._kept, self._step, self._n_crystals = list(other._kept), other._step, other._n_crystals

    def findings(self) -> list[str]:
        """Findings about all samples, one line each."""
        found = []
        if self._n_errors > MANY_FAILED * self.n_samples:
            found.append(self._failed())
        examined = self._kept[:: max(1, math.ceil(len(self._kept) / MOST_EXAMINED))]
        if not examined:
            return found
        cell = _angles(examined) or _volumes(examined)
        coordinates = _fractions(examined) or _positions(examined)
        found += [line for line in (cell, coordinates) if line]
        if not cell and not coordinates and (close := _distances(examined)):
            found.append(close)
        return found

    def _failed(self) -> str:
        reason, count = self._errors.most_common(1)[0]
        often = f"most often ({count}): {reason}"
        if count == 1 < self._n_errors:
            often = f"the first: {self._first_error}"
        return f"{_of(self._n_errors, self.n_samples)} can't be used; {often}"


def _said(structure: Structure) -> bool:
    """True if there is a crystal to check; NaN in it is a failure, not a mistaken convention."""
    import numpy as np

    return len(structure) > 0 and bool(
        np.isfinite(structure.lattice.matrix).all() and np.isfinite(structure.frac_coords).all()
    )


def _angles(structures: Sequence[Structure]) -> str | None:
    largest = [max(structure.lattice.angles) for structure in structures]
    n_small = sum(angle <= math.pi for angle in largest)
    if n_small < MOST * len(structures):
        return None
    return (
        f"{_of(n_small, len(structures))} have no angle above {math.pi:.2f}°: radians were read as "
        "degrees"
    )


def _volumes(structures: Sequence[Structure]) -> str | None:
    volumes = sorted(structure.volume / len(structure) for structure in structures)
    median = volumes[len(volumes) // 2]
    low, high = VOLUME if len(volumes) < ENOUGH else MEDIAN_VOLUME
    if low <= median <= high:
        return None
    guess = "nm or another unit was read as Å" if median < low else "Bohr radii were read as Å"
    return (
        f"the volume per atom is {median:.3g} Å³ at the median, and about 20 in known crystals: "
        f"the cells are wrong, perhaps {guess}"
    )


def _fractions(structures: Sequence[Structure]) -> str | None:
    import numpy as np

    n_wide = sum(
        structure.properties.get(COORDINATE_REACH, 0.0) > REACH
        or float(np.ptp(structure.frac_coords, axis=0).max()) > REACH
        for structure in structures
    )
    if n_wide < MANY_SHORT * len(structures):
        return None
    return (
        f"{_of(n_wide, len(structures))} have fractional coordinates that spread over more than "
        f"{REACH:g} cells: Cartesian coordinates were read as fractional"
    )


def _positions(structures: Sequence[Structure]) -> str | None:
    import numpy as np

    several = [structure for structure in structures if len(structure) > 2]
    n_compact = sum(
        float(np.ptp(structure.cart_coords, axis=0).max()) < COMPACT
        and structure.volume / len(structure) > VOLUME[0]
        for structure in several
    )
    if not several or n_compact < MOST * len(several):
        return None
    return (
        f"{_of(n_compact, len(several))} have all their atoms within {COMPACT:g} Å: fractional "
        "coordinates were read as Cartesian"
    )


def _distances(structures: Sequence[Structure]) -> str | None:
    from novelty_metric.crystal import shortest_distance

    n_short = 0
    for structure in structures:
        try:
            n_short += not shortest_distance(structure) >= SHORT  # also what is not a number
        except Exception:  # a cell that can't be reduced
            n_short += 1
    if n_short < MANY_SHORT * len(structures):
        return None
    return (
        f"{_of(n_short, len(structures))} have atoms nearer than {SHORT:g} Å: the cells or the "
        "coordinates are wrong, perhaps by a unit or a convention"
    )


def _of(count: int, total: int) -> str:
    return f"{count} of {total} samples"
