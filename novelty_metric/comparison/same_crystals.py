"""Search for the equal crystals of two reports, independent of their ids and order.

The crystals as they were generated are compared: same cell, same elements in the same places, up to
what file formats round. A cell in another setting, or with another origin, is another crystal here;
the matching search is for those.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from novelty_metric.crystal_records import CrystalRecord

if TYPE_CHECKING:
    from numpy.typing import NDArray

LENGTH_TOLERANCE = 0.005
"""Maximum difference between lengths of the cell (Å)."""

ANGLE_TOLERANCE = 0.05
"""Maximum difference between angles of the cell (degrees)."""

PLACE_TOLERANCE = 0.02
"""Maximum distance between the positions of an atom (Å)."""

MOST_COMPARED = 100
"""Maximum number of crystals with equal cell and composition whose atoms are compared."""


def pairs_by_content(
    before: Sequence[CrystalRecord | None], after: Sequence[CrystalRecord | None]
) -> list[tuple[int, int]]:
    """Positions of equal crystals, in the order of `after`; each crystal is in at most one pair.

    Of several equal ones the first is paired with the first, the second with the second. None
    stands for a crystal that is not known.
    """
    buckets: dict[bytes, list[int]] = defaultdict(list)
    for row, record in enumerate(before):
        if record is not None:
            buckets[_composition(record)].append(row)
    cells = {key: np.array([_cell(before[row]) for row in rows]) for key, rows in buckets.items()}
    tolerance = np.array([LENGTH_TOLERANCE] * 3 + [ANGLE_TOLERANCE] * 3)
    pairs = []
    for row, record in enumerate(after):
        key = b"" if record is None else _composition(record)
        if record is None or key not in buckets:
            continue
        alike = (np.abs(cells[key] - _cell(record)) <= tolerance).all(axis=1)
        for place in np.flatnonzero(alike)[:MOST_COMPARED]:
            other = before[buckets[key][place]]
            assert other is not None
            if _same_places(other, record):
                pairs.append((buckets[key][place], row))
                cells[key][place] = np.nan  # not to be paired again
                break
    return pairs


def _composition(record: CrystalRecord) -> bytes:
    return np.sort(record.numbers).tobytes()


def _cell(record: CrystalRecord | None) -> NDArray[np.float64]:
    """Lengths (Å) and angles (degrees); they do not depend on the orientation of the cell."""
    assert record is not None
    lengths = np.linalg.norm(record.lattice, axis=1)
    cosines = [
        record.lattice[i] @ record.lattice[j] / (lengths[i] * lengths[j])
        for i, j in ((1, 2), (0, 2), (0, 1))
    ]
    return np.concatenate([lengths, np.degrees(np.arccos(np.clip(cosines, -1, 1)))])


def _same_places(one: CrystalRecord, other: CrystalRecord) -> bool:
    """True if each atom of one crystal has a partner of its element at its place in the other."""
    steps = one.frac_coords[:, None] - other.frac_coords[None]
    steps -= np.round(steps)
    distances: NDArray[Any] = np.linalg.norm(steps @ one.lattice, axis=2)
    distances[one.numbers[:, None] != other.numbers[None]] = np.inf
    if distances.min(axis=1).max() > PLACE_TOLERANCE:
        return False
    return len(set(distances.argmin(axis=1).tolist())) == len(distances)
