"""Cells as 3×3 matrices and as six parameters."""

from __future__ import annotations

import numpy as np

from novelty_metric.search.kernels.compilation import internal


@internal
def inverted(matrix: np.ndarray, out: np.ndarray) -> float:
    """Inverse of a 3×3 matrix into `out`; returns the determinant."""
    det = (
        matrix[0, 0] * (matrix[1, 1] * matrix[2, 2] - matrix[1, 2] * matrix[2, 1])
        + matrix[0, 1] * (matrix[1, 2] * matrix[2, 0] - matrix[1, 0] * matrix[2, 2])
        + matrix[0, 2] * (matrix[1, 0] * matrix[2, 1] - matrix[1, 1] * matrix[2, 0])
    )
    for i in range(3):
        for j in range(3):
            out[i, j] = (
                matrix[(j + 1) % 3, (i + 1) % 3] * matrix[(j + 2) % 3, (i + 2) % 3]
                - matrix[(j + 2) % 3, (i + 1) % 3] * matrix[(j + 1) % 3, (i + 2) % 3]
            ) / det
    return det


@internal
def inner(one: np.ndarray, other: np.ndarray) -> float:
    """Inner product of two vectors, (3,)."""
    return one[0] * other[0] + one[1] * other[1] + one[2] * other[2]


@internal
def cell_parameters(matrix: np.ndarray, out: np.ndarray) -> None:
    """Lengths (Å) and angles (radians) of a cell into `out`, (6,)."""
    for i in range(3):
        out[i] = np.sqrt(matrix[i, 0] ** 2 + matrix[i, 1] ** 2 + matrix[i, 2] ** 2)
    for i in range(3):
        j, k = (i + 1) % 3, (i + 2) % 3
        dot = (
            matrix[j, 0] * matrix[k, 0] + matrix[j, 1] * matrix[k, 1] + matrix[j, 2] * matrix[k, 2]
        )
        out[3 + i] = np.arccos(min(1.0, max(-1.0, dot / (out[j] * out[k]))))


@internal
def average_cell(one: np.ndarray, other: np.ndarray, out: np.ndarray) -> None:
    """Cell with the mean lengths and angles of two cells, in pymatgen's orientation, into `out`."""
    a, b, c = (one[0] + other[0]) / 2, (one[1] + other[1]) / 2, (one[2] + other[2]) / 2
    alpha, beta, gamma = (one[3] + other[3]) / 2, (one[4] + other[4]) / 2, (one[5] + other[5]) / 2
    value = (np.cos(alpha) * np.cos(beta) - np.cos(gamma)) / (np.sin(alpha) * np.sin(beta))
    gamma_star = np.arccos(min(1.0, max(-1.0, value)))
    out[0, 0], out[0, 1], out[0, 2] = a * np.sin(beta), 0.0, a * np.cos(beta)
    out[1, 0] = -b * np.sin(alpha) * np.cos(gamma_star)
    out[1, 1] = b * np.sin(alpha) * np.sin(gamma_star)
    out[1, 2] = b * np.cos(alpha)
    out[2, 0], out[2, 1], out[2, 2] = 0.0, 0.0, c
