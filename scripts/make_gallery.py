"""Draw the pictures of `docs/gallery.md` from the packaged sample: a minute, and no network.

python scripts/make_gallery.py
"""

from __future__ import annotations

from pathlib import Path

from novelty_metric import NoveltyReport, SubstitutionNovelty, read_samples
from novelty_metric.figures.crystals import draw_pair
from novelty_metric.samples.packaged import packaged_samples_path

FOLDER = Path(__file__).resolve().parents[1] / "docs" / "pictures"
PAIRS = {"substituted": "swap-rocksalt-KBr", "unmatched": "other-UCl3-type-LaCl3"}
"""Crystals that are shown beside the reference crystal that their row names."""


def packaged_report() -> NoveltyReport:
    """The packaged sample, scored as `novelty-metric score` scores it."""
    metric = SubstitutionNovelty(reference="aflow", workers=1)
    metric.update_samples(read_samples(packaged_samples_path()))
    return metric.compute()


def main() -> None:
    """Write the pictures."""
    FOLDER.mkdir(exist_ok=True)
    report = packaged_report()
    rows = {row.id: row for row in report.results}
    for verdict, name in PAIRS.items():
        assert rows[name].verdict == verdict, rows[name]
        (FOLDER / f"pair_{verdict}.png").write_bytes(draw_pair(rows[name], dpi=110))


if __name__ == "__main__":
    main()
