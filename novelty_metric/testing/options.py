"""The options of the plugin: command line first, then the ini file, then defaults."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from novelty_metric.testing.declarations import BASELINES, FAIL, is_enabled, option_name
from novelty_metric.testing.tolerance import Tolerance, parse_tolerances


@dataclass(frozen=True, kw_only=True)
class NoveltyOptions:
    """The user's options of the plugin, as `declarations` describes them.

    `fail_given` is true if `fail` is from the command line; it then replaces that of a test.
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
        enabled = is_enabled(config)
        asked = config.getoption("novelty_update")
        if asked and not enabled:
            raise pytest.UsageError(
                f"--novelty-update needs {option_name(config)}: no novelty test is run"
            )
        expressions = config.getoption("novelty_fail")
        expression = ",".join(expressions or []) or config.getini("novelty_fail") or FAIL
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
