"""Step 5: the pairs of sites within the fractional window."""

from __future__ import annotations

import numpy as np

from novelty_metric.search.kernels.compilation import internal
from novelty_metric.search.kernels.memory import Scratch, row_width

WHOLE = 2.0**32
LARGEST = 2**32 - 1
"""Fractional vectors are compared as integers with this many parts to a period. Rounding by one
part is far less than `EDGE`, whole periods cancel by overflow, and eight or more are compared at a
time.
"""

LAST_BYTE = np.uint64(0xFF)
ALL_BYTES = np.uint64(0xFFFFFFFFFFFFFFFF)
NO_BYTES = np.uint64(0)
ONE_BYTE, TWO_BYTES, FOUR_BYTES = np.uint64(8), np.uint64(16), np.uint64(32)
"""For counting eight bytes at once as parts of one word; the last three are numbers of bits."""


@internal
def differences(first: np.ndarray, second: np.ndarray, n: int, apart: np.ndarray) -> None:
    """Fractional vectors from each site of T to each site of G, as `WHOLE`ths, into `apart`.

    What is more than a whole period falls away, as integers are from_kernel modulo their range.
    """
    width = row_width(n)
    for k in range(3):
        for i in range(n):
            other = np.int64(second[k, i] * WHOLE)
            for j in range(n):
                apart[k, i * width + j] = np.uint32(np.int64(first[k, j] * WHOLE) - other)


@internal
def mark(  # noqa: PLR0917
    apart: np.ndarray, n: int, start: int, window: np.ndarray, slack: float, scratch: Scratch
) -> bool:
    """Mark the sites of G within reach of each site of T, with T's first site moved onto `start`.

    Parameters
    ----------
    apart : uint32, (3, n · width)
        From `differences`.
    window : (3,)
        Greatest components, fractional; `slack` is added.

    Returns
    -------
    bool
        Whether each site of T has one.
    """
    allowed, words = scratch.allowed, scratch.allowed_words
    width = row_width(n)
    limit_x, limit_y, limit_z = (
        _as_whole(window[0] + slack),
        _as_whole(window[1] + slack),
        _as_whole(window[2] + slack),
    )
    # -limit to limit becomes 0 to twice the limit.
    x = limit_x - np.int64(apart[0, start])
    y = limit_y - np.int64(apart[1, start])
    z = limit_z - np.int64(apart[2, start])
    most_x, most_y, most_z = (
        np.uint32(min(2 * limit_x, LARGEST)),
        np.uint32(min(2 * limit_y, LARGEST)),
        np.uint32(min(2 * limit_z, LARGEST)),
    )
    for place in range(n * width):
        allowed[place] = (
            (np.uint32(apart[0, place] + x) <= most_x)
            & (np.uint32(apart[1, place] + y) <= most_y)
            & (np.uint32(apart[2, place] + z) <= most_z)
        )
    n_words = width // 8
    if scratch.by_element[0]:
        for at in range(n * n_words):
            words[at] &= scratch.same_words[at]
    in_use = ALL_BYTES >> np.uint64(8 * (width - n))
    any_row_empty = False
    for i in range(n):
        words[(i + 1) * n_words - 1] &= in_use
        any_allowed = NO_BYTES
        for at in range(n_words):
            any_allowed |= words[i * n_words + at]
        any_row_empty |= any_allowed == NO_BYTES
    return not any_row_empty


@internal
def mark_same(n: int, scratch: Scratch) -> None:
    """Mark the pairs of sites with equal labels, in ``scratch.same``."""
    for i in range(n):
        for j in range(n):
            marked = scratch.labels[0, j] == scratch.labels[1, i]
            scratch.same[i * row_width(n) + j] = marked


@internal
def _as_whole(window: float) -> int:
    """A window in `WHOLE`ths; a window of half a period includes everything."""
    return int(max(0.0, min(window, 0.5)) * WHOLE)


@internal
def count_marked(n: int, scratch: Scratch) -> bool:
    """Count the marks by row and by column, eight at a time as the bytes of a word.

    Returns
    -------
    bool
        Whether each row and each column has something.
    """
    words, in_row, in_column = scratch.allowed_words, scratch.in_row, scratch.in_column
    width = row_width(n)
    n_words = width // 8
    for i in range(n):
        total = NO_BYTES
        for at in range(n_words):
            # Bytes are added up by halves; there are eight at most, so none overflows.
            word = words[i * n_words + at]
            word += word >> FOUR_BYTES
            word += word >> TWO_BYTES
            word += word >> ONE_BYTE
            total += word & LAST_BYTE
        in_row[i] = total
    for j in range(width):
        in_column[j] = 0
    for low in range(0, n, 255):
        for at in range(n_words):
            total = NO_BYTES
            for i in range(low, min(n, low + 255)):
                total += words[i * n_words + at]
            for j in range(8):
                in_column[8 * at + j] += (total >> np.uint64(8 * j)) & LAST_BYTE
    least = n
    for j in range(n):
        least = min(least, in_column[j])
    return least > 0
