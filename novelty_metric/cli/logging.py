"""``logger=wandb`` of ``novelty-metric score``."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from novelty_metric.crystal import first_line
from novelty_metric.settings.score_settings import ScoreSettings, WandbSettings

if TYPE_CHECKING:
    from novelty_metric.report.novelty_report import NoveltyReport


class Log:
    """The default log: none."""

    def __init__(self, reports: Any = None) -> None:
        self._reports = reports

    def send(self, report: NoveltyReport, folder: Path | None) -> None:
        """Log the report. If the logger fails, a warning is printed, so that no result is lost."""
        if self._reports is None:
            return
        try:
            self._reports.log_report(report, folder=folder)
        except Exception as error:
            message = f"{type(error).__name__}: {first_line(error)}"
            print(f"novelty-metric: warning: W&B failed ({message})", file=sys.stderr)
            return
        run = self._reports.run
        # A run that is offline warns if it is asked for its address.
        where = Path(run.dir).parent if run.offline else run.url
        if where and not run.disabled:
            print(f"Logged to W&B: {where}")


@contextmanager
def logged(settings: ScoreSettings, name: str | None = None) -> Iterator[Log]:
    """The log of the settings; its run is opened now, so that errors appear before the work.

    Parameters
    ----------
    name : str, optional
        Of a run that is opened here, if the settings give none.

    Raises
    ------
    InputError
        If W&B can open no run.
    """
    if settings.logger is None:
        yield Log()
        return
    from novelty_metric.loggers.wandb import WandbReports

    reports = WandbReports(n_pairs=settings.logger.pictures, **_init(settings.logger, name))
    _ = reports.run
    try:
        yield Log(reports)
    finally:
        reports.close()


def _init(given: WandbSettings, name: str | None) -> dict[str, Any]:
    return {
        "project": given.project,
        "entity": given.entity,
        "name": given.run or name,
        "group": given.group,
        "tags": list(given.tags),
        "mode": given.mode,
        "job_type": "score",
    }
