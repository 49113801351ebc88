"""Analyses around the verdicts: how they depend on the settings of the method."""
