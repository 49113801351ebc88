"""The linear programme of a hull, compared with SciPy's solver."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.optimize import linprog

from novelty_metric.screening import mixture
from novelty_metric.screening.mixture import cheapest_mixture


def programme(seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Random compositions of small integers; many are equal or collinear."""
    rng = np.random.default_rng(seed)
    n_elements, n_known = int(rng.integers(1, 8)), int(rng.integers(0, 60))
    amounts = rng.integers(0, 4, size=(n_elements, n_known)).astype(float)
    amounts = amounts[:, amounts.sum(axis=0) > 0]
    fractions = np.hstack([np.eye(n_elements), amounts / amounts.sum(axis=0)])
    # Rounded energies cause ties, which can make a simplex method cycle.
    energies = np.round(rng.normal(-0.3, 0.3, fractions.shape[1]), int(rng.integers(0, 4)))
    wanted = rng.integers(1, 5, size=n_elements).astype(float)
    return fractions, energies, wanted / wanted.sum()


def test_agrees_with_scipy() -> None:
    for seed in range(200):
        fractions, energies, wanted = programme(seed)
        energy, shares = cheapest_mixture(fractions, energies, wanted)
        expected = linprog(
            energies, A_eq=fractions, b_eq=wanted, bounds=(0, None), method="highs-ds"
        )
        assert energy == pytest.approx(expected.fun, abs=1e-9), seed
        assert np.allclose(fractions @ shares, wanted, atol=1e-9) and (shares >= 0).all(), seed
        assert energies @ shares == pytest.approx(energy, abs=1e-9), seed


def test_other_solver_is_used_above_the_limit_of_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mixture, "_MOST_EXCHANGES", 1)
    for seed in range(20):
        fractions, energies, wanted = programme(seed)
        energy, _ = cheapest_mixture(fractions, energies, wanted)
        monkeypatch.setattr(mixture, "_MOST_EXCHANGES", 200)
        assert energy == pytest.approx(cheapest_mixture(fractions, energies, wanted)[0], abs=1e-9)
        monkeypatch.setattr(mixture, "_MOST_EXCHANGES", 1)
