"""Names in pytest: the marker, the fixtures, the plugin of a session.

pytest reads this at every start, so it imports the standard library and pytest alone.
"""

from __future__ import annotations

import re

import pytest

MARKER = "novelty"
SECOND_MARKER = "novelty_metric"
"""The marker if the repository has its own marker `novelty`."""
FIXTURES = ("novelty_regression", "novelty_metric")
YAML_PREFIX = "novelty_"
SESSION = "novelty-session"
"""Name of the session's plugin in pytest, if there are novelty tests."""
MARKER_HELP = (
    "(model, samples, reference, min_unmatched, max_duplicate, min_ratio, ...): a test of the "
    "novelty of generated crystals, run with "
)


def marker_name(config: pytest.Config) -> str:
    """The marker of novelty tests: `novelty`, unless the repository has declared its own."""
    for line in config.getini("markers"):
        if re.split(r"[(:]", line)[0].strip() == MARKER and MARKER_HELP not in line:
            return SECOND_MARKER
    return MARKER


def marker_names(item: pytest.Item) -> tuple[str, ...]:
    """The markers with the settings of a novelty test; empty for other tests.

    In a repository with a marker `novelty` of its own that one counts for a test with our fixtures
    alone. A marker without arguments on a test without them asks for nothing that is ours.
    """
    if getattr(item, "is_novelty_file", False):
        return (MARKER,)
    if item.get_closest_marker(SECOND_MARKER) is not None:
        return (SECOND_MARKER,)
    if item.get_closest_marker(MARKER) is None:
        return ()
    if any(name in FIXTURES for name in getattr(item, "fixturenames", ())):
        return (MARKER,)
    marks = item.iter_markers(MARKER)
    own = marker_name(item.config) != MARKER
    return () if own or not any(mark.args or mark.kwargs for mark in marks) else (MARKER,)


def is_novelty_test(item: pytest.Item) -> bool:
    """True for a novelty test."""
    return bool(marker_names(item))
