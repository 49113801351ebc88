"""``pytest --novelty``: regression tests of novelty in a model's repository.

pytest imports this package at every start, so whatever is heavy waits until a novelty test runs.
"""
