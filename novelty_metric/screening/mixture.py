"""The cheapest mixture of known compositions, by linear programming."""

from __future__ import annotations

import numpy as np

_TOLERANCE = 1e-10
"""A smaller reduced cost or fraction is zero (eV/atom; atomic fraction)."""

_MOST_EXCHANGES = 200
"""Maximum number of basis exchanges before the general solver; real systems need about ten."""

MOST_STEPS = 20_000
"""Maximum number of steps of the general solver; 94 elements and 24,264 crystals take 400."""


def cheapest_mixture(
    fractions: np.ndarray, energies: np.ndarray, wanted: np.ndarray
) -> tuple[float, np.ndarray]:
    """Energy of the cheapest mixture of known compositions with the given composition.

    Parameters
    ----------
    fractions : float64, (n_elements, n_known)
        Share of the atoms; every pure element is among the columns.
    energies : float64, (n_known,)
        eV/atom.
    wanted : float64, (n_elements,)
        Share of the atoms.

    Returns
    -------
    energy : float
        eV/atom.
    shares : float64, (n_known,)
        Of the atoms, in each known composition.

    Raises
    ------
    RuntimeError
        If no solver finds it.

    Notes
    -----
    The simplex method, from the mixture of the pure elements, with the largest reduced cost first.
    These programmes are tiny (a few rows, some hundred columns): a general solver takes ten times
    as long to be called as to solve one. If the exchanges do not end, HiGHS solves the problem.
    """
    n_elements = len(wanted)
    by_element = np.where(fractions == 1.0, energies, np.inf)
    basis = by_element.argmin(axis=1)
    shares = wanted.astype(np.float64)
    inverse = np.eye(n_elements)
    for _ in range(_MOST_EXCHANGES):
        prices = energies[basis] @ inverse
        reduced = energies - prices @ fractions
        entering = int(reduced.argmin())
        if reduced[entering] >= -_TOLERANCE:
            found = np.zeros(len(energies))
            np.add.at(found, basis, np.maximum(shares, 0.0))
            return float(energies[basis] @ shares), found
        column = inverse @ fractions[:, entering]
        usable = column > _TOLERANCE
        ratios = np.full(n_elements, np.inf)
        ratios[usable] = np.maximum(shares[usable], 0.0) / column[usable]
        leaving = int(ratios.argmin())
        if not np.isfinite(ratios[leaving]):
            break
        basis[leaving] = entering
        inverse = np.linalg.inv(fractions[:, basis])
        shares = inverse @ wanted
    from scipy.optimize import linprog

    result = linprog(
        energies,
        A_eq=fractions,
        b_eq=wanted,
        bounds=(0, None),
        method="highs-ds",
        options={
            "maxiter": MOST_STEPS,
            "primal_feasibility_tolerance": 1e-10,
            "dual_feasibility_tolerance": 1e-10,
        },
    )
    if result.status != 0:  # the elements span every composition: a fault, or too many steps
        raise RuntimeError(f"the hull at {wanted.tolist()} was not found: {result.message}")
    return float(result.fun), result.x
