"""Comparison of two reports: intervals by hand and by simulation, tests, crystals, warnings."""

from __future__ import annotations

import dataclasses
import itertools
import math
from collections import Counter
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binomtest, fisher_exact

from novelty_metric.comparison.compare import SHARES, ChangeTest, Comparison, compare
from novelty_metric.comparison.permutation import Outcome, paired_p_value
from novelty_metric.protocol import Protocol
from novelty_metric.reference.calibration import Calibration, LeftOutCrystal
from novelty_metric.relaxation.base import PotentialInfo
from novelty_metric.report.context import RunContext
from novelty_metric.report.novelty_report import NoveltyReport
from novelty_metric.support.ratios import koopman
from novelty_metric.support.statistics import Change, newcombe, wilson
from novelty_metric.verdict import CrystalResult, Route, Verdict

OUT, MISS, HIT = (False, False), (True, False), (True, True)
CHGNET = PotentialInfo(name="chgnet", version="0.3.0", weights_hash="ab" * 32)

FAST = Protocol.named("fast")


def context(**changes: Any) -> RunContext:
    given: dict[str, Any] = {
        "protocol": Protocol.named("fast"),
        "reference_name": "mp_20",
        "reference_size": 27136,
        "crystals_hash": "c" * 64,
        "store_hash": "d" * 64,
        "potential": CHGNET,
        "hull": {"name": "reference", "reference": "mp_20", "crystals": 27136},
    }
    return RunContext(**{**given, **changes})


def row(identifier: object, verdict: Verdict | None, **changes: Any) -> CrystalResult:
    """An eligible crystal, or one that is not eligible if it has no verdict."""
    given: dict[str, Any] = {
        "formula": "NaCl",
        "smact_valid": True,
        "converged": True,
        "e_above_hull": 0.02,
        "eligible": verdict is not None,
        "verdict": verdict,
    }
    return CrystalResult(id=str(identifier), **{**given, **changes})


def report(*verdicts: Verdict | None, prefix: str = "", **changes: Any) -> NoveltyReport:
    rows = [row(f"{prefix}{i}", verdict) for i, verdict in enumerate(verdicts)]
    return NoveltyReport.from_results(rows, context(**changes))


def counted(unmatched: int, total: int, prefix: str = "") -> NoveltyReport:
    rest = total - unmatched
    verdicts = [Verdict.UNMATCHED] * unmatched + [Verdict.DUPLICATE] * rest
    return report(*verdicts, prefix=prefix)


def close(change: Change | None, value: float, low: float, high: float) -> None:
    assert change is not None
    assert change.value == pytest.approx(value, abs=5e-5)
    assert change.low == pytest.approx(low, abs=5e-5)
    assert change.high == pytest.approx(high, abs=5e-5)


# The interval, calculated by hand


@pytest.mark.parametrize(
    ("first", "second", "low", "high"),
    [
        # Newcombe, Stat. Med. 17, 873 (1998), table II, method 10, contrasts (a) to (h).
        ((56, 70), (48, 80), 0.0524, 0.3339),
        ((9, 10), (3, 10), 0.1705, 0.8090),
        ((6, 7), (2, 7), 0.0582, 0.8062),
        ((5, 56), (0, 29), -0.0381, 0.1926),
        ((0, 10), (0, 20), -0.1611, 0.2775),
        ((0, 10), (0, 10), -0.2775, 0.2775),
        ((10, 10), (0, 20), 0.6791, 1.0),
        ((10, 10), (0, 10), 0.6075, 1.0),
    ],
)
def test_independent_samples_give_the_published_intervals(
    first: tuple[int, int], second: tuple[int, int], low: float, high: float
) -> None:
    close(newcombe(second, first), first[0] / first[1] - second[0] / second[1], low, high)


@pytest.mark.parametrize(
    ("table", "low", "high"),
    [
        # Newcombe, Stat. Med. 17, 2635 (1998), method 10.
        ((36, 12, 2, 0), -0.3404, -0.0569),
        ((18, 12, 2, 18), -0.3290, -0.0562),
        ((53, 0, 0, 1), -0.0729, 0.0729),
        ((0, 30, 0, 0), -1.0, -0.8395),
    ],
)
def test_paired_samples_give_the_published_intervals(
    table: tuple[int, int, int, int], low: float, high: float
) -> None:
    both, lost, won, neither = table
    new, old = Verdict.UNMATCHED, Verdict.DUPLICATE
    before = [new] * (both + lost) + [old] * (won + neither)
    after = [new] * both + [old] * lost + [new] * won + [old] * neither
    change = compare(report(*before), report(*after)).differences["unmatched"].change
    close(change, (won - lost) / len(before), low, high)


def test_paired_interval_calculated_by_hand() -> None:
    """14 crystals: 3 unmatched in both, 4 only in the first, 1 only in the second, 6 in neither.

    p1 = 7/14, p2 = 4/14. ad - bc = 3·6 - 4·1 = 14; the continuity correction subtracts 14/2 = 7:
    phi = 7 / sqrt(7·7·4·10) = 0.15811. Wilson: 7/14 in [0.26799, 0.73201], 4/14 in [0.11723,
    0.54648]. Lower: 0.16848² + 0.23201² - 2·0.15811·0.16848·0.23201 = 0.06986, square root 0.26430.
    Upper: 0.26077² + 0.23201² - 2·0.15811·0.26077·0.23201 = 0.10270, square root 0.32047. The
    change is -0.21429, with limits -0.47859 and 0.10618.
    """
    new, old = Verdict.UNMATCHED, Verdict.DUPLICATE
    before = [new] * 7 + [old] * 7
    after = [new] * 3 + [old] * 4 + [new] + [old] * 6
    found = compare(report(*before), report(*after)).differences["unmatched"]
    close(found.change, -0.2143, -0.4786, 0.1062)
    assert found.test is ChangeTest.MCNEMAR
    # McNemar, 4 against 1: 2 · (1 + 5) / 2⁵.
    assert found.p_value == pytest.approx(0.375)


def test_without_common_crystals_the_interval_is_that_of_independent_samples() -> None:
    found = compare(counted(48, 80, "a"), counted(56, 70, "b"))
    assert found.n_shared == 0 and not found.changes
    difference = found.differences["unmatched"]
    close(difference.change, 0.2, 0.0524, 0.3339)
    assert difference.test is ChangeTest.FISHER
    assert difference.p_value == pytest.approx(fisher_exact([[48, 32], [56, 14]]).pvalue)


def test_without_eligible_crystals_there_is_no_change() -> None:
    found = compare(report(None, None), report(Verdict.UNMATCHED, None)).differences
    assert found["unmatched"].change is None and found["unmatched"].p_value is None
    assert found["eligible"].change is not None


@given(
    st.integers(0, 60), st.integers(1, 60), st.integers(0, 60), st.integers(1, 60), st.floats(-1, 1)
)
def test_interval_contains_the_change_and_is_antisymmetric(
    hits: int, total: int, other_hits: int, other_total: int, correlation: float
) -> None:
    first, second = (min(hits, total), total), (min(other_hits, other_total), other_total)
    change = newcombe(first, second, correlation=correlation)
    back = newcombe(second, first, correlation=correlation)
    assert change is not None and back is not None
    assert -1 <= change.low <= change.value + 1e-12
    assert change.value <= change.high + 1e-12 <= 1 + 1e-12
    assert (back.low, back.high) == pytest.approx((-change.high, -change.low), abs=1e-12)


def test_newcombe_refuses_an_invalid_correlation() -> None:
    with pytest.raises(ValueError, match="correlation"):
        newcombe((1, 2), (1, 2), correlation=1.5)
    assert newcombe((0, 0), (1, 2)) is None


# Coverage, by simulation


def coverage(draws: list[tuple[Change | None, float]]) -> float:
    inside = [change.low <= true <= change.high for change, true in draws if change is not None]
    return sum(inside) / len(inside)


@pytest.mark.parametrize(("p", "q", "n"), [(0.2, 0.2, 40), (0.1, 0.3, 100), (0.5, 0.45, 25)])
def test_coverage_of_independent_samples(p: float, q: float, n: int) -> None:
    rng = np.random.default_rng(11)
    hits = rng.binomial(n, [p, q], size=(4000, 2))
    draws = [(newcombe((int(a), n), (int(b), n)), q - p) for a, b in hits]
    share = wilson(round(4000 * coverage(draws)), 4000)
    assert share is not None
    # 95 % nominal; for such sizes the method gives 0.93 to 0.99.
    assert share.high > 0.94 and share.low < 0.985


@pytest.mark.parametrize("stay", [0.9, 0.6, 0.2])
def test_coverage_of_paired_samples_whose_eligibility_changes(stay: float, thorough: bool) -> None:
    """Crystals keep their outcome with probability `stay`; otherwise it is drawn again."""
    rng = np.random.default_rng(7)
    outcomes = [OUT, MISS, HIT]
    first_p, second_p = np.array([0.2, 0.55, 0.25]), np.array([0.25, 0.6, 0.15])
    after_p = stay * first_p + (1 - stay) * second_p
    true = after_p[2] / (1 - after_p[0]) - first_p[2] / (1 - first_p[0])
    verdicts = {OUT: None, MISS: Verdict.DUPLICATE, HIT: Verdict.UNMATCHED}
    draws, widths = [], []
    n, rounds = 60, 1200 if thorough else 400
    for _ in range(rounds):
        before = rng.choice(3, size=n, p=first_p)
        renewed = rng.choice(3, size=n, p=second_p)
        after = np.where(rng.random(n) < stay, before, renewed)
        pairs = Counter((outcomes[a], outcomes[b]) for a, b in zip(before, after, strict=True))
        change = change_of(pairs, verdicts)
        draws.append((change, float(true)))
        alone = newcombe(share_of(before), share_of(after))
        assert change is not None and alone is not None
        widths.append((change.high - change.low) / (alone.high - alone.low))
    share = wilson(round(rounds * coverage(draws)), rounds)
    assert share is not None
    assert share.high > 0.94, share
    # Pairing must help if crystals keep their outcomes.
    assert np.mean(widths) < (0.75 if stay == 0.9 else 1.01)


def share_of(drawn: np.ndarray) -> tuple[int, int]:
    return int((drawn == 2).sum()), int((drawn > 0).sum())


def change_of(
    pairs: Counter[tuple[Outcome, Outcome]], verdicts: dict[Outcome, Verdict | None]
) -> Change | None:
    before = [verdicts[old] for (old, _), count in pairs.items() for _ in range(count)]
    after = [verdicts[new] for (_, new), count in pairs.items() for _ in range(count)]
    return interval_only(report(*before), report(*after))


def interval_only(before: NoveltyReport, after: NoveltyReport) -> Change | None:
    """The interval of `compare`, without the slower p-values."""
    from novelty_metric.comparison import compare as comparison

    shared = comparison._shared(before, after, by="id")
    return comparison._difference("unmatched", before, after, shared, same_samples=False).change


# The paired test


@given(st.integers(0, 30), st.integers(0, 30), st.integers(0, 20), st.integers(0, 20))
def test_agrees_with_mcnemar_for_the_same_crystals(b: int, c: int, a: int, d: int) -> None:
    pairs = {(HIT, MISS): b, (MISS, HIT): c, (HIT, HIT): a, (MISS, MISS): d}
    expected = binomtest(b, b + c, 0.5).pvalue if b + c else 1.0
    assert paired_p_value(pairs) == pytest.approx(expected)


@given(
    st.lists(
        st.tuples(st.sampled_from([OUT, MISS, HIT]), st.sampled_from([OUT, MISS, HIT])),
        min_size=1,
        max_size=9,
    )
)
def test_agrees_with_enumeration_of_all_exchanges(drawn: list[tuple[Outcome, Outcome]]) -> None:
    def size(pairs: list[tuple[Outcome, Outcome]]) -> Fraction:
        shares = []
        for side in (0, 1):
            total = sum(pair[side][0] for pair in pairs)
            shares.append(Fraction(sum(pair[side][1] for pair in pairs), max(total, 1)))
        return abs(shares[1] - shares[0])

    ways = [
        [pair[::-1] if turn else pair for pair, turn in zip(drawn, turns, strict=True)]
        for turns in itertools.product([False, True], repeat=len(drawn))
    ]
    extreme = sum(size(way) >= size(drawn) for way in ways)  # type: ignore[arg-type]
    assert paired_p_value(Counter(drawn)) == pytest.approx(extreme / len(ways))


def test_many_crystals() -> None:
    pairs = {(HIT, MISS): 900, (MISS, HIT): 850, (HIT, OUT): 60, (OUT, HIT): 40, (OUT, MISS): 30}
    p_value = paired_p_value(pairs)
    assert math.isfinite(p_value) and 0.05 < p_value < 1


# The compared shares


def test_every_share_is_compared_and_adds_up() -> None:
    verdicts = [Verdict.DUPLICATE, Verdict.SUBSTITUTED, Verdict.UNMATCHED, Verdict.UNDECIDED, None]
    found = compare(report(*verdicts), report(*verdicts[:4], Verdict.UNMATCHED))
    assert tuple(found.differences) == SHARES
    for name in ("duplicate", "substituted", "undecided"):
        close_to = found.differences[name]
        assert close_to.before.hits == close_to.after.hits == 1
        assert (close_to.before.total, close_to.after.total) == (4, 5)
    assert found.differences["eligible"].before.hits == 4
    assert found.differences["unmatched"].after.hits == 2


def test_novel_yield_counts_each_unmatched_crystal_once_among_all_generated() -> None:
    rows = [row(i, Verdict.UNMATCHED, duplicate_group=i // 2) for i in range(6)]
    before = NoveltyReport.from_results(rows, context(n_generated=20))
    after = NoveltyReport.from_results(rows[:5], context(n_generated=20))
    found = compare(before, after).differences["novel_yield"]
    assert (found.before.hits, found.before.total) == (3, 20) == (found.after.hits, 20)
    assert found.before.interval == before.novel_yield_interval
    assert found.test is ChangeTest.FISHER  # other samples


def test_shares_agree_with_the_reports() -> None:
    one = counted(9, 41)
    other = report(*[Verdict.UNMATCHED] * 3, None, Verdict.DUPLICATE)
    found = compare(one, other)
    for name, share in one.fractions.items():
        assert found.differences[name].before.interval == share
    for name, share in other.fractions.items():
        assert found.differences[name].after.interval == share


def test_crystals_that_changed_are_listed_with_both_reasons() -> None:
    before = NoveltyReport.from_results(
        [
            row("kept", Verdict.DUPLICATE, parent_id="mp-1", match_rms=0.01),
            row("lost", Verdict.UNMATCHED, n_parents=2, parent_id="mp-2"),
            row("gone", Verdict.UNMATCHED, n_parents=0),
            row("open", Verdict.UNDECIDED, error="parent mp-9: relaxation did not converge"),
        ],
        context(),
    )
    after = NoveltyReport.from_results(
        [
            row("kept", Verdict.DUPLICATE, parent_id="mp-5", match_rms=0.2),
            row("lost", Verdict.SUBSTITUTED, parent_id="mp-2", route=Route.WYCKOFF, cost=3.25),
            row("gone", None, error="not eligible: 0.130 eV/atom above the hull"),
            row("open", Verdict.DUPLICATE, parent_id="mp-3", match_rms=0.0125),
            row("more", Verdict.UNMATCHED),
        ],
        context(),
    )
    found = compare(before, after)
    assert found.n_shared == 4 and not found.same_samples
    told = [
        (line.id, line.before, line.after, line.why_before, line.why_after)
        for line in found.changes
    ]
    assert told == [
        (
            "lost",
            "unmatched",
            "substituted",
            "none of 2 parents confirmed, cheapest mp-2",
            "parent mp-2 confirmed, Wyckoff, cost 3.2",
        ),
        (
            "gone",
            "unmatched",
            "not eligible",
            "no parent found",
            "not eligible: 0.130 eV/atom above the hull",
        ),
        (
            "open",
            "undecided",
            "duplicate",
            "parent mp-9: relaxation did not converge",
            "equals mp-3, rms 0.013",
        ),
    ]


def test_equal_ids_of_different_crystals_are_not_paired() -> None:
    before = counted(5, 10)
    other = [
        dataclasses.replace(r, formula="KBr" if r.id == "3" else "NaCl")
        for r in counted(2, 10).results
    ]
    found = compare(before, NoveltyReport.from_results(other, context()))
    assert found.n_shared == 0 and found.changes == ()
    assert found.differences["unmatched"].test is ChangeTest.FISHER


def test_report_does_not_differ_from_itself() -> None:
    one = counted(7, 36)
    found = compare(one, one)
    assert found.same_samples and not found.changes and not found.warnings and not found.versions
    for difference in found.differences.values():
        assert difference.change is not None
        assert difference.change.value == 0 and not difference.change.beyond_noise
        assert difference.p_value == pytest.approx(1.0)


# Warnings


def warned(**changes: Any) -> Comparison:
    return compare(report(Verdict.DUPLICATE), report(Verdict.DUPLICATE, **changes))


MINE = {
    "name": "entries",
    "file": "mine.json",
    "content_hash": "d" * 64,
    "entries": 10,
    "energies": "corrected",
}


@pytest.mark.parametrize(
    ("changes", "arguments"),
    [
        (
            {"crystals_hash": "e" * 64},
            "reference was mp_20 (cccccccccccc), is mp_20 (eeeeeeeeeeee)",
        ),
        ({"protocol": dataclasses.replace(FAST, k=5)}, "protocol.k was 3"),
        ({"protocol": Protocol.named("paper")}, f"protocol.fmax was {FAST.fmax} (fast), is 0.001"),
        ({"potential": None}, "potential was chgnet-0.3.0-abababababab, is none"),
        (
            {"potential": dataclasses.replace(CHGNET, weights_hash="cd" * 32)},
            "potential was chgnet-0.3.0-abababababab, is chgnet-0.3.0-cdcdcdcdcdcd",
        ),
        ({"hull": {"name": "none"}}, "hull was reference, is none"),
        (
            {"hull": {"name": "reference", "reference": "mp_20", "crystals": 5}},
            "hull was reference (crystals=27136), is reference (crystals=5)",
        ),
        ({"hull": MINE}, "hull was reference, is entries"),
        ({"scope": "all"}, "scope was eligible, is all"),
        (
            {"smact_oxidation_states": "wiki"},
            "smact_oxidation_states was icsd24, 3 or more reports",
        ),
        ({"relax_samples": False}, "relax_samples was True, is False"),
    ],
)
def test_warning_for_settings_that_change_verdicts(changes: dict[str, Any], arguments: str) -> None:
    lines = warned(**changes).warnings
    assert any(line.startswith(arguments) for line in lines), lines


def test_hulls_of_entries_are_distinguished_by_content() -> None:
    def lines(**changes: Any) -> tuple[str, ...]:
        before = report(Verdict.DUPLICATE, hull=MINE)
        return compare(before, report(Verdict.DUPLICATE, hull={**MINE, **changes})).warnings

    assert lines(file="copy.json.gz") == ()
    (line,) = lines(content_hash="e" * 64, entries=11)
    assert line.startswith(
        "hull was entries (content_hash=dddddddddddd, entries=10), "
        "is entries (content_hash=eeeeeeeeeeee, entries=11)"
    )
    (line,) = lines(energies="uncorrected")
    assert "energies=corrected" in line and "energies=uncorrected" in line


def test_no_warning_for_names_and_speed() -> None:
    same = dataclasses.replace(FAST, name="mine")
    hull = {"name": "reference", "reference": "copy", "crystals": 27136}
    found = warned(reference_name="copy", protocol=same, hull=hull, exhaustive=True)
    assert found.warnings == ()


def test_warning_for_versions() -> None:
    found = compare(
        report(Verdict.DUPLICATE, versions={"pymatgen": "1", "smact": "4"}),
        report(Verdict.DUPLICATE, versions={"pymatgen": "2", "smact": "4"}),
    )
    assert [str(version) for version in found.versions] == ["pymatgen was 1, is 2"]
    assert found.warnings == ()


REAL = tuple(
    LeftOutCrystal(i, "cubic", True, "unmatched" if i < 6 else "substituted", 1.0)
    for i in range(100)
)


def of_cubic(unmatched: int, calibration: Calibration | None, prefix: str = "") -> NoveltyReport:
    verdicts = [Verdict.UNMATCHED] * unmatched + [Verdict.SUBSTITUTED] * (50 - unmatched)
    rows = [row(f"{prefix}{i}", v, crystal_system="cubic") for i, v in enumerate(verdicts)]
    return NoveltyReport.from_results(rows, context(calibration=calibration))


def test_ratios_to_the_same_real_crystals_are_compared() -> None:
    real = Calibration("key", 0, REAL)
    found = compare(of_cubic(6, real), of_cubic(12, real, "b"))
    crude, expected = found.ratios
    assert (crude.name, expected.name) == ("novelty ratio", "observed / expected")
    assert crude.before is not None
    assert crude.after is not None
    assert crude.before.value == pytest.approx(2)
    assert crude.after.value == pytest.approx(4)
    assert crude.change == koopman((12, 50), (6, 50))  # the base rate cancels
    assert expected.change is None


def test_ratios_to_other_real_crystals_are_not_compared() -> None:
    real = Calibration("key", 0, REAL)
    for other in (Calibration("other", 0, REAL), Calibration("key", 1, REAL[:90]), None):
        crude, _ = compare(of_cubic(6, real), of_cubic(12, other, "b")).ratios
        assert crude.change is None
        assert crude.before is not None
        assert (crude.after is None) == (other is None)
    assert compare(of_cubic(6, None), of_cubic(12, None)).ratios == ()
