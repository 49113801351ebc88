"""The pipeline of one sample, up to its verdict."""
