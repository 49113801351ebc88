"""``pytest --novelty``: regression tests of novelty in a model's repository.

pytest imports this package at every start, so slow imports happen only when a novelty test runs.
"""
