"""Expressions for ``--novelty-fail``."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from novelty_metric.comparison.compare import SHARES
from novelty_metric.testing.declarations import FAIL
from novelty_metric.testing.tolerance import WORSE, Tolerance, parse_tolerances


@pytest.mark.parametrize(
    ("text", "share", "direction", "size", "relative"),
    [
        ("unmatched:-5%", "unmatched", -1, 0.05, True),
        ("novel_yield:0.02", "novel_yield", -1, 0.02, False),
        ("duplicate:+0.03", "duplicate", 1, 0.03, False),
        ("novelty:5%", "unmatched", -1, 0.05, True),
        ("substituted:0", "substituted", 1, 0.0, False),
        ("undecided : + 2.5 %", "undecided", 1, 0.025, True),
        ("eligible:.1", "eligible", -1, 0.1, False),
        ("unmatched:+1", "unmatched", 1, 1.0, False),
    ],
)
def test_meaning_of_a_term(
    text: str, share: str, direction: int, size: float, relative: bool
) -> None:
    assert parse_tolerances(text) == (Tolerance(share, direction, pytest.approx(size), relative),)


def test_several_terms() -> None:
    found = parse_tolerances("unmatched:-5%, unmatched:+0.1,duplicate:+0.03")
    assert [str(tolerance) for tolerance in found] == [
        "unmatched:-5%",
        "unmatched:+0.1",
        "duplicate:+0.03",
    ]


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("", "not of the form SHARE:[+|-]NUMBER[%]"),
        ("unmatched", "not of the form"),
        ("unmatched:", "not of the form"),
        ("unmatched:five", "not of the form"),
        ("unmatched:--5%", "not of the form"),
        ("unmatched:-5%%", "not of the form"),
        ("unmatched:1e-3", "not of the form"),
        ("unmatched:nan", "not of the form"),
        ("unmatched:-5%,", "'' in 'unmatched:-5%,' is not of the form"),
        ("novel:-5%", "no share named 'novel'; known: unmatched, novel_yield"),
        ("unmatched:-5", "more than the whole; 0.05 is five percentage points"),
        ("unmatched:-101%", "more than the whole"),
        ("unmatched:-5%,novelty:0.1", "names unmatched twice in one direction"),
    ],
)
def test_invalid_expression_gives_one_clear_error(text: str, complaint: str) -> None:
    with pytest.raises(ValueError) as caught:
        parse_tolerances(text)
    assert complaint in str(caught.value)
    assert "\n" not in str(caught.value)


@given(st.sampled_from(sorted(WORSE)), st.sampled_from("+-"), st.integers(0, 1000), st.booleans())
def test_written_tolerance_is_read_back(
    share: str, sign: str, thousandths: int, relative: bool
) -> None:
    number = f"{thousandths / 10:g}%" if relative else f"{thousandths / 1000:g}"
    (found,) = parse_tolerances(f"{share}:{sign}{number}")
    assert str(found) == f"{share}:{sign}{number}"
    assert parse_tolerances(str(found)) == (found,)
    assert found.allowed(0.4) == pytest.approx(thousandths / 1000 * (0.4 if relative else 1.0))


def test_every_compared_share_can_have_a_tolerance() -> None:
    assert set(WORSE) == set(SHARES)
    assert {tolerance.share for tolerance in parse_tolerances(FAIL)} == {
        "unmatched",
        "duplicate",
    }
