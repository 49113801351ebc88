"""Step 1: lattice vectors of the smaller cell that can correspond to those of the larger cell."""

from __future__ import annotations

import numpy as np

from novelty_metric.search.kernels.compilation import internal
from novelty_metric.search.kernels.constants import EDGE, MOST_VECTORS, SLACK
from novelty_metric.search.kernels.geometry import inner, inverted
from novelty_metric.search.kernels.memory import Vectors


@internal
def bounds_of_target(target: np.ndarray, ltol: float, angle_tol: float, bounds: np.ndarray) -> None:
    """Bounds of the lengths and cosines of such vectors, into ``scratch.bounds``.

    Most pairs end here or soon after: without a single angle.
    """
    cos_tol, sin_tol = np.cos(angle_tol * np.pi / 180), np.sin(angle_tol * np.pi / 180)
    for k in range(3):
        length = np.sqrt(inner(target[k], target[k]))
        bounds[0, k] = length * (1 - SLACK) / (1 + ltol)
        bounds[1, k] = length * (1 + SLACK) * (1 + ltol)
    for k in range(3):
        one, other = target[(k + 1) % 3], target[(k + 2) % 3]
        cosine = inner(one, other) / np.sqrt(inner(one, one) * inner(other, other))
        sine = np.sqrt(max(0.0, 1 - cosine * cosine))
        bounds[2, k], bounds[3, k] = -1 - EDGE, 1 + EDGE
        if cosine > -cos_tol:
            bounds[2, k] = cosine * cos_tol - sine * sin_tol - EDGE
        if cosine < cos_tol:
            bounds[3, k] = cosine * cos_tol + sine * sin_tol + EDGE


@internal
def vectors_between(
    lattice: np.ndarray, lowest: float, highest: float, out: Vectors, inverse: np.ndarray
) -> int:
    """Lattice vectors with lengths in a range (Å); only one of v and -v.

    `inverse`, (3, 3), is written over.

    Returns
    -------
    int
        How many; -1 if they are too many.
    """
    coefficients, cart, unit, length = out.coefficients, out.cart, out.unit, out.length
    inverted(lattice, inverse)
    p_most, q_most, r_most = (
        _reach(inverse, 0, highest),
        _reach(inverse, 1, highest),
        _reach(inverse, 2, highest),
    )
    least = lowest * lowest * (1 - SLACK)
    most = highest * highest * (1 + SLACK)
    found = 0
    for p in range(p_most + 1):
        for q in range(0 if p == 0 else -q_most, q_most + 1):
            x = p * lattice[0, 0] + q * lattice[1, 0]
            y = p * lattice[0, 1] + q * lattice[1, 1]
            z = p * lattice[0, 2] + q * lattice[1, 2]
            for r in range(1 if p == 0 and q == 0 else -r_most, r_most + 1):
                dx = x + r * lattice[2, 0]
                dy = y + r * lattice[2, 1]
                dz = z + r * lattice[2, 2]
                square = dx * dx + dy * dy + dz * dz
                if square < least or square > most:
                    continue
                if found == MOST_VECTORS:
                    return -1
                coefficients[found, 0] = p
                coefficients[found, 1] = q
                coefficients[found, 2] = r
                cart[found, 0] = dx
                cart[found, 1] = dy
                cart[found, 2] = dz
                length[found] = np.sqrt(square)
                inverse_length = 1 / length[found]
                unit[found, 0] = dx * inverse_length
                unit[found, 1] = dy * inverse_length
                unit[found, 2] = dz * inverse_length
                found += 1
    return found


@internal
def _reach(inverse: np.ndarray, k: int, longest: float) -> int:
    """Greatest coefficient k of a lattice vector of this length, from the inverse of the cell."""
    steepest = np.sqrt(inverse[0, k] ** 2 + inverse[1, k] ** 2 + inverse[2, k] ** 2)
    return int(longest * steepest + 1e-6)


@internal
def given_vectors(lattice: np.ndarray, in_order: np.ndarray, out: Vectors) -> int:
    """The lattice vectors with these coefficients, in this order; -1 if there are too many."""
    coefficients, cart, unit, length = out.coefficients, out.cart, out.unit, out.length
    if len(in_order) > MOST_VECTORS:
        return -1
    for place in range(len(in_order)):
        square = 0.0
        for k in range(3):
            coefficients[place, k] = in_order[place, k]
            cart[place, k] = (
                in_order[place, 0] * lattice[0, k]
                + in_order[place, 1] * lattice[1, k]
                + in_order[place, 2] * lattice[2, k]
            )
            square += cart[place, k] ** 2
        length[place] = np.sqrt(square)
        for k in range(3):
            unit[place, k] = cart[place, k] / max(length[place], SLACK)  # zero is listed too
    return len(in_order)


@internal
def order_by_length(vectors: Vectors, count: int) -> None:
    """Sort the first vectors by length with Shell's method; `argsort` compiles for seconds."""
    coefficients, cart = vectors.coefficients, vectors.cart
    unit, length = vectors.unit, vectors.length
    gap = 1
    while gap < count:
        gap = 3 * gap + 1
    while gap > 0:
        for place in range(gap, count):
            at = place
            while at >= gap and length[at - gap] > length[at]:
                length[at - gap], length[at] = length[at], length[at - gap]
                for k in range(3):
                    here, there = (at, k), (at - gap, k)
                    coefficients[here], coefficients[there] = (
                        coefficients[there],
                        coefficients[here],
                    )
                    cart[here], cart[there] = cart[there], cart[here]
                    unit[here], unit[there] = unit[there], unit[here]
                at -= gap
        gap //= 3


@internal
def place_of(value: float, increasing: np.ndarray, count: int) -> int:
    """Number of values among the first `count` that are below a threshold."""
    low, high = 0, count
    while low < high:
        middle = (low + high) // 2
        if increasing[middle] < value:
            low = middle + 1
        else:
            high = middle
    return low


@internal
def length_shells(
    length: np.ndarray, start: int, stop: int, bounds: np.ndarray, shell: np.ndarray
) -> tuple[int, int, int]:
    """Find the vectors from `start` to `stop` that can match each target vector; their numbers."""
    a, b, c = 0, 0, 0
    a_least, a_most = bounds[0, 0], bounds[1, 0]
    b_least, b_most = bounds[0, 1], bounds[1, 1]
    c_least, c_most = bounds[0, 2], bounds[1, 2]
    for place in range(start, stop):
        value = length[place]
        # Written always, kept if it belongs there: no branch to mispredict.
        shell[0, a] = place
        a += a_least < value < a_most
        shell[1, b] = place
        b += b_least < value < b_most
        shell[2, c] = place
        c += c_least < value < c_most
    return a, b, c


@internal
def at_angle(  # noqa: PLR0917
    a: int,
    others: np.ndarray,
    count: int,
    unit: np.ndarray,
    low: float,
    high: float,
    turned: bool,
    near: np.ndarray,
) -> int:
    """Find the vectors at an angle to a given one whose cosine is in a range; their number.

    Into `near`, twice the vector's place; `turned` too, then once more, plus one.
    """
    x, y, z = unit[a, 0], unit[a, 1], unit[a, 2]
    middle, reach = (high + low) / 2, (high - low) / 2
    found = 0
    for at in range(count):
        # As in `length_shells`.
        place = others[at]
        cosine = x * unit[place, 0] + y * unit[place, 1] + z * unit[place, 2]
        near[found] = 2 * place
        found += abs(cosine - middle) <= reach
        near[found] = 2 * place + 1
        found += turned & (abs(cosine + middle) <= reach)
    return found


@internal
def surely_near(parameters: np.ndarray, wanted: np.ndarray, ltol: float, angle_tol: float) -> bool:
    """True if a cell is within the tolerances of the target, by more than rounding."""
    for k in range(3):
        ratio = parameters[k] / wanted[k]
        if ratio > (1 + ltol) * (1 - SLACK) or ratio * (1 + ltol) < 1 + SLACK:
            return False
        if abs(parameters[3 + k] - wanted[3 + k]) > angle_tol * np.pi / 180 - EDGE:
            return False
    return True
