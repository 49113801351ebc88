"""Physically impossible crystals, as a model in training writes them: huge, tiny, flat, crowded."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from pymatgen.core import Element, Lattice, Structure

ORIGIN_AND_ANOTHER = [[0, 0, 0], [0.3, 0.4, 0.45]]
ALONG_THE_EDGE = [[0, 0, 0], [0, 0.5, 0.5]]


def grid(
    counts: tuple[int, int, int], cell: Lattice, elements: Sequence[str], shake: float = 0.0
) -> Structure:
    """A grid of sites with alternating elements and random displacements of `shake` (Å)."""
    sites = np.indices(counts).reshape(3, -1).T / np.array(counts)
    sites = sites + np.random.default_rng(0).normal(size=sites.shape) * shake / cell.abc
    species = [elements[i % len(elements)] for i in range(len(sites))]
    return Structure(cell, species, sites)


def few_atoms() -> dict[str, Structure]:
    """One to three atoms in unusual cells."""

    def pair(cell: Lattice, sites: list[list[float]] = ALONG_THE_EDGE) -> Structure:
        return Structure(cell, ["Na", "Cl"], sites)

    return {
        "two in 60 Å": pair(Lattice.cubic(60), ORIGIN_AND_ANOTHER),
        "one in 10,000 Å": Structure(Lattice.cubic(9999), ["Cs"], [[0, 0, 0]]),
        "two in 10,000 Å": pair(Lattice.cubic(9999)),
        "three in 60 Å": Structure(
            Lattice.cubic(60), ["I"] * 3, [*ORIGIN_AND_ANOTHER, [0.1, 0.8, 0.7]]
        ),
        "triclinic, 80 Å": pair(
            Lattice.from_parameters(60, 70, 80, 77, 83, 95), ORIGIN_AND_ANOTHER
        ),
        "plate, 0.3 Å": pair(Lattice.orthorhombic(0.3, 60, 60)),
        "plate, 2 Å": pair(Lattice.orthorhombic(2, 500, 500)),
        "needle, 0.3 Å": pair(Lattice.orthorhombic(0.3, 0.3, 9)),
        "needle, 3 Å": pair(Lattice.orthorhombic(3, 3, 900)),
        "needle, 2 Å, 5,000 Å": pair(Lattice.orthorhombic(2, 2, 5000)),
        "sheet": Structure(
            Lattice.from_parameters(3, 3, 300, 90, 90, 60),
            ["C"] * 2,
            [[0, 0, 0], [1 / 3, 1 / 3, 0]],
        ),
        "angles of 1°": pair(Lattice.from_parameters(9, 9, 9, 1, 1, 1)),
        "angle of 179°": pair(Lattice.from_parameters(9, 9, 9, 90, 90, 179)),
        "angle of 2°": pair(Lattice.from_parameters(3, 40, 40, 90, 90, 2)),
        "skewed": pair(Lattice([[5, 0, 0], [4999, 5, 0], [3777, 6111, 5]])),
    }


def many_atoms() -> dict[str, Structure]:
    """Up to 300 atoms."""
    box, dense = Lattice.orthorhombic(15, 18, 30), (5, 6, 10)
    salt = Structure.from_spacegroup(
        "Fm-3m", Lattice.cubic(5.64), ["Na", "Cl"], [[0, 0, 0], [0.5, 0.5, 0.5]]
    )
    shaken = salt * (3, 3, 3)
    shaken.perturb(0.3, seed=0)
    copper = Structure.from_spacegroup("Fm-3m", Lattice.cubic(3.6), ["Cu"], [[0, 0, 0]])
    hot = copper * (4, 4, 4)
    hot.perturb(0.2, seed=0)
    clump = grid(dense, Lattice.cubic(9000), ["I"])
    return {
        "line": grid((1, 1, 300), Lattice.orthorhombic(10, 10, 900), ["Fe"]),
        "line, shaken": grid((1, 1, 300), Lattice.orthorhombic(10, 10, 900), ["Fe"], 0.15),
        "line, crowded": grid((1, 1, 300), Lattice.orthorhombic(1, 1, 900), ["I"], 0.3),
        "gas": grid(dense, Lattice.orthorhombic(40, 48, 80), ["I"], 1.5),
        "glass": grid(dense, box, ["I"], 0.5),
        "glass of two": grid(dense, box, ["Na", "Cl"], 0.5),
        "lattice of 288": grid((6, 6, 8), Lattice.orthorhombic(18, 18, 24), ["Fe"]),
        "lattice of 294": grid((6, 7, 7), Lattice.orthorhombic(18, 21, 21), ["Fe"]),
        "lattice, shaken": grid((6, 6, 8), Lattice.orthorhombic(18, 18, 24), ["Fe"], 0.08),
        "lattice, shaken more": grid((6, 6, 8), Lattice.orthorhombic(18, 18, 24), ["Fe"], 0.2),
        "copper": copper * (4, 4, 4),
        "copper, shaken": hot,
        "salt": salt * (3, 3, 3),
        "salt, shaken": shaken,
        "every element": grid(
            (5, 5, 5), Lattice.cubic(16), [Element.from_Z(z).symbol for z in range(1, 119)]
        ),
        "0.2 Å apart": grid(dense, Lattice.orthorhombic(1, 1.2, 2), ["Fe"]),
        "0.4 Å apart": grid(dense, Lattice.orthorhombic(2, 2.4, 4), ["Fe"], 0.02),
        "hydrogen": grid(dense, Lattice.orthorhombic(0.6, 0.72, 1.2), ["H"]),
        "flat, 0.11 Å": grid((1, 20, 15), Lattice.orthorhombic(0.11, 60, 45), ["Na", "Cl"]),
        "thin gas": grid(dense, Lattice.cubic(200), ["I"]),
        "clump": Structure(clump.lattice, clump.species, clump.frac_coords * 0.002),
        "slab": grid((10, 10, 3), Lattice.orthorhombic(30, 30, 300), ["Au"], 0.1),
    }
