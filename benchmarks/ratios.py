"""Simulated coverage of the intervals of the novelty ratio and of observed / expected.

    python benchmarks/ratios.py [--draws 2000] [--base 300]

For every number n of eligible crystals and every share of unmatched ones, crystals of a model and
of a calibration are drawn. The script counts how often the 95 % interval contains the true ratio.
The base rates by crystal system are those of MP-20 (`docs/trust.md`).
"""

from __future__ import annotations

import argparse
from collections.abc import Iterable

import numpy as np

from novelty_metric.support.ratios import Stratum, koopman, score_of_ratio
from novelty_metric.support.statistics import Z_95, wilson

SIZES = (30, 100, 300, 1000, 3000)
SHARES = (0.01, 0.03, 0.06, 0.2, 0.6)
BASE_HITS = np.array([3, 6, 11, 5, 3, 0, 0])
BASE_TOTAL = np.array([26, 58, 89, 75, 49, 41, 114])
"""Unmatched and eligible MP-20 validation crystals, triclinic to cubic."""
BASE_SHARES = (BASE_HITS + 0.2) / (BASE_TOTAL + 2)
"""True ratios of the simulation; no crystal system has a share of 0."""
MODEL_SYSTEMS = {
    "as real crystals": BASE_TOTAL / BASE_TOTAL.sum(),
    "mostly triclinic": np.array([0.5, 0.25, 0.1, 0.05, 0.05, 0.025, 0.025]),
    "mostly cubic": np.array([0.0, 0.1, 0.1, 0.1, 0.1, 0.1, 0.5]),
}


def cover_crude(n: int, share: float, options: argparse.Namespace) -> float:
    """How often Koopman's interval contains the ratio of `share` to the base rate."""
    rng = np.random.default_rng([0, n])
    base = options.base
    truth = float(BASE_SHARES @ (BASE_TOTAL / BASE_TOTAL.sum()))
    hits = 0
    for _ in range(options.draws):
        ratio = koopman((int(rng.binomial(n, share)), n), (int(rng.binomial(base, truth)), base))
        assert ratio is not None
        hits += ratio.low <= share / truth <= ratio.high
    return hits / options.draws


def cover_standardised(
    n: int, share: float, systems: np.ndarray, options: argparse.Namespace
) -> float:
    """How often the interval of observed / expected contains its true value."""
    rng = np.random.default_rng([1, n])
    hits = 0
    for _ in range(options.draws):
        counts = rng.multinomial(n, systems)
        base_counts = rng.multinomial(options.base, BASE_TOTAL / BASE_TOTAL.sum())
        base_hits = rng.binomial(base_counts, BASE_SHARES)
        observed = [int(rng.binomial(n, share))] + [0] * (len(counts) - 1)  # only their sum matters
        strata = [
            Stratum(*(int(number) for number in row))
            for row in zip(observed, counts, base_hits, base_counts, strict=True)
        ]
        # Test directly whether the interval contains the value, without a search for its limits.
        hits += score_of_ratio(share / float(counts @ BASE_SHARES / n), strata) <= Z_95**2
    return hits / options.draws


def print_row(share: float, cells: Iterable[float]) -> None:
    print(f"{share:5}  " + "".join(f"{100 * cell:8.1f} " for cell in cells))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--draws", type=int, default=2000)
    parser.add_argument("--base", type=int, default=300, help="eligible crystals left out")
    options = parser.parse_args()
    noise = wilson(round(0.95 * options.draws), options.draws)
    assert noise is not None
    print(f"coverage in %; by chance {100 * noise.low:.1f}-{100 * noise.high:.1f} at 95")
    print("share  " + "".join(f"  n={n:<6}" for n in SIZES))
    print("novelty ratio")
    for share in SHARES:
        print_row(share, (cover_crude(n, share, options) for n in SIZES))
    for name, systems in MODEL_SYSTEMS.items():
        print(f"observed / expected, {name}")
        for share in SHARES:
            print_row(share, (cover_standardised(n, share, systems, options) for n in SIZES))


if __name__ == "__main__":
    main()
