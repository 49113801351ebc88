"""Durations and percentages as text."""

import pytest

from novelty_metric.support.statistics import Interval
from novelty_metric.support.text import (
    duration,
    percent,
    percent_interval,
    percent_range,
    points_interval,
)


@pytest.mark.parametrize(
    ("seconds", "text", "about"),
    [
        (0.04, "<0.1 s", "10 s"),
        (0.4, "0.4 s", "10 s"),
        (41, "41.0 s", "40 s"),
        (99.94, "99.9 s", "2 min"),
        (99.96, "2 min", "2 min"),
        (5960, "99 min", "99 min"),
        (8000, "2 h 13 min", "2 h 13 min"),
    ],
)
def test_duration(seconds: float, text: str, about: str) -> None:
    assert duration(seconds) == text
    assert duration(seconds, about=True) == about


def test_shares_as_percentages() -> None:
    share = Interval(0.194, 0.0981, 0.35)
    assert percent(share.value) == "19 %"
    assert percent(share.value, 1) == "19.4 %"
    assert percent_range(share) == "9.8-35.0"
    assert percent_interval(share) == "19.4 [9.8-35.0]"
    assert percent_interval(share, 1, 0, unit=" %", dash="–") == "19.4 % [10–35]"
    assert percent_interval(share, 1, pad=True) == "19.4 [ 9.8- 35.0]"
    assert points_interval(Interval(-0.25, -0.41, 0.061), 1) == "-25.0 [-41.0, +6.1]"


def test_limits_of_a_column_have_equal_width() -> None:
    shares = [Interval(0.5, low, high) for low, high in ((0.0, 1.0), (0.099, 0.12))]
    for digits in (0, 1):
        assert len({len(percent_interval(share, digits, pad=True)) for share in shares}) == 1


def test_missing_shares_have_the_given_placeholder() -> None:
    assert percent(None) == "–"
    assert percent_range(None, none="–") == percent_interval(None, none="–") == "–"
    assert points_interval(None) == ""
