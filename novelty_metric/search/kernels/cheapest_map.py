"""All matches of a pair for one pair of lattices, and the cheapest atom map among them.

For ``map=best``. What counts as a match depends on the two crystals and not on how they are written
down: see `novelty_metric.search.lattice_sites`.
"""

from __future__ import annotations

import numpy as np

from novelty_metric.search.kernels.compilation import internal
from novelty_metric.search.kernels.constants import (
    CHEAPEST_MAP,
    EDGE,
    LET_THROUGH,
    NOT_COVERED,
    SURE,
    TOO_FAR,
    WORK_LIMIT_REACHED,
)
from novelty_metric.search.kernels.coverage import differences, mark
from novelty_metric.search.kernels.geometry import average_cell, inverted
from novelty_metric.search.kernels.memory import Scratch
from novelty_metric.search.kernels.reduction import one_reduced_form
from novelty_metric.search.kernels.translations import inverted_about_first, site_test, wrap_onto

RMS_TIES = 1e-4
"""RMS distances, in (V/N)^(1/3), closer than this are equal: coordinates in files are rounded."""


@internal
def mark_anchors(n: int, scratch: Scratch) -> None:
    """Mark the sites of T's rarest element; among equally rare ones, of the lowest number."""
    labels, anchors = scratch.labels[1], scratch.anchors
    rarest, label = n + 1, 0
    for i in range(n):
        count = 0
        for j in range(n):
            count += labels[j] == labels[i]
        if count < rarest or (count == rarest and labels[i] < label):
            rarest, label = count, labels[i]
    for i in range(n):
        anchors[i] = labels[i] == label


@internal
def matches_on_lattice(  # noqa: PLR0917
    aligned: np.ndarray,
    target: np.ndarray,
    n: int,
    expand_first: bool,
    fu: int,
    stol: float,
    scratch: Scratch,
) -> int:
    """All translations for one pair of lattices, and for the inverted lattice.

    Each site of T's rarest element is moved onto each site of G. With ``scratch.every`` at
    `CHEAPEST_MAP` the cheapest map so far is kept, else the first match ends the test.

    Parameters
    ----------
    aligned, target, n, expand_first, fu, stol
        As for `lattice_test`.

    Returns
    -------
    int
        How far it came.
    """
    average, inverse = scratch.small[1], scratch.small[2]
    average_cell(aligned, target, average)
    normalization = (n / abs(inverted(average, inverse))) ** (1 / 3)
    if not one_reduced_form(average, stol / normalization, scratch.reductions, scratch.small):
        return WORK_LIMIT_REACHED
    first, second = scratch.first_reduced[0], scratch.second_reduced[0]
    wrap_onto(scratch.first, scratch.reductions.backs[0], n, first)
    wrap_onto(scratch.second, scratch.reductions.backs[0], n, second)
    stride, step = (fu, 1) if expand_first else (1, fu)
    came_to = NOT_COVERED
    for turned in range(2):
        if turned:
            if inverted_about_first(second, n, scratch):
                break
            expanded = first if expand_first else second
            for k in range(3):
                for i in range(n):
                    value = -expanded[k, i]
                    expanded[k, i] = value - np.floor(value)
        # Copies of a site by the translations of a supercell give the same translation.
        for anchor in range(0, n, step):
            if not scratch.anchors[anchor]:
                continue
            _exchange_with_first(anchor, second, scratch)
            answer = _with_anchor(anchor, n, stride, normalization, stol, scratch)
            _exchange_with_first(anchor, second, scratch)
            came_to = max(came_to, answer)
            if answer == WORK_LIMIT_REACHED or (
                answer == LET_THROUGH and scratch.every[0] != CHEAPEST_MAP
            ):
                return answer
    return came_to


@internal
def _exchange_with_first(site: int, coords: np.ndarray, scratch: Scratch) -> None:
    """Exchange a site of T with its first site, the anchor of all translations."""
    labels = scratch.labels[1]
    labels[0], labels[site] = labels[site], labels[0]
    for k in range(3):
        coords[k, 0], coords[k, site] = coords[k, site], coords[k, 0]


@internal
def _with_anchor(  # noqa: PLR0917
    anchor: int, n: int, stride: int, normalization: float, stol: float, scratch: Scratch
) -> int:
    """Translate T's first site, which is its site `anchor`, onto each site of G in turn."""
    differences(scratch.first_reduced[0], scratch.second_reduced[0], n, scratch.apart[1])
    came_to = NOT_COVERED
    cheapest = scratch.every[0] == CHEAPEST_MAP
    for start in range(0, n, stride):
        scratch.work[0] += n * n // 8
        if scratch.work[0] > scratch.work[1]:
            return WORK_LIMIT_REACHED
        if not mark(scratch.apart[1], n, start, scratch.reductions.windows[0], EDGE, scratch):
            continue
        scratch.work[0] += 6 * n * n
        answer, value = site_test(n, start, 0, normalization, stol, cheapest, scratch)
        came_to = max(came_to, TOO_FAR)
        if answer != SURE:
            continue
        came_to = LET_THROUGH
        if not cheapest:
            break
        _keep_if_cheaper(anchor, n, value, scratch)
    return came_to


@internal
def _keep_if_cheaper(anchor: int, n: int, value: float, scratch: Scratch) -> None:
    """Keep the current map if it is the cheapest so far; among equal costs, the one of least RMS.

    Of equal RMS that of the least squares of the differences, then the first.
    """
    columns, least = scratch.ints[1], scratch.least
    cost, rms = np.floor(value), np.sqrt(least[3])
    nearer = rms - least[1]
    if cost > least[0]:
        return
    if cost == least[0] and (nearer > RMS_TIES or (nearer > -RMS_TIES and value >= least[2])):
        return
    least[0], least[1], least[2] = cost, rms, value
    for i in range(n):
        scratch.atom_map[i] = columns[i]
    # T's first site and the anchor were exchanged.
    scratch.atom_map[0], scratch.atom_map[anchor] = columns[anchor], columns[0]
    for i in range(3):
        for k in range(3):
            scratch.map_lattice[i, k] = scratch.matrix[i, k]
