"""Step 7: one-to-one assignment of the sites of T to those of G with the least sum of squares."""

from __future__ import annotations

import numpy as np

from novelty_metric.search.kernels.compilation import internal
from novelty_metric.search.kernels.constants import FORBIDDEN, IMAGES_TIE, SQUARES
from novelty_metric.search.kernels.coverage import count_marked
from novelty_metric.search.kernels.distances import distance_of
from novelty_metric.search.kernels.memory import Scratch, row_width
from novelty_metric.search.pettifor import NONE, WITHOUT_NUMBER


@internal
def settle(n: int, start: int, variant: int, limit: float, scratch: Scratch) -> int:
    """Assign the sites that have only one possible place, until all others have a choice.

    Every assignment gives them that place, so their spread alone is a lower bound on the RMS.

    Parameters
    ----------
    limit : float
        Sum of squared distances (Å²) from their mean at which a match is surely refused.

    Returns
    -------
    int
        How many sites are left, or -1 if there is no assignment, or none near enough.
    """
    allowed, doubt, vectors = scratch.allowed, scratch.doubt, scratch.vectors
    in_row, in_column, waiting = scratch.in_row, scratch.in_column, scratch.waiting
    row_of, column_of = scratch.settled[0], scratch.settled[1]
    if not count_marked(n, scratch):
        return -1
    width = row_width(n)
    top = 0
    for i in range(n):
        row_of[i] = column_of[i] = -1
        waiting[top] = i
        top += in_row[i] == 1
    for j in range(n):
        waiting[top] = n + j
        top += in_column[j] == 1
    settled, counted = 0, 0
    total, x, y, z = 0.0, 0.0, 0.0, 0.0
    while top > 0:
        top -= 1
        i, j = 0, 0
        if waiting[top] < n:
            i = waiting[top]
            if column_of[i] >= 0:
                continue
            while not allowed[i * width + j]:
                j += 1
        else:
            j = waiting[top] - n
            if row_of[j] >= 0:
                continue
            while not allowed[i * width + j]:
                i += 1
        row_of[j], column_of[i] = i, j
        settled += 1
        square = distance_of(i, j, start, width, variant, scratch)
        place = i * width + j
        if not doubt[place] & IMAGES_TIE:
            counted += 1
            total += square
            x += vectors[place, 0]
            y += vectors[place, 1]
            z += vectors[place, 2]
            if total - (x * x + y * y + z * z) / counted >= limit:
                return -1
        # The rest of its column, then of its row, without a branch to mispredict.
        empty = 0
        for other in range(n):
            place = other * width + j
            gone = allowed[place] * (other != i)
            allowed[place] -= gone
            in_row[other] -= gone
            waiting[top] = other
            top += gone * (in_row[other] == 1)
            empty += gone * (in_row[other] == 0)
        for other in range(n):
            place = i * width + other
            gone = allowed[place] * (other != j)
            allowed[place] -= gone
            in_column[other] -= gone
            waiting[top] = n + other
            top += gone * (in_column[other] == 1)
            empty += gone * (in_column[other] == 0)
        if empty > 0:
            return -1
    return n - settled


@internal
def assign_the_rest(n: int, left: int, start: int, variant: int, scratch: Scratch) -> bool:
    """Least-cost assignment of the sites that `settle` left open; False if there is none.

    Their rows and columns are put into ``scratch.rest``, their costs into ``scratch.open_cost``.
    """
    allowed, open_cost = scratch.allowed, scratch.open_cost
    rows, columns = scratch.rest[0], scratch.rest[1]
    row_of, column_of = scratch.settled[0], scratch.settled[1]
    n_rows, n_columns = 0, 0
    for i in range(n):
        rows[n_rows] = i
        columns[n_columns] = i
        n_rows += column_of[i] < 0
        n_columns += row_of[i] < 0
    width = row_width(n)
    for p in range(left):
        for q in range(left):
            place = rows[p] * width + columns[q]
            open_cost[p, q] = FORBIDDEN
            if allowed[place]:
                open_cost[p, q] = distance_of(rows[p], columns[q], start, width, variant, scratch)
    if not assign(open_cost, left, scratch):
        return False
    for p in range(left):
        column_of[rows[p]] = columns[scratch.ints[1, p]]
    return True


@internal
def assign(cost: np.ndarray, n: int, scratch: Scratch) -> bool:
    """Least-cost assignment of n rows to n columns, with its dual variables.

    Leaves the dual variables in ``scratch.floats[:2]``, each row's column in ``scratch.ints[1]``.
    Returns False as soon as a row can only take a forbidden entry: then every assignment holds one.
    """
    u, v, shortest = scratch.floats[0], scratch.floats[1], scratch.floats[2]
    row_of, column_of = scratch.ints[0], scratch.ints[1]
    path, remaining = scratch.ints[2], scratch.ints[3]
    row_seen, column_seen = scratch.flags[0], scratch.flags[1]
    # A first solution of the dual problem, and what can be assigned by it at once.
    for i in range(n):
        row_of[i] = -1
        column_of[i] = -1
        u[i] = np.inf
        v[i] = np.inf
        for j in range(n):
            u[i] = min(u[i], cost[i, j])
        if u[i] > FORBIDDEN / 10:
            return False
    for i in range(n):
        for j in range(n):
            v[j] = min(v[j], cost[i, j] - u[i])
    for i in range(n):
        if v[i] > FORBIDDEN / 10:
            return False
    for i in range(n):
        for j in range(n):
            if row_of[j] < 0 and cost[i, j] - u[i] - v[j] <= 0.0:
                row_of[j] = i
                column_of[i] = j
                break
    for current in range(n):
        if column_of[current] >= 0:
            continue
        for j in range(n):
            row_seen[j] = False
            column_seen[j] = False
            shortest[j] = np.inf
            remaining[j] = n - 1 - j
        left = n
        lowest = 0.0
        i = current
        sink = -1
        while sink < 0:
            row_seen[i] = True
            reached = lowest
            lowest = np.inf
            place = -1
            for t in range(left):
                j = remaining[t]
                distance = reached + cost[i, j] - u[i] - v[j]
                if distance < shortest[j]:
                    path[j] = i
                    shortest[j] = distance
                if shortest[j] < lowest or (shortest[j] == lowest and row_of[j] < 0):
                    lowest = shortest[j]
                    place = t
            if lowest > FORBIDDEN / 10:
                return False
            j = remaining[place]
            if row_of[j] < 0:
                sink = j
            else:
                i = row_of[j]
            column_seen[j] = True
            left -= 1
            remaining[place] = remaining[left]
        u[current] += lowest
        for i in range(n):
            if row_seen[i] and i != current:
                u[i] += lowest - shortest[column_of[i]]
        for j in range(n):
            if column_seen[j]:
                v[j] -= lowest - shortest[j]
        j = sink
        while True:
            i = path[j]
            row_of[j] = i
            previous = column_of[i]
            column_of[i] = j
            if i == current:
                break
            j = previous
    return True


@internal
def least_site_cost(scratch: Scratch, n: int) -> float:
    """Least sum of differences of Pettifor numbers over assignments of the marked entries.

    Marked are the entries of `allowed` above 0. Leaves each row's column in ``scratch.ints[1]``.
    Where all matches count, of equal sums the one with the least sum of squares, which comes on top
    with the weight `SQUARES`.
    """
    site_cost, labels = scratch.site_cost, scratch.labels
    width = row_width(n)
    total = 0.0
    several = False
    weight = SQUARES if scratch.every[0] else 0.0
    for i in range(n):
        marked = 0
        for j in range(n):
            site_cost[i, j] = FORBIDDEN
            if scratch.allowed[i * width + j] > 0:
                one, other = labels[0, j], labels[1, i]
                step = float(abs(one - other))
                if NONE in (one, other):
                    step = float(WITHOUT_NUMBER)
                step += weight * step * step
                site_cost[i, j] = step
                total += step
                scratch.ints[1, i] = j
                marked += 1
        several |= marked > 1
    if not several:
        return total
    if not assign(site_cost, n, scratch):
        return 0.0
    total = 0.0
    for i in range(n):
        total += site_cost[i, scratch.ints[1, i]]
    return total
