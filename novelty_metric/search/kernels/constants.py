"""Numbers that several steps share."""

from __future__ import annotations

SLACK = 1e-9
EDGE = 1e-7
"""How near to an edge or a tie (fractional, or relative) a decision counts as rounding's."""

FORBIDDEN = 1e20
"""Squared distance that pymatgen gives a pair outside the window."""

MOST_VECTORS = 100_000
MOST_CLASSES = 256
"""Classes of equivalent lattices that are remembered for a pair."""
MOST_TIES = 5
"""At most 2 to this power ways through the ties of one lattice reduction are followed."""

IMAGES_TIE, ON_EDGE = 1, 2
"""What rounding decides about a pair of sites: which image is nearest, whether it is in reach."""

REFUSED, UNSURE, SURE = range(3)
"""What one lattice and translation come to: pymatgen refuses it, may take it, or takes it."""

ANY_MATCH, CHEAPEST_MAP = 1, 2
"""What is asked of all matches of a pair: whether there is one, or which map is the cheapest."""

SQUARES = 2.0**-27
"""Weight of a squared difference of Pettifor numbers beside the difference: it only breaks ties."""

NO_VECTORS, NO_LATTICE, NOT_COVERED, TOO_FAR, LET_THROUGH, ACCEPTED, WORK_LIMIT_REACHED = range(7)
"""How far a pair came: no lattice vectors of the right lengths; none that span a cell with the
right angles and volume; no translation that covers all sites; none whose RMS is small enough; a
match that pymatgen may accept, or accepts beyond doubt. Or there was too much to compare."""
