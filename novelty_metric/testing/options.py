"""The options of the plugin: command line first, then the ini file, then defaults."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from novelty_metric.testing.tolerance import DEFAULT, Tolerance, parse_tolerances

BASELINES = "novelty_baselines"
FILES = "novelty_*.yaml"


@dataclass(frozen=True, kw_only=True)
class NoveltyOptions:
    """What was asked of the plugin.

    Attributes
    ----------
    enabled : bool
    baseline : Path
        Folder with a JSON file per check, or one JSON file for all.
    update : bool
        Accept what is found as the new baseline.
    fail : tuple of Tolerance
    fail_given : bool
        `fail` is from the command line, and wins over that of a test.
    report : Path or None
    reference, protocol, relaxer, hull : str or None
        For tests that name none.
    """

    enabled: bool
    baseline: Path
    update: bool
    fail: tuple[Tolerance, ...]
    fail_given: bool
    report: Path | None
    reference: str | None
    protocol: str | None
    relaxer: str | None
    hull: str | None

    @classmethod
    def from_config(cls, config: pytest.Config) -> NoveltyOptions:
        """Read and check the options.

        Raises
        ------
        pytest.UsageError
            If an expression can't be read, or options contradict one another.
        """
        enabled = config.getoption("novelty") or config.getini("novelty")
        asked = config.getoption("novelty_update")
        if asked and not enabled:
            raise pytest.UsageError("--novelty-update needs --novelty: no novelty test is run")
        expressions = config.getoption("novelty_fail")
        expression = ",".join(expressions or []) or config.getini("novelty_fail") or DEFAULT
        try:
            fail = parse_tolerances(expression)
        except ValueError as error:
            where = "--novelty-fail" if expressions else "novelty_fail of the ini file"
            raise pytest.UsageError(f"{where}: {error}") from None
        baseline = _path(config, "novelty_baseline") or config.rootpath / BASELINES
        if baseline.suffix != ".json" and baseline.exists() and not baseline.is_dir():
            raise pytest.UsageError(
                f"--novelty-baseline {baseline} is a file; name a folder, or a file *.json"
            )
        report = _path(config, "novelty_report")
        if report is not None and report.is_dir():
            raise pytest.UsageError(f"--novelty-report {report} is a folder; name a file")
        return cls(
            enabled=enabled,
            baseline=baseline,
            update=asked or config.getini("novelty_update"),
            fail=fail,
            fail_given=bool(expressions),
            report=report,
            reference=_reference(config),
            protocol=config.getini("novelty_protocol") or None,
            relaxer=config.getini("novelty_relaxer") or None,
            hull=config.getini("novelty_hull") or None,
        )


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
        f"(default: {DEFAULT})",
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


def _ini_folder(config: pytest.Config) -> Path:
    return config.rootpath if config.inipath is None else config.inipath.parent


def _path(config: pytest.Config, name: str) -> Path | None:
    given: Any = config.getoption(name)
    if given:
        return config.invocation_params.dir / Path(given).expanduser()
    given = config.getini(name)
    return _ini_folder(config) / Path(given).expanduser() if given else None


def _reference(config: pytest.Config) -> str | None:
    given: str = config.getini("novelty_reference")
    if given and (Path(given).name != given or given.endswith(".arrow")):
        return str(_ini_folder(config) / Path(given).expanduser())
    return given or None
