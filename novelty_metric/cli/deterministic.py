"""``score --deterministic``: scores the same crystals in two processes and compares all digits."""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from novelty_metric.cli import one_run
from novelty_metric.runs.run import PART
from novelty_metric.settings.score_settings import ScoreSettings
from novelty_metric.verdict import CrystalResult

MOST_NAMED = 5
_TIME = {"seconds", "structures", "parents"}
"""Fields that differ between equal runs, and fields that are compared separately."""


def differences(first: CrystalResult, second: CrystalResult) -> list[str]:
    """Fields that differ, except for times."""
    found = [
        field.name
        for field in dataclasses.fields(CrystalResult)
        if field.name not in _TIME and getattr(first, field.name) != getattr(second, field.name)
    ]
    if first.parents != second.parents:
        found.append("parents")
    if first.structures != second.structures:
        found.append("structures")
    return found


def check(
    settings: ScoreSettings,
    reference: str | Path,
    config: dict[str, Any],
    words: Sequence[str],
) -> int:
    """Score twice and compare the rows; returns 1 if any differ."""
    # Without the cache, the number of workers and rows of an earlier report.
    alone = dataclasses.replace(
        settings,
        cache=False,
        workers=1,
        executor=None,
        part=settings.part or PART,
        logger=None,
        overwrite=True,
    )
    executor = {"_target_": "novelty_metric.runs.pools.processes", "workers": 1}
    again = dataclasses.replace(alone, out=None, executor=executor)
    report, second = (
        one_run.make_report(each, reference, config, whole=True) for each in (alone, again)
    )
    one_run.print_for(report, settings, words)
    odd = {
        row.id: fields
        for row, other in zip(report.results, second.results, strict=True)
        if (fields := differences(row, other))
    }
    n_rows = len(report.results)
    if not odd:
        print(f"\nTwo runs agree: all {n_rows} rows are equal in every digit.")
        return 0
    print(f"\nTwo runs differ in {len(odd)} of {n_rows} rows:", file=sys.stderr)
    for name in list(odd)[:MOST_NAMED]:
        print(f"  {name}: {', '.join(odd[name])}", file=sys.stderr)
    if len(odd) > MOST_NAMED:
        print(f"  and {len(odd) - MOST_NAMED} more", file=sys.stderr)
    return 1
