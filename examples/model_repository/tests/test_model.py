"""Fast tests of the model, which always run."""

from toy_model import sample


def test_same_seed_gives_the_same_crystals():
    assert sample(5, seed=3) == sample(5, seed=3)
    assert sample(5, seed=3) != sample(5, seed=4)
