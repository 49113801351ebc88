"""Runs of any length: samples are streamed, and finished rows are written at once."""
