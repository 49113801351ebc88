"""What a user asked for: the composed configuration, checked, and the run folder that keeps it."""
