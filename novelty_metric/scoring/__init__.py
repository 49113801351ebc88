"""One sample on its way to a verdict."""
