"""Ratios of shares: published examples, independent implementations, simulated coverage."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import optimize, stats

from novelty_metric.support.ratios import (
    Ratio,
    Stratum,
    copying_z,
    koopman,
    score_of_ratio,
    standardised,
    strata_of,
)

counts = st.integers(0, 60).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n)))


def test_koopmans_example() -> None:
    """Koopman, Biometrics 40, 513 (1984): 36 of 40 against 16 of 80."""
    ratio = koopman((36, 40), (16, 80))
    assert ratio is not None
    assert ratio.value == pytest.approx(4.5)
    assert (round(ratio.low, 2), round(ratio.high, 2)) == (2.94, 7.15)


@given(counts, counts)
def test_limits_of_koopmans_interval_agree_with_the_score_test(
    first: tuple[int, int], second: tuple[int, int]
) -> None:
    ratio = koopman(first, second)
    if ratio is None:
        assert first[1] == 0 or second[1] == 0
        return
    for limit, inside in ((ratio.low, 1.02), (ratio.high, 0.98)):
        if 0 < limit < math.inf:
            assert score(limit * inside, first, second) < 1.96**2 + 1e-6
            assert score(limit / inside, first, second) > 1.96**2 - 1e-6


def score(ratio: float, first: tuple[int, int], second: tuple[int, int]) -> float:
    """Koopman's statistic, with maximum-likelihood shares from a search instead of the formula."""
    (x1, n1), (x2, n2) = first, second
    top = min(1.0, 1 / ratio)
    p2 = np.linspace(0, top, 20_001)[1:-1]
    p1 = ratio * p2
    likelihood = stats.binom.logpmf(x1, n1, p1) + stats.binom.logpmf(x2, n2, p2)
    best = int(np.argmax(likelihood))
    one, two = p1[best], p2[best]
    return float(
        (x1 - n1 * one) ** 2 / (n1 * one * (1 - one))
        + (x2 - n2 * two) ** 2 / (n2 * two * (1 - two))
    )


def test_ratios_as_text() -> None:
    assert Ratio(4.66, 3.12, 7.04).text == "4.7 [3.1-7.0]"
    assert Ratio(None, 0.0, math.inf).text == "unknown"
    assert Ratio(math.inf, 3.3, math.inf).text == "at least 3.3"


def test_ratio_without_hits_and_without_crystals() -> None:
    assert koopman((0, 0), (3, 9)) is None
    nothing = koopman((0, 10), (0, 20))
    assert nothing is not None
    assert (nothing.value, nothing.low, nothing.high) == (None, 0.0, math.inf)
    copies = koopman((0, 100), (6, 100))
    assert copies is not None
    assert (copies.value, copies.low) == (0.0, 0.0)
    assert copies.high < 1
    beyond = koopman((6, 100), (0, 100))
    assert beyond is not None
    assert beyond.value == math.inf
    assert beyond.low > 1
    with pytest.raises(ValueError, match="5 hits of 4"):
        koopman((5, 4), (1, 2))


@pytest.mark.parametrize(("n", "share"), [(30, 0.06), (300, 0.01), (300, 0.2), (3000, 0.6)])
def test_coverage_of_the_ratio(n: int, share: float) -> None:
    rng = np.random.default_rng(0)
    base, draws = 0.06, 400
    hits = 0
    for _ in range(draws):
        ratio = koopman((int(rng.binomial(n, share)), n), (int(rng.binomial(300, base)), 300))
        assert ratio is not None
        hits += ratio.low <= share / base <= ratio.high
    assert 0.92 <= hits / draws <= 0.985


@pytest.mark.parametrize(("n", "share"), [(30, 0.06), (300, 0.2), (3000, 0.01)])
def test_coverage_of_observed_over_expected(n: int, share: float) -> None:
    """For a model of mostly cubic crystals; hardly any real cubic crystal is unmatched."""
    rng = np.random.default_rng(3)
    base_shares = np.array([0.11, 0.1, 0.07, 0.005, 0.002])
    base_systems = np.array([0.06, 0.13, 0.36, 0.2, 0.25])
    draws, hits = 1000, 0
    for _ in range(draws):
        totals = rng.multinomial(n, [0.05, 0.1, 0.2, 0.15, 0.5])
        base_totals = rng.multinomial(300, base_systems)
        base_hits = rng.binomial(base_totals, base_shares)
        observed = [int(rng.binomial(n, share)), 0, 0, 0, 0]
        counts = zip(observed, totals, base_hits, base_totals, strict=True)
        strata = [Stratum(*map(int, stratum)) for stratum in counts]
        truth = share / float(totals @ base_shares / n)
        hits += score_of_ratio(truth, strata) <= 1.96**2  # then the interval contains it
    assert 0.93 <= hits / draws <= 0.975


def test_limits_of_observed_over_expected_agree_with_the_score_test() -> None:
    """Shares come from a general optimiser instead of the Lagrange multiplier."""
    strata = [Stratum(4, 12, 2, 9), Stratum(1, 30, 3, 60), Stratum(0, 8, 0, 40)]
    found = standardised(strata)
    assert found is not None
    for limit in (found.ratio.low, found.ratio.high):
        assert score_of_sum(limit, strata) == pytest.approx(1.96**2, abs=2e-3)
        assert score_of_ratio(limit, strata) == pytest.approx(1.96**2, abs=1e-3)


def score_of_sum(ratio: float, strata: list[Stratum]) -> float:
    crude = sum(s.base_hits for s in strata) / sum(s.base_total for s in strata)
    hits = np.array([s.base_hits + 0.5 * crude for s in strata])
    totals = np.array([s.base_total + 0.5 for s in strata])
    n, x = sum(s.total for s in strata), sum(s.hits for s in strata)
    weights = np.array([s.total / n for s in strata])

    def unlikely(rates: np.ndarray) -> float:
        p = ratio * weights @ rates
        if p >= 1:
            return 1e6
        of_model = x * np.log(p) + (n - x) * np.log(1 - p)
        return float(-of_model - hits @ np.log(rates) - (totals - hits) @ np.log(1 - rates))

    found = optimize.minimize(
        unlikely, hits / totals, bounds=[(1e-9, 1 - 1e-9)] * 3, tol=1e-14, method="Nelder-Mead",
        options={"maxiter": 20_000, "xatol": 1e-12},
    )  # fmt: skip
    rates = found.x
    p = ratio * weights @ rates
    pearson = (hits - totals * rates) ** 2 / (totals * rates * (1 - rates))
    return float((x - n * p) ** 2 / (n * p * (1 - p)) + pearson.sum())


def test_one_crystal_system_gives_koopmans_interval() -> None:
    found, crude = standardised([Stratum(20, 100, 15, 300)]), koopman((20, 100), (15, 300))
    assert found is not None
    assert crude is not None
    assert found.ratio.low == pytest.approx(crude.low, rel=1e-3)
    assert found.ratio.high == pytest.approx(crude.high, rel=1e-3)


def test_without_unmatched_real_crystals_only_the_lower_limit_is_known() -> None:
    for strata in ([Stratum(3, 8, 0, 8), Stratum(0, 3, 0, 40)], [Stratum(78, 100, 0, 10)]):
        found = standardised(strata)
        assert found is not None
        assert (found.ratio.value, found.ratio.high) == (math.inf, math.inf)
        assert score_of_ratio(found.ratio.low, strata) == pytest.approx(1.96**2, abs=1e-3)
    none = standardised([Stratum(0, 8, 0, 8)])
    assert none is not None
    assert (none.ratio.value, none.ratio.low, none.ratio.high) == (None, 0.0, math.inf)


def test_expected_novelty_calculated_by_hand() -> None:
    """Two systems of 100 and 300 real crystals: shares 0.1 and 0, shrunk towards 0.025."""
    found = standardised([Stratum(3, 20, 10, 100), Stratum(0, 80, 0, 300)])
    assert found is not None
    first = (10 + 0.5 * 0.025) / 100.5
    second = 0.5 * 0.025 / 300.5
    assert found.expected == pytest.approx(20 * first + 80 * second)
    assert found.observed == 3
    assert found.ratio.value == pytest.approx(3 / found.expected)
    assert found.ratio.low < 3 / found.expected < found.ratio.high


def test_expected_novelty_depends_on_the_crystal_systems() -> None:
    """Half of its crystals are triclinic, where real crystals are often new."""
    base = {"triclinic": (30, 100), "cubic": (0, 400)}
    model = {"triclinic": (30, 100), "cubic": (0, 100)}
    crude = koopman((30, 200), (30, 500))
    found = standardised(strata_of(model, base))
    assert crude is not None
    assert found is not None
    assert crude.low > 1
    assert found.ratio.value == pytest.approx(1, abs=0.02)
    assert found.ratio.low < 1 < found.ratio.high


def test_system_without_real_crystals_uses_the_overall_rate() -> None:
    found = standardised(strata_of({"cubic": (1, 10)}, {"hexagonal": (5, 50)}))
    assert found is not None
    assert found.expected == pytest.approx(1.0)


def test_nothing_to_compare() -> None:
    assert standardised([]) is None
    assert standardised([Stratum(1, 3, 0, 0)]) is None
    assert copying_z([], [1.0]) is None
    assert copying_z([2.0, 2.0], [2.0]) is None


@given(
    st.lists(st.sampled_from([0.0, 0.5, 2.0, 7.0, math.inf]), min_size=2, max_size=30),
    st.lists(st.sampled_from([0.0, 0.5, 2.0, 7.0, math.inf]), min_size=2, max_size=30),
)
def test_copying_z_agrees_with_scipys_mann_whitney(first: list[float], second: list[float]) -> None:
    z = copying_z(first, second)
    if z is None:
        assert len(set(first + second)) == 1
        return
    finite = [[1e9 if math.isinf(v) else v for v in values] for values in (first, second)]
    p = stats.mannwhitneyu(*finite, use_continuity=False, method="asymptotic").pvalue
    assert 2 * stats.norm.sf(abs(z)) == pytest.approx(p, abs=1e-9)
    assert copying_z(second, first) == pytest.approx(-z)


def test_copies_are_closer_than_real_crystals() -> None:
    z = copying_z([0.0] * 50, [0.0] * 2 + [1.5] * 40 + [math.inf] * 3)
    assert z is not None
    assert z < -3
