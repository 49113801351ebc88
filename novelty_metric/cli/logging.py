"""``logger=wandb`` of ``novelty-metric score``."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from novelty_metric.crystal import first_line
from novelty_metric.settings.score_settings import ScoreSettings

if TYPE_CHECKING:
    from novelty_metric.loggers.wandb import WandbReports
    from novelty_metric.report.novelty_report import NoveltyReport


@contextmanager
def logged(
    settings: ScoreSettings, name: str | None = None
) -> Iterator[Callable[[NoveltyReport, Path | None], None]]:
    """The logger of the settings; its run is opened now, so that errors appear before the work.

    Parameters
    ----------
    name : str, optional
        Of a run that is opened here, if the settings give none.

    Raises
    ------
    InputError
        If W&B can open no run.
    """
    given = settings.logger
    if given is None:
        yield lambda report, folder: None
        return
    from novelty_metric.loggers.wandb import WandbReports

    reports = WandbReports(
        n_pairs=given.pictures,
        project=given.project,
        entity=given.entity,
        name=given.run or name,
        group=given.group,
        tags=list(given.tags),
        mode=given.mode,
        job_type="score",
    )
    _ = reports.run
    try:
        yield partial(_log, reports)
    finally:
        reports.close()


def _log(reports: WandbReports, report: NoveltyReport, folder: Path | None) -> None:
    """Log the report. If the logger fails, a warning is printed, so that no result is lost."""
    try:
        reports.log_report(report, folder=folder)
    except Exception as error:
        message = f"{type(error).__name__}: {first_line(error)}"
        print(f"novelty-metric: warning: W&B failed ({message})", file=sys.stderr)
        return
    run = reports.run
    # A run that is offline warns if it is asked for its address.
    where = Path(run.dir).parent if run.offline else run.url
    if where and not run.disabled:
        print(f"Logged to W&B: {where}")
