"""The options of the plugin with their ini equivalents; pytest reads this at every start."""

from __future__ import annotations

import pytest

BASELINES = "novelty_baselines"
FAIL = "unmatched:-0.05,duplicate:+0.05"
FILES = "novelty_*.yaml"


def add_options(parser: pytest.Parser) -> None:
    """Declare the options and their ini equivalents."""
    group = parser.getgroup("novelty", "novelty of generated crystals (novelty-metric)")
    group.addoption(
        "--novelty",
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
        help="accept what is found as the new baselines",
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
        "--novelty-report", metavar="PATH", help="write what was found to this file, as JSON"
    )
    parser.addini("novelty", "always run the tests marked `novelty`", type="bool", default=False)
    parser.addini("novelty_baseline", "as --novelty-baseline, from the ini file's folder")
    parser.addini("novelty_update", "as --novelty-update", type="bool", default=False)
    parser.addini("novelty_fail", "as --novelty-fail")
    parser.addini("novelty_report", "as --novelty-report, from the ini file's folder")
    parser.addini("novelty_files", "YAML files that are novelty tests", default=FILES)
    parser.addini("novelty_reference", "reference of tests that name none")
    parser.addini("novelty_protocol", "protocol of tests that name none")
    parser.addini("novelty_relaxer", "relaxer of tests that name none")
    parser.addini("novelty_hull", "hull of tests that name none")


def anything_asked(config: pytest.Config) -> bool:
    """Whether an option was given, or the ini file asks for tests or has an expression to check."""
    given = ("novelty", "novelty_baseline", "novelty_update", "novelty_fail", "novelty_report")
    return any(config.getoption(name) for name in given) or any(
        config.getini(name) for name in ("novelty", "novelty_fail")
    )
