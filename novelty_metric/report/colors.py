"""One colour for each verdict, the same in every picture and on every page."""

from __future__ import annotations

from novelty_metric.verdict import Verdict

VERDICT_COLORS: dict[Verdict, str] = {
    Verdict.DUPLICATE: "#d55e00",
    Verdict.SUBSTITUTED: "#e69f00",
    Verdict.UNMATCHED: "#0072b2",
    Verdict.UNDECIDED: "#8c8c8c",
}
"""Told apart by the colour-blind and, by their lightness, in grey.

Source: the palette of Okabe and Ito, "Color Universal Design" (2008), with a darker grey.
"""

NOT_ELIGIBLE_COLOR = "#dddddd"
"""What is not valid or not metastable, and what was not scored."""
