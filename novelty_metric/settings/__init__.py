"""The user's settings: the composed and checked configuration, and the run folder with it."""
