"""The plugin's options and their ini equivalents, its marker, its fixtures and its session.

pytest reads this at every start, so it imports the standard library and pytest alone.
"""

from __future__ import annotations

import argparse
import re

import pytest

BASELINES = "novelty_baselines"
FAIL = "unmatched:-0.05,duplicate:+0.05"
FILES = "novelty_*.yaml"
_GROUP = ("novelty", "novelty of generated crystals (novelty-metric)")


def add_options(parser: pytest.Parser) -> None:
    """Declare the options and their ini equivalents, except for the short names."""
    group = parser.getgroup(*_GROUP)
    group.addoption(
        "--novelty-metric",
        dest="novelty_metric",
        action="store_true",
        default=False,
        help="run the tests marked `novelty`; without it they are skipped",
    )
    group.addoption(
        "--novelty-baseline",
        metavar="PATH",
        help=f"folder of the baselines, or one file *.json for all (default: {BASELINES})",
    )
    group.addoption(
        "--novelty-update",
        action="store_true",
        default=False,
        help="accept the results as the new baselines",
    )
    group.addoption(
        "--novelty-fail",
        metavar="EXPR",
        action="append",
        help="changes that fail, if they are also more than sampling noise: unmatched:-5%% (of its "
        "value), novel_yield:0.02 (worse by two points), duplicate:+0.03; several with commas "
        f"(default: {FAIL})",
    )
    group.addoption(
        "--novelty-report", metavar="PATH", help="write the results to this file, as JSON"
    )
    parser.addini(
        "novelty_metric", "always run the tests marked `novelty`", type="bool", default=False
    )
    parser.addini("novelty_baseline", "as --novelty-baseline, from the ini file's folder")
    parser.addini("novelty_update", "as --novelty-update", type="bool", default=False)
    parser.addini("novelty_fail", "as --novelty-fail")
    parser.addini("novelty_report", "as --novelty-report, from the ini file's folder")
    parser.addini("novelty_files", "YAML files that are novelty tests", default=FILES)
    parser.addini("novelty_reference", "reference for tests that name no other")
    parser.addini("novelty_protocol", "protocol of tests that name none")
    parser.addini("novelty_relaxer", "relaxer of tests that name none")
    parser.addini("novelty_hull", "hull of tests that name none")


def add_short_names(parser: pytest.Parser) -> bool:
    """Declare the option ``--novelty`` and the ini option ``novelty``.

    False if somebody else has one of them; call it once the plugins and conftest files are loaded.
    """
    # Before pytest 9 a name that is taken is found out only when the words are parsed.
    groups = (getattr(parser, "_anonymous", None), *getattr(parser, "_groups", ()))
    options = [option for group in groups if group is not None for option in group.options]
    taken = {name for option in options for name in option.names()}
    if "--novelty" in taken or "novelty" in getattr(parser, "_inidict", ()):
        return False
    try:
        parser.getgroup(*_GROUP).addoption(
            "--novelty", dest="novelty_metric", action="store_true", help="as --novelty-metric"
        )
    except (ValueError, argparse.ArgumentError):
        return False
    parser.addini("novelty", "as novelty_metric", type="bool", default=False)
    return True


def is_enabled(config: pytest.Config) -> bool:
    """True if the novelty tests are to run."""
    names = ("novelty_metric", "novelty") if config.stash.get(SHORT, False) else ("novelty_metric",)
    return bool(config.getoption("novelty_metric") or any(map(config.getini, names)))


SHORT = pytest.StashKey[bool]()
"""True if the short names belong to this plugin."""


def option_name(config: pytest.Config) -> str:
    """The option that runs the novelty tests."""
    return "--novelty" if config.stash.get(SHORT, False) else "--novelty-metric"


def anything_asked(config: pytest.Config) -> bool:
    """True if an option was given, or the ini file asks for tests or has an expression to check."""
    given = ("novelty_baseline", "novelty_update", "novelty_fail", "novelty_report")
    return (
        is_enabled(config)
        or any(config.getoption(name) for name in given)
        or bool(config.getini("novelty_fail"))
    )


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
