"""One colour per verdict, for all figures and pages."""

from __future__ import annotations

from novelty_metric.verdict import Verdict

VERDICT_COLORS: dict[Verdict, str] = {
    Verdict.DUPLICATE: "#d55e00",
    Verdict.SUBSTITUTED: "#e69f00",
    Verdict.UNMATCHED: "#0072b2",
    Verdict.UNDECIDED: "#8c8c8c",
}
"""Distinguishable for colour-blind readers and, by lightness, in grey.

Source: the palette of Okabe and Ito, "Color Universal Design" (2008), with a darker grey.
"""

NOT_ELIGIBLE_COLOR = "#dddddd"
"""Colours of crystals that are not valid or metastable, and of those not scored."""
