"""Runs of any length: crystals stream through, finished ones are on disk at once."""
