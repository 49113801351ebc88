"""The novelty of this commit's model must not decrease: run with --novelty."""

import pytest
from toy_model import sample


@pytest.mark.novelty(model="toy-model, this commit", min_unmatched=0.1)
def test_draws_stay_novel(novelty_metric, novelty_regression):
    report = novelty_metric(sample(30, seed=1))
    novelty_regression(report)
    assert report.counts["undecided"] <= 3
