"""Analyses around the verdicts: controls, and how they depend on the settings of the method."""
