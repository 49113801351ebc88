"""Submissions, which are recomputed before they are accepted, and the tables made of them."""
