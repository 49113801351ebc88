"""Compiled geometric pair test of the lattice-and-sites route, for a whole reference.

`furthest_steps` answers, for one generated crystal G against many reference crystals T, whether
pymatgen's `StructureMatcher` (`FrameworkComparator`, `scale=False`, RMS, any match) refuses the
pair. It only ever refuses: a pair that it lets through still goes to pymatgen, which decides, and
gives the map and the cost. So the one thing it must never do is to refuse a pair that pymatgen
accepts. To that end it follows pymatgen's cascade step by step, and

- every comparison that *lets a pair go on* has a slack far above rounding;
- where rounding decides *which of several answers* pymatgen takes, all of them are looked at, or
  the pair is let through: ties in the reduction of the average lattice (hexagonal and
  face-centred cells tie all the time), sites on the edge of the window outside which pymatgen
  drops distances, equally near images, and assignments of equal cost.

The cascade, after W. D. Richards and S. Dacek's matcher in pymatgen (MIT licence): lattices of the
smaller cell near the larger's cell, translations of T's first site onto sites of G, coverage of all
sites within a fractional window on the average lattice, distances on its LLL-reduced form within a
second window, assignment, best translation, RMS. The assignment is the shortest augmenting path
method (D. F. Crouse, IEEE Trans. Aerosp. Electron. Syst. 52, 1679 (2016)) as in SciPy.

One file holds one step; `pair_test` puts them one after the other, `scan` asks. This room imports
numba and is itself imported only on use.
"""

from novelty_metric.search.kernels.constants import (
    ACCEPTED,
    LET_THROUGH,
    NO_LATTICE,
    NO_VECTORS,
    NOT_COVERED,
    TOO_FAR,
    WORK_LIMIT_REACHED,
)
from novelty_metric.search.kernels.memory import Pairs
from novelty_metric.search.kernels.scan import (
    cheapest_map,
    cost_of_first_match,
    first_equal,
    furthest_steps,
)

__all__ = [
    "ACCEPTED",
    "LET_THROUGH",
    "NOT_COVERED",
    "NO_LATTICE",
    "NO_VECTORS",
    "TOO_FAR",
    "WORK_LIMIT_REACHED",
    "Pairs",
    "cheapest_map",
    "cost_of_first_match",
    "first_equal",
    "furthest_steps",
]
