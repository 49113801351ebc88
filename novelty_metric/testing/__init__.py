"""``pytest --novelty``: a model's repository keeps its novelty from regressing.

pytest imports this package at every start, so whatever is heavy waits until a novelty test runs.
"""
