"""Analyses around the verdicts."""
