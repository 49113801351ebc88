"""Draw the pictures of ``docs/gallery``.

The first run provides all figures except the routes of substituted crystals, which need a run with
``exhaustive=true``::

    python scripts/draw_analyses.py RUN EXHAUSTIVE_RUN --reference STORE.arrow
"""

from __future__ import annotations

import argparse
from pathlib import Path

from novelty_metric import NoveltyReport
from novelty_metric.figures import draw_figures
from novelty_metric.figures.breakdowns import kinds_of_substituted
from novelty_metric.figures.style import to_png
from novelty_metric.reference import Reference

GALLERY = Path(__file__).resolve().parents[1] / "docs" / "gallery"


def main() -> None:
    """Draw the figures."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("run")
    parser.add_argument("exhaustive")
    parser.add_argument("--reference", required=True)
    given = parser.parse_args()
    report = NoveltyReport.load(given.run, structures=True)
    kinds = kinds_of_substituted(NoveltyReport.load(given.exhaustive))
    for spec, figure in draw_figures(report, Reference.open(given.reference)):
        shown = kinds if spec.name == "kinds_of_substituted" else figure
        (GALLERY / f"{spec.name}.png").write_bytes(to_png(shown, dpi=150))


if __name__ == "__main__":
    main()
