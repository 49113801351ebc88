"""Comparison of two reports, of many reports in pairs, and the spread of several runs."""
