"""Submissions that are recomputed before they are believed, and the tables made of them."""
