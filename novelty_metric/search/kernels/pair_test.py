"""All steps in order for one pair of crystals."""

from __future__ import annotations

import numpy as np

from novelty_metric.search.kernels.cheapest_map import mark_anchors, matches_on_lattice
from novelty_metric.search.kernels.compilation import inlined
from novelty_metric.search.kernels.constants import (
    ACCEPTED,
    CHEAPEST_MAP,
    LET_THROUGH,
    MOST_CLASSES,
    NO_LATTICE,
    NO_VECTORS,
    WORK_LIMIT_REACHED,
)
from novelty_metric.search.kernels.coverage import mark_same
from novelty_metric.search.kernels.equivalent_lattices import (
    class_of,
    only_exchanged_by_reduction,
    operations_of,
)
from novelty_metric.search.kernels.geometry import cell_parameters
from novelty_metric.search.kernels.lattice_vectors import (
    at_angle,
    bounds_of_target,
    given_vectors,
    length_shells,
    place_of,
    surely_near,
    vectors_between,
)
from novelty_metric.search.kernels.memory import Pairs, Scratch
from novelty_metric.search.kernels.supercell import supercell_sites
from novelty_metric.search.kernels.translations import lattice_test
from novelty_metric.search.pettifor import BY_ATOMIC_NUMBER


@inlined
def pair_test(  # noqa: PLR0917
    index: int,
    ltol: float,
    stol: float,
    angle_tol: float,
    in_order: np.ndarray,
    n_own: int,
    pairs: Pairs,
    scratch: Scratch,
) -> tuple[int, float]:
    """Test one pair, G then T; one number of sites divides the other.

    `WORK_LIMIT_REACHED` as soon as there is more to compare than ``scratch.work`` allows.

    With coefficients of lattice vectors in pymatgen's order (``in_order``), every lattice is tested
    up to the first match that pymatgen surely accepts; the second value is then a lower bound of
    the sum of site costs (-1: unknown, infinite: refused). Without, the first match that it may
    accept ends the test; ``scratch.own`` then holds, if `n_own` is not negative, so many of G's
    lattice vectors by length: all that are not too long for this and other T. With
    ``scratch.every`` all matches count: the first ends the test, or the second value is the least
    cost of all of them, and the map is kept.
    """
    lattice, frac, other_lattice = pairs.lattice, pairs.frac, pairs.lattices[index]
    other_frac = pairs.fracs[pairs.offsets[index] : pairs.offsets[index + 1]]
    other_numbers = pairs.all_numbers[pairs.offsets[index] : pairs.offsets[index + 1]]
    n_first, n_second = len(frac), len(other_frac)
    every = scratch.every[0]
    expand_first = n_second >= n_first
    if expand_first:
        source, target, fu, n = lattice, other_lattice, n_second // n_first, n_second
        small, large, n_small = frac, other_frac, n_first
        expanded, kept = scratch.first, scratch.second
    else:
        source, target, fu, n = other_lattice, lattice, n_first // n_second, n_first
        small, large, n_small = other_frac, frac, n_second
        expanded, kept = scratch.second, scratch.first
    to_the_first = len(in_order) > 0
    wanted, parameters = scratch.parameters[0], scratch.parameters[1]
    bounds = scratch.bounds
    bounds_of_target(target, ltol, angle_tol, bounds)
    shortest = min(bounds[0, 0], bounds[0, 1], bounds[0, 2])
    longest = max(bounds[1, 0], bounds[1, 1], bounds[1, 2])
    vectors, start, stop = scratch.found, 0, 0
    if to_the_first:
        stop = given_vectors(source, in_order, vectors)
    elif expand_first and n_own >= 0:
        vectors = scratch.own
        start = place_of(shortest, vectors.length, n_own)
        stop = place_of(longest, vectors.length, n_own)
    else:
        stop = vectors_between(source, shortest, longest, vectors, scratch.small[5])
    if stop < 0:
        return LET_THROUGH, -1.0
    shell, near = scratch.shell, scratch.near
    n_a, n_b, n_c = length_shells(vectors.length, start, stop, bounds, shell)
    if min(n_a, n_b, n_c) == 0:
        return NO_VECTORS, np.inf
    came_to = NO_LATTICE
    lowest = np.inf

    tolerance = angle_tol * np.pi / 180
    alpha_low, beta_low, gamma_low = bounds[2, 0], bounds[2, 1], bounds[2, 2]
    alpha_high, beta_high, gamma_high = bounds[3, 0], bounds[3, 1], bounds[3, 2]
    coefficients, cart, unit = vectors.coefficients, vectors.cart, vectors.unit
    matrix, aligned = scratch.matrix, scratch.small[0]
    first_match = scratch.first_match
    # Of v and -v only one is listed, unless they are given: then the other has to be thought of.
    # All three turned around are left to `lattice_test`.
    turned = not to_the_first
    started = False
    # Lattices that an operation of T turns into one that was refused are refused too, if that
    # operation fixes T's anchor, the first site, and leads to the same cells. Where T is the
    # source it turns the whole cell. Where T is the target it exchanges axes, which the reduction
    # of the mean cell has to allow.
    by_class, first_lattice = not to_the_first, True
    operations, classes = scratch.operations, scratch.classes
    n_operations, n_classes = 0, 0
    for place_a in range(n_a):
        a = shell[0, place_a]
        # The fewer first: where none is near, the others need not be looked at.
        n_near_b, n_near_c = 1, 1
        if n_b <= n_c:
            n_near_b = at_angle(a, shell[1], n_b, unit, gamma_low, gamma_high, turned, near[0])
        if n_near_b > 0:
            n_near_c = at_angle(a, shell[2], n_c, unit, beta_low, beta_high, turned, near[1])
        if n_near_c > 0 and n_b > n_c:
            n_near_b = at_angle(a, shell[1], n_b, unit, gamma_low, gamma_high, turned, near[0])
        if min(n_near_b, n_near_c) == 0:
            continue
        for place_b in range(n_near_b):
            scratch.work[0] += n_near_c
            if scratch.work[0] > scratch.work[1]:
                return WORK_LIMIT_REACHED, -1.0
            b, b_sign = near[0, place_b] >> 1, 1 - 2 * (near[0, place_b] & 1)
            bx, by, bz = unit[b, 0], unit[b, 1], unit[b, 2]
            # b × a, so that the volume of the cell is -c times it.
            mx = coefficients[a, 1] * coefficients[b, 2] - coefficients[a, 2] * coefficients[b, 1]
            my = coefficients[a, 2] * coefficients[b, 0] - coefficients[a, 0] * coefficients[b, 2]
            mz = coefficients[a, 0] * coefficients[b, 1] - coefficients[a, 1] * coefficients[b, 0]
            for place_c in range(n_near_c):
                c, c_sign = near[1, place_c] >> 1, 1 - 2 * (near[1, place_c] & 1)
                det = mx * coefficients[c, 0] + my * coefficients[c, 1] + mz * coefficients[c, 2]
                if abs(det) != fu:
                    continue
                alpha = b_sign * c_sign * (bx * unit[c, 0] + by * unit[c, 1] + bz * unit[c, 2])
                if alpha < alpha_low or alpha > alpha_high:
                    continue
                for k in range(3):
                    matrix[0, k] = coefficients[a, k]
                    matrix[1, k] = b_sign * coefficients[b, k]
                    matrix[2, k] = c_sign * coefficients[c, k]
                    aligned[0, k] = cart[a, k]
                    aligned[1, k] = b_sign * cart[b, k]
                    aligned[2, k] = c_sign * cart[c, k]
                cell_parameters(aligned, parameters)
                if first_lattice:
                    first_lattice = False
                    cell_parameters(target, wanted)
                    by_class &= (
                        every > 0
                        or not expand_first
                        or only_exchanged_by_reduction(wanted, ltol, tolerance)
                    )
                if by_class:
                    if n_operations == 0:
                        n_operations = operations_of(
                            other_lattice,
                            other_frac,
                            other_numbers,
                            n_second,
                            every > 0,
                            operations,
                        )
                    if n_operations > 1:
                        code = class_of(matrix, operations, n_operations, not expand_first)
                        known = False
                        for earlier in range(n_classes):
                            known |= classes[earlier] == code
                        if known:
                            continue
                        if code >= 0 and n_classes < MOST_CLASSES:
                            classes[n_classes] = code
                            n_classes += 1
                sure = to_the_first and surely_near(parameters, wanted, ltol, angle_tol)
                if not started:
                    started = True
                    for i in range(n):
                        for k in range(3):
                            kept[k, i] = large[i, k] - np.floor(large[i, k])
                        one = pairs.numbers[i * n_first // n]
                        other = other_numbers[i * n_second // n]
                        if not scratch.by_element[0]:
                            one, other = BY_ATOMIC_NUMBER[one], BY_ATOMIC_NUMBER[other]
                        scratch.labels[0, i], scratch.labels[1, i] = one, other
                    if scratch.by_element[0]:
                        mark_same(n, scratch)
                    if every:
                        mark_anchors(n, scratch)
                if not supercell_sites(small, n_small, matrix, fu, expanded, scratch):
                    return LET_THROUGH, -1.0
                answer, cost = 0, 0.0
                if every:
                    answer = matches_on_lattice(
                        parameters, wanted, n, expand_first, fu, stol, scratch
                    )
                    cost = -1.0 if answer == WORK_LIMIT_REACHED else scratch.least[0]
                else:
                    answer, cost = lattice_test(
                        parameters,
                        wanted,
                        n,
                        expand_first,
                        fu,
                        stol,
                        sure,
                        to_the_first,
                        scratch,
                    )
                if cost < 0:
                    return max(answer, LET_THROUGH), -1.0
                if to_the_first and answer >= LET_THROUGH > came_to:
                    first_match[0], first_match[1], first_match[2], first_match[4] = a, b, c, sure
                lowest = min(lowest, cost)
                came_to = max(came_to, min(answer, LET_THROUGH))
                if answer == ACCEPTED or (
                    answer == LET_THROUGH and not to_the_first and every != CHEAPEST_MAP
                ):
                    return LET_THROUGH, lowest
    return came_to, lowest
