"""The packaged sample, checked by the project's own plugin."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from novelty_metric import SubstitutionNovelty, read_samples
from novelty_metric.samples.packaged import packaged_samples_path

if TYPE_CHECKING:
    from novelty_metric.testing.regression import NoveltyRegression

EXPECTED = {
    "copy-supercell-CsCl": "duplicate",
    "copy-perturbed-ZnS": "duplicate",
    "swap-rocksalt-KBr": "substituted",
    "swap-CsCl-CsBr": "substituted",
    "swap-CdI2-ZrS2": "substituted",
    "other-TlAlF4-type-KAlF4": "unmatched",
    "refused-rocksalt-MgCl": None,
    "strained-CsCl-type-BeO": None,
}
"""Small crystals of the sample with their correct verdict; None: not eligible."""


@pytest.mark.usefixtures("chgnet")
@pytest.mark.novelty(
    model="packaged sample, CHGNet", reference="aflow", workers=1, max_duplicate=0.4
)
def test_small_crystals(
    novelty_metric: SubstitutionNovelty, novelty_regression: NoveltyRegression
) -> None:
    samples = [s for s in read_samples(packaged_samples_path()) if s.id in EXPECTED]
    novelty_metric.update_samples(samples)
    report = novelty_regression(novelty_metric.compute())
    found = {result.id: result.verdict for result in report.results}
    assert found == EXPECTED
