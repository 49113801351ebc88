"""Constants that several steps share."""

from __future__ import annotations

SLACK = 1e-9
EDGE = 1e-7
"""A decision this close to an edge or a tie (fractional, or relative) depends on rounding."""

FORBIDDEN = 1e20
"""Squared distance that pymatgen assigns to a pair outside the window."""

MOST_VECTORS = 100_000
MOST_CLASSES = 256
"""Maximum number of classes of equivalent lattices stored for a pair."""
MOST_TIES = 5
"""At most 2 to this power paths through the ties of one lattice reduction are followed."""

IMAGES_TIE, ON_EDGE = 1, 2
"""Ambiguities by rounding for a pair of sites: the nearest image; whether it is in reach."""

REFUSED, UNSURE, SURE = range(3)
"""Result for one lattice and translation: pymatgen refuses it, may accept it, or accepts it."""

ANY_MATCH, CHEAPEST_MAP = 1, 2
"""The question about all matches of a pair: whether there is one, or the cheapest map."""

SQUARES = 2.0**-27
"""Weight of the squared difference of Pettifor numbers relative to the difference; it only breaks
ties.
"""

NO_VECTORS, NO_LATTICE, NOT_COVERED, TOO_FAR, LET_THROUGH, ACCEPTED, WORK_LIMIT_REACHED = range(7)
"""The last step that a pair reached: no lattice vectors of the right lengths; none that span a cell
with the right angles and volume; no translation that covers all sites; none with a small enough
RMS; a match that pymatgen may accept, or surely accepts; or the work limit.
"""
