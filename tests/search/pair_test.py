"""The compiled pair test, as the tests put pairs to it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from pymatgen.core import Structure

from novelty_metric.reference import Reference


def steps(
    generated: Structure,
    reference: Reference,
    indices: Sequence[int] | np.ndarray,
    families: Any = None,
) -> np.ndarray:
    """How far each pair comes, at pymatgen's tolerances of the protocol."""
    from novelty_metric.search.kernels import furthest_steps

    return furthest_steps(
        generated.lattice.matrix,
        generated.frac_coords,
        reference.lattices,
        reference.offsets,
        reference.frac_coords,
        np.array(indices, dtype=np.int64),
        np.array([0, 10**12]),
        families,
        ltol=0.2,
        stol=0.3,
        angle_tol=5.0,
    )
