"""Hydra groups of the command line; installed as `novelty_metric.configs`."""
