"""Loggers of reports, in addition to files."""
